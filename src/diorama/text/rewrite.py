"""A short prompt becomes a dense one, of the kind that the model was trained on.

Rules over the grammar that travels with the weights, or any OpenAI-compatible chat endpoint. The rules keep every word
of the prompt except those that the grammar lists as another name of a word it knows ("crimson" becomes "red"), and add
what the prompt leaves open: size, finish, colour, motion, floor, light and camera. A prompt that tells one thing after
another becomes one prompt for each.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diorama.config import load_json
from diorama.errors import InputError
from diorama.text.endpoint import ask

__all__ = ["Grammar", "any_phrase", "fix_articles", "rewrite", "rewrite_with_endpoint", "split_prompt"]

_FILLERS = frozenset({"a", "an", "the", "on", "in", "of", "at", "to", "by", "from", "with", "during", "warm", "open"})
_INSTRUCTION = """\
Rewrite the user's prompt for a text-to-video model as one detailed caption of at most 60 words.
Keep everything the user asked for. Add what is missing: each object's size, finish, colour and motion, the floor,
the light (day, sunset or night) and what the camera does. Answer with the caption only. Example: A large shiny red ball
rolls to the right and passes behind a small blue cube on a checkered floor at sunset while the camera orbits left."""

_THEN = (
    r"(?:then|after (?:that|this|a while|a moment)|afterwards?|thereafter|subsequently|eventually|finally|at last|in the end|at the end(?! of\b)"
    r"|suddenly|all at once|all of a sudden|next(?! to\b)|later(?: on)?|soon(?: after(?:wards?)?)?"
    r"|(?:(?:an?|few|one|two|three|some|several|\d+) ){0,2}(?:moment|second|minute|while)s? later)"
)
"""Words that say that something comes next, where a clause begins."""
_CLAUSE = r"(?:^|[.!?;:]+\s+(?:and\s+|but\s+)?|,\s*(?:and\s+|but\s+)?|\s+(?:and|but|[-–—])\s+)"
_BREAK = re.compile(
    rf"(?<!\bnow)(?<!\bsince)(?<!\buntil)(?<!\bby)(?:{_CLAUSE}{_THEN}(?:,?\s+{_THEN})*\b,?\s+|(?<!\bnow and)\s+then\s+)", re.IGNORECASE
)
_FIRST = re.compile(r"(?:at first|first(?: of all)?|in the beginning),?\s+", re.IGNORECASE)
_LATE_THEN = re.compile(
    rf"(?P<clause>{_CLAUSE})(?P<subject>it|they|he|she|the(?: [\w-]+){{1,4}}?) (?P<then>then|suddenly|finally|eventually|later|subsequently)\s+",
    re.IGNORECASE,
)
_WEATHER = r"(?!\s+(?:rains|snows|(?:is|gets) (?:day|night|dark|light|raining|snowing))\b)"
_VERB_WORDS = """
appear approach arrive bark bend blow bounce break burn change chase climb close collapse collide come crash cross crawl dance disappear dive
dolly drift drive drop eat enter exit expand explode fade fall flicker float flow fly follow freeze get glide go grow hit hop hover jump keep
kick knock land laugh leap leave lie lift look lower make meet melt move open orbit pan pass plunge pull push reach remain rest return ride rise
roll rotate run sail sit shake shatter shine shrink sink skate sleep slide slow smile speed spin stand start stay stop strike sway swim swing
take throw tilt topple touch travel tumble turn vanish wake walk wave zoom is has does was
"""
_VERBS = frozenset(_VERB_WORDS.split())
_STOP_WORDS = """
above across after and around as at behind below beside between by down from in inside into left near next of off on onto out over past right that
through to toward towards under up upon which while who with without are were will can have
"""
_STOPS = frozenset(_STOP_WORDS.split())
_COUNTS = frozenset({"two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "some", "several", "many"})


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """The words of the captions that a model was trained on: attribute to value to phrases."""

    words: Mapping[str, Mapping[str, tuple[str, ...]]]
    """What captions say; attributes ``size finish color shape motion direction floor light camera``."""
    paraphrases: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Other phrases for the same values."""

    @classmethod
    def load(cls, folder: Path) -> Grammar:
        """Read ``text_encoder/grammar.json`` of a model folder.

        Raises:
            ConfigError: the file is missing or damaged.
        """
        raw = load_json(_RawGrammar, folder / "text_encoder" / "grammar.json")
        return cls(words=_frozen(raw.words), paraphrases=_frozen(raw.paraphrases))


