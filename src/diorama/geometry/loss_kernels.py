"""Compiled loops of the photometric loss: blurs of rows and columns, structural similarity and its gradient.

Import this module only from inside a function: numba is in the extra ``geometry``. Pictures are rows of ``3 W`` interleaved numbers;
outside the picture they are 0, as in the plain twin in ``photometric``.
"""

from __future__ import annotations

import numpy as np

from diorama.geometry.compiled import compiled
from diorama.ops.similarity import C1, C2, TAPS, window

__all__ = ["across", "across_gradients", "down", "down_gradients"]

_WINDOW = window().numpy()
_HALF = TAPS // 2
_C1, _C2, _ONE, _TWO, _ZERO = (np.float32(value) for value in (C1, C2, 1, 2, 0))


@compiled(fast=True)
def _blur_row(source, out):  # type: ignore[no-untyped-def]  # numba infers the types
    """Blur a row that has ``3 * _HALF`` zeros at either end."""
    out[:] = _ZERO
    for tap in range(TAPS):
        weight = _WINDOW[tap]
        shifted = source[3 * tap : 3 * tap + out.shape[0]]
        for q in range(out.shape[0]):
            out[q] += weight * shifted[q]


@compiled(fast=True)
def _blur_column(source, row, out):  # type: ignore[no-untyped-def]
    """Write row ``row`` of ``source`` blurred along columns."""
    out[:] = _ZERO
    for tap in range(TAPS):
        other = row + tap - _HALF
        if 0 <= other < source.shape[0]:
            weight = _WINDOW[tap]
            line = source[other]
            for q in range(out.shape[0]):
                out[q] += weight * line[q]


@compiled(fast=True)
def across(first, last, image, target, blurred):  # type: ignore[no-untyped-def]
    """Blur rows ``first`` to ``last`` - 1 of x, y, x^2, y^2 and x y along the rows.

    Args:
        first: Start of the range.
        last: End of the range.
        image: x, float32 [H, 3 W].
        target: y, float32 [H, 3 W].
        blurred: Output, float32 [5, H, 3 W].
    """
    width = image.shape[1]
    line = np.zeros(width + 6 * _HALF, np.float32)
    inner = line[3 * _HALF : 3 * _HALF + width]
    for row in range(first, last):
        x, y = image[row], target[row]
        inner[:] = x
        _blur_row(line, blurred[0, row])
        inner[:] = y
        _blur_row(line, blurred[1, row])
        for q in range(width):
            inner[q] = x[q] * x[q]
        _blur_row(line, blurred[2, row])
        for q in range(width):
            inner[q] = y[q] * y[q]
        _blur_row(line, blurred[3, row])
        for q in range(width):
            inner[q] = x[q] * y[q]
        _blur_row(line, blurred[4, row])


@compiled(fast=True)
def down(first, last, blurred, weight, slopes, sums):  # type: ignore[no-untyped-def]
    """Finish the blurs along the columns and take the similarity S of each pixel, times its weight.

    Args:
        first: Start of the range of rows.
        last: End of the range.
        blurred: float32 [5, H, 3 W], from ``across``.
        weight: float32 [H, 3 W].
        slopes: Output, float32 [3, H, 3 W]: the gradient of weight * S with respect to the blurs of x, x^2 and x y.
        sums: Output, float64 [H]: weight * S summed over each row.
    """
    width = weight.shape[1]
    lines = np.empty((5, width), np.float32)
    values = np.empty(width, np.float32)
    for row in range(first, last):
        for which in range(5):
            _blur_column(blurred[which], row, lines[which])
        for q in range(width):
            x, y = lines[0, q], lines[1, q]
            a1, b1 = _TWO * x * y + _C1, x * x + y * y + _C1
            a2 = _TWO * (lines[4, q] - x * y) + _C2
            b2 = (lines[2, q] - x * x) + (lines[3, q] - y * y) + _C2
            w = weight[row, q]
            both = w / (b1 * b2)
            value = a1 * a2 * both
            values[q] = value
            variance, covariance = -value / b2, _TWO * a1 * both
            slopes[0, row, q] = _TWO * y * a2 * both - _TWO * x * value / b1 - _TWO * x * variance - y * covariance
            slopes[1, row, q] = variance
            slopes[2, row, q] = covariance
        total = 0.0
        for q in range(width):
            total += values[q]
        sums[row] = total


@compiled(fast=True)
def across_gradients(first, last, slopes, blurred):  # type: ignore[no-untyped-def]
    """Blur rows ``first`` to ``last`` - 1 of ``slopes`` float32 [3, H, 3 W] along the rows into ``blurred``, of the same shape."""
    width = slopes.shape[2]
    line = np.zeros(width + 6 * _HALF, np.float32)
    for row in range(first, last):
        for which in range(3):
            line[3 * _HALF : 3 * _HALF + width] = slopes[which, row]
            _blur_row(line, blurred[which, row])


@compiled(fast=True)
def down_gradients(first, last, pictures, blurred, ssim_weight, gradient, sums):  # type: ignore[no-untyped-def]
    """Write the gradient of the loss, and the absolute differences summed over each row.

    Args:
        first: Start of the range of rows.
        last: End of the range.
        pictures: Image, target and weight, float32 [H, 3 W] each.
        blurred: float32 [3, H, 3 W], from ``across_gradients``.
        ssim_weight: Share of 1 - S; the rest is that of the absolute difference.
        gradient: Output, float32 [H, 3 W].
        sums: Output, float64 [H].
    """
    image, target, weight = pictures
    width = image.shape[1]
    lines = np.empty((3, width), np.float32)
    share = np.float32(ssim_weight)
    for row in range(first, last):
        for which in range(3):
            _blur_column(blurred[which], row, lines[which])
        x, y, w, out = image[row], target[row], weight[row], gradient[row]
        total = 0.0
        for q in range(width):
            difference = x[q] - y[q]
            total += abs(difference) * w[q]
            sign = (_ONE if difference > _ZERO else _ZERO) - (_ONE if difference < _ZERO else _ZERO)
            slope = lines[0, q] + _TWO * x[q] * lines[1, q] + y[q] * lines[2, q]
            out[q] = (_ONE - share) * sign * w[q] - share * slope
        sums[row] = total
