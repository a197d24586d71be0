"""The report as one HTML page that works offline: what it says comes first, then what it rests on.

The page holds everything it shows (pictures as data, no address is ever asked) and is complete without scripts, but for turning the
scene and leafing through the views. Text from outside is escaped.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from diorama.geometry.cameras import Cameras, Floats
from diorama.geometry.frames import opencv
from diorama.media import Pixels

__all__ = ["SceneView", "View", "data_uri", "page"]

POINTS_SHOWN = 20_000
MEAN_DOWN_WEIGHT = 0.002  # small beside the spread of right axes over a tenth of a radian
ROW_HEAD = ("", "score", "registered", "track length", "reprojection", "inliers kept", "NeRF", "splat", "gap")


@dataclass(frozen=True, kw_only=True)
class View:
    """A frame kept from training, and what was rendered in its place."""

    name: str
    """Which one, for people."""
    input: Pixels
    """uint8 ``[H, W, 3]``."""
    nerf: Pixels | None
    """The same shape, or None."""
    splat: Pixels | None
    """The same shape, or None."""
    nerf_psnr: float | None
    """dB."""
    splat_psnr: float | None
    """dB."""


@dataclass(frozen=True, kw_only=True)
class SceneView:
    """What can be turned: points and cameras."""

    points: Floats
    """``[P, 3]``."""
    colors: Pixels
    """uint8 ``[P, 3]``."""
    cameras: Cameras
    """Those that were found, in order."""
    held_out: Sequence[bool]
    """Per camera: whether its frame was kept from training."""
    truth: Floats | None = None
    """``[T, 3]``: the true path in the same world, where it is known."""


def page(report: Mapping[str, Any], scene: SceneView | None, views: Sequence[View]) -> str:
    """Return the page.

    Args:
        report: See ``report.build``.
        scene: None where no camera was found.
        views: Held-out frames in order; may be empty.
    """
    score, verdict = report["score"], report["verdict"]
    data = {
        "scene": None if scene is None else _scene(scene),
        "views": [_view(view) for view in views],
    }
    parts = [_scene_part(scene), _views_part(views), _curves_part(report), _rows_part(report), _factors_part(report), _numbers_part(report)]
    given = report["input"]
    texts = {
        "title": html.escape(f"{given['name']} - geometry"),
        "subject": html.escape(f"{given['name']}, {given['used_frames']} of {given['num_frames']} frames at {given['width']}x{given['height']}"),
        "verdict": html.escape(verdict["sentence"]),
        "remarks": "".join(f"<p>{html.escape(remark)}</p>" for remark in verdict["remarks"]),
        "score": f"{score['value']:.2f}" if verdict["measurable"] else "&ndash;",
        "score_note": _score_note(report),
        "body": "\n".join(part for part in parts if part),
        "data": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "script": _resource("page.js"),
    }
    # one pass over the template: what is put in is never searched again
    pieces = _resource("page.html").split("{{")
    return pieces[0] + "".join(texts[name] + rest for name, _, rest in (piece.partition("}}") for piece in pieces[1:]))


def _score_note(report: Mapping[str, Any]) -> str:
    if not report["verdict"]["measurable"]:
        return "not measurable; counts as 0"
    views = any(factor["name"] == "held-out views" for factor in report["score"]["factors"])
    return "of 1" if views else "of 1, without held-out views"


def data_uri(picture: Pixels, quality: int = 85) -> str:
    """Return a picture ``[H, W, 3]`` as a JPEG inside an address."""
    cv2 = opencv()
    done, coded = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode("ascii")


def _resource(name: str) -> str:
    return files("diorama.geometry").joinpath(name).read_text(encoding="utf-8")


def _view(view: View) -> dict[str, Any]:
    made: dict[str, Any] = {"name": view.name, "input": data_uri(view.input)}
    for kind, picture, psnr in (("nerf", view.nerf, view.nerf_psnr), ("splat", view.splat, view.splat_psnr)):
        if picture is not None:
            made |= {kind: data_uri(picture), f"{kind}_note": _decibel(psnr)}
    return made


def _scene(scene: SceneView) -> dict[str, Any]:
    """Bring the scene to what the script shows: y down as the cameras see it on average, the middle at 0, radius 1."""
    keep = np.arange(len(scene.points))
    if len(keep) > POINTS_SHOWN:
        keep = np.sort(np.random.default_rng(0).choice(len(keep), POINTS_SHOWN, replace=False))
    matrices, centers = scene.cameras.world_to_camera, scene.cameras.centers
    turn = _upright(matrices[:, :3, :3])
    body = scene.points if len(scene.points) else centers
    middle = np.median(np.concatenate([np.quantile(body, (0.25, 0.5, 0.75), axis=0), np.median(centers, axis=0)[None]]), axis=0)
    reach = max(float(np.quantile(np.linalg.norm(body - middle, axis=1), 0.8)), float(np.linalg.norm(centers - middle, axis=1).max()), 1e-9)

    def placed(places: Floats) -> Floats:
        moved: Floats = (places - middle) / reach @ turn.T
        return moved

    points, shown = placed(scene.points[keep]), placed(centers)
    near = np.linalg.norm(points, axis=1) < 4
    paths = [{"places": shown.round(4).tolist(), "color": "#6db3f2"}]
    if scene.truth is not None:
        paths.append({"places": placed(scene.truth).round(4).tolist(), "color": "#ffffff"})
    step = float(np.linalg.norm(np.diff(shown, axis=0), axis=1).mean()) if len(shown) > 1 else 0.1
    size = float(np.clip(1.5 * step, 0.03, 0.15))
    return {
        "points": _packed(points[near].astype("<f4")),
        "colors": _packed(scene.colors[keep][near]),
        "cameras": [
            {"center": center.round(4).tolist(), "corners": corners.round(4).tolist(), "held_out": bool(held)}
            for center, corners, held in zip(shown, _corners(scene.cameras, size * reach, placed), scene.held_out, strict=True)
        ],
        "paths": paths,
    }


def _upright(rotations: Floats) -> Floats:
    """Return the rotation that lays the world's down along y and the cameras' mean forward axis, made level, along z.

    Down is where no camera's right axis points, for people hold cameras level; where the right axes leave that open, it is the
    cameras' mean down axis.
    """
    right, down, forward = rotations[:, 0], rotations[:, 1].mean(0), rotations[:, 2].mean(0)
    down = down / max(float(np.linalg.norm(down)), 1e-9)
    unlike = np.einsum("ti,tj->ij", right, right) / len(right) + MEAN_DOWN_WEIGHT * (np.eye(3) - np.outer(down, down))
    level_down = np.linalg.eigh(unlike)[1][:, 0]
    level_down = level_down if level_down @ down >= 0 else -level_down
    ahead = forward - (forward @ level_down) * level_down
    if np.linalg.norm(ahead) < 1e-6:
        ahead = np.cross(right[0], level_down)
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-9)
    return np.stack([np.cross(level_down, ahead), level_down, ahead])


def _corners(cameras: Cameras, size: float, placed: Any) -> list[Floats]:
    """Return the four corners of each camera's picture, drawn ``size`` in front of it."""
    border = np.array([[0, 0, 1], [cameras.width, 0, 1], [cameras.width, cameras.height, 1], [0, cameras.height, 1]], dtype=np.float64)
    corners = []
    for intrinsics, matrix in zip(cameras.intrinsics, cameras.world_to_camera, strict=True):
        rays = border @ np.linalg.inv(intrinsics).T * size
        corners.append(placed((rays - matrix[:3, 3]) @ matrix[:3, :3]))
    return corners


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _scene_part(scene: SceneView | None) -> str:
    if scene is None:
        return ""
    true = "; the true path is white" if scene.truth is not None else ""
    return (
        "<h2>What was reconstructed</h2>\n"
        '<canvas id="scene" tabindex="0" role="img" aria-label="Points and cameras of the reconstruction; arrow keys turn it, plus and minus zoom">'
        "</canvas>\n"
        f'<p class="note">{len(scene.points):,} points and {len(scene.cameras)} cameras, those of held-out frames in yellow{true}. '
        "Drag to turn, scroll or pinch to zoom, shift-drag to move, double click to start over.</p>"
    )


