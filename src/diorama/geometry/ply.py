"""Clouds of Gaussians as ``.ply`` files, in the layout of the 3DGS paper that public viewers open.

Every vertex holds x, y, z, the normal (0, unused), f_dc_0 to 2, f_rest_* (all of red, then green, then blue), the opacity's logit, the logarithms
of the scales and the quaternion (w, x, y, z): little-endian float32. The background and the degree are not part of the layout: the background is
written as a comment, the degree follows from the number of f_rest.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import torch

from diorama.errors import InputError
from diorama.geometry.gaussians import Gaussians

__all__ = ["read_ply", "write_ply"]

_BACKGROUND = "comment background "
_LONGEST_HEADER = 1 << 16


def _names(rest: int) -> list[str]:
    """Return the properties of a vertex with ``rest`` numbers of higher degree."""
    return [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
        *(f"f_rest_{index}" for index in range(rest)),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]


def write_ply(path: Path | str, gaussians: Gaussians, background: tuple[float, float, float] | None = None) -> None:
    """Write a cloud.

    Args:
        path: A file, replaced if it is there.
        gaussians: N of them, on any device.
        background: RGB in [0, 1], kept in a comment that viewers ignore.
    """
    cloud = gaussians.map(lambda tensor: tensor.detach().cpu().float())
    count = len(cloud)
    rest = cloud.sh[:, 1:].transpose(1, 2).flatten(1)
    rows = [cloud.means, torch.zeros(count, 3), cloud.sh[:, 0], rest, cloud.logits[:, None], cloud.log_scales, cloud.quaternions]
    names = _names(rest.shape[1])
    header = ["ply", "format binary_little_endian 1.0", "comment made by Diorama"]
    if background is not None:
        header.append(_BACKGROUND + " ".join(f"{value:.6g}" for value in background))
    header += [f"element vertex {count}", *(f"property float {name}" for name in names), "end_header"]
    data = torch.cat(rows, 1).numpy().astype("<f4")
    Path(path).write_bytes("\n".join(header).encode("ascii") + b"\n" + data.tobytes())


def read_ply(path: Path | str) -> tuple[Gaussians, tuple[float, float, float] | None]:
    """Read a cloud; degrees above 1 are left out.

    Args:
        path: A binary little-endian file in the 3DGS layout, by whoever wrote it.

    Returns:
        The cloud, and the background if the file tells one.

    Raises:
        InputError: the file is missing, is cut short or is not of this layout.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}); give a .ply file of Gaussians") from error
    head, mark, body = data.partition(b"end_header\n")
    if not data.startswith(b"ply") or not mark or len(head) > _LONGEST_HEADER:
        raise InputError(f"'{path}' is not a .ply file; give one in the 3DGS layout")
    lines = head.decode("ascii", "replace").splitlines()
    if "format binary_little_endian 1.0" not in lines:
        raise InputError(f"'{path}' is not a binary little-endian .ply file; export it as one")
    count = _count(path, lines)
    names = [line.split()[-1] for line in lines if line.startswith("property float ")]
    number = sum(name.startswith("f_rest_") for name in names)
    other = len(names) != sum(line.startswith("property ") for line in lines)
    if other or set(_names(number)) - set(names) - {"nx", "ny", "nz"} or number not in (0, 9, 24, 45):
        raise InputError(f"'{path}' is a .ply file without Gaussians; it must have the properties x y z f_dc opacity scale rot, all float")
    if len(body) < 4 * count * len(names):
        raise InputError(f"'{path}' is cut short: {len(body)} of {4 * count * len(names)} bytes are there; export it again")
    table = np.frombuffer(body, "<f4", count * len(names)).reshape(count, len(names))
    return _gaussians(table, names, number), _background(lines)


def _count(path: Path, lines: list[str]) -> int:
    elements = [line.split() for line in lines if line.startswith("element ")]
    if len(elements) != 1 or elements[0][1] != "vertex" or len(elements[0]) != 3 or not elements[0][2].isdigit():
        raise InputError(f"'{path}' is a .ply file of something else than points; give one in the 3DGS layout")
    return int(elements[0][2])


def _gaussians(table: np.ndarray, names: list[str], rest: int) -> Gaussians:
    def columns(*wanted: str) -> torch.Tensor:
        return torch.from_numpy(table[:, [names.index(name) for name in wanted]].astype(np.float32))

    sh = [columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]]
    if rest:
        each = rest // 3
        sh.append(torch.stack([columns(*(f"f_rest_{channel * each + index}" for channel in range(3))) for index in range(3)], 1))
    return Gaussians(
        means=columns("x", "y", "z"),
        log_scales=columns("scale_0", "scale_1", "scale_2"),
        quaternions=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        logits=columns("opacity")[:, 0],
        sh=torch.cat(sh, 1),
    )


def _background(lines: list[str]) -> tuple[float, float, float] | None:
    for line in lines:
        if line.startswith(_BACKGROUND):
            with contextlib.suppress(ValueError):  # another program's comment
                red, green, blue = (float(word) for word in line.removeprefix(_BACKGROUND).split())
                return red, green, blue
    return None
