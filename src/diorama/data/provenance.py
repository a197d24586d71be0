"""Where a training set comes from, small enough to travel with what was trained on it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from diorama.checkpoint import write_text
from diorama.data.shards import ShardSet

__all__ = ["provenance", "write_provenance"]


def provenance(shards: ShardSet) -> dict[str, Any]:
    """Return counts of samples by origin and licence, how many files they were cut from, what curated them, and the set's fingerprint.

    Raises:
        DataError: a tar is damaged.
    """
    origins: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    files: set[str] = set()
    stages: set[str] = set()
    for index in range(len(shards)):
        told = shards.record(index).get("provenance")
        if not isinstance(told, dict):
            origins["worlds"] += 1
            continue
        origins["curated"] += 1
        licences[str(told.get("licence") or "unknown")] += 1
        files.add(str(told.get("sha256")))
        stages.add(str(told.get("stages")))
    return {
        "fingerprint": shards.fingerprint(),
        "samples": len(shards),
        "origins": dict(sorted(origins.items())),
        "licences": dict(sorted(licences.items())),
        "files": len(files),
        "stages": sorted(stages),
    }


def write_provenance(shards: ShardSet, folder: Path) -> None:
    """Write ``training_data.json`` beside weights: what they were trained on, as ``provenance`` counts it.

    Raises:
        CheckpointError: the disk is full or the place is not writable.
        DataError: a tar is damaged.
    """
    write_text(folder / "training_data.json", json.dumps(provenance(shards), indent=1) + "\n")
