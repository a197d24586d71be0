"""A folder of raw videos to a folder of shards and a manifest, resumable at every stage.

Results of a stage lie in files named after the hash of all that they depend on, written whole or not at all: a run that was killed goes
on where it was, a second run does nothing, and files that were added are all that is looked at again. The driver holds what
near-duplicate search needs of each piece, a few kilobytes; everything else is read source by source.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from diorama.config import to_dict
from diorama.curation.duplicates import DuplicateConfig, Match, apply_duplicates, mark_duplicates
from diorama.curation.fates import Limits, decide, keep, mended
from diorama.curation.frames import piece_clip
from diorama.curation.manifest import STAGES, Row, library, pending, read_rows, write_rows
from diorama.curation.scores import Aesthetic
from diorama.curation.shards import SCORES, Plan, plan_shards, write_shard
from diorama.curation.sources import Source, list_sources, local_copy, read_facts
from diorama.curation.spread import each
from diorama.curation.trace import TraceConfig, trace_source
from diorama.errors import MediaError, cannot_write
from diorama.media import Clip
from diorama.media.tars import shard_name
from diorama.runtime import lock_folder

__all__ = ["MANIFEST", "CaptionStage", "Curation", "CurationConfig", "Summary", "curate", "source_rows"]

MANIFEST = "manifest.parquet"
_WORK = "stages"
_BULKY = ("thumbnail", "prints", "embedding", "hashes")
Progress = Callable[[str, int, int], None]
Marked = dict[str, Match]


class CaptionStage(Protocol):
    """Writes captions: the trained captioner, a vision-language model, or an endpoint."""

    identity: str
    """Names the captioner and its settings; another identity captions anew."""

    def __call__(self, rows: Sequence[Row], clip: Callable[[Row], Clip]) -> Sequence[Row]:
        """Return the rows of one source with ``caption``, ``caption_short`` and ``captioner`` set.

        Args:
            rows: Kept pieces of one source; those with a caption of the user's already carry it.
            clip: Gives a piece's frames, sampled in time and small.
        """


@dataclass(frozen=True, kw_only=True)
class CurationConfig:
    """What is kept, and how it is stored."""

    trace: TraceConfig = field(default_factory=TraceConfig)
    """Cuts, samples and licence."""
    limits: Limits = field(default_factory=Limits)
    """What a piece must be."""
    duplicates: DuplicateConfig = field(default_factory=DuplicateConfig)
    """What counts as the same."""
    shard_bytes: int = 2**28
    """Size of a shard, about."""


@dataclass(frozen=True, kw_only=True)
class Curation:
    """One run."""

    source: str
    """Folder, file or address of the raw videos."""
    out: Path
    """Folder of the shards and the manifest."""
    config: CurationConfig = field(default_factory=CurationConfig)
    """What is kept."""
    facts: Path | None = None
    """Table of licences and captions by file name."""
    workers: int | None = None
    """Processes; one per core if None, this process if 0."""
    ray: bool = False
    """Run on Ray."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What became of everything."""

    sources: int
    pieces: int
    kept: int
    seconds: float
    """Of all sources that say how long they are."""
    kept_seconds: float
    reasons: dict[str, tuple[int, float]]
    """Pieces and seconds of each reason, kept ones included."""
    mended: dict[str, int]
    """Kept pieces by what was changed about them, such as turned upright."""

    def lines(self) -> list[str]:
        """Return the funnel as text, one line a reason, the largest first."""
        rows = sorted(self.reasons.items(), key=lambda item: (item[0] != "kept", -item[1][1], item[0]))
        head = f"{self.sources} files, {self.seconds:.1f} s: {self.kept} of {self.pieces} pieces kept, {self.kept_seconds:.1f} s"
        lines = [head, *(f"  {reason:<14} {count:>6} pieces {seconds:>10.1f} s" for reason, (count, seconds) in rows)]
        if self.mended:
            lines.insert(2, "    of these: " + ", ".join(f"{count} {what}" for what, count in sorted(self.mended.items())))
        return lines


def curate(run: Curation, *, aesthetic: Aesthetic | None = None, captions: CaptionStage | None = None, progress: Progress | None = None) -> Summary:
    """Curate a folder; run it again after a crash, with other limits, or when files were added.

    Writes ``shard-*.tar`` with their indices, ``manifest.parquet`` with a row for every piece, and ``stages/`` with what a later run
    need not do again.

    Args:
        run: What and where to.
        aesthetic: Head that rates frames; it must be a function other processes can import.
        captions: Writes captions; pieces keep those that came with the files if None.
        progress: Called with the stage, what is done and what there is to do.

    Raises:
        InputError: there are no files.
        DataError: the disk is full, another run uses the folder, or a result is damaged; finished parts are kept.
        MissingExtraError: a library is missing.
    """
    library()
    with lock_folder(run.out, "curating into"):
        for left in [*run.out.glob(".shard-*"), *(run.out / _WORK).rglob(".*.part")]:  # of a run that was killed
            left.unlink(missing_ok=True)
        sources = list_sources(run.source, None if run.facts is None else read_facts(run.facts))
        _write_settings(run, sources, captions)
        parts = _trace_all(run, sources, aesthetic, progress)
        marked = _find_duplicates(run.config, parts, progress)
        captioned = _caption_all(run, sources, parts, marked, captions, progress)
        shards = _shard_all(run, sources, captioned, progress)
        return _write_manifest(run, captioned, shards)


