from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diorama.errors import MissingExtraError
from diorama.geometry import rasterise_plain
from diorama.geometry.gaussians import Gaussians, View
from diorama.geometry.rasterise import Backend, choose_backend, rasterise


def cloud(count: int, *, seed: int = 0, degree: int = 1, scale: float = 0.05, device: str = "cpu") -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    means = 2.4 * torch.rand(count, 3, generator=generator) - 1.2
    gaussians = Gaussians(
        means=means,
        log_scales=np.log(scale) + 0.5 * normal(count, 3),
        quaternions=normal(count, 4),
        logits=1.5 * normal(count),
        sh=0.6 * normal(count, 1 + 3 * degree, 3),
    )
    return gaussians.map(lambda tensor: tensor.to(device).requires_grad_())


def view(width: int, height: int, turn: float = 0.4, distance: float = 2.0) -> View:
    matrix = np.eye(4)
    matrix[:3, :3] = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    matrix[:3, 3] = [0.1, -0.05, distance]
    return View(world_to_camera=matrix, focal=(1.2 * width, 1.3 * width), center=(0.47 * width, 0.55 * height), width=width, height=height)


def drawn(gaussians: Gaussians, lens: View, backend: Backend, *, screened: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the picture and every gradient of a sum of it with random weights."""
    device = gaussians.means.device
    for tensor in gaussians.tensors().values():
        tensor.grad = None
    background = torch.tensor([0.2, 0.5, 0.9], device=device, requires_grad=True)
    screen = torch.zeros(len(gaussians), 2, device=device, requires_grad=True) if screened else None
    image = rasterise(gaussians, lens, background, backend=backend, screen=screen)
    weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(device)
    (image * weight).sum().backward()
    named = {**gaussians.tensors(), "background": background, **({} if screen is None else {"screen": screen})}
    gradients = {}
    for name, tensor in named.items():
        assert tensor.grad is not None
        gradients[name] = tensor.grad.clone()
    return image.detach(), gradients


def assert_same(got: tuple[Tensor, dict[str, Tensor]], wanted: tuple[Tensor, dict[str, Tensor]], tolerance: float) -> None:
    assert float((got[0] - wanted[0]).abs().max()) < tolerance
    assert got[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        assert float((got[1][name] - gradient).norm()) <= 5 * tolerance * float(gradient.norm()), name


@pytest.mark.parametrize(("degree", "scale", "size"), [(1, 0.05, (64, 48)), (0, 0.02, (49, 35)), (1, 0.3, (33, 50))])
def test_compiled_equals_plain(degree: int, scale: float, size: tuple[int, int]) -> None:
    gaussians, lens = cloud(800, degree=degree, scale=scale), view(*size)
    assert_same(drawn(gaussians, lens, "compiled"), drawn(gaussians, lens, "plain"), 1e-5)


def test_compiled_equals_plain_from_within_the_cloud() -> None:
    """Gaussians behind, beside and right before the camera, where slopes are held and alpha is cut off."""
    gaussians = cloud(600, scale=0.1, seed=3)
    opaque = Gaussians(**{**gaussians.tensors(), "logits": (gaussians.logits.detach() + 5).requires_grad_()})
    assert_same(drawn(opaque, view(48, 48, distance=0.2), "compiled"), drawn(opaque, view(48, 48, distance=0.2), "plain"), 5e-5)


def test_a_shift_on_the_picture_is_taken() -> None:
    gaussians, lens = cloud(300).map(lambda tensor: tensor.detach()), view(40, 40)
    shift = torch.full((300, 2), 0.0)
    shift[:, 0] = 1.0
    pictures = [rasterise(gaussians, lens, backend=backend, screen=shift) for backend in ("compiled", "plain")]
    # lists of tiles are made before the shift, so only what is not at a Gaussian's rim must agree
    assert float((pictures[0] - pictures[1]).abs().mean()) < 1e-3
    still = rasterise(gaussians, lens, backend="compiled")
    assert float((pictures[0] - still).abs().mean()) > 1e-2


def test_any_number_of_threads_gives_the_same_bytes() -> None:
    gaussians, lens = cloud(500), view(80, 64)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(drawn(gaussians, lens, "compiled"))
    finally:
        torch.set_num_threads(before)
    for image, gradients in results[1:]:
        assert torch.equal(image, results[0][0])
        for name, gradient in gradients.items():
            if name != "background":  # torch's own sum
                assert torch.equal(gradient, results[0][1][name]), name


def test_nothing_to_draw_is_the_background() -> None:
    lens = view(20, 12)
    for gaussians in (cloud(0), cloud(5, seed=1).map(lambda tensor: tensor.detach() * 0 + 50)):
        for backend in ("compiled", "plain"):
            image, _ = drawn(gaussians.map(lambda tensor: tensor.detach().requires_grad_()), lens, backend)
            assert torch.equal(image, torch.tensor([0.2, 0.5, 0.9]).expand(12, 20, 3))


def test_numbers_that_are_none_draw_nothing_and_break_nothing() -> None:
    """A nan in a box would make the tile lists overflow."""
    good = cloud(50).map(lambda tensor: tensor.detach())
    for name in good.tensors():
        bad = {key: tensor.clone() for key, tensor in good.tensors().items()}
        bad[name][::2] = torch.nan
        image = rasterise(Gaussians(**bad), view(32, 32), backend="compiled")
        assert image.shape == (32, 32, 3)


def test_a_device_has_its_backend() -> None:
    assert choose_backend(torch.device("cpu")) == "compiled"
    assert choose_backend(torch.device("meta")) == "plain"


def documented_gsplat(**given: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """What gsplat 1.5 documents of ``rasterization``, drawn by the plain twin: tells whether it is asked in its own terms."""
    assert given["eps2d"] == 0.3
    assert given["packed"] is False
    intrinsics, matrix = given["Ks"][0], given["viewmats"][0].double().numpy()
    gaussians = Gaussians(
        means=given["means"], log_scales=given["scales"].log(), quaternions=given["quats"], logits=given["opacities"].logit(), sh=given["colors"]
    )
    assert gaussians.degree == given["sh_degree"]
    focal, center = (float(intrinsics[0, 0]), float(intrinsics[1, 1])), (float(intrinsics[0, 2]), float(intrinsics[1, 2]))
    lens = View(world_to_camera=matrix, focal=focal, center=center, width=given["width"], height=given["height"], near=given["near_plane"])
    positions = torch.zeros(1, len(gaussians), 2, requires_grad=True)
    positions = positions + 0  # as in gsplat, not a leaf
    image, light = rasterise_plain.rasterise(gaussians, lens, positions[0])
    return image[None], 1 - light[None, ..., None], {"means2d": positions}


def test_gsplat_is_asked_in_its_own_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("gsplat")
    module.rasterization = documented_gsplat  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gsplat", module)
    gaussians, lens = cloud(300), view(40, 30)
    assert_same(drawn(gaussians, lens, "gsplat"), drawn(gaussians, lens, "plain"), 1e-5)


def test_without_gsplat_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(MissingExtraError, match=r"gsplat.*diorama\[geometry-cuda\]"):
        rasterise(cloud(3), view(16, 16), backend="gsplat")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat draws on CUDA only")
def test_gsplat_equals_plain() -> None:
    pytest.importorskip("gsplat")
    gaussians, lens = cloud(800, device="cuda"), view(64, 48)
    assert_same(drawn(gaussians, lens, "gsplat"), drawn(gaussians, lens, "plain"), 1e-4)
