"""Curation: any folder of videos and pictures to a training set, with the fate of every second.

Stages are plain functions over rows of a manifest (``manifest.Row``): list, probe, trace (the one decode), cuts, borders, scores,
fates, near-duplicates, captions, shards. ``curate.curate`` runs them, ``report.write_report`` shows what they did. The room knows no
model but the captioner it is given.
"""

from __future__ import annotations

from diorama.curation.manifest import Row

__all__ = ["Row"]
