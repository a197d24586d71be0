"""The rolling window: what the model sees and when, kept frames, and equality with whole clips on known fields."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diorama import flow
from diorama.errors import InputError

STD = 0.4
PLAIN = flow.Window(frames=9, block=4)


def noise(num_frames: int, seed: int = 0) -> Tensor:
    return torch.randn(3, num_frames, 2, 2, generator=torch.Generator().manual_seed(seed))


def starts(num_frames: int, kept: set[int] | frozenset[int] = frozenset()) -> Tensor:
    start = torch.ones(num_frames, 2, 2)
    start[sorted(kept)] = 0
    return start


def mixing(x: Tensor, times: Tensor) -> Tensor:
    """Return a velocity in which every frame depends on every other and on all times."""
    mean = (x * (1 - times)).mean(dim=1, keepdim=True)
    return (x + mean).sin() + times * mean


def per_frame(x: Tensor, t: Tensor, frames: Tensor) -> Tensor:
    """Return E[noise - data | x] for data that is normal about a mean of its own in every frame."""
    mean = frames.to(x.dtype)[:, None, None] / 10
    variance = (1 - t) ** 2 * STD**2 + t**2
    return (t - (1 - t) * STD**2) / variance * (x - (1 - t) * mean) - mean


@dataclass
class Recorder:
    """The mixing velocity, and what it was shown."""

    calls: list[tuple[Tensor, Tensor, list[int]]] = field(default_factory=list)

    def __call__(self, x: Tensor, times: Tensor, frames: Tensor) -> Tensor:
        self.calls.append((x, times, frames.tolist()))
        return mixing(x, times)

    def seen(self, frame: int) -> list[tuple[Tensor, float]]:
        """Return the content and the time at which a frame was shown, call by call."""
        return [(x[:, seen.index(frame)], float(times[seen.index(frame)].max())) for x, times, seen in self.calls if frame in seen]

    def windows(self) -> list[tuple[int, ...]]:
        """Return the different windows, in order."""
        return list(dict.fromkeys(tuple(seen) for _, _, seen in self.calls))


@st.composite
def cases(draw: st.DrawFn) -> tuple[flow.Window, set[int], int, int]:
    """Draw a window with or without an anchor, the kept frames, the length of the clip and the number of steps."""
    block = draw(st.integers(1, 4))
    num_active = draw(st.integers(1, 3))
    frames, anchor = draw(st.integers(block * num_active + 1, block * num_active + 6)), draw(st.integers(0, 3))
    window = flow.Window(frames=frames, block=block, stagger=1 / num_active, anchor=anchor)
    num_frames = draw(st.integers(1, 30))
    kept = draw(st.sets(st.integers(0, num_frames - 1), max_size=num_frames))
    return window, kept, num_frames, draw(st.integers(1, 5))


@pytest.mark.parametrize("num_frames", [1, 2, 8, 9])
@pytest.mark.parametrize("kept", [set(), {0}, {0, 7}, {3, 4}])
@pytest.mark.parametrize("stagger", [1.0, 0.5])
def test_a_clip_no_longer_than_the_window_is_that_of_sample(num_frames: int, kept: set[int], stagger: float) -> None:
    x, start = noise(num_frames), starts(num_frames, kept & set(range(num_frames)))
    # An edit, and a frame that is kept in part.
    start[num_frames // 2] *= 0.6
    start[-1, 0, 0] = 0
    visited = flow.schedule(7, 1.7)
    rolled = flow.roll(lambda x, times, first: mixing(x, times), x, start, visited, flow.Window(frames=9, block=4, stagger=stagger))
    assert torch.equal(rolled, flow.sample(mixing, x, start, visited, solver="multistep"))


@pytest.mark.parametrize("context_noise", [0.0, 0.1])
def test_kept_values_come_out_bit_equal(context_noise: float) -> None:
    kept = {0, 1, 14, 25}
    x, start = noise(26), starts(26, kept)
    start[20, 1] = 0
    start[10] *= 0.6
    x[:, 0, 0, 0], x[:, 20, 1, 1] = -0.0, -0.0
    before = x.clone()

    def velocity(point: Tensor, times: Tensor, frames: Tensor) -> Tensor:
        return torch.where(times > context_noise, point.sin(), float("nan"))

    generator = torch.Generator().manual_seed(0)
    out = flow.roll(velocity, x, start, flow.schedule(5), flow.Window(context_noise=context_noise), generator=generator)
    still = (start == 0).expand_as(x)
    assert torch.equal(out[still].view(torch.int32), before[still].view(torch.int32))
    assert torch.equal(x, before)
    assert (out[~still] != x[~still]).all()
    assert out.isfinite().all()


@pytest.mark.parametrize(("stagger", "frames"), [(1.0, 9), (0.5, 9), (0.4, 13), (0.25, 17)])
@pytest.mark.parametrize("kept", [set(), {0, 1, 2, 3, 4, 5, 20, 38}])
def test_a_long_clip_of_independent_frames_is_each_frame_alone(stagger: float, frames: int, kept: set[int]) -> None:
    start = starts(39, kept).double()
    start[12] *= 0.7
    x, visited = noise(39).double(), flow.schedule(20, 2.0)
    rolled = flow.roll(per_frame, x, start, visited, flow.Window(frames=frames, block=4, stagger=stagger))
    # No value knows of another in this field, so one call solves all frames by themselves.
    assert torch.equal(rolled, flow.sample(lambda x, times: per_frame(x, times, torch.arange(39)), x, start, visited))


def test_long_clips_arrive_at_the_known_data() -> None:
    x, start = noise(30).double(), starts(30).double()
    out = flow.roll(per_frame, x, start, torch.linspace(1, 0, 61, dtype=torch.float64), PLAIN)
    mean = torch.arange(30)[:, None, None] / 10
    assert float((out - (mean + STD * x)).abs().max()) < 5e-3


@settings(deadline=None, max_examples=150)
@given(cases())
def test_what_the_model_sees(case: tuple[flow.Window, set[int], int, int]) -> None:
    window, kept, num_frames, steps = case
    x, start, visited = noise(num_frames), starts(num_frames, kept), flow.schedule(steps, 1.3)
    model = Recorder()
    out = flow.roll(model, x, start, visited, window)

    for shown, times, seen in model.calls:
        assert shown.shape[1:] == times.shape
        assert 1 <= len(seen) <= window.frames
        assert seen == sorted(set(seen))
        assert seen[0] >= 0
        assert seen[-1] < num_frames
        active = [frame for frame, time in zip(seen, times, strict=True) if time.max() > 0]
        levels = [float(time.max()) for time in times if time.max() > 0]
        assert active, "an iteration without a step"
        assert levels == sorted(levels)
        assert active[0] == 0 or active[0] - 1 in seen, "no context before the active frames"
        leaps = [place for place in range(1, len(seen)) if seen[place] != seen[place - 1] + 1]
        assert len(leaps) <= 1, "the anchor and one run of frames"
        base = model.calls[0][2][0]
        assert all(seen[:place] == list(range(base, base + place)) and place <= window.anchor for place in leaps)
        assert base in seen or not window.anchor or seen[-1] + 2 - active[0] == window.frames, "the anchor gives way to what is made only"
        # What is at time 0 is finished: it is never noise that waits.
        context = [frame for frame in seen if frame not in active]
        assert torch.equal(shown[:, [seen.index(frame) for frame in context]], out[:, context])
    for frame in set(range(num_frames)) - kept:
        shown_at = [time for _, time in model.seen(frame)]
        assert shown_at[:steps] == visited[:-1].tolist()
        assert set(shown_at[steps:]) <= {0.0}


@settings(deadline=None, max_examples=50)
@given(cases())
def test_progress_knows_the_end(case: tuple[flow.Window, set[int], int, int]) -> None:
    window, kept, num_frames, steps = case
    reports: list[tuple[int, int]] = []
    model = Recorder()
    report = lambda done, total: reports.append((done, total))
    flow.roll(model, noise(num_frames), starts(num_frames, kept), flow.schedule(steps), window, progress=report)
    assert reports == [(done, len(model.calls)) for done in range(len(model.calls) + 1)]


def test_the_window_rolls_by_blocks() -> None:
    model = Recorder()
    flow.roll(model, noise(19), starts(19), flow.schedule(3), PLAIN)
    assert model.windows() == [tuple(range(9)), tuple(range(4, 13)), tuple(range(8, 17)), tuple(range(10, 19))]
    assert len(model.calls) == 4 * 3


def test_an_anchor_is_never_out_of_sight() -> None:
    model = Recorder()
    out = flow.roll(model, noise(19), starts(19), flow.schedule(3), flow.Window(frames=9, block=4, anchor=2))
    first, *others = model.windows()
    assert first == tuple(range(9))
    assert others == [(0, 1, *range(6, 13)), (0, 1, *range(10, 17)), (0, 1, *range(12, 19))]
    for shown, times, _ in model.calls[3:]:
        assert torch.equal(shown[:, :2], out[:, :2])
        assert not times[:2].any()
    # Behind a long given beginning it is what the first window shows of that.
    given = Recorder()
    flow.roll(given, noise(30), starts(30, set(range(17))), flow.schedule(1), flow.Window(frames=9, block=4, anchor=2))
    assert given.windows()[:3] == [tuple(range(12, 21)), (12, 13, *range(18, 25)), (12, 13, *range(22, 29))]
    # It gives way to what is made, and to one frame of context.
    tight = Recorder()
    flow.roll(tight, noise(12), starts(12), flow.schedule(1), flow.Window(frames=5, block=3, anchor=4))
    assert [seen for _, _, seen in tight.calls] == [[0, 1, 2, 3, 4], [0, 4, 5, 6, 7], [0, 7, 8, 9, 10], [0, 1, 2, 10, 11]]


def test_blocks_overlap_when_staggered() -> None:
    model = Recorder()
    flow.roll(model, noise(21), starts(21), flow.schedule(4), flow.Window(frames=9, block=4, stagger=0.5))
    # The first window is full by itself; then a block begins every second step.
    assert len(model.calls) == 4 + 2 + 2 + 4
    _, times, seen = model.calls[6]
    assert seen == list(range(8, 17))
    assert torch.equal(times[:, 0, 0], torch.tensor([0.0, *[0.5] * 4, *[1.0] * 4]))


def test_given_beginnings_cost_no_steps() -> None:
    model = Recorder()
    flow.roll(model, noise(30), starts(30, set(range(22))), flow.schedule(5), PLAIN)
    assert model.windows() == [tuple(range(17, 26)), tuple(range(21, 30))]
    nothing = Recorder()
    x = noise(30)
    assert torch.equal(flow.roll(nothing, x, starts(30, set(range(30))), flow.schedule(5), PLAIN), x)
    assert not nothing.calls


def test_given_frames_ahead_are_shown() -> None:
    model = Recorder()
    x = noise(40)
    flow.roll(model, x, starts(40, {*range(9), *range(30, 40)}), flow.schedule(2), PLAIN)
    # 21 free frames: four blocks of 4, and the 5 that are left see as much of the ending as of what came before.
    assert model.windows() == [tuple(range(4, 13)), tuple(range(8, 17)), tuple(range(12, 21)), tuple(range(16, 25)), tuple(range(23, 32))]
    content, time = model.seen(30)[0]
    assert time == 0
    assert torch.equal(content, x[:, 30])


def test_the_frames_before_an_ending_go_together() -> None:
    model = Recorder()
    flow.roll(model, noise(21), starts(21, {20}), flow.schedule(2), PLAIN)
    # 9 + 4 + 7: the last window is a frame, seven free ones and the given end.
    assert model.windows() == [tuple(range(9)), tuple(range(4, 13)), tuple(range(12, 21))]


def test_context_is_shown_with_its_noise_and_stays_what_it_is() -> None:
    window = flow.Window(frames=9, block=4, context_noise=0.1)
    start, visited = starts(24, {0}), flow.schedule(4)
    model = Recorder()
    x = noise(24)
    out = flow.roll(model, x, start, visited, window, generator=torch.Generator().manual_seed(5))
    for frame in range(24):
        steps = 0 if frame == 0 else 4
        context = model.seen(frame)[steps:]
        assert all(time == pytest.approx(0.1) for _, time in context)
        assert all(torch.equal(content, context[0][0]) for content, _ in context)
        if context:
            drawn = (context[0][0] - 0.9 * out[:, frame]) / 0.1
            assert 0.3 < float(drawn.std()) < 2
    assert torch.equal(out[:, 0], x[:, 0])
    # The first window of a clip without given frames has no context.
    free = lambda window: flow.roll(Recorder(), x[:, :9], starts(9), visited, window, generator=torch.Generator())
    assert torch.equal(free(window), free(PLAIN))


def test_the_same_seed_gives_the_same_bytes() -> None:
    def run(num_frames: int, seed: int) -> Tensor:
        window, generator = flow.Window(context_noise=0.2), torch.Generator().manual_seed(seed)
        return flow.roll(Recorder(), noise(30)[:, :num_frames], starts(num_frames), flow.schedule(3), window, generator=generator)

    assert torch.equal(run(30, 1), run(30, 1))
    assert not torch.equal(run(30, 1), run(30, 2))
    # A longer clip begins with the same frames, so long as its blocks are the same.
    assert torch.equal(run(30, 1)[:, :21], run(21, 1))


def test_later_frames_follow_from_finished_ones() -> None:
    x = noise(17)
    other = x.clone()
    other[:, 0] += 1
    runs = [flow.roll(Recorder(), point, starts(17, {0}), flow.schedule(4), PLAIN) for point in (x, other)]
    assert (runs[0][:, -1] != runs[1][:, -1]).any()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"frames": 1, "block": 1}, "window of 1 latent frames is too short"),
        ({"frames": 4, "block": 4}, "blocks of 4 latent frames do not fit a window of 4: allowed is 1 to 3"),
        ({"block": 0}, "blocks of 0"),
        ({"stagger": 0.0}, "stagger 0.0 is out of range"),
        ({"stagger": 1.5}, "stagger 1.5 is out of range"),
        ({"stagger": float("nan")}, "stagger nan is out of range"),
        ({"anchor": -1}, "-1 frames cannot be an anchor"),
        ({"context_noise": -0.1}, "context noise -0.1 is out of range"),
        ({"context_noise": 1.1}, "context noise 1.1 is out of range"),
        ({"frames": 8, "block": 4, "stagger": 0.5}, "cannot hold the 2 blocks of 4 .* allowed is 9 or more"),
    ],
)
def test_bad_windows_are_refused_in_one_sentence(fields: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        flow.Window(**fields)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert ". " not in str(refused.value)
