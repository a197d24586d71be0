from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData

from diorama.errors import InputError
from diorama.geometry.gaussians import Gaussians
from diorama.geometry.ply import read_ply, write_ply


def cloud(count: int, degree: int) -> Gaussians:
    generator = torch.Generator().manual_seed(count)
    parts = [torch.randn(count, *shape, generator=generator) for shape in ((3,), (3,), (4,), (), (1 + 3 * degree, 3))]
    return Gaussians(means=parts[0], log_scales=parts[1], quaternions=parts[2], logits=parts[3], sh=parts[4])


@pytest.mark.parametrize(("count", "degree"), [(7, 1), (4, 0), (0, 1)])
def test_what_is_written_is_read_bit_by_bit(tmp_path: Path, count: int, degree: int) -> None:
    path = tmp_path / "cloud.ply"
    gaussians = cloud(count, degree)
    write_ply(path, gaussians, (0.25, 0.5, 1.0))
    again, background = read_ply(path)
    assert background == (0.25, 0.5, 1.0)
    for name, tensor in gaussians.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name
    write_ply(path, gaussians)
    assert read_ply(path)[1] is None


def test_a_public_parser_finds_the_layout_of_the_paper(tmp_path: Path) -> None:
    path = tmp_path / "cloud.ply"
    gaussians = cloud(5, 1)
    write_ply(path, gaussians, (0.1, 0.2, 0.3))
    vertices = PlyData.read(str(path))["vertex"]
    names = [item.name for item in vertices.properties]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:18] == [f"f_rest_{index}" for index in range(9)]
    assert names[18:] == ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert np.array_equal(np.stack([vertices[axis] for axis in "xyz"], -1), gaussians.means.numpy())
    # the paper's layout: all coefficients of red, then green, then blue
    assert np.array_equal(vertices["f_rest_0"], gaussians.sh[:, 1, 0].numpy())
    assert np.array_equal(vertices["f_rest_4"], gaussians.sh[:, 2, 1].numpy())
    assert np.array_equal(vertices["f_rest_8"], gaussians.sh[:, 3, 2].numpy())
    assert np.array_equal(vertices["opacity"], gaussians.logits.numpy())
    assert np.array_equal(vertices["rot_0"], gaussians.quaternions[:, 0].numpy())


def test_a_file_of_degree_three_by_someone_else_is_read_to_degree_one(tmp_path: Path) -> None:
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{index}" for index in range(45)), "opacity"]
    names += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    table = np.arange(2 * len(names), dtype="<f4").reshape(2, -1)
    header = "ply\nformat binary_little_endian 1.0\ncomment background of stars\nelement vertex 2\n"
    header += "".join(f"property float {name}\n" for name in names) + "end_header\n"
    path = tmp_path / "other.ply"
    path.write_bytes(header.encode() + table.tobytes())
    gaussians, background = read_ply(path)
    assert background is None
    assert gaussians.degree == 1
    first = names.index("f_rest_0")
    assert gaussians.sh[1, 1:, 0].tolist() == table[1, first : first + 3].tolist()
    assert gaussians.sh[1, 1:, 2].tolist() == table[1, first + 30 : first + 33].tolist()


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "cloud.ply"
    write_ply(path, cloud(3, 1))
    good = path.read_bytes()
    cases = {
        "cut short": good[:-1],
        "not a .ply file": b"P6 3 3 255\n",
        "binary little-endian": good.replace(b"binary_little_endian", b"ascii"),
        "without Gaussians": good.replace(b"opacity", b"density"),
        "something else": good.replace(b"element vertex 3", b"element face 3"),
    }
    for message, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            read_ply(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_ply(tmp_path / "none.ply")
