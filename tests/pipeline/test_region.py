"""Boxes, mask pictures and mask videos, in the pixels of the source and the cells of the model."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from diorama.errors import DioramaError, InputError, MediaError
from diorama.media import Clip, Fit
from diorama.pipeline.region import read_region, to_cells
from diorama.pipeline.source import Source, open_source
from diorama.shapes import Stride

GRID = Stride()


def opened(width: int = 96, height: int = 64, target: tuple[int, int] = (96, 64), fit: Fit = "stretch", fps: float = 12.0) -> Source:
    return open_source(Clip(np.zeros((17, height, width, 3), np.uint8), fps), target, 12.0, fit)


def test_without_a_region_everything_may_change() -> None:
    assert torch.equal(read_region("", opened(), 17), torch.ones(1, 64, 96))


@pytest.mark.parametrize("box", ["10,20,30,40", " 10, 20 ,30,40 ", "10.2,19.8,30,40.4", "1e1,2e1,30,4e1"])
def test_a_box_is_itself_at_the_same_size(box: str) -> None:
    wanted = torch.zeros(1, 64, 96)
    wanted[:, 20:40, 10:30] = 1
    assert torch.equal(read_region(box, opened(), 17), wanted)


@pytest.mark.parametrize(
    ("source", "place"),
    [
        (opened(192, 128), (slice(0, 32), slice(48, 96))),
        (opened(48, 32), (slice(0, 32), slice(48, 96))),
        # 64x64 of 96x64 pixels are left in the middle.
        (opened(96, 64, (64, 64), "crop"), (slice(0, 32), slice(32, 64))),
        # 32 rows of black above and below 96x64 pixels.
        (opened(96, 64, (96, 128), "pad"), (slice(32, 64), slice(48, 96))),
    ],
    ids=["larger", "smaller", "crop", "pad"],
)
def test_a_box_goes_where_its_pixels_go(source: Source, place: tuple[slice, slice]) -> None:
    width, height = source.clip.width, source.clip.height
    mask = read_region(f"{width // 2},0,{width},{height // 2}", source, 17)
    assert mask.shape == (1, source.placement.target[1], source.placement.target[0])
    wanted = torch.zeros_like(mask)
    wanted[:, place[0], place[1]] = 1
    assert torch.equal(mask > 0.5, wanted > 0.5)


@pytest.mark.parametrize(
    "region",
    [
        "10,20,30,400",
        "-1,0,30,40",
        "30,20,10,40",
        "10,20,10,40",
        "10.1,20,10.4,40",
        "0,0,10",
        "0,0,10,10,10",
        "nan,0,10,10",
        "0,0,inf,10",
        "0,0,1e300,10",
        "0,0,1" + "0" * 400 + ",10",
        "-inf,nan,inf,nan",
    ],
)
def test_a_bad_box_is_refused_in_one_sentence(region: str) -> None:
    with pytest.raises(InputError, match=r"no box inside the picture of 96x64; give LEFT,TOP,RIGHT,BOTTOM") as caught:
        read_region(region, opened(), 17)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("region", ["0,0,a,10", "0,,10,10", "no-mask.png", "mask,of,the,ball.png", "."])
def test_what_is_neither_a_box_nor_a_mask_is_refused(region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MediaError) as caught:
        read_region(region, opened(), 17)
    assert "\n" not in str(caught.value)


def test_a_region_that_covers_nothing_is_refused(tmp_path: Path) -> None:
    black = Clip(np.zeros((1, 64, 96, 3), np.uint8), 1.0).save(tmp_path / "black.png")
    # Outside the crop, all black, and smaller than a pixel of the model.
    for region, source in ((str(black), opened()), ("0,0,10,64", opened(96, 64, (64, 64), "crop")), ("100,100,101,101", opened(960, 640, (96, 64)))):
        with pytest.raises(DioramaError, match="covers nothing of the") as caught:
            read_region(region, source, 17)
        assert "\n" not in str(caught.value)


def test_a_mask_picture_changes_its_white_parts(tmp_path: Path) -> None:
    frames = np.zeros((1, 32, 48, 3), np.uint8)
    frames[:, :16, :24] = 255
    path = Clip(frames, 1.0).save(tmp_path / "mask.png")
    for source in (opened(), opened(192, 128), opened(50, 30)):
        mask = read_region(str(path), source, 17)
        assert mask.shape == (1, 64, 96)
        assert (mask[:, :30, :46] > 0.9).all()
        assert (mask[:, 34:] == 0).all()
        assert (mask[:, :, 50:] == 0).all()
        assert float(mask.min()) >= 0
        assert float(mask.max()) <= 1


@pytest.mark.parametrize("fps", [12.0, 24.0, 6.0])
def test_a_mask_video_is_seen_at_the_rate_of_the_model(fps: float, tmp_path: Path) -> None:
    frames = np.zeros((9, 32, 48, 3), np.uint8)
    for i in range(9):
        frames[i, :, 5 * i : 5 * i + 5] = 255
    path = Clip(frames, fps).save(f"{tmp_path}/mask/")
    mask = read_region(str(path), opened(48, 32, (48, 32)), 17)
    assert mask.shape == (17, 32, 48)
    for k in range(17):
        i = min(8, round(k / 12 * fps))
        assert mask[k].any(0).nonzero().flatten().tolist() == list(range(5 * i, 5 * i + 5))


@pytest.mark.parametrize("patch", [1, 2])
def test_a_cell_is_free_if_any_of_its_pixels_is(patch: int) -> None:
    stride = Stride(space=16 * patch)
    latent = torch.zeros(4, 5, 4, 6)
    for row, column in ((0, 0), (15, 16), (63, 95), (31, 47)):
        mask = torch.zeros(1, 64, 96)
        mask[0, row, column] = 0.3
        cells = to_cells(mask, latent, stride)
        assert cells.shape == (5, 4, 6)
        wanted = torch.zeros(5, 4, 6)
        wanted[:, row // 16, column // 16] = 0.3
        assert torch.equal(cells, wanted)


@pytest.mark.parametrize("num_latents", [2, 3, 5])
def test_a_latent_frame_is_free_if_any_of_its_frames_is(num_latents: int) -> None:
    latent, count = torch.zeros(4, num_latents, 2, 3), 1 + 4 * (num_latents - 1)
    for frame in range(count):
        mask = torch.zeros(count, 32, 48)
        mask[frame, 20, 20] = 1
        free = to_cells(mask, latent, GRID).nonzero().tolist()
        assert free == [[-(-frame // 4), 1, 1]]


def test_cells_of_a_still() -> None:
    assert torch.equal(to_cells(torch.ones(1, 32, 48), torch.zeros(4, 1, 2, 3), GRID), torch.ones(1, 2, 3))


def test_cells_can_be_changed_without_touching_the_mask() -> None:
    mask = torch.ones(1, 32, 48)
    cells = to_cells(mask, torch.zeros(4, 3, 2, 3), GRID)
    with warnings.catch_warnings():
        cells[0] = 0
    assert torch.equal(cells[1:], torch.ones(2, 2, 3))
    assert mask.eq(1).all()
