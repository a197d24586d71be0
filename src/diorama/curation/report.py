"""One offline HTML page about a curated folder: what became of every second, what is in the set, and pieces of each fate to look at."""

from __future__ import annotations

import base64
import html
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from diorama.curation.curate import MANIFEST
from diorama.curation.fates import mended
from diorama.curation.manifest import REASONS, Row, read_rows
from diorama.errors import DataError, cannot_write

__all__ = ["funnel", "histogram", "write_report"]

Span = tuple[str, float, float]
_STAGES = ("probe", "trace", "cuts", "fates", "duplicates", "captions", "shards")
_STYLE = """
:root{color-scheme:light dark;--ink:#1c1f24;--soft:#667;--line:#d8dae0;--kept:#2f7d4f;--lost:#b4552d;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ec;--soft:#99a;--line:#3a3e46;--kept:#5dbb83;--lost:#e08a5e;--paper:#16181c}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}p{color:var(--soft);margin:.2rem 0}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.bar{height:.9rem;border-radius:2px;background:var(--lost)}
.bar.kept{background:var(--kept)}.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:1rem}
figure{margin:0}figcaption{color:var(--soft);font-size:.85rem}svg{width:100%;height:auto}
.pieces{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:.9rem}
.piece{border:1px solid var(--line);border-radius:6px;overflow:hidden;font-size:.82rem}.piece img{width:100%;display:block;background:#000}
.piece div{padding:.35rem .55rem;overflow-wrap:anywhere}.piece b{color:var(--lost)}.piece.kept b{color:var(--kept)}
label{margin-right:.8rem;white-space:nowrap}
"""
_SCRIPT = """
document.querySelectorAll('#filter input').forEach(box=>box.addEventListener('change',()=>{
  const shown=new Set([...document.querySelectorAll('#filter input:checked')].map(b=>b.value));
  document.querySelectorAll('.piece').forEach(p=>p.hidden=!shown.has(p.dataset.reason));}));
"""


def funnel(rows: Sequence[Row]) -> list[tuple[str, str, int, float]]:
    """Return (stage, reason, pieces, seconds) of what was dropped, in the order of the stages, then what was kept."""
    lost: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in rows:
        place = len(_STAGES) if row.fate == "kept" else _STAGES.index(row.stage)
        lost[place, row.reason].append(row)
    names = (*_STAGES, "kept")
    return [(names[place], reason, len(group), sum(row.seconds for row in group)) for (place, reason), group in sorted(lost.items())]


def histogram(values: Sequence[float], *, bins: int = 12) -> list[tuple[float, float, int]]:
    """Return (from, to, count) of bins of equal width; every value lies in one."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = (high - low) / bins or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    return [(low + i * width, low + (i + 1) * width, count) for i, count in enumerate(counts)]


def write_report(folder: Path, output: Path | None = None, *, samples: int = 12) -> Path:
    """Write the page and return where it is.

    Args:
        folder: What ``curate`` wrote.
        output: Where; ``report.html`` in the folder if None.
        samples: Pieces shown for each reason.

    Raises:
        DataError: the folder holds no manifest, or the disk is full.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise DataError(f"{folder} holds no {MANIFEST}; run first: diorama curate VIDEOS --out {folder}")
    rows = read_rows(manifest)
    chosen = _choose(rows, samples)
    pictures = _pictures(folder, {_span(row) for row in chosen})
    settings = json.loads((folder / "curation.json").read_text(encoding="utf-8")) if (folder / "curation.json").is_file() else {}
    output = output or folder / "report.html"
    fresh = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        fresh.write_text(_page(rows, chosen, pictures, str(settings.get("source", folder))), encoding="utf-8")
        fresh.replace(output)
    except OSError as error:
        raise cannot_write(output, error) from error
    finally:
        fresh.unlink(missing_ok=True)
    return output


