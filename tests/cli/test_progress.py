from __future__ import annotations

import pytest

from diorama.cli.progress import progress_bar


def test_stages_are_shown_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as report:
        report("denoise", 0, 2)
        report("denoise", 2, 2)
        report("decode", 1, 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "denoise" in err
    assert "2/2" in err
