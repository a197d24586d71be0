"""Sentences for scenes: a grammar with synonyms and several orders, as a person would type a prompt.

A dense caption names all that is visible, a short one the bodies and what they do. Knows nothing of pixels.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from diorama.errors import InputError
from diorama.worlds.scene import Scene
from diorama.worlds.words import RESERVED, SYNONYMS, Words

__all__ = ["RESERVED", "SYNONYMS", "Captions", "caption", "mirror_caption", "paraphrase"]


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Two descriptions of one scene."""

    dense: str
    """Bodies with size, finish, colour, shape, motion and partner; floor, backdrop, light, camera."""
    short: str
    """Bodies and motions; now and then the floor, the light and the camera."""


def caption(scene: Scene, seed: int) -> Captions:
    """Describe a scene with the words that training uses; the same scene and seed give the same sentences.

    Raises:
        InputError: the seed is negative.
    """
    return _write(scene, seed, SYNONYMS)


def paraphrase(scene: Scene, seed: int) -> Captions:
    """Describe a scene with words that no training caption uses, for evaluation.

    Raises:
        InputError: the seed is negative.
    """
    return _write(scene, seed, RESERVED)


def mirror_caption(text: str) -> str:
    """Exchange left and right, for a clip flipped from left to right; twice gives the text back."""
    swap = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}
    return re.sub(r"\b(left|right|Left|Right|LEFT|RIGHT)(?=(?:wards?|most|hand)?\b)", lambda match: swap[match[0]], text)


def _write(scene: Scene, seed: int, words: Words) -> Captions:
    if seed < 0:
        raise InputError(f"caption seed {seed} is negative; give 0 or more")
    draw = random.Random(seed)
    return Captions(dense=_dense(scene, words, draw), short=_short(scene, words, draw))


@dataclass
class _Sentence:
    """The bodies of one caption, with memory of which were named already."""

    scene: Scene
    words: Words
    draw: random.Random
    dense: bool

    def __post_init__(self) -> None:
        self.named: list[int] = []

    def pick(self, attribute: str, value: str) -> str:
        return self.draw.choice(self.words[attribute][value])

    def noun(self, index: int) -> str:
        body = self.scene.bodies[index]
        color, shape = self.pick("color", body.color), self.pick("shape", body.shape)
        twins = [i for i in self.named if i != index and (self.scene.bodies[i].color, self.scene.bodies[i].shape) == (body.color, body.shape)]
        if index in self.named:
            return f"the {'other ' if twins else ''}{color} {shape}"
        self.named.append(index)
        parts = [color, shape]
        if self.draw.random() < (0.75 if self.dense else 0.1):
            parts.insert(0, self.pick("finish", body.finish))
        mention = 0.95 if body.size != "medium" else 0.4
        if self.draw.random() < (mention if self.dense else 0.15):
            parts.insert(0, self.pick("size", body.size))
        if twins:
            return " ".join(["another", *parts])
        return " ".join(["an" if parts[0][0] in "aeiou" else "a", *parts])

    def clause(self, index: int) -> str:
        """Return subject, verb, direction and partner of one body."""
        body = self.scene.bodies[index]
        subject = self.noun(index)
        where = "" if body.direction == "none" or (not self.dense and self.draw.random() < 0.3) else f" {self.pick('direction', body.direction)}"
        if body.partner is None or body.motion not in ("collide", "pass_behind"):
            return f"{subject} {self.pick('motion', body.motion)}{where}"
        meet = f"{self.pick('motion', body.motion)} {self.noun(body.partner)}"
        style = self.draw.random()
        if style < (0.2 if self.dense else 0.5):
            return f"{subject} {meet}{where}" if body.motion == "pass_behind" else f"{subject} {meet}"
        carrier = self.pick("motion", "roll" if body.shape == "sphere" else "slide")
        if body.motion == "pass_behind" and self.words is SYNONYMS and style > 0.85:
            return f"{subject} {carrier}{where} behind {meet.split('behind ')[-1].split('back of ')[-1]}"
        return f"{subject} {carrier}{where} and {meet}"

    def clauses(self) -> list[str]:
        """Return the clauses of all bodies, each body named at least once."""
        bodies = self.scene.bodies
        order = list(range(len(bodies)))
        if self.draw.random() < 0.3:
            self.draw.shuffle(order)
        else:
            order.sort(key=lambda i: (bodies[i].partner is None, bodies[i].motion == "rest", i))
        found: list[str] = []
        for i in order:
            if bodies[i].motion == "rest" and i in self.named and self.draw.random() < 0.8:
                continue
            if bodies[i].motion == "rest" and self.draw.random() < (0.5 if self.dense else 0.8):
                noun = self.noun(i)
                found = [*found[:-1], f"{found[-1]} {self.pick('beside', '')} {noun}"] if found else [noun]
                continue
            found.append(self.clause(i))
        return found


