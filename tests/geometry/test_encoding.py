from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from diorama.errors import InputError
from diorama.geometry.encoding import EncodingConfig, GridEncoding, Layout, gather, gather_plain
from diorama.runtime import generator

CONFIG = EncodingConfig(levels=4, coarsest=4, finest=64, log2_rows=10)
LAYOUT = Layout.of(CONFIG)


def table(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(LAYOUT.rows, 4, generator=generator(1), dtype=dtype).requires_grad_()


def points() -> Tensor:
    corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    return torch.cat([corners, torch.rand(300, 3, generator=generator(2))])


def test_layout_has_dense_and_hashed_levels_one_after_the_other() -> None:
    assert LAYOUT.sides.tolist() == [4, 10, 25, 64]
    assert LAYOUT.masks.tolist() == [0, 0, 1023, 1023]
    assert LAYOUT.starts.tolist() == [0, 64, 1064, 2088]
    assert LAYOUT.rows == 3112


@pytest.mark.parametrize("threads", [1, 2])
def test_compiled_lookups_and_their_gradient_equal_the_plain_twin(threads: int) -> None:
    fast, plain = table(), table()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = gather(points(), fast, LAYOUT)
        twin = gather_plain(points(), plain, LAYOUT)
        torch.testing.assert_close(out, twin, atol=1e-5, rtol=1e-5)
        weight = torch.randn(out.shape, generator=generator(3))
        (out * weight).sum().backward()
        (twin * weight).sum().backward()
    finally:
        torch.set_num_threads(before)
    assert fast.grad is not None
    torch.testing.assert_close(fast.grad, plain.grad, atol=1e-4, rtol=1e-4)


def test_other_dtypes_take_the_plain_path() -> None:
    out = gather(points().double(), table(torch.float64), LAYOUT)
    assert out.dtype == torch.float64
    assert torch.autograd.gradcheck(lambda weights: gather(points()[:12].double(), weights, LAYOUT), (table(torch.float64),), fast_mode=True)


def test_a_dense_level_gives_its_vertices_back_and_is_linear_between_them() -> None:
    values = table().detach()
    vertices = torch.cartesian_prod(*[torch.arange(4)] * 3).flip(-1)
    found = gather(vertices / 3, values, LAYOUT)[:, :4]
    torch.testing.assert_close(found, values[:64], atol=1e-5, rtol=1e-5)
    ends = torch.tensor([[0.05, 0.1, 0.2], [0.3, 0.1, 0.2]])
    between = gather(torch.cat([ends, ends.mean(0, keepdim=True)]), values, LAYOUT)[:, :4]
    torch.testing.assert_close(between[2], between[:2].mean(0), atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_small_table() -> None:
    one, two, other = (GridEncoding(CONFIG, generator(seed)) for seed in (4, 4, 5))
    assert torch.equal(one.table, two.table)
    assert not torch.equal(one.table, other.table)
    assert float(one.table.detach().abs().max()) <= 1e-4
    assert one(points()).shape == (308, one.width)


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"coarsest": 1}, {"coarsest": 64, "finest": 32}, {"log2_rows": 30}])
def test_impossible_grids_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="allowed are"):
        EncodingConfig(**wrong)
