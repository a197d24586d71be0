"""The page is whole, offline, and tells every reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.curation.conftest import pan

from diorama.curation.curate import Curation, CurationConfig, curate
from diorama.curation.cuts import CutConfig
from diorama.curation.fates import Limits
from diorama.curation.manifest import Row
from diorama.curation.report import funnel, histogram, write_report
from diorama.curation.trace import TraceConfig
from diorama.errors import DataError


def test_the_page_shows_pieces_and_needs_no_network(tmp_path: Path, films: Callable[..., Path]) -> None:
    folder = films("shown/<b>.mp4", np.concatenate([pan(0, 30), np.zeros((12, 96, 128, 3), np.uint8)])).parent
    config = CurationConfig(limits=Limits(max_quality=None, max_upside_down=None))
    curate(Curation(source=str(folder), out=tmp_path, workers=0, config=config))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "1 of 2 pieces kept" in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert "&lt;b&gt;.mp4" in page
    assert "<b>.mp4" not in page
    assert "http" not in page
    assert ">black<" in page
    assert write_report(tmp_path, tmp_path / "else.html", samples=1).read_text(encoding="utf-8") == page


def test_pieces_of_other_cuts_do_not_lend_their_pictures(tmp_path: Path, films: Callable[..., Path]) -> None:
    film = films("two.mp4", np.concatenate([np.full((60, 96, 128, 3), 200, np.uint8), pan(0, 60)]))
    for number, seconds in enumerate((1.5, 20.0)):
        cuts = CutConfig(max_seconds=seconds)
        config = CurationConfig(trace=TraceConfig(cuts=cuts), limits=Limits(max_quality=None, max_upside_down=None))
        for out in (tmp_path / "both", tmp_path / str(number)):
            curate(Curation(source=str(film), out=out, workers=0, config=config))
    both, alone = (write_report(tmp_path / name).read_text(encoding="utf-8") for name in ("both", "1"))
    assert both == alone


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="diorama curate"):
        write_report(tmp_path)


def test_the_funnel_follows_the_stages() -> None:
    row = Row(source="a", end=2.0)
    rows = [row.dropped("static", "fates", ""), row.dropped("black", "cuts", ""), row.dropped("static", "fates", "")]
    assert funnel(rows) == [("cuts", "black", 1, 2.0), ("fates", "static", 2, 4.0)]


@pytest.mark.parametrize("values", [[1.0], [0.0, 1.0, 2.0, 2.0], [3.0] * 5, list(range(100))])
def test_every_value_lies_in_a_bin(values: list[float]) -> None:
    assert sum(count for _, _, count in histogram(values)) == len(values)
    assert histogram([]) == []
