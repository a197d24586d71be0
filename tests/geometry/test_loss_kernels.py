"""The compiled loops one by one; as a whole they are held against the plain loss in ``test_photometric``."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from diorama.geometry import loss_kernels
from diorama.ops.similarity import window

HEIGHT, WIDTH = 14, 9


def blurred(picture: np.ndarray, axis: int) -> np.ndarray:
    """Return rows of ``3 W`` numbers blurred along rows (1) or columns (0) by a convolution."""
    channels = torch.from_numpy(picture.reshape(HEIGHT, WIDTH, 3)).permute(2, 0, 1)[:, None]
    shape, padding = ((1, 1, 1, -1), (0, 5)) if axis else ((1, 1, -1, 1), (5, 0))
    return F.conv2d(channels, window().view(shape), padding=padding)[:, 0].permute(1, 2, 0).reshape(HEIGHT, -1).numpy()


def pictures() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.random((HEIGHT, 3 * WIDTH)).astype(np.float32) for _ in range(3)]


def test_rows_are_blurred_as_by_a_convolution() -> None:
    x, y, _ = pictures()
    out = np.full((5, HEIGHT, 3 * WIDTH), np.nan, np.float32)
    loss_kernels.across(0, 6, x, y, out)
    loss_kernels.across(6, HEIGHT, x, y, out)
    for got, picture in zip(out, (x, y, x * x, y * y, x * y), strict=True):
        assert np.allclose(got, blurred(picture, 1), atol=1e-6)


def test_similarity_of_a_picture_with_itself_is_one() -> None:
    x, _, weight = pictures()
    rows = np.stack([blurred(picture, 1) for picture in (x, x, x * x, x * x, x * x)])
    slopes, sums = np.empty((3, HEIGHT, 3 * WIDTH), np.float32), np.empty(HEIGHT)
    loss_kernels.down(0, HEIGHT, rows, weight, slopes, sums)
    assert np.allclose(sums, weight.sum(1), rtol=1e-5)


def test_gradients_are_blurred_and_joined() -> None:
    x, y, weight = pictures()
    slopes = np.stack(pictures()[::-1])
    rows, out, sums = np.empty_like(slopes), np.empty_like(x), np.empty(HEIGHT)
    loss_kernels.across_gradients(0, HEIGHT, slopes, rows)
    loss_kernels.down_gradients(0, HEIGHT, (x, y, weight), rows, 0.25, out, sums)
    mean, square, product = (blurred(blurred(slope, 1), 0) for slope in slopes)
    assert np.allclose(out, 0.75 * np.sign(x - y) * weight - 0.25 * (mean + 2 * x * square + y * product), atol=1e-5)
    assert np.allclose(sums, (np.abs(x - y) * weight).sum(1), rtol=1e-5)