def _write_settings(run: Curation, sources: Sequence[Source], captions: CaptionStage | None) -> None:
    settings = {
        "source": run.source,
        "files": len(sources),
        "config": to_dict(run.config),
        "stages": STAGES,
        "captions": None if captions is None else captions.identity,
    }
    path = run.out / "curation.json"
    try:
        path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()[:20]


def _part_path(run: Curation, source: Source, aesthetic: Aesthetic | None) -> Path:
    """Return where the traced rows of a source lie: a name for its place, size, age and facts, and for how it was looked at."""
    changed = 0
    with contextlib.suppress(OSError):
        changed = Path(source.address).stat().st_mtime_ns
    head = None if aesthetic is None else f"{aesthetic.__module__}.{getattr(aesthetic, '__qualname__', type(aesthetic).__qualname__)}"
    name = _digest(source.name, source.bytes, changed, dict(source.facts), to_dict(run.config.trace), STAGES, head)
    return run.out / _WORK / "trace" / name[:2] / f"{name}.parquet"


def _trace_all(run: Curation, sources: Sequence[Source], aesthetic: Aesthetic | None, progress: Progress | None) -> list[Path]:
    parts = [_part_path(run, source, aesthetic) for source in sources]
    missing = [i for i, part in enumerate(parts) if not part.is_file()]
    done = len(sources) - len(missing)
    if progress is not None:
        progress("looking", done, len(sources))
    look = partial(trace_source, config=run.config.trace, aesthetic=aesthetic)
    with contextlib.closing(each(look, [sources[i] for i in missing], workers=run.workers, ray=run.ray, crashed=_crashed)) as results:
        for number, rows in results:
            write_rows(parts[missing[number]], [rows])
            done += 1
            if progress is not None:
                progress("looking", done, len(sources))
    return parts


def _crashed(source: Source) -> list[Row]:
    row = Row(source=source.name, key=f"{_digest(source.name)[:12]}-0000", file_bytes=max(0, source.bytes))
    return [row.dropped("damaged", "trace", f"{source.name} takes the decoder down each time; copy it again or leave it out")]


def source_rows(part: Path, columns: Sequence[str] | None = None, *, limits: Limits) -> list[Row]:
    """Return the traced rows of a source with the fates that the limits decide."""
    return [decide(row, limits) for row in read_rows(part, columns)]


def _columns(without: Sequence[str]) -> list[str]:
    return [item.name for item in dataclasses.fields(Row) if item.name not in without]


def _find_duplicates(config: CurationConfig, parts: Sequence[Path], progress: Progress | None) -> Marked:
    rows: list[Row] = []
    for number, part in enumerate(parts):
        rows.extend(pending(source_rows(part, _columns(("thumbnail", "detail")), limits=config.limits)))
        if progress is not None and (number + 1) % 16 == 0:
            progress("comparing", number + 1, len(parts))
    marked = mark_duplicates(rows, config.duplicates)
    if progress is not None:
        progress("comparing", len(parts), len(parts))
    return marked


def _caption_all(
    run: Curation,
    sources: Sequence[Source],
    parts: Sequence[Path],
    marked: Marked,
    captions: CaptionStage | None,
    progress: Progress | None,
) -> list[Callable[[], list[Row]]]:
    """Return, for each source, a function that reads its rows with fates and captions; captions are written on the way."""
    readers: list[Callable[[], list[Row]]] = []
    for number, (source, part) in enumerate(zip(sources, parts, strict=True)):
        rows = partial(_fated, run.config, part, marked)
        if captions is None:
            readers.append(rows)
            continue
        readers.append(_captioned(run, source, rows, captions))
        if progress is not None:
            progress("captioning", number + 1, len(sources))
    return readers


def _fated(config: CurationConfig, part: Path, marked: Marked) -> list[Row]:
    return apply_duplicates(source_rows(part, _columns(_BULKY), limits=config.limits), marked, config.duplicates)


