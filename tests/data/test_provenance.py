"""What a set is made of is counted, and changes with the set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from diorama.data.provenance import provenance, write_provenance
from diorama.data.shards import Sample, ShardSet, write_shard


def test_origins_licences_and_files_are_counted(tmp_path: Path) -> None:
    told = [{"licence": "CC0", "sha256": "a", "stages": "cuts 1"}, {"licence": "", "sha256": "a", "stages": "cuts 1"}, None]
    frames = np.zeros((1, 16, 16, 3), np.uint8)
    samples = [Sample(key=f"s{i}", frames=frames, fps=1.0, record={} if one is None else {"provenance": one}) for i, one in enumerate(told)]
    write_shard(tmp_path / "a", 0, samples)
    write_shard(tmp_path / "b", 0, samples[:2])
    found = provenance(ShardSet(tmp_path / "a"))
    assert found.pop("fingerprint") != provenance(ShardSet(tmp_path / "b"))["fingerprint"]
    assert found == {
        "samples": 3, "origins": {"curated": 2, "worlds": 1}, "licences": {"CC0": 1, "unknown": 1}, "files": 1, "stages": ["cuts 1"],
    }  # fmt: skip
    write_provenance(ShardSet(tmp_path / "a"), tmp_path / "weights")
    assert json.loads((tmp_path / "weights" / "training_data.json").read_text()) == provenance(ShardSet(tmp_path / "a"))
