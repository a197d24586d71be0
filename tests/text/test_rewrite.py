"""Rewriting: the user's words stay, what is open is added, and an endpoint's faults come in one sentence."""

import json
import re

import pytest
from tests.chat import chat_server

from diorama.errors import ConfigError, InputError
from diorama.text.rewrite import Grammar, rewrite, rewrite_with_endpoint, split_prompt

GRAMMAR = Grammar(
    words={
        "size": {"small": ("small", "tiny"), "large": ("large", "big")},
        "finish": {"matte": ("matte",), "glossy": ("shiny",)},
        "color": {"red": ("red",), "blue": ("blue",), "orange": ("orange",)},
        "shape": {"sphere": ("ball", "sphere"), "box": ("cube", "block")},
        "motion": {"rest": ("rests",), "roll": ("rolls",), "slide": ("slides",), "bounce": ("bounces",), "pass_behind": ("passes behind",)},
        "direction": {"left": ("to the left",), "right": ("to the right",)},
        "floor": {"wood": ("on a wooden floor",), "grass": ("on grass",)},
        "light": {"day": ("by day",), "sunset": ("at sunset",), "night": ("at night",)},
        "camera": {"static": ("the camera stays still",), "dolly_in": ("the camera moves in",)},
    },
    paraphrases={
        "color": {"red": ("crimson",), "orange": ("amber",)},
        "shape": {"sphere": ("orb",)},
        "light": {"sunset": ("at dusk",)},
        "camera": {"dolly_in": ("the view zooms in",)},
    },
)


def test_every_open_question_is_answered() -> None:
    for seed in range(20):
        text = rewrite("a red ball", GRAMMAR, seed)
        assert re.search(r"an? (small|tiny|large|big) (matte|shiny) red ball", text.lower()), text
        assert re.search(r"red ball (rolls|bounces)", text), text
        assert re.search(r"on a wooden floor|on grass", text), text
        assert re.search(r"by day|at sunset|at night", text), text
        assert text.count("camera") == 1, text


def test_what_the_user_said_is_kept_and_not_said_twice() -> None:
    prompt = "A big red ball slides past a velvet blue cube on grass at night while the camera moves in"
    text = rewrite(prompt, GRAMMAR, 3)
    assert set(prompt.lower().split()) <= set(re.findall(r"[\w-]+", text.lower()))
    for phrase in ("on grass", "at night", "camera", "slides", "big"):
        assert text.count(phrase) == 1, text
    assert not re.search(r"wooden|by day|sunset|rolls|bounces", text)


def test_other_names_become_the_names_of_the_captions() -> None:
    text = rewrite("a crimson orb and an orb at dusk, the view zooms in", GRAMMAR, 0)
    assert "red ball" in text
    assert "at sunset" in text
    assert "the camera moves in" in text
    assert not re.search(r"crimson|orb|dusk|view", text)


def test_articles_fit() -> None:
    for seed in range(20):
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", rewrite("an amber orb next to a crimson cube", GRAMMAR, seed).lower())


def test_prompts_without_a_known_shape_keep_their_words() -> None:
    text = rewrite("two cats play chess.", GRAMMAR, 1)
    assert text.startswith("Two cats play chess ")
    assert "camera" in text


def test_the_seed_decides() -> None:
    assert rewrite("a ball", GRAMMAR, 4) == rewrite("a ball", GRAMMAR, 4)
    assert len({rewrite("a ball", GRAMMAR, seed) for seed in range(20)}) > 10


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        rewrite(" . ", GRAMMAR, 0)


@pytest.mark.parametrize(
    "prompt",
    [
        "a red ball rolls left",
        "A red ball rests on grass. It is shiny, and the camera orbits left.",
        "a red ball rolls to the left next to a blue cube while it shines",
        "every now and then a ball bounces at the end of a street",
        "a lamp has glowed since then",
        "Then a ball rolls.",
    ],
)
def test_one_moment_stays_whole(prompt: str) -> None:
    assert split_prompt(f"  {prompt.replace(' ', '  ')} ") == [prompt]


@pytest.mark.parametrize(
    "joint", [", then ", " then ", " and then ", ". Then, ", "; afterwards ", ". After that ", ", and finally ", ". A few moments later, "]
)
def test_every_word_for_what_comes_next_begins_a_part(joint: str) -> None:
    assert split_prompt(f"a red ball rolls left{joint}it hits a blue cube.") == ["a red ball rolls left", "the red ball hits a blue cube"]
    assert split_prompt(f"a red ball rolls left{joint}the camera orbits") == ["a red ball rolls left", "the camera orbits"]


def test_a_sentence_without_such_a_word_belongs_to_the_moment_before() -> None:
    prompt = "First, a red ball rolls left. The camera orbits. It suddenly stops. A cone falls!"
    assert split_prompt(prompt) == ["a red ball rolls left. The camera orbits", "the red ball stops. A cone falls!"]


@pytest.mark.parametrize(
    ("prompt", "last"),
    [
        ("a red ball rolls left, then hits a cube and finally stops", "the red ball stops"),
        ("A big red ball rolls left. Later the ball stops", "the big red ball stops"),
        ("a yellow glass bus arrives, then it's gone", "the yellow glass bus is gone"),
        ("on grass by day, a ball that bounces rolls left, then it stops", "the ball stops"),
        ("two red balls roll left, then they stop", "two red balls stop"),
        ("a red ball and a blue cube slide left, then both fall over", "the red ball and the blue cube fall over"),
        ("Anna walks in, then she sits", "Anna sits"),
        ("a ball falls. Then a green cone falls. Then it topples", "the green cone topples"),
        ("a ball falls, then the camera orbits, then it stops", "the ball stops"),
        ("the camera orbits, then it zooms in", "the camera zooms in"),
    ],
)
def test_a_part_says_in_full_what_it_is_about(prompt: str, last: str) -> None:
    assert split_prompt(prompt)[-1] == last


@pytest.mark.parametrize("last", ["it rains", "they collide", "cars arrive", "the cube stops", "both of them stop"])
def test_what_is_about_something_else_stays_as_typed(last: str) -> None:
    assert split_prompt(f"a red ball rolls left, then {last}") == ["a red ball rolls left", last]


def test_nothing_cannot_be_split() -> None:
    with pytest.raises(InputError, match="empty"):
        split_prompt(" . ")


def test_the_grammar_is_read_from_a_model_folder(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Grammar.load(tmp_path)
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "grammar.json").write_text(json.dumps({"words": GRAMMAR.words, "paraphrases": GRAMMAR.paraphrases}))
    assert Grammar.load(tmp_path) == GRAMMAR


def test_an_endpoint_writes_the_caption() -> None:
    with chat_server(lambda body, path, key: f"{body['model']} saw {body['messages'][-1]['content']} with {key}") as url:
        assert rewrite_with_endpoint("a ball", url, "m", "k") == "m saw a ball with Bearer k"


def test_a_fault_of_an_endpoint_names_the_other_way_to_rewrite() -> None:
    with chat_server(lambda *_: "") as url, pytest.raises(InputError, match="status 503") as caught:
        rewrite_with_endpoint("fail", url, "m")
    assert "\n" not in str(caught.value)
    assert "rewrite" in str(caught.value)
