from __future__ import annotations

import numpy as np
import torch

from diorama.geometry.cameras import Cameras
from diorama.geometry.gaussians import Gaussians, View


def cloud(count: int, degree: int = 1) -> Gaussians:
    generator = torch.Generator().manual_seed(count)
    parts = [torch.randn(count, *shape, generator=generator) for shape in ((3,), (3,), (4,), (), (1 + 3 * degree, 3))]
    return Gaussians(means=parts[0], log_scales=parts[1], quaternions=parts[2], logits=parts[3], sh=parts[4])


def test_joined_clouds_come_apart_again() -> None:
    first, second = cloud(3), cloud(5)
    both = first.joined(second)
    assert len(both) == 8
    for name, tensor in both.map(lambda tensor: tensor[3:]).tensors().items():
        assert torch.equal(tensor, second.tensors()[name])


def test_degree_follows_the_coefficients() -> None:
    assert [cloud(2, degree).degree for degree in (0, 1)] == [0, 1]


def test_a_view_is_one_of_the_cameras() -> None:
    matrices = np.tile(np.eye(4), (2, 1, 1))
    angle = 0.3
    matrices[1, :3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    matrices[1, :3, 3] = [1, 2, 3]
    intrinsics = np.array([[[50.0, 0, 20], [0, 60, 15], [0, 0, 1]]] * 2)
    cameras = Cameras(intrinsics=intrinsics, world_to_camera=matrices, width=40, height=30)
    view = View.of(cameras, 1, near=0.5)
    assert (view.focal, view.center, view.width, view.height, view.near) == ((50.0, 60.0), (20.0, 15.0), 40, 30, 0.5)
    assert np.allclose(view.position, cameras.centers[1])
    assert np.allclose(view.world_to_camera[:3, :3] @ view.position + view.world_to_camera[:3, 3], 0)
