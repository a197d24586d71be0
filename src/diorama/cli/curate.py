"""``diorama curate FOLDER --out SHARDS`` and ``diorama curate report SHARDS``: raw videos to a training set, and what became of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from diorama.cli.arguments import parse
from diorama.cli.progress import progress_bar
from diorama.curation.cuts import CutConfig
from diorama.curation.duplicates import DuplicateConfig
from diorama.curation.fates import Limits
from diorama.errors import DataError

if TYPE_CHECKING:
    from diorama.curation.captions import Captioning

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
    captions: str = ""
    """Who describes pieces that come without a caption: captioner (the packaged one, which knows worlds only), a folder of a captioner
    or of a vision-language model, or an OpenAI-compatible endpoint's address, its key in OPENAI_API_KEY; nobody if left out."""
    caption_model: str = ""
    """Name of the model at the endpoint."""
    caption_window: float = 5.0
    """Seconds described at once; longer pieces are described window by window."""
    caption_scores: tuple[str, ...] = ()
    """Measured scores to append to dense captions, such as motion and sharpness."""
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


def _captions(options: Curate) -> Captioning | None:
    """Return who describes what came without a caption."""
    if not options.captions:
        return None
    from diorama.curation.captions import Captioning, CaptionOptions
    from diorama.runtime import choose_device

    wanted = CaptionOptions(source=options.captions, model=options.caption_model, window=options.caption_window, scores=tuple(options.caption_scores))
    return Captioning(wanted, device=choose_device(), api_key=os.environ.get("OPENAI_API_KEY"))


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
        summary = curate(wanted, captions=_captions(options), progress=progress)
    print("\n".join(summary.lines()))
    print(f"manifest {options.out / 'manifest.parquet'}\nreport   {write_report(options.out)}")
    if not summary.kept:
        raise DataError(f"none of {summary.pieces} pieces was kept, so there is nothing to train on; the report says why, --limits.* changes it")
