"""Compiled loops over the Gaussians of the CPU rasteriser: their projection onto a picture and its hand-written gradient.

Import this module only from inside a function: numba is in the extra ``geometry``. ``kernels`` draws what comes out here. Every loop works
on a range of Gaussians and releases the GIL, so that ``compiled.spread`` can give ranges to threads; none of them adds into memory
that another range writes, which is why sums come out the same for any number of threads. ``rasterise_plain`` is the twin.

Source: B. Kerbl et al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023), with the limits of gsplat 1.5.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from diorama.geometry.compiled import compiled
from diorama.geometry.rasterise_plain import BLUR, FRUSTUM_MARGIN, MIN_ALPHA, SH_C0, SH_C1

__all__ = ["COLUMNS", "PLACES", "Array", "Camera", "Cloud", "project", "project_backward"]

Array: TypeAlias = np.ndarray[Any, Any]

COLUMNS = 9
"""Columns of a projection, and of a gradient with respect to it: x, y (pixels), the conic's a, b, c, opacity, red, green, blue."""
PLACES = 13
"""Columns of a gradient with respect to the parameters: mean 3, log scale 3, quaternion 4, logit, x and y on the picture; then the colours'."""


class Cloud(NamedTuple):
    """N Gaussians, see ``Gaussians``."""

    means: Array
    """float32 [N, 3]."""
    log_scales: Array
    """float32 [N, 3]."""
    quaternions: Array
    """float32 [N, 4]."""
    logits: Array
    """float32 [N]."""
    sh: Array
    """float32 [N, 1 or 4, 3]."""


class Camera(NamedTuple):
    """A view, see ``View``."""

    matrix: Array
    """float64 [4, 4], world to camera."""
    position: Array
    """float64 [3]."""
    lens: Array
    """float64 [7]: focal x, focal y, centre x, centre y, width, height (pixels), near plane."""


@compiled(fast=False)
def _spread(quaternion, log_scale, camera, x, y, z, out):  # type: ignore[no-untyped-def]  # numba infers the types
    """Fill ``out``: rotation R 0 to 8, T = J W 9 to 14, V = T R S 15 to 20, slopes 21, 22, clamped 23, 24, 1 / norm 25, scales S 26 to 28."""
    lens, view = camera.lens, camera.matrix
    qw, qx, qy, qz = float(quaternion[0]), float(quaternion[1]), float(quaternion[2]), float(quaternion[3])
    inverse = 1.0 / math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    qw, qx, qy, qz = qw * inverse, qx * inverse, qy * inverse, qz * inverse
    out[25] = inverse
    out[0], out[1], out[2] = 1 - 2 * (qy * qy + qz * qz), 2 * (qx * qy - qw * qz), 2 * (qx * qz + qw * qy)
    out[3], out[4], out[5] = 2 * (qx * qy + qw * qz), 1 - 2 * (qx * qx + qz * qz), 2 * (qy * qz - qw * qx)
    out[6], out[7], out[8] = 2 * (qx * qz - qw * qy), 2 * (qy * qz + qw * qx), 1 - 2 * (qx * qx + qy * qy)
    fx, fy, cx, cy, width, height = lens[0], lens[1], lens[2], lens[3], lens[4], lens[5]
    margin_x, margin_y = FRUSTUM_MARGIN * width / fx, FRUSTUM_MARGIN * height / fy
    slope_x = min(max(x / z, -(cx / fx + margin_x)), (width - cx) / fx + margin_x)
    slope_y = min(max(y / z, -(cy / fy + margin_y)), (height - cy) / fy + margin_y)
    out[21], out[22] = slope_x, slope_y
    out[23] = 0.0 if slope_x == x / z else 1.0
    out[24] = 0.0 if slope_y == y / z else 1.0
    for j in range(3):
        out[26 + j] = math.exp(float(log_scale[j]))
        out[9 + j] = fx / z * (view[0, j] - slope_x * view[2, j])
        out[12 + j] = fy / z * (view[1, j] - slope_y * view[2, j])
    for j in range(3):
        out[15 + j] = (out[9] * out[j] + out[10] * out[3 + j] + out[11] * out[6 + j]) * out[26 + j]
        out[18 + j] = (out[12] * out[j] + out[13] * out[3 + j] + out[14] * out[6 + j]) * out[26 + j]


@compiled(fast=False)
def _local(i, cloud, camera):  # type: ignore[no-untyped-def]
    """Return where the camera sees a mean."""
    x, y, z = cloud.means[i, 0], cloud.means[i, 1], cloud.means[i, 2]
    m = camera.matrix
    return (
        m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3],
        m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3],
        m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3],
    )