@dataclass(frozen=True, kw_only=True)
class _RawGrammar:
    words: dict  # type: ignore[type-arg]
    paraphrases: dict  # type: ignore[type-arg]


def _frozen(table: Mapping[str, Mapping[str, list[str]]]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {attribute: {value: tuple(phrases) for value, phrases in values.items()} for attribute, values in table.items()}


def rewrite(prompt: str, grammar: Grammar, seed: int) -> str:
    """Expand a prompt by rules.

    Args:
        prompt: What the user typed.
        grammar: Of the model that will read the result.
        seed: Chooses what is added; the same seed adds the same.

    Returns:
        One or more sentences. A prompt in which no shape is recognised keeps its words and gains only a setting.

    Raises:
        InputError: the prompt is empty.
    """
    text = " ".join(prompt.split()).rstrip(" .")
    if not text:
        raise InputError("an empty prompt cannot be rewritten; type what should be seen")
    draw = random.Random(seed)
    text = _translate(text, grammar)
    text, first = _fill_bodies(text, grammar, draw)
    setting = []
    if not re.search(r"\b(floor|ground|on (an?|the) (?!\w+ (day|night)))\b", text, re.IGNORECASE) and not _mentions(
        text, grammar, "floor", r"\bon\b[^,.;]*"
    ):
        setting.append(_any(grammar, "floor", draw))
    if not _mentions(text, grammar, "light"):
        setting.append(_any(grammar, "light", draw))
    has_camera = re.search(r"\b(camera|shot|zoom\w*|dolly|pan(s|ning)?)\b", text, re.IGNORECASE) is not None
    sentences = [text]
    if first and not _moves(text, grammar):
        motion = _motion(first[1], grammar, draw)
        alone = re.fullmatch(rf"an? [^,.;]*{re.escape(first[0])}", text, re.IGNORECASE) is not None
        sentences = [f"{text} {motion}"] if alone else [text, f"the {first[0]} {motion}"]
    if setting and has_camera:
        sentences[0] = f"{' '.join(setting)}, {text}"
    elif setting:
        sentences[-1] = f"{sentences[-1]} {' '.join(setting)}"
    if not has_camera:
        sentences.append(_any(grammar, "camera", draw))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def _any(grammar: Grammar, attribute: str, draw: random.Random) -> str:
    values = grammar.words[attribute]
    return draw.choice(values[draw.choice(list(values))])


def any_phrase(table: Mapping[str, tuple[str, ...]]) -> str:
    """Return a pattern for any phrase of an attribute, longest first, plurals included."""
    found = sorted((phrase for phrases in table.values() for phrase in phrases), key=len, reverse=True)
    return "|".join(re.escape(phrase) for phrase in found)


def _translate(text: str, grammar: Grammar) -> str:
    """Replace paraphrases by the first phrase that captions use for the same value."""
    known = {}
    for attribute, values in grammar.paraphrases.items():
        for value, phrases in values.items():
            known.update(dict.fromkeys(phrases, grammar.words[attribute][value][0]))
    pattern = "|".join(re.escape(phrase) for phrase in sorted(known, key=len, reverse=True))
    text = re.sub(rf"(?<![\w-])({pattern})(s?)(?![\w-])", lambda match: known[match[1].lower()] + match[2], text, flags=re.IGNORECASE)
    return fix_articles(text)


def fix_articles(text: str) -> str:
    """Make every "a" and "an" fit the word behind it."""
    return re.sub(r"\b(a)n?(?= (\w))", lambda match: f"{match[1]}{'n' if match[2].lower() in 'aeio' else ''}", text, flags=re.IGNORECASE)


def _fill_bodies(text: str, grammar: Grammar, draw: random.Random) -> tuple[str, tuple[str, str] | None]:
    """Give every newly named body a size, a finish and a colour.

    Returns:
        The text, and the first body's colour with shape word and its shape.
    """
    shapes = {phrase: value for value, phrases in grammar.words["shape"].items() for phrase in phrases}
    bodies: list[tuple[str, str]] = []

    def fill(match: re.Match[str]) -> str:
        before, shape = match["adjectives"].split(), match["shape"].lower()
        color = next((word for word in before if re.fullmatch(any_phrase(grammar.words["color"]), word, re.IGNORECASE)), None)
        if color is None:
            color = _any(grammar, "color", draw)
            before.append(color)
        bodies.append((f"{color} {match['shape']}", shapes[shape]))
        for attribute in ("finish", "size"):
            if not any(re.fullmatch(any_phrase(grammar.words[attribute]), word, re.IGNORECASE) for word in before):
                place = before.index(color) if attribute == "finish" else 0
                before.insert(place, _any(grammar, attribute, draw))
        return " ".join([match["article"], *before, match["shape"]])

    pattern = rf"\b(?P<article>an?)\s+(?P<adjectives>(?:[\w-]+\s+){{0,4}}?)(?P<shape>{any_phrase(grammar.words['shape'])})\b"
    return fix_articles(re.sub(pattern, fill, text, flags=re.IGNORECASE)), bodies[0] if bodies else None


def _mentions(text: str, grammar: Grammar, attribute: str, before: str = "") -> bool:
    content = {word for phrases in grammar.words[attribute].values() for phrase in phrases for word in phrase.split()} - _FILLERS
    return re.search(rf"{before}\b({'|'.join(map(re.escape, sorted(content)))})\b", text, re.IGNORECASE) is not None


def _moves(text: str, grammar: Grammar) -> bool:
    verbs = {phrase.split()[0].removesuffix("s").removesuffix("e") for phrases in grammar.words["motion"].values() for phrase in phrases}
    bodies_only = re.sub(r"\bcamera\b[^,.;]*", "", text, flags=re.IGNORECASE)
    return re.search(rf"\b({'|'.join(sorted(verbs))})(s|es|e|ing|\wing)?\b", bodies_only, re.IGNORECASE) is not None


def _motion(shape: str, grammar: Grammar, draw: random.Random) -> str:
    motion = draw.choice(("roll", "roll", "bounce") if shape == "sphere" else ("slide", "rest", "bounce"))
    verb = draw.choice(grammar.words["motion"][motion])
    return f"{verb} {grammar.words['direction'][draw.choice(('left', 'right'))][0]}" if motion in ("roll", "slide") else verb


def rewrite_with_endpoint(prompt: str, url: str, model: str, api_key: str | None = None, *, timeout: float = 30.0) -> str:
    """Expand a prompt with a language model behind an OpenAI-compatible chat endpoint.

    Args:
        prompt: What the user typed.
        url: Base address, for example ``http://localhost:8000/v1``.
        model: Name of the model there.
        api_key: Sent as bearer token where given.
        timeout: Seconds to wait.

    Raises:
        InputError: the address is not http or https, does not answer in time, or answers with an error or no text.
    """
    messages = [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": prompt}]
    remedy = "check the address, the model name and the key, or rewrite by the built-in rules"
    return ask(messages, url, model, api_key, purpose="rewrite", remedy=remedy, timeout=timeout)


def split_prompt(prompt: str) -> list[str]:
    """Break a compound prompt into prompts of one moment each, in the order of time.

    A new part begins where a word says that something comes next: then, after that, afterwards, next, finally, later, suddenly
    and the like, where a sentence or a clause begins. A sentence without such a word belongs to the moment of the one before it, so
    a prompt without any stays whole.

    A part that begins with "it", "he" or "she" says instead what was spoken of last: the words with which the part before began, up to
    its verb, with "the" for "a"; so does one that begins with the verb itself, or names the thing by its last word alone ("the ball").
    The camera is spoken of only if nothing else is. "They" stands for more than one thing. Where no such words are found, a part
    stays as it is typed.

    Args:
        prompt: Such as "a red ball rolls left, then it hits a blue cube. After that the camera orbits right".

    Returns:
        Such as ``["a red ball rolls left", "the red ball hits a blue cube", "the camera orbits right"]``; one part or more.

    Raises:
        InputError: the prompt is empty.
    """
    text = " ".join(prompt.split())
    if not text.strip(" .,;:!?"):
        raise InputError("an empty prompt cannot be split; type what should be seen")
    moved = _LATE_THEN.sub(_then_first, text)
    parts = [part.strip(" .,;:-–—") for part in _BREAK.split(moved)]
    parts = [part for part in parts if part]
    if len(parts) < 2:
        return [text]
    parts[0] = _FIRST.sub("", parts[0], count=1) if _FIRST.match(parts[0]) else parts[0]
    subject, found = "", []
    for part in parts:
        part = _resolved(part, subject) if subject else part
        own = _subject(part)
        if own and (not subject or not own.endswith(" camera")):
            subject = own
        found.append(part)
    return found


def _then_first(match: re.Match[str]) -> str:
    """Turn "the ball then" into "then the ball", but leave "the ball rolls then"."""
    words = match["subject"].lower().split()
    if any(_is_verb(word) for word in words[1:]):
        return match[0]
    return f"{match['clause']}{match['then']} {match['subject']} "


def _is_verb(word: str) -> bool:
    """Whether a word says what one thing does: stops, stopping, is."""
    stems = {word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ing"), f"{word.removesuffix('ing')}e"}
    if word.endswith("ies"):
        stems.add(f"{word[:-3]}y")
    return word.endswith(("s", "ing")) and (bool(stems & _VERBS) or (word.endswith("ing") and len(word) > 5))


def _subject(part: str) -> str:
    """Return the words a part begins with up to its verb, "the" for "a"; empty if they are not found."""
    lead = re.match(r"(?:on|in|at|by|under|during|as|with)\b[^,.]*, ", part, re.IGNORECASE)
    clause = re.split(r"[,.;:!?]", part[lead.end() :] if lead else part)[0]
    words = clause.split()
    heads: list[str] = []
    while words:
        found = _noun(words)
        if not found:
            return ""
        heads.append(" ".join(["the", *words[1:found]]) if words[0].lower() in ("a", "an", "one", "another") else " ".join(words[:found]))
        words = words[found:]
        if not (len(words) > 1 and words[0] == "and" and words[1].lower() in ("a", "an", "the", "another")):
            break
        words = words[1:]
    return " and ".join(f"{head[0].lower()}{head[1:]}" if head.lower().startswith(("the ", *_COUNTS)) else head for head in heads)


def _noun(words: Sequence[str]) -> int:
    """Return how many words at the beginning name one thing, or several of a kind; 0 if none are found."""
    first, many = words[0].lower(), words[0].lower() in _COUNTS
    if first in ("a", "an", "the", "one", "another") or many:
        for i, word in enumerate(words[1:7], 1):
            lower = word.lower()
            ended = words[i - 1].endswith("s") if many else re.search(r"[^su]s$", lower) is not None
            if lower in _STOPS or _is_verb(lower) or (i > 1 and (ended or lower in _VERBS)):
                return i if i > 1 else 0
        return len(words) if len(words) < 7 else 0
    named = words[0][0].isupper() and len(words) > 1 and _is_verb(words[1].lower())
    return 1 if named else 0


def _resolved(part: str, subject: str) -> str:
    """Return a part with its subject in full."""
    plural = " and " in subject or subject.split()[0] in _COUNTS
    pronoun = re.match(r"(?:they|both)\b(?!\s+of)" if plural else rf"(?:it|he|she)\b{_WEATHER}(?P<is>'s\b)?", part, re.IGNORECASE)
    if pronoun:
        short = not plural and pronoun["is"]
        return f"{subject}{' is' if short else ''}{part[pronoun.end() :]}"
    first, *_ = words = part.lower().split()
    if not plural and _is_verb(first) and first.endswith("s"):
        return f"{subject} {part}"
    if not plural and len(words) > 1 and words[0] == "the" and words[1] == subject.split()[-1].lower():
        return f"{subject}{part[len(' '.join(words[:2])) :]}"
    return part