def _captioned(run: Curation, source: Source, rows: Callable[[], list[Row]], captions: CaptionStage) -> Callable[[], list[Row]]:
    waiting = pending(rows())
    names = ("key", "start", "end", "box", "caption", *SCORES)
    name = _digest(captions.identity, [[getattr(row, name) for name in names] for row in waiting], STAGES)
    path = run.out / _WORK / "captions" / name[:2] / f"{name}.parquet"
    if waiting and not path.is_file():
        with local_copy(source) as copy:
            try:
                written = captions(waiting, lambda row: piece_clip(row, copy))
            except MediaError as error:
                written = [row.dropped("damaged", "captions", str(error).replace(str(copy), source.name)) for row in waiting]
        version = f"captions {STAGES['captions']}"
        write_rows(path, [[dataclasses.replace(row, versions=f"{row.versions}, {version}") for row in written]], without=_BULKY)
    return partial(_merged, rows, path if waiting else None)


def _merged(rows: Callable[[], list[Row]], path: Path | None) -> list[Row]:
    if path is None:
        return rows()
    written = {row.key: row for row in read_rows(path)}
    return [written.get(row.key, row) for row in rows()]


def _shard_all(
    run: Curation, sources: Sequence[Source], readers: Sequence[Callable[[], list[Row]]], progress: Progress | None
) -> dict[str, list[Path]]:
    """Write the shards that are missing and return, for each source with kept pieces, where its finished rows lie."""
    by_name = {source.name: source for source in sources}
    kept = (keep(row) for reader in readers for row in pending(reader()))
    plans: list[Plan] = []
    paths: dict[int, Path] = {}
    where: dict[str, list[Path]] = defaultdict(list)
    for plan in plan_shards(kept, by_name, max_bytes=run.config.shard_bytes):
        name = _digest(plan.number, [dataclasses.asdict(row) for row in plan.rows], STAGES)
        path = run.out / _WORK / "shards" / f"{plan.number:05d}-{name}.parquet"
        paths[plan.number] = path
        for source in plan.sources:
            where[source.name].append(path)
        if not _is_finished(run.out, plan.number, path):
            plans.append(plan)
    # Before the first write: killed between a new shard and its rows, the rows of an earlier choice would vouch for what is not there.
    _clean(run.out, set(paths.values()))
    total, done = len(paths), len(paths) - len(plans)
    if progress is not None:
        progress("writing", done, total)
    write = partial(write_shard, run.out)
    with contextlib.closing(each(write, plans, workers=run.workers, ray=run.ray, crashed=_lost)) as results:
        for number, rows in results:
            write_rows(paths[plans[number].number], [rows], without=_BULKY)
            done += 1
            if progress is not None:
                progress("writing", done, total)
    return dict(where)


def _is_finished(folder: Path, number: int, path: Path) -> bool:
    if not path.is_file():
        return False
    index = folder / f"{shard_name(number)}.index.json"
    return index.is_file() or not any(row.fate == "kept" for row in read_rows(path, ["source", "fate"]))


def _lost(plan: Plan) -> list[Row]:
    return [row.dropped("damaged", "shards", f"{row.source} takes the decoder down each time; copy it again or leave it out") for row in plan.rows]


def _clean(folder: Path, current: set[Path]) -> None:
    """Delete shards and their rows that belong to an earlier choice of pieces."""
    numbers = {int(path.name[:5]) for path in current}
    for path in (folder / _WORK / "shards").glob("*.parquet"):
        if path not in current:
            path.unlink(missing_ok=True)
    for index in folder.glob("shard-*.index.json"):
        if int(index.name.removeprefix("shard-").removesuffix(".index.json")) not in numbers:
            index.unlink(missing_ok=True)
            index.with_name(index.name.replace(".index.json", ".tar")).unlink(missing_ok=True)


def _write_manifest(run: Curation, readers: Sequence[Callable[[], list[Row]]], shards: dict[str, list[Path]]) -> Summary:
    count: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    changes: Counter[str] = Counter()
    total = 0.0

    def rows_of() -> Iterator[list[Row]]:
        nonlocal total
        open_part: tuple[Path | None, dict[str, Row]] = (None, {})
        for reader in readers:
            rows = []
            for row in reader():
                if not row.fate:
                    for path in shards.get(row.source, []):
                        if open_part[0] != path:
                            open_part = (path, {item.key: item for item in read_rows(path)})
                        if row.key in open_part[1]:
                            row = open_part[1][row.key]
                            break
                assert row.fate, f"{row.key} has no fate"
                rows.append(row)
                count[row.reason] += 1
                seconds[row.reason] += row.seconds
                changes.update(list(mended(row)) if row.fate == "kept" else [])
            total += max((row.source_seconds for row in rows), default=0.0)
            yield rows

    write_rows(run.out / MANIFEST, rows_of(), without=_BULKY)
    return Summary(
        sources=len(readers),
        pieces=count.total(),
        kept=count["kept"],
        seconds=total,
        kept_seconds=seconds["kept"],
        reasons={reason: (count[reason], seconds[reason]) for reason in count},
        mended=dict(changes),
    )