@compiled(fast=False)
def project(first, last, cloud, camera, projected, depths, boxes):  # type: ignore[no-untyped-def]
    """Project Gaussians ``first`` to ``last`` - 1.

    Args:
        first: Start of the range.
        last: End of the range.
        cloud: ``Cloud``.
        camera: ``Camera``.
        projected: Output, float32 [N, 9], see ``COLUMNS``.
        depths: Output, float32 [N]; infinite for what is not seen.
        boxes: Output, see ``kernels.Tiles``.
    """
    lens, sh = camera.lens, cloud.sh
    work = np.empty(29)
    for i in range(first, last):
        depths[i] = np.inf
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = 0, 0, -1, -1
        x, y, z = _local(i, cloud, camera)
        opacity = 1 / (1 + math.exp(-float(cloud.logits[i])))
        if not (z > lens[6] and opacity > MIN_ALPHA):
            continue
        _spread(cloud.quaternions[i], cloud.log_scales[i], camera, x, y, z, work)
        xx = work[15] * work[15] + work[16] * work[16] + work[17] * work[17] + BLUR
        xy = work[15] * work[18] + work[16] * work[19] + work[17] * work[20]
        yy = work[18] * work[18] + work[19] * work[19] + work[20] * work[20] + BLUR
        determinant = xx * yy - xy * xy
        u, v = lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]
        reach = 2 * math.log(opacity / MIN_ALPHA)
        left, right = u - math.sqrt(reach * xx), u + math.sqrt(reach * xx)
        top, bottom = v - math.sqrt(reach * yy), v + math.sqrt(reach * yy)
        # written so that a nan fails: a box made of nan would write outside the tile lists
        if not (determinant > 0 and right > 0 and left < lens[4] and bottom > 0 and top < lens[5]):
            continue
        x0, x1 = max(math.ceil(left - 0.5), 0.0), min(math.floor(right - 0.5), lens[4] - 1)
        y0, y1 = max(math.ceil(top - 0.5), 0.0), min(math.floor(bottom - 0.5), lens[5] - 1)
        if x1 < x0 or y1 < y0:
            continue
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = x0, y0, x1, y1
        depths[i] = z
        projected[i, 0], projected[i, 1] = u, v
        projected[i, 2], projected[i, 3], projected[i, 4] = yy / determinant, -xy / determinant, xx / determinant
        projected[i, 5] = opacity
        dx, dy, dz = cloud.means[i, 0] - camera.position[0], cloud.means[i, 1] - camera.position[1], cloud.means[i, 2] - camera.position[2]
        inverse = 1 / math.sqrt(dx * dx + dy * dy + dz * dz)
        for c in range(3):
            colour = 0.5 + SH_C0 * sh[i, 0, c]
            if sh.shape[1] > 1:
                colour += SH_C1 * inverse * (dz * sh[i, 2, c] - dy * sh[i, 1, c] - dx * sh[i, 3, c])
            projected[i, 6 + c] = max(colour, 0.0)


@compiled(fast=False)
def project_backward(first, last, cloud, camera, tiles, projected, pairs, out):  # type: ignore[no-untyped-def]
    """Sum the gradients of Gaussians ``first`` to ``last`` - 1 over their tiles and take them back to the parameters.

    Args:
        first: Start of the range.
        last: End of the range.
        cloud: ``Cloud``.
        camera: ``Camera``.
        tiles: ``kernels.Tiles``.
        projected: float32 [N, 9], from ``project``.
        pairs: float32 [pairs, 9], from ``kernels.composite_backward``.
        out: Output, float32 [N, 13 + 3 or 13 + 12], see ``PLACES``.
    """
    work = np.empty(29)
    grad = np.empty(COLUMNS)
    to_camera = np.empty((2, 3))
    to_matrix = np.empty((3, 3))
    lens, view = camera.lens, camera.matrix
    for i in range(first, last):
        out[i] = 0
        if tiles.starts[i] == tiles.starts[i + 1]:
            continue
        _gather(tiles.slots[tiles.starts[i] : tiles.starts[i + 1]], pairs, grad)
        x, y, z = _local(i, cloud, camera)
        _spread(cloud.quaternions[i], cloud.log_scales[i], camera, x, y, z, work)
        fx, fy, slope_x, slope_y = lens[0], lens[1], work[21], work[22]
        a, b, c = float(projected[i, 2]), float(projected[i, 3]), float(projected[i, 4])
        # covariance gradient = - Q G Q, with Q the conic and G its gradient as a symmetric matrix
        ga, gb, gc = grad[2], 0.5 * grad[3], grad[4]
        left_a, left_b = a * ga + b * gb, a * gb + b * gc
        left_c, left_d = b * ga + c * gb, b * gb + c * gc
        xx, xy, yy = -(left_a * a + left_b * b), -(left_a * b + left_b * c), -(left_c * b + left_d * c)
        to_camera[:] = 0
        for j in range(3):
            dv0 = 2 * (xx * work[15 + j] + xy * work[18 + j])
            dv1 = 2 * (xy * work[15 + j] + yy * work[18 + j])
            # V = T M, M = R S: here column j of the gradients of M and, by rows of M, of T
            for row in range(3):
                to_matrix[row, j] = work[9 + row] * dv0 + work[12 + row] * dv1
                share = work[3 * row + j] * work[26 + j]
                to_camera[0, row] += dv0 * share
                to_camera[1, row] += dv1 * share
        jx = jy = jxz = jyz = 0.0
        for j in range(3):
            jx += to_camera[0, j] * view[0, j]
            jy += to_camera[1, j] * view[1, j]
            jxz += to_camera[0, j] * view[2, j]
            jyz += to_camera[1, j] * view[2, j]
        # J = [[fx / z, 0, -fx slope_x / z], [0, fy / z, -fy slope_y / z]], slope = x / z unless clamped
        gx = fx / z * grad[0]
        gy = fy / z * grad[1]
        gz = -(gx * x + gy * y) / z - (fx * (jx - jxz * slope_x) + fy * (jy - jyz * slope_y)) / (z * z)
        if work[23] == 0:
            gx -= fx / (z * z) * jxz
            gz += fx * slope_x / (z * z) * jxz
        if work[24] == 0:
            gy -= fy / (z * z) * jyz
            gz += fy * slope_y / (z * z) * jyz
        _directional(i, cloud, camera.position, projected, grad, out)
        for j in range(3):
            out[i, j] += view[0, j] * gx + view[1, j] * gy + view[2, j] * gz
            total = 0.0
            for row in range(3):
                total += to_matrix[row, j] * work[3 * row + j]
                to_matrix[row, j] *= work[26 + j]
            out[i, 3 + j] = total * work[26 + j]
        _turn_back(cloud.quaternions[i], work[25], to_matrix, out[i])
        opacity = float(projected[i, 5])
        out[i, 10] = grad[5] * opacity * (1 - opacity)
        out[i, 11], out[i, 12] = grad[0], grad[1]