def _dense(scene: Scene, words: Words, draw: random.Random) -> str:
    sentence = _Sentence(scene, words, draw, True)
    clauses = sentence.clauses()
    body = _join(clauses, draw)
    settings = [sentence.pick("floor", scene.floor), sentence.pick("light", scene.light)]
    if draw.random() < (0.8 if scene.backdrop == "walls" else 0.4):
        settings.append(sentence.pick("backdrop", scene.backdrop))
    if draw.random() < 0.5:
        draw.shuffle(settings)
    first = settings.pop(0) if draw.random() < 0.3 else ""
    last = " ".join(settings)
    text = f"{first}, {body} {last}" if first else f"{body}{', ' if draw.random() < 0.2 else ' '}{last}"
    if scene.camera.move == "static" and draw.random() < 0.5:
        return _finish([text])
    return _finish(_with_camera(text, scene, sentence))


def _with_camera(text: str, scene: Scene, sentence: _Sentence) -> list[str]:
    """Return sentences with the camera first or last, as a clause, a sentence of its own, or a shot's name."""
    draw, camera = sentence.draw, sentence.pick("camera", scene.camera.move)
    subject, verb = camera.split(" ")[:2], camera.split(" ")[2:]
    moving = " ".join([*subject, _participle(verb[0]), *verb[1:]])
    shot = sentence.pick("shot", scene.camera.move)
    forms = [
        [f"{text} while {camera}"],
        [f"{text} as {camera}"],
        [f"{text}, {camera}"],
        [f"{text}, with {moving}"],
        [text, camera],
        [camera, text],
        [f"as {camera}, {text}"],
        [f"{shot}: {text}"],
        [f"{text}, {shot}"],
    ]
    return draw.choice(forms)


def _short(scene: Scene, words: Words, draw: random.Random) -> str:
    sentence = _Sentence(scene, words, draw, False)
    text = _join(sentence.clauses(), draw)
    if draw.random() < 0.25:
        text = f"{text} {sentence.pick('floor', scene.floor)}"
    if draw.random() < (0.15 if scene.light == "day" else 0.4):
        light = sentence.pick("light", scene.light)
        text = f"{text} {light}" if draw.random() < 0.7 else f"{light}, {text}"
    if draw.random() < (0.1 if scene.camera.move == "static" else 0.4):
        text = ", ".join(_with_camera(text, scene, sentence))
    return text


def _join(clauses: Sequence[str], draw: random.Random) -> str:
    if len(clauses) == 1:
        return clauses[0]
    style = draw.random()
    if style < 0.25 and len(clauses) == 2:
        return f"{clauses[0]} while {clauses[1]}"
    if style < 0.45:
        return ", ".join(clauses)
    if style < 0.6:
        return ". ".join(clauses)
    return f"{', '.join(clauses[:-1])} and {clauses[-1]}"


def _finish(sentences: Sequence[str]) -> str:
    parts = [part for sentence in sentences for part in sentence.split(". ")]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def _participle(verb: str) -> str:
    if verb.endswith(("ches", "shes", "sses")):
        return f"{verb[:-2]}ing"
    if verb.endswith("ies"):
        return f"{verb[:-3]}ying"
    stem = verb[:-1]
    if stem.endswith("e"):
        return f"{stem[:-1]}ing"
    doubled = stem[-1] if stem in ("drop", "get", "pan", "scan", "spin", "step", "tip") else ""
    return f"{stem}{doubled}ing"
