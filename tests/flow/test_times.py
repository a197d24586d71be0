"""Shift, schedules and the training mixture."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diorama import flow
from diorama.errors import ConfigError


@given(factor=st.floats(0.2, 12))
def test_shift_is_monotone_and_keeps_the_ends(factor: float) -> None:
    moved = flow.shift(torch.linspace(0, 1, 101, dtype=torch.float64), factor)
    assert (moved.diff() > 0).all()
    assert moved[0] == 0
    assert moved[-1] == pytest.approx(1)


def test_shift_above_one_moves_towards_noise() -> None:
    t = torch.linspace(0.1, 0.9, 9)
    assert (flow.shift(t, 3.0) > t).all()
    torch.testing.assert_close(flow.shift(t, 1.0), t)
    assert float(flow.shift(torch.tensor(0.5), 3.0)) == pytest.approx(0.75)


def test_shift_grows_with_tokens_and_starts_at_one() -> None:
    factors = [flow.shift_for(n) for n in (1, 64, 576, 2304, 9216)]
    assert factors == sorted(factors)
    assert factors[0] == 1.0
    assert factors[2] == pytest.approx(1.75)
    assert factors[3] == pytest.approx(3.5)


def test_schedule_falls_from_one_to_zero() -> None:
    visited = flow.schedule(7, 2.5)
    assert visited.shape == (8,)
    assert visited[0] == 1
    assert visited[-1] == 0
    assert (visited.diff() < 0).all()


def test_logit_normal_has_its_median_at_the_sigmoid_of_the_mean() -> None:
    times = flow.logit_normal(torch.Generator().manual_seed(0), (20_000,), mean=-1.0, std=0.5)
    assert float(times.median()) == pytest.approx(float(torch.sigmoid(torch.tensor(-1.0))), abs=0.01)
    assert float(times.min()) > 0
    assert float(times.max()) < 1


def test_logit_mean_moves_training_towards_noise() -> None:
    medians = []
    for mean in (-1.0, 0.0, 1.0):
        generator = torch.Generator().manual_seed(0)
        mixture = flow.Mixture(logit_mean=mean, logit_std=0.5)
        times = torch.stack([flow.sample_frame_times(generator, 3, mixture).times.max() for _ in range(1000)])
        medians.append(float(times.median()))
    assert medians == sorted(medians)
    assert medians[2] > 0.7


@pytest.mark.parametrize(("name", "value"), [("logit_mean", float("nan")), ("logit_mean", 9.0), ("logit_std", -1.0)])
def test_mixture_refuses_logits_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        flow.Mixture(**{name: value})


def test_mixture_has_the_shares_it_names() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(flow.sample_frame_times(generator, 9, flow.Mixture()).kind for _ in range(4000))
    wanted = {"shared": 0.40, "prefix": 0.20, "ends": 0.10, "subset": 0.05, "independent": 0.25}
    for kind, share in wanted.items():
        assert drawn[kind] / 4000 == pytest.approx(share, abs=0.03)  # type: ignore[index]


def _only(kind: str) -> flow.Mixture:
    off = dict.fromkeys(("shared", "prefix", "ends", "subset", "independent"), 0.0)
    return flow.Mixture(**{**off, kind: 1.0}, context_noise=0.0)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 9])
@pytest.mark.parametrize("kind", ["shared", "prefix", "ends", "subset", "independent"])
def test_every_pattern_looks_as_named(kind: str, num_frames: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        times, mask, drawn = flow.sample_frame_times(generator, num_frames, _only(kind), shift_factor=2.0)
        assert times.shape == mask.shape == (num_frames,)
        assert torch.equal(mask, times > 0)
        assert mask.any()
        if num_frames == 1:
            assert drawn == "shared"
            continue
        assert drawn == kind
        clean = (~mask).nonzero().flatten().tolist()
        if kind == "shared":
            assert not clean
            assert times.unique().numel() == 1
        elif kind == "prefix":
            assert clean == list(range(len(clean)))
            assert 1 <= len(clean) <= max(1, num_frames // 2)
        elif kind == "ends":
            assert clean == [0, num_frames - 1] or num_frames == 2
        elif kind == "subset":
            assert 1 <= len(clean) < num_frames
        else:
            assert times.unique().numel() == num_frames


def test_independent_is_half_rising_ramps() -> None:
    generator = torch.Generator().manual_seed(2)
    draws = [flow.sample_frame_times(generator, 9, _only("independent")).times for _ in range(600)]
    assert sum(bool((times.diff() >= 0).all()) for times in draws) / 600 == pytest.approx(0.5, abs=0.07)


def test_context_noise_stays_below_its_bound() -> None:
    generator = torch.Generator().manual_seed(3)
    levels = [float(flow.sample_frame_times(generator, 9, flow.Mixture(shared=0, ends=0, subset=0, independent=0)).times[0]) for _ in range(300)]
    assert 0 in levels
    assert 0.04 < max(levels) <= 0.05


def test_same_seed_same_times() -> None:
    draws = [flow.sample_frame_times(torch.Generator().manual_seed(5), 9, flow.Mixture()).times for _ in range(2)]
    assert torch.equal(draws[0], draws[1])


@pytest.mark.parametrize(
    "values", [{"shared": -1.0}, {"context_noise": 2.0}, {"shared": 0.0, "prefix": 0.0, "ends": 0.0, "subset": 0.0, "independent": 0.0}]
)
def test_wrong_mixture_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="mixture"):
        flow.Mixture(**values)
