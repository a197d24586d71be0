"""The projection loop by itself; its gradient is held against the plain rasteriser in ``test_rasterise``."""

from __future__ import annotations

import numpy as np
import torch

from diorama.geometry import projection_kernels, rasterise_plain
from diorama.geometry.gaussians import Gaussians, View

COUNT = 300


def scene() -> tuple[Gaussians, View, projection_kernels.Cloud, projection_kernels.Camera]:
    generator = torch.Generator().manual_seed(5)
    shapes = ((3,), (3,), (4,), (), (4, 3))
    means, scales, quaternions, logits, sh = (torch.randn(COUNT, *shape, generator=generator) for shape in shapes)
    gaussians = Gaussians(means=means, log_scales=scales - 2.5, quaternions=quaternions, logits=logits, sh=sh)
    matrix = np.eye(4)
    matrix[2, 3] = 1.5
    view = View(world_to_camera=matrix, focal=(50.0, 55.0), center=(25.0, 18.0), width=50, height=37, near=0.1)
    cloud = projection_kernels.Cloud(*(tensor.numpy() for tensor in (means, gaussians.log_scales, quaternions, logits, sh)))
    lens = np.array([50.0, 55.0, 25.0, 18.0, 50, 37, 0.1])
    return gaussians, view, cloud, projection_kernels.Camera(matrix, view.position, lens)


def test_projection_equals_plain() -> None:
    gaussians, view, cloud, camera = scene()
    rows, depths, boxes = np.zeros((COUNT, projection_kernels.COLUMNS), np.float32), np.empty(COUNT, np.float32), np.empty((COUNT, 4), np.int32)
    for first, last in ((0, 100), (100, COUNT)):
        projection_kernels.project(first, last, cloud, camera, rows, depths, boxes)
    plain = rasterise_plain.project(gaussians.map(lambda tensor: tensor.double()), view)
    assert np.array_equal(boxes, plain.boxes.numpy())
    seen = boxes[:, 2] >= boxes[:, 0]
    assert 20 < seen.sum() < COUNT
    wanted = torch.cat([plain.positions, plain.conics, plain.opacities[:, None], plain.colors], 1).numpy()
    assert np.allclose(rows[seen], wanted[seen], rtol=1e-5, atol=1e-6)
    assert np.allclose(depths[seen], plain.depths.numpy()[seen], rtol=1e-6)
