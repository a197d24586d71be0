"""``diorama curate FOLDER --out SHARDS`` and ``diorama curate report SHARDS``: raw videos to a training set, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from diorama.cli.arguments import parse
from diorama.cli.progress import progress_bar
from diorama.curation.cuts import CutConfig
from diorama.curation.duplicates import DuplicateConfig
from diorama.curation.fates import Limits
from diorama.errors import DataError

__all__ = ["Curate", "Report", "run"]


@dataclass(frozen=True, kw_only=True)
class Curate:
    """Turn a folder of raw videos and pictures into training shards; a run that was stopped goes on where it was."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FOLDER")]
    """Folder, file, or an address such as s3://bucket/videos."""
    out: Path
    """Folder of the shards, the manifest and the report."""
    facts: Path | None = None
    """Table (csv, tsv) or JSON lines with the columns file, licence, caption, caption_short."""
    licence: str = ""
    """Licence of files that the facts say nothing about."""
    workers: int | None = None
    """Processes; one per core if left out."""
    ray: bool = False
    """Run on Ray: on the cluster it is connected to, else on this machine."""
    shard_mib: int = 256
    """Size of a shard, about."""
    cuts: CutConfig = field(default_factory=CutConfig)
    """How shots are told apart."""
    limits: Limits = field(default_factory=Limits)
    """What a piece must be."""
    duplicates: DuplicateConfig = field(default_factory=DuplicateConfig)
    """What counts as the same."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one offline HTML page about a curated folder."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SHARDS")]
    """What curate wrote."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Where to write; report.html in the folder if left out."""
    samples: int = 12
    """Pieces shown for each reason."""


def run(arguments: Sequence[str]) -> None:
    """Curate a folder, or write the report of one."""
    if arguments and arguments[0] == "report":
        options: Report = parse(Report, arguments[1:], command="curate report")
        from diorama.curation.report import write_report

        print(write_report(options.folder, options.output, samples=options.samples))
        return
    _curate(parse(Curate, arguments, command="curate"))


def _curate(options: Curate) -> None:
    from diorama.curation.curate import Curation, CurationConfig, curate
    from diorama.curation.report import write_report
    from diorama.curation.trace import TraceConfig

    config = CurationConfig(
        trace=TraceConfig(cuts=options.cuts, licence=options.licence),
        limits=options.limits,
        duplicates=options.duplicates,
        shard_bytes=options.shard_mib * 2**20,
    )
    wanted = Curation(source=options.source, out=options.out, config=config, facts=options.facts, workers=options.workers, ray=options.ray)
    with progress_bar() as progress:
        summary = curate(wanted, progress=progress)
    print("\n".join(summary.lines()))
    print(f"manifest {options.out / 'manifest.parquet'}\nreport   {write_report(options.out)}")
    if not summary.kept:
        raise DataError(f"none of {summary.pieces} pieces was kept, so there is nothing to train on; the report says why, --limits.* changes it")
