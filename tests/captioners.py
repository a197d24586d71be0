"""A captioner that knows four words and was taught nothing, for what has to do with choosing."""

from __future__ import annotations

import torch

from diorama.text.captioner import Captioner, CaptionerConfig
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary

__all__ = ["tiny_captioner"]


def tiny_captioner() -> Captioner:
    """Return the captioner; its words are likely enough of some picture to count."""
    vocabulary = build_vocabulary(["[UNK]", "red", "blue", "ball", "cube"], ["red blue ball cube"], 170)
    size = CaptionerConfig(
        vocabulary_size=len(vocabulary), max_tokens=12, num_frames=2, area=1024, widths=(8, 8, 16), reach=1, num_heads=2, depth=1, decoder_width=16
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        captioner = Captioner(size, PromptTokenizer(vocabulary)).eval()
        captioner.table.weight.data.normal_()
    return captioner.requires_grad_(False)
