"""The house holds: a room imports only the rooms below it, and third-party libraries live in their one room."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src" / "diorama"
BASE = ("errors", "shapes", "config", "runtime", "checkpoint", "threads")
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "shapes": {"errors"},
    "config": {"errors", "shapes"},
    "runtime": {"errors", "shapes", "config"},
    "checkpoint": {"errors", "shapes", "config", "runtime"},
    "threads": set(),
    "ops": set(),
    "media": {*BASE},
    "worlds": {*BASE},
    "curation": {*BASE, "media", "text"},
    "text": {*BASE, "ops"},
    "autoencoder": {*BASE, "ops"},
    "patches": {*BASE},
    "transformer": {*BASE, "ops", "patches"},
    "flow": {*BASE},
    "interop": {*BASE, "ops", "text", "autoencoder", "patches", "transformer", "flow"},
    "pipeline": {*BASE, "ops", "media", "text", "autoencoder", "patches", "transformer", "flow", "interop"},
    "data": {*BASE, "media", "patches", "worlds"},
    "train": {*BASE, "ops", "media", "worlds", "text", "autoencoder", "patches", "transformer", "flow", "interop", "data", "pipeline", "evaluation"},
    "geometry": {*BASE, "media", "ops"},
    "evaluation": {*BASE, "ops", "media", "worlds", "geometry"},
    "server": {*BASE, "media", "pipeline"},
}
LIBRARIES: dict[str, set[str]] = {
    "safetensors": {"checkpoint"},
    "av": {"media"},
    "PIL": {"media"},
    "mujoco": {"worlds"},
    "scenedetect": {"curation"},
    "pyarrow": {"curation"},
    "tokenizers": {"text"},
    "ftfy": {"text"},
    "transformers": {"curation", "interop", "text", "train"},
    "triton": {"ops"},
    "tensorboard": {"train"},
    "pycolmap": {"geometry"},
    "gsplat": {"geometry"},
    "cv2": {"geometry", "curation"},
    "numba": {"geometry"},
    "scipy": {"geometry"},
    "fsspec": {"curation"},
    "huggingface_hub": {"interop"},
    "fastapi": {"server"},
    "uvicorn": {"server"},
    "tyro": {"cli"},
    "rich": {"cli", "train", "data"},
    "ray": {"curation", "server"},
    "diffusers": set(),
    "numpy": set(ROOMS) | {"cli"},
    "torch": set(ROOMS) | {"cli"},
}


def sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every module a file imports, lazy ones and those under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            yield from ((f"{module}.{alias.name}" if module == "diorama" else module, node.lineno) for alias in node.names)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_plan(path: Path) -> None:
    room = room_of(path)
    if room == "__init__" and path.parent == ROOT:
        return
    assert room in ROOMS or room == "cli", f"room '{room}' is not in the plan"
    for module, line in imported(path):
        top, *rest = module.split(".")
        where = f"{path.relative_to(ROOT)}:{line}"
        if top == "diorama":
            other = rest[0] if rest else ""
            assert room == "cli" or other in ROOMS[room] | {room, "__version__"}, f"{where}: {room} may not import {other}"
        elif top not in sys.stdlib_module_names:
            assert top in LIBRARIES, f"{where}: library {top} has no room yet"
            assert room in LIBRARIES[top], f"{where}: {top} lives in {', '.join(sorted(LIBRARIES[top])) or 'no room'}, not in {room}"


def test_base_has_no_cycles() -> None:
    order = list(BASE)
    for room in BASE:
        assert all(order.index(other) < order.index(room) for other in ROOMS[room])


def test_files_are_of_a_readable_size() -> None:
    long = {str(path.relative_to(ROOT)): n for path in sources() if (n := len(path.read_text(encoding="utf-8").splitlines())) > 600}
    assert not long, f"over 600 lines: {long}"


def test_every_source_file_has_its_test() -> None:
    tests = {str(path.relative_to(ROOT.parents[1] / "tests")) for path in (ROOT.parents[1] / "tests").rglob("test_*.py")}
    for path in sources():
        if path.name == "__init__.py":
            continue
        relative = path.relative_to(ROOT)
        expected = str(relative.with_name(f"test_{relative.name}"))
        assert expected in tests, f"{relative} has no tests/{expected}"
