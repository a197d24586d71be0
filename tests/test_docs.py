"""The documents are true where a machine can tell: links lead somewhere, and the command line is described as it is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from diorama.cli import COMMANDS, usage

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_map_reaches_every_step() -> None:
    text = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    for room in ("cli", "pipeline", "flow", "patches", "transformer", "ops", "autoencoder", "media", "worlds", "data", "train", "evaluation"):
        assert f"../src/diorama/{room}/" in text


def test_every_command_has_its_file_and_its_line() -> None:
    for name in COMMANDS:
        assert (ROOT / "src" / "diorama" / "cli" / f"{name}.py").exists()
        assert f"  {name}" in usage()


def test_readme_shows_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text
    assert "make test" in text


def test_the_page_of_modes_is_what_their_source_gives() -> None:
    spec = importlib.util.spec_from_file_location("modes_page", ROOT / "benchmarks" / "modes_page.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    written = (ROOT / "docs" / "modes.md").read_text(encoding="utf-8")
    assert written == generator.page(), "docs/modes.md is stale; run python benchmarks/modes_page.py"