@compiled(fast=False)
def _gather(slots, pairs, out):  # type: ignore[no-untyped-def]
    """Sum the rows ``slots`` of ``pairs``, in their order."""
    out[:] = 0
    for slot in slots:
        for column in range(COLUMNS):
            out[column] += pairs[slot, column]


@compiled(fast=False)
def _directional(i, cloud, position, projected, grad, out):  # type: ignore[no-untyped-def]
    """Take a colour's gradient back to the spherical harmonics and, through the viewing direction, to the mean."""
    sh = cloud.sh
    dx, dy, dz = cloud.means[i, 0] - position[0], cloud.means[i, 1] - position[1], cloud.means[i, 2] - position[2]
    inverse = 1 / math.sqrt(dx * dx + dy * dy + dz * dz)
    dx, dy, dz = dx * inverse, dy * inverse, dz * inverse
    gx = gy = gz = 0.0
    for channel in range(3):
        g = grad[6 + channel] if projected[i, 6 + channel] > 0 else 0.0
        place = PLACES + channel
        out[i, place] = SH_C0 * g
        if sh.shape[1] > 1:
            g *= SH_C1
            out[i, place + 3], out[i, place + 6], out[i, place + 9] = -dy * g, dz * g, -dx * g
            gx -= g * sh[i, 3, channel]
            gy -= g * sh[i, 1, channel]
            gz += g * sh[i, 2, channel]
    along = gx * dx + gy * dy + gz * dz
    out[i, 0] += (gx - along * dx) * inverse
    out[i, 1] += (gy - along * dy) * inverse
    out[i, 2] += (gz - along * dz) * inverse


@compiled(fast=False)
def _turn_back(quaternion, inverse, m, out):  # type: ignore[no-untyped-def]
    """Take the gradient of a rotation matrix back to its quaternion of any length; written to ``out[6:10]``."""
    w, x, y, z = quaternion[0] * inverse, quaternion[1] * inverse, quaternion[2] * inverse, quaternion[3] * inverse
    gw = 2 * (x * (m[2, 1] - m[1, 2]) + y * (m[0, 2] - m[2, 0]) + z * (m[1, 0] - m[0, 1]))
    gx = 2 * (y * (m[0, 1] + m[1, 0]) + z * (m[0, 2] + m[2, 0]) + w * (m[2, 1] - m[1, 2]) - 2 * x * (m[1, 1] + m[2, 2]))
    gy = 2 * (x * (m[0, 1] + m[1, 0]) + z * (m[1, 2] + m[2, 1]) + w * (m[0, 2] - m[2, 0]) - 2 * y * (m[0, 0] + m[2, 2]))
    gz = 2 * (x * (m[0, 2] + m[2, 0]) + y * (m[1, 2] + m[2, 1]) + w * (m[1, 0] - m[0, 1]) - 2 * z * (m[0, 0] + m[1, 1]))
    along = gw * w + gx * x + gy * y + gz * z
    out[6] = (gw - along * w) * inverse
    out[7] = (gx - along * x) * inverse
    out[8] = (gy - along * y) * inverse
    out[9] = (gz - along * z) * inverse
