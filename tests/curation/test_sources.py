"""Files are listed in order, with what is known about them, from folders and from other stores alike."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from diorama.curation.probe import probe_source
from diorama.curation.sources import content_hash, list_sources, local_copy, read_facts
from diorama.errors import DataError, InputError


def test_a_folder_is_listed_in_order_without_notes_and_hidden_files(tmp_path: Path) -> None:
    for name in ("b.mp4", "a/c.mp4", "a/.hidden.mp4", "b.txt", ".cache/x.mp4", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a caption\n" if name == "b.txt" else "x")
    sources = list_sources(str(tmp_path), {"a/c.mp4": {"licence": "CC0"}})
    assert [source.name for source in sources] == ["a/c.mp4", "b.mp4"]
    assert sources[0].facts == {"licence": "CC0"}
    assert sources[1].facts == {"caption": "a caption"}


def test_a_local_address_is_the_local_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "linked.mp4").symlink_to(tmp_path / "a.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    sources = list_sources(f"file://{tmp_path}")
    assert [source.name for source in sources] == ["a.mp4", "gone.mp4", "linked.mp4"]
    assert sources == list_sources(str(tmp_path))


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no files"):
        list_sources(str(tmp_path))
    with pytest.raises(InputError, match="check the name"):
        list_sources(str(tmp_path / "absent"))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (source,) = list_sources(str(tmp_path))
    row = probe_source(source, tmp_path / "pipe.mp4")
    assert (row.reason, "is a file" in row.detail) == ("unreadable", True)


def test_facts_about_other_files_are_refused_with_an_example_of_both(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=r"'a\.mp4', is in .*'sub/a\.mp4'"):
        list_sources(str(tmp_path), {"a.mp4": {"caption": "a ball"}})
    assert list_sources(str(tmp_path), {"a.mp4": {}, "sub/a.mp4": {"caption": "a ball"}})[0].facts == {"caption": "a ball"}


def test_another_store_gives_the_same_bytes() -> None:
    with fsspec.open("memory://set/a/film.mp4", "wb") as file:
        file.write(b"bytes of a film")
    with fsspec.open("memory://set/.hidden", "wb") as file:
        file.write(b"no")
    (source,) = list_sources("memory://set")
    assert (source.name, source.bytes) == ("a/film.mp4", 15)
    with local_copy(source) as path:
        assert path.read_bytes() == b"bytes of a film"
    assert not path.exists()


def test_a_store_that_fails_is_named() -> None:
    with fsspec.open("memory://gone/film.mp4", "wb") as file:
        file.write(b"x")
    (source,) = list_sources("memory://gone")
    fsspec.filesystem("memory").rm("/gone/film.mp4")
    with pytest.raises(DataError, match="cannot be read"), local_copy(source):
        pass


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("facts.tsv", "file\tlicence\tcaption\na.mp4\tCC0\ta red ball\n"),
        ("facts.csv", "file,licence,caption\na.mp4,CC0,a red ball\n"),
        ("facts.jsonl", '{"file": "a.mp4", "licence": "CC0", "caption": "a red ball"}\n'),
    ],
)
def test_facts_are_read_from_tables_and_json_lines(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_facts(tmp_path / name) == {"a.mp4": {"licence": "CC0", "caption": "a red ball"}}


def test_facts_without_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "facts.csv").write_text("name,licence\na,b\n")
    with pytest.raises(InputError, match="no column 'file'"):
        read_facts(tmp_path / "facts.csv")


def test_the_hash_of_a_file_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    assert content_hash(tmp_path / "absent") == ""
    (tmp_path / "x").write_bytes(b"")
    assert content_hash(tmp_path / "x").startswith("e3b0c442")
