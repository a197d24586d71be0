"""Prompts to states: the compact encoder, UMT5 and T5 behind the same interface, the rewriting of prompts, and captions of clips.

The room promises that nothing of a prompt is lost in silence: what does not fit or cannot be spelled is counted. It
knows nothing of worlds, and of pixels only the captioner does.
"""

from __future__ import annotations

from diorama.text.captioner import Captioner, CaptionerConfig
from diorama.text.encoder import CompactTextConfig, CompactTextEncoder, load_text_encoder
from diorama.text.meaning import alternatives, in_known_words
from diorama.text.rewrite import Grammar, rewrite, rewrite_with_endpoint, split_prompt
from diorama.text.states import TextEncoder, TextStates
from diorama.text.tokenizer import PromptTokenizer, Tokens, build_vocabulary
from diorama.text.umt5 import OnDemandTextEncoder, Umt5TextEncoder, load_umt5

__all__ = [
    "Captioner",
    "CaptionerConfig",
    "CompactTextConfig",
    "CompactTextEncoder",
    "Grammar",
    "OnDemandTextEncoder",
    "PromptTokenizer",
    "TextEncoder",
    "TextStates",
    "Tokens",
    "Umt5TextEncoder",
    "alternatives",
    "build_vocabulary",
    "in_known_words",
    "load_text_encoder",
    "load_umt5",
    "rewrite",
    "rewrite_with_endpoint",
    "split_prompt",
]