def _views_part(views: Sequence[View]) -> str:
    if not views:
        return ""
    kinds = [("input", "input")]
    kinds += [("nerf", "NeRF")] if any(view.nerf is not None for view in views) else []
    kinds += [("splat", "splat")] if any(view.splat is not None for view in views) else []
    first = _view(views[0])
    cells = "\n".join(
        f'<figure><img id="view-{kind}" src="{first[kind]}" alt="{name} at a held-out frame">'
        f'<figcaption>{name} <span id="view-{kind}-note">{html.escape(first.get(f"{kind}_note", ""))}</span></figcaption></figure>'
        for kind, name in kinds
        if kind in first
    )
    slider = f'<input type="range" id="view" min="0" max="{len(views) - 1}" value="0" aria-label="held-out frame">' if len(views) > 1 else ""
    return (
        f'<h2>Frames that no reconstruction had seen</h2>\n<p class="note" id="view-name">{html.escape(views[0].name)}</p>\n{slider}\n'
        f'<div class="views">\n{cells}\n</div>'
    )


def _curves_part(report: Mapping[str, Any]) -> str:
    curve = report["epipolar"]["curve"] if report.get("epipolar") else []
    plots = []
    if len(curve) > 1:
        places = [row["distance"] for row in curve]
        plots.append(
            _plot(
                "Epipolar error over frame distance (pixels)",
                "RMSE solid, mean dashed; a curve that climbs says that distant frames show another world",
                places,
                (([row["rmse"] for row in curve], "a"), ([row["mean"] for row in curve], "b")),
            )
        )
        plots.append(
            _plot(
                "Matches that agree, over frame distance",
                "share of matches that one rigid motion explains",
                places,
                (([row["keep_ratio"] for row in curve], "a"),),
                top=1.0,
            )
        )
    links = report["score"].get("links") or []
    if len(links) > 1:
        plots.append(
            _plot(
                "Each frame's tie to the next",
                "share of corners that can be followed there and back; the chain is as strong as its weakest link",
                list(range(len(links))),
                ((links, "a"),),
                top=1.0,
            )
        )
    return f'<h2>Curves</h2>\n<div class="plots">\n{"".join(plots)}\n</div>' if plots else ""


