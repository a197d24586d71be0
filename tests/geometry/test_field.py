from __future__ import annotations

import pytest
import torch

from diorama.errors import InputError
from diorama.geometry.encoding import EncodingConfig
from diorama.geometry.field import Field, FieldConfig, composite, harmonics, look, spread_of
from diorama.geometry.occupancy import Samples
from diorama.runtime import generator

CONFIG = FieldConfig(encoding=EncodingConfig(levels=3, coarsest=4, finest=32, log2_rows=10), hidden_size=16)


def test_light_is_shared_out_whole() -> None:
    chance = generator(0)
    density, lengths = 5 * torch.rand(30, 12, generator=chance), torch.rand(30, 12, generator=chance)
    weights = composite(density, lengths)
    torch.testing.assert_close(weights.sum(-1), torch.ones(30))
    alpha = 1 - torch.exp(-density * lengths)
    light = torch.ones(30)
    for k in range(12):
        torch.testing.assert_close(weights[:, k], light * alpha[:, k], atol=1e-6, rtol=1e-4)
        light = light * (1 - alpha[:, k])
    torch.testing.assert_close(weights[:, 12], light, atol=1e-6, rtol=1e-4)


def test_nothing_is_seen_through_a_wall_and_all_of_the_horizon_without_one() -> None:
    lengths = torch.ones(1, 4)
    torch.testing.assert_close(composite(torch.tensor([[0.0, 1e4, 1e4, 0.0]]), lengths), torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]]))
    torch.testing.assert_close(composite(torch.zeros(1, 4), lengths), torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]]))


def test_spread_equals_the_double_sum_of_its_definition() -> None:
    chance = generator(1)
    weights = torch.rand(7, 9, generator=chance).double().requires_grad_()
    edges = torch.rand(7, 10, generator=chance).double().sort(-1).values
    middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
    apart = (middle[:, :, None] - middle[:, None]).abs()
    expected = torch.einsum("ri,rj,rij->r", weights, weights, apart) + (weights**2 * (edges[:, 1:] - edges[:, :-1])).sum(-1) / 3
    torch.testing.assert_close(spread_of(weights, edges), expected)
    (one,) = torch.autograd.grad(spread_of(weights, edges).sum(), weights)
    (two,) = torch.autograd.grad(expected.sum(), weights)
    torch.testing.assert_close(one, two)


def test_harmonics_are_orthonormal_over_the_sphere() -> None:
    directions = torch.nn.functional.normalize(torch.randn(200_000, 3, generator=generator(2), dtype=torch.float64), dim=-1)
    values = harmonics(directions)
    torch.testing.assert_close(values.T @ values / len(values), torch.eye(9, dtype=torch.float64), atol=0.02, rtol=0)


def test_density_knows_nothing_of_the_direction_and_colour_does() -> None:
    field = Field(CONFIG, generator(3))
    with torch.no_grad():
        field.encoding.table.normal_(generator=generator(4))
    points = torch.rand(5, 6, 3, generator=generator(5))
    one, two = torch.randn(2, 5, 3, generator=generator(6))
    density, color = field(points, one)
    other_density, other_color = field(points, two)
    assert density.shape == (5, 6)
    assert bool((density > 0).all())
    assert torch.equal(density, other_density)
    assert bool(((color > 0) & (color < 1)).all())
    assert not torch.allclose(color, other_color, atol=1e-3)
    _, scaled = field(points, 7 * one)
    torch.testing.assert_close(color, scaled, atol=1e-5, rtol=1e-4)


def test_look_mixes_colours_by_the_light_and_every_weight_learns() -> None:
    field = Field(CONFIG, generator(3))
    with torch.no_grad():
        field.encoding.table.normal_(generator=generator(4))
    chance = generator(7)
    samples = Samples(
        edges=torch.rand(5, 7, generator=chance).sort(-1).values,
        points=torch.rand(5, 7, 3, generator=chance),
        lengths=torch.rand(5, 6, generator=chance),
    )
    directions = torch.randn(5, 3, generator=chance)
    seen = look(field, samples, directions)
    density, color = field(samples.points, directions)
    torch.testing.assert_close(seen.color, (composite(density[:, :-1], samples.lengths)[..., None] * color).sum(1))
    assert not seen.density.requires_grad
    seen.color.square().sum().backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_the_same_seed_gives_the_same_field() -> None:
    one, two = (Field(CONFIG, generator(8)).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("wrong", [{"hidden_size": 4}, {"geometry_size": 0}])
def test_impossible_fields_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="allowed are at least 8 and 1"):
        FieldConfig(**wrong)