def _choose(rows: Sequence[Row], samples: int) -> list[Row]:
    """Return up to ``samples`` pieces of each reason, spread evenly over the manifest."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.reason].append(row)
    chosen = []
    for reason in sorted(groups, key=lambda reason: (reason != "kept", reason)):
        group = groups[reason]
        step = max(1.0, len(group) / samples)
        chosen += [group[int(i * step)] for i in range(min(len(group), samples))]
    return chosen


def _span(row: Row) -> Span:
    """Return what tells a piece from those that an earlier run with other cuts gave the same key."""
    return row.key, row.start, row.end


def _pictures(folder: Path, wanted: set[Span]) -> dict[Span, bytes]:
    found: dict[Span, bytes] = {}
    for part in sorted((folder / "stages" / "trace").rglob("*.parquet")):
        if wanted <= found.keys():
            break
        rows = read_rows(part, ["source", "key", "start", "end", "thumbnail"])
        found.update({_span(row): row.thumbnail for row in rows if _span(row) in wanted and row.thumbnail})
    return found


def _page(rows: Sequence[Row], chosen: Sequence[Row], pictures: dict[Span, bytes], source: str) -> str:
    kept = [row for row in rows if row.fate == "kept"]
    seconds, kept_seconds = sum(row.seconds for row in rows), sum(row.seconds for row in kept)
    share = f", {100 * kept_seconds / seconds:.0f} % of the time" if seconds else ""
    reasons = list(dict.fromkeys(row.reason for row in chosen))
    boxes = "".join(f'<label><input type=checkbox checked value="{html.escape(reason)}"> {html.escape(reason)}</label>' for reason in reasons)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Curation of {html.escape(source)}</title><style>{_STYLE}</style>"
        f"<h1>{len(kept)} of {len(rows)} pieces kept</h1>"
        f"<p>{html.escape(source)}: {len({row.source for row in rows})} files, {seconds:.1f} s; kept {kept_seconds:.1f} s{share}.</p>"
        f"<h2>What became of every second</h2>{_funnel_table(rows, seconds)}"
        f"<h2>What was kept</h2>{_mended(kept)}<div class=plots>{_plots(kept)}</div>"
        f"<h2>Pieces</h2><p>Frames from the beginning, the middle and the end. Each piece says why.</p><p id=filter>{boxes}</p>"
        f"<div class=pieces>{''.join(_card(row, pictures.get(_span(row), b'')) for row in chosen)}</div><script>{_SCRIPT}</script></html>\n"
    )


def _funnel_table(rows: Sequence[Row], total: float) -> str:
    lines = []
    for stage, reason, count, seconds in funnel(rows):
        width = 100 * seconds / total if total else 0
        kind = "bar kept" if reason == "kept" else "bar"
        lines.append(
            f"<tr><td>{stage}<td>{html.escape(reason)}<td>{html.escape(REASONS[reason])}<td class=n>{count}<td class=n>{seconds:.1f} s"
            f"<td style='width:30%'><div class='{kind}' style='width:{width:.2f}%'></div>"
        )
    head = "<tr><th>stage<th>fate<th>meaning<th class=n>pieces<th class=n>time<th>share of all time"
    return f"<table>{head}{''.join(lines)}</table>"


def _mended(kept: Sequence[Row]) -> str:
    """Return what was changed about how many of the kept pieces."""
    counts = Counter(what for row in kept for what in mended(row))
    said = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    return f"<p>{said}.</p>" if said else ""


def _plots(kept: Sequence[Row]) -> str:
    measures: Sequence[tuple[str, Callable[[Row], float | None]]] = (
        ("height, pixels", lambda row: float(row.size[1])),
        ("length, s", lambda row: row.seconds if row.kind == "video" else None),
        ("aspect, width over height", lambda row: row.size[0] / max(1, row.size[1])),
        ("rate, frames/s", lambda row: row.fps if row.kind == "video" else None),
        ("motion, heights/s", lambda row: row.motion),
        ("jitter, heights/s", lambda row: row.jitter),
        ("sharpness", lambda row: row.sharpness),
        ("brightness", lambda row: row.brightness),
        ("distance from undistorted pictures", lambda row: row.quality),
    )
    return "".join(_plot(title, [value for row in kept if (value := measure(row)) is not None]) for title, measure in measures)


def _plot(title: str, values: Sequence[float]) -> str:
    bars = histogram(values)
    if not bars:
        return ""
    tallest = max(count for _, _, count in bars)
    columns = "".join(
        f'<rect x="{i * 20 + 1}" y="{80 - 78 * count / tallest:.1f}" width="18" height="{78 * count / tallest:.1f}" fill="var(--kept)">'
        f"<title>{low:.3g} to {high:.3g}: {count}</title></rect>"
        for i, (low, high, count) in enumerate(bars)
    )
    scale = f"{bars[0][0]:.3g} to {bars[-1][1]:.3g}"
    return f'<figure><svg viewBox="0 0 240 82" role=img aria-label="{title}">{columns}</svg><figcaption>{title}: {scale}</figcaption></figure>'


def _card(row: Row, picture: bytes) -> str:
    image = f"<img loading=lazy alt='' src='data:image/jpeg;base64,{base64.b64encode(picture).decode()}'>" if picture else ""
    size = f"{row.size[0]}x{row.size[1]}, {row.fps:.4g}/s, " if row.width else ""
    words = [
        f"<b>{html.escape(row.reason)}</b> {html.escape(row.detail)}",
        f"{html.escape(row.source)}, {row.start:.2f} to {row.end:.2f} s, {size}{row.num_frames} frames",
    ]
    if row.caption:
        words.append(f"<i>{html.escape(row.caption)}</i>")
    kind = "piece kept" if row.fate == "kept" else "piece"
    return f'<div class="{kind}" data-reason="{html.escape(row.reason)}">{image}<div>{"<br>".join(words)}</div></div>'