def _plot(title: str, note: str, places: Sequence[float], lines: Sequence[tuple[Sequence[float | None], str]], top: float | None = None) -> str:
    width, height, left, right, upper, lower = 460, 230, 44, 12, 12, 30
    known = [value for values, _ in lines for value in values if value is not None and math.isfinite(value)]
    peak = top or _round_up(max(known, default=1.0))
    first, last = min(places), max(*places, min(places) + 1e-9)

    def at(place: float, value: float) -> tuple[float, float]:
        return left + (place - first) / (last - first) * (width - left - right), height - lower - min(value / peak, 1.0) * (height - upper - lower)

    out = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        _, y = at(first, share * peak)
        out.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{share * peak:g}</text>')
    marked = sorted({places[round(i * (len(places) - 1) / 5)] for i in range(6)})
    out += [f'<text x="{at(place, 0)[0]:.1f}" y="{height - 8}" text-anchor="middle">{place:g}</text>' for place in marked]
    for values, style in lines:
        shown = [at(place, value) for place, value in zip(places, values, strict=True) if value is not None and math.isfinite(value)]
        out.append(f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in shown)}"/>')
    drawn = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">{"".join(out)}</svg>'
    return f"<figure>{html.escape(title)}{drawn}<figcaption>{html.escape(note)}</figcaption></figure>"


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value * (1 - 1e-9))


def _decibel(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} dB"


def _cells(row: Mapping[str, Any]) -> list[str]:
    def number(name: str, form: str, ending: str = "") -> str:
        value = row.get(name)
        return "&ndash;" if value is None else format(value, form) + ending

    registered = f"{row['registered']} of {row['attempted']}" if row.get("attempted") else "&ndash;"
    return [
        html.escape(row["name"]),
        number("score", ".2f"),
        registered,
        number("track_length", ".1f"),
        number("reprojection_error", ".2f", " px"),
        number("keep_ratio", ".2f"),
        number("nerf_psnr", ".1f", " dB"),
        number("splat_psnr", ".1f", " dB"),
        number("gap", "+.1f", " dB"),
    ]


def _rows_part(report: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ROW_HEAD)
    own = "".join(f"<td>{cell}</td>" for cell in _cells(report["row"]))
    rows = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in _cells(row)) + "</tr>" for row in report["references"]["rows"])
    return (
        f'<h2>Beside known cases</h2>\n<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n<tr class="own">{own}</tr>\n{rows}\n'
        f'</tbody></table></div>\n<p class="note">{html.escape(report["references"]["about"])}</p>'
    )


def _factors_part(report: Mapping[str, Any]) -> str:
    factors = report["score"]["factors"]
    if not factors:
        return ""
    rows = "\n".join(
        f"<tr><td>{html.escape(factor['name'])}</td><td>{html.escape(factor['measured'])}</td>"
        f'<td><span class="bar"><i style="width:{100 * factor["value"]:.0f}%"></i></span></td><td>{factor["value"]:.2f}</td>'
        f'<td class="why">{html.escape(factor["about"])}</td></tr>'
        for factor in factors
    )
    return (
        '<h2>What the score is made of</h2>\n<div class="scroll"><table><thead><tr><th></th><th>measured</th><th></th><th></th><th></th></tr></thead>'
        f'<tbody>\n{rows}\n</tbody></table></div>\n<p class="note">{html.escape(report["score"]["formula"])}</p>'
    )


def _numbers_part(report: Mapping[str, Any]) -> str:
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["seconds"].items())
    kept = {key: value for key, value in report.items() if key != "references"}
    return (
        f'<h2>Everything</h2>\n<p class="note">{html.escape(times)}. {html.escape(report["made"])}</p>\n'
        f"<details><summary>all numbers</summary><pre>{html.escape(json.dumps(kept, indent=1))}</pre></details>"
    )
