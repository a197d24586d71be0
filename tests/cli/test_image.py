from __future__ import annotations

from pathlib import Path

from diorama.cli import main
from diorama.media import probe


def test_a_still_is_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "still.png"
    main(["image", "two cubes at sunset", "--size", "32x48", "--steps", "2", "--seed", "1", "--device", "cpu", "-o", str(file)])
    info = probe(file)
    assert (info.width, info.height, info.num_frames) == (32, 48, 1)
