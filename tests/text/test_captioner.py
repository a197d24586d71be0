"""The captioner's form: causal, sizes, both kinds, whole sentences, files that round-trip; its skill is measured by training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.errors import CheckpointError, ConfigError
from diorama.text.captioner import KINDS, MARK, Captioner, CaptionerConfig, sentence
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary

VOCABULARY = build_vocabulary(["[UNK]", "red", "blue", "ball", "cube", "rolls", "mirror", "like"], ["red blue ball cube rolls mirror like"], 170)
TINY = CaptionerConfig(
    vocabulary_size=len(VOCABULARY),
    max_tokens=12,
    num_frames=3,
    area=1024,
    widths=(8, 8, 16),
    reach=1,
    num_queries=4,
    num_heads=2,
    depth=1,
    decoder_width=16,
    decoder_depth=2,
)


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Captioner(TINY, PromptTokenizer(VOCABULARY)).eval()
        made.kind_table.data.normal_()
        made.table.weight.data.normal_()
    return made


def clips() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (frames, *size, 3), dtype=np.uint8) for frames, size in ((5, (32, 32)), (1, (24, 48)), (9, (48, 24)))]


def test_a_piece_depends_on_the_pieces_before_it_only(captioner: Captioner) -> None:
    states, kinds = torch.randn(2, 4, 32), torch.tensor([0, 1])
    ids = torch.randint(3, 100, (2, 8))
    other = ids.clone()
    other[:, 5:] = 7
    with torch.no_grad():
        one, two = captioner(states, ids, kinds), captioner(states, other, kinds)
    assert one.shape == (2, 8, len(VOCABULARY))
    assert torch.equal(one[:, :5], two[:, :5])
    assert not torch.allclose(one[:, 5:], two[:, 5:])


def test_what_was_seen_and_the_kind_change_what_is_said(captioner: Captioner) -> None:
    states, ids = torch.randn(2, 4, 32), torch.full((2, 1), MARK)
    with torch.no_grad():
        first = captioner(states, ids, torch.tensor([0, 0]))
        assert not torch.allclose(first[0], first[1], atol=1e-3)
        assert not torch.allclose(first, captioner(states, ids, torch.tensor([1, 1])), atol=1e-3)


def test_clips_together_are_described_as_alone(captioner: Captioner) -> None:
    for kind in KINDS:
        together = captioner.write(captioner.see(clips()), kind)
        assert together == [captioner.write(captioner.see([clip]), kind)[0] for clip in clips()]
    assert captioner.write(captioner.see([])) == []


def test_every_part_learns() -> None:
    made = Captioner(TINY, PromptTokenizer(VOCABULARY))
    states = made.watch(torch.randn(2, 3, 3, 32, 32))
    made(states, torch.randint(3, 100, (2, TINY.max_tokens)), torch.tensor([0, 1])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


@pytest.mark.parametrize(
    "text",
    [
        "A mirror-like red ball rolls to the left, then a medium-sized cube falls. The camera's still.",
        "Static shot: a ball (red) rolls; 80% of it.",
        "",
    ],
)
def test_pieces_become_the_sentence_again(text: str) -> None:
    pieces = PromptTokenizer(VOCABULARY).pieces(text)
    assert sentence(pieces[1:]) == text


def test_saved_weights_are_near_and_small(captioner: Captioner, tmp_path: Path) -> None:
    captioner.save(tmp_path / "c")
    before = torch.random.get_rng_state()
    again = Captioner.load(tmp_path / "c")
    assert torch.equal(before, torch.random.get_rng_state())
    assert again.config == TINY
    for name, value in captioner.state_dict().items():
        error = (again.state_dict()[name] - value).abs()
        # half a step of 127, and the rounding of the scale and of vectors to 11 bits
        assert float(error.max()) <= float(value.abs().max()) * (0.51 / 127 + 1e-3)
    count = sum(p.numel() for p in captioner.parameters())
    assert (tmp_path / "c" / "model.safetensors").stat().st_size < 2 * count + 12_000


def test_damage_is_named(captioner: Captioner, tmp_path: Path) -> None:
    captioner.save(tmp_path / "c")
    config = (tmp_path / "c" / "config.json").read_text()
    (tmp_path / "c" / "config.json").write_text(config.replace('"decoder_depth": 2', '"decoder_depth": 1'))
    with pytest.raises(CheckpointError, match="layers"):
        Captioner.load(tmp_path / "c")
    with pytest.raises(CheckpointError, match="use a pair"):
        Captioner(CaptionerConfig(), PromptTokenizer(VOCABULARY))


def test_the_default_captioner_is_small() -> None:
    words = build_vocabulary([f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(600)], [], 512)
    vocabulary = PromptTokenizer([*words, *(f"x{i}" for i in range(512 - len(words)))])
    assert sum(p.numel() for p in Captioner(CaptionerConfig(), vocabulary).parameters()) < 0.7 * 2**20


def test_bad_configs() -> None:
    for bad, message in (({"num_frames": 1}, "too small"), ({"num_heads": 5}, "multiples"), ({"decoder_depth": 0}, "at least 1")):
        with pytest.raises(ConfigError, match=message):
            CaptionerConfig(**bad)


def test_the_likelihood_of_a_text_is_that_of_its_pieces_one_after_another(captioner: Captioner) -> None:
    seen = captioner.see(clips())
    pieces = captioner.likelihood(seen, "a red ball", "short")
    ids = captioner.tokenizer.encode(["a red ball"], 12).ids
    assert pieces.shape == (3, ids.shape[1] - 1)
    assert bool((pieces < 0).all())
    alone = captioner.likelihood(captioner.see(clips()[1:2]), "a red ball", "short")
    torch.testing.assert_close(alone[0], pieces[1])
    start = captioner.likelihood(seen, "a red", "short")
    torch.testing.assert_close(start, pieces[:, : start.shape[1]])
    assert not torch.allclose(captioner.likelihood(seen, "a red ball", "dense"), pieces)
    assert captioner.likelihood(seen, "ball " * 40).shape == (3, 11)
