from __future__ import annotations

import pytest
import torch

from diorama.errors import InputError
from diorama.pipeline.curve import ramp, read_curve


def test_a_ramp_rises_between_its_ends() -> None:
    assert ramp(6, 1, 5).tolist() == [0, 0, 0.25, 0.5, 0.75, 1]
    assert ramp(4, 2, 2).tolist() == [0, 0, 0, 1]


def test_a_curve_goes_through_its_points_and_is_level_outside() -> None:
    assert torch.allclose(read_curve("0.25:0 0.75:1", 9), torch.tensor([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]))
    assert read_curve("0.75:1 0.25:0", 9).equal(read_curve("0.25:0 0.75:1", 9))
    assert torch.allclose(read_curve("0:0.2 0.5:0.8 1:0.4", 5), torch.tensor([0.2, 0.5, 0.8, 0.6, 0.4]))
    assert read_curve("0.5:0.3", 3).tolist() == pytest.approx([0.3] * 3)
    assert read_curve("0:0 1:1", 1).tolist() == [0]


@pytest.mark.parametrize("curve", ["", "x", "0:2", "0.5", "0:0 1:nan"])
def test_what_is_no_curve_is_refused(curve: str) -> None:
    with pytest.raises(InputError, match=f"the curve '{curve}' is not understood"):
        read_curve(curve, 3)
