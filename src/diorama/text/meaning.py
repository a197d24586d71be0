"""Prompts in the words that captions use, and what they would say if one thing were another.

A captioner knows the words that it was taught and no others; the text encoder knows what other words mean. So a word that captions never
use is exchanged for the one nearest to it in meaning, if any is near, and what a prompt names can be set against what it does not name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch.nn import functional

from diorama.text.rewrite import Grammar, any_phrase, fix_articles
from diorama.text.states import TextEncoder

__all__ = ["alternatives", "in_known_words"]

_NOUNS = ("size", "finish", "color", "shape")
"""Attributes whose phrases go before a noun, or are one: a word alone tells what it means there."""
_NEAR = 0.75
"""Cosine above which two words mean the same: the 47 reserved words of worlds have 0.76 or more, 21 for other things 0.72 at most
(tests/text/test_meaning.py)."""


@torch.inference_mode()
def in_known_words(prompt: str, grammar: Grammar, texts: TextEncoder) -> str:
    """Return a prompt with each word for a size, finish, colour or shape that captions never use exchanged for one that they do.

    By meaning alone: the grammar's list of paraphrases is not read, and any word that the text encoder understands can be exchanged.

    Args:
        prompt: What the user typed.
        grammar: Whose ``words`` captions use.
        texts: Knows what words mean.
    """
    used = {word for values in grammar.words.values() for phrases in values.values() for phrase in phrases for word in phrase.lower().split()}
    found = [match for match in re.finditer(r"[^\W\d_][\w-]*", prompt) if match[0].lower() not in used and len(match[0]) > 2]
    known = [phrase for attribute in _NOUNS for phrases in grammar.words.get(attribute, {}).values() for phrase in phrases]
    if not found or not known:
        return prompt
    unknown = sorted({match[0].lower() for match in found})
    meanings = functional.normalize(texts.encode([f"a {word}" for word in [*known, *unknown]]).pooled.float(), dim=-1)
    nearness, nearest = (meanings[len(known) :] @ meanings[: len(known)].T).max(dim=1)
    exchanged = {word: known[place] for word, place, near in zip(unknown, nearest.tolist(), nearness.tolist(), strict=True) if near > _NEAR}
    text = prompt
    for match in reversed(found):
        text = text[: match.start()] + exchanged.get(match[0].lower(), match[0]) + text[match.end() :]
    return fix_articles(text) if exchanged else prompt


def alternatives(prompt: str, words: Mapping[str, Mapping[str, tuple[str, ...]]], attributes: Collection[str]) -> list[list[str]]:
    """Return what a prompt would say of the same scene if one thing that it names were another.

    Args:
        prompt: In the words of captions.
        words: Attribute to value to phrases, as ``Grammar.words``.
        attributes: Which of them to exchange.

    Returns:
        For every value of those attributes that is named, the prompts that name each other value in its place, everywhere and by its first phrase.
    """
    found = []
    for attribute in attributes:
        values = words.get(attribute, {})
        if len(values) < 2:
            continue
        meaning = {phrase.lower(): value for value, phrases in values.items() for phrase in phrases}
        # Every second part is a phrase of the attribute.
        parts = re.split(rf"(?<![\w-])({any_phrase(values)})(?![\w-])", prompt, flags=re.IGNORECASE)
        for value in dict.fromkeys(meaning[part.lower()] for part in parts[1::2]):
            places = {place for place in range(1, len(parts), 2) if meaning[parts[place].lower()] == value}
            others = [phrases[0] for other, phrases in values.items() if other != value]
            found.append(["".join(other if place in places else part for place, part in enumerate(parts)) for other in others])
    return found
