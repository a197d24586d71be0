"""Hub repositories: what reads as one, the cache, and one sentence where the hub cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from diorama.errors import CheckpointError
from diorama.interop.hub import fetch, is_hub_id

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra 'hub' is not installed")


@pytest.mark.parametrize("name", ["Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "a/b", "a/b.c_d@main", "a/b@refs/pr/1"])
def test_names_of_repositories(name: str) -> None:
    assert is_hub_id(name)


@pytest.mark.parametrize("name", ["./a/b", "/a/b", "~/a", "a", "a/b/c", "a b/c", "../a"])
def test_other_sources(name: str) -> None:
    assert not is_hub_id(name)


def test_offline_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="no folder 'someone/some-model' here, and the hub cannot be reached"):
        fetch("someone/some-model")


def test_what_is_in_the_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "models--someone--some-model"
    (place / "snapshots" / commit).mkdir(parents=True)
    (place / "snapshots" / commit / "model_index.json").write_text("{}")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    assert (fetch("someone/some-model") / "model_index.json").is_file()
