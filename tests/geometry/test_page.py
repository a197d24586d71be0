"""The page asks nothing of the network, shows what the report says and keeps what comes from outside from being read as HTML."""

from __future__ import annotations

import base64
import html
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diorama.geometry.cameras import Cameras
from diorama.geometry.page import SceneView, View, data_uri, page

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

NASTY = '</script><img src=x onerror="alert(1)">{{data}}&.mp4'


def report(name: str = "clip.mp4", **changes: Any) -> dict[str, Any]:
    row = {"name": name, "score": 0.71, "registered": 12, "attempted": 12, "track_length": 6.2, "reprojection_error": 0.7, "keep_ratio": 0.8}
    row |= {"nerf_psnr": 29.1, "splat_psnr": 30.2, "gap": -1.1}
    return {
        "input": {"name": name, "used_frames": 12, "num_frames": 40, "width": 256, "height": 192},
        "verdict": {"measurable": True, "cause": "consistent", "sentence": "A rigid world.", "remarks": ["The path is smooth."]},
        "score": {
            "value": 0.71,
            "links": [0.9, 0.8, 0.95],
            "formula": "product of all",
            "factors": [{"name": "registered", "measured": "12 of 12", "value": 1.0, "about": "share of frames"}],
        },
        "epipolar": {
            "curve": [{"distance": d, "rmse": 0.5 * d, "mean": 0.3 * d, "keep_ratio": 1 - 0.1 * d, "inliers": 90, "pairs": 3} for d in (1, 2, 4)]
        },
        "row": row,
        "references": {"rows": [row | {"name": "noise", "score": 0.0, "registered": 0, "reprojection_error": None}], "about": "as measured"},
        "seconds": {"frames": 1.0, "sfm": 20.0},
        "made": "diorama 0",
        **changes,
    }


def ring(count: int = 12) -> Cameras:
    """Cameras on a circle of radius 4 in the plane y = -1 that look at the origin."""
    matrices = []
    for angle in np.linspace(0, 1.5, count):
        center = np.array([4 * math.sin(angle), -1.0, -4 * math.cos(angle)])
        forward = -center / np.linalg.norm(center)
        right = np.cross([0, 1, 0], forward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ center
        matrices.append(matrix)
    intrinsics = np.tile(np.array([[300.0, 0, 128], [0, 300, 96], [0, 0, 1]]), (count, 1, 1))
    return Cameras(intrinsics=intrinsics, world_to_camera=np.stack(matrices), width=256, height=192)


def scene(count: int = 500) -> SceneView:
    random = np.random.default_rng(0)
    points = random.normal(size=(count, 3))
    colors = random.integers(0, 255, (count, 3)).astype(np.uint8)
    return SceneView(points=points, colors=colors, cameras=ring(), held_out=[i % 4 == 1 for i in range(12)], truth=ring().centers)


def views() -> list[View]:
    frame = np.random.default_rng(1).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    return [View(name=f"frame {i}", input=frame, nerf=frame, splat=255 - frame, nerf_psnr=30.0, splat_psnr=None) for i in range(2)]


class Reader(HTMLParser):
    """Collects tags with their attributes, and checks that they nest."""

    VOID = frozenset({"meta", "img", "input", "br", "line", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    return dict(json.loads(found.group(1)))


def test_nothing_is_asked_of_the_network() -> None:
    text = page(report(), scene(), views())
    for tag, attributes in read(text).tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "href" not in attributes
    assert "://" not in text
    assert "default-src 'none'" in text


def test_the_page_says_what_the_report_says() -> None:
    reader = read(page(report(), scene(), views()))
    for part in ("A rigid world.", "The path is smooth.", "0.71", "12 of 12", "noise", "share of frames", "product of all", "29.1 dB"):
        assert part in reader.text
    assert [tag for tag, _ in reader.tags].count("svg") == 3
    unmeasured = report(verdict={"measurable": False, "cause": "static", "sentence": "Not measurable.", "remarks": []})
    unmeasured |= {"score": {"value": 0.0, "links": [], "factors": [], "formula": ""}, "epipolar": None}
    reader = read(page(unmeasured, None, []))
    assert "not measurable; counts as 0" in reader.text
    assert "canvas" not in [tag for tag, _ in reader.tags]


def test_names_from_outside_stay_text() -> None:
    text = page(
        report(NASTY), scene(), [*views()[:1], View(name=NASTY, input=views()[0].input, nerf=None, splat=None, nerf_psnr=None, splat_psnr=None)]
    )
    reader = read(text)
    assert NASTY in reader.text
    assert [tag for tag, _ in reader.tags].count("script") == 2
    assert not any("onerror" in attributes for _, attributes in reader.tags)
    assert data_of(text)["views"][1]["name"] == NASTY


def test_scene_is_upright_centred_and_of_radius_one() -> None:
    shown = data_of(page(report(), scene(), []))["scene"]
    points = np.frombuffer(base64.b64decode(shown["points"]), "<f4").reshape(-1, 3)
    assert len(points) == len(base64.b64decode(shown["colors"])) // 3
    centers = np.array([camera["center"] for camera in shown["cameras"]])
    assert np.linalg.norm(centers, axis=1).max() <= 1.0001
    assert np.ptp(centers[:, 1]) < 0.01  # a level ring stays level
    assert centers[:, 1].mean() < 0  # above the points, for y is down
    assert [camera["held_out"] for camera in shown["cameras"]] == [i % 4 == 1 for i in range(12)]
    assert np.allclose(shown["paths"][0]["places"], shown["paths"][1]["places"])


def test_many_points_are_thinned() -> None:
    shown = data_of(page(report(), scene(30_000), []))["scene"]
    assert len(base64.b64decode(shown["points"])) // 12 <= 20_000


def test_a_picture_survives_its_address() -> None:
    ramp = np.broadcast_to(np.arange(0, 250, 5, dtype=np.uint8)[None, :, None], (40, 50, 3)).copy()
    ramp[..., 2] = 0
    head, _, body = data_uri(ramp, quality=95).partition(",")
    back = cv2.imdecode(np.frombuffer(base64.b64decode(body), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert head == "data:image/jpeg;base64"
    assert np.abs(back.astype(int) - ramp).mean() < 4


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_draws_points_where_a_projection_says(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page(report(), scene(), views()), encoding="utf-8")
    (tmp_path / "run.js").write_text(STAGE, encoding="utf-8")
    out = subprocess.run(["node", str(tmp_path / "run.js"), str(tmp_path / "page.html")], capture_output=True, text=True, check=True, timeout=60)
    drawn = json.loads(out.stdout)
    assert drawn["colored"] > 500
    assert drawn["lines"] == 2 + 12 * 5
    assert drawn["turned"] != drawn["before"]
    assert drawn["again"] == drawn["before"]
    assert drawn["view"] == "frame 1"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_tables_fit_a_wide_window_and_scroll_by_themselves_in_a_narrow_one(tmp_path: Path) -> None:
    row = report()["row"] | {"name": "a_name_without_spaces_" * 6, "nerf_psnr": 31.0, "splat_psnr": 44.6, "gap": -13.6}
    references = {"rows": [row | {"name": "its first 177 frames, through the autoencoder"}] * 2, "about": "as measured"}
    (tmp_path / "page.html").write_text(page(report(row=row, references=references), scene(), views()), encoding="utf-8")
    frames = "".join(f'<iframe src="page.html" style="border:0;width:{width}px;height:900px"></iframe>' for width in (1200, 400))
    (tmp_path / "frames.html").write_text(frames + RULER, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--allow-file-access-from-files", "--virtual-time-budget=2000"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    out = subprocess.run(["chromium", *flags, f"file://{tmp_path / 'frames.html'}"], capture_output=True, text=True, check=True, timeout=60)
    found = re.search(r'<body id="(.*?)"', out.stdout)
    assert found
    wide, narrow = json.loads(html.unescape(found.group(1)))
    assert len(wide["tables"]) == 2
    assert wide["page"] == 0
    assert wide["tables"] == [0, 0]
    assert narrow["page"] == 0
    assert min(narrow["tables"]) > 0


RULER = """<script>
addEventListener("load", () => {
  const over = (box) => box.scrollWidth - box.clientWidth;
  document.body.id = JSON.stringify([...document.querySelectorAll("iframe")].map((frame) => {
    const inside = frame.contentDocument;
    return { page: over(inside.documentElement), tables: [...inside.querySelectorAll(".scroll")].map(over) };
  }));
});
</script>"""

STAGE = r"""
const fs = require("fs");
const text = fs.readFileSync(process.argv[2], "utf8");
const data = text.match(/<script type="application\/json" id="data">([\s\S]*?)<\/script>/)[1];
const script = text.match(/<script>([\s\S]*?)<\/script>/)[1];
let lines = 0, last = null;
const context = {
  createImageData: (w, h) => ({ width: w, height: h, data: new Uint8ClampedArray(4 * w * h) }),
  putImageData: (image) => { last = image; lines = 0; },
  beginPath() {}, moveTo() {}, lineTo() {}, stroke() { lines++; },
};
function element(extra) {
  const on = {};
  return { on, addEventListener: (kind, call) => { on[kind] = call; }, setPointerCapture() {}, ...extra };
}
const canvas = element({ clientWidth: 300, clientHeight: 200, getContext: () => context });
const slider = element({ value: "0" });
const ids = { data: { textContent: data }, scene: canvas, view: slider };
for (const id of ["view-name", "view-input", "view-nerf", "view-splat", "view-input-note", "view-nerf-note", "view-splat-note"]) ids[id] = {};
globalThis.document = { getElementById: (id) => ids[id] || null };
globalThis.window = { devicePixelRatio: 1 };
globalThis.ResizeObserver = class { observe() {} };
globalThis.requestAnimationFrame = (call) => call();
new Function(script)();
const sum = () => { let s = 0; const p = new Uint32Array(last.data.buffer); for (let i = 0; i < p.length; i++) s = (s * 31 + p[i]) >>> 0; return s; };
const before = sum();
const colored = new Uint32Array(last.data.buffer).filter((v) => v !== 0xff14100d).length;
const drawn = lines;
canvas.on.pointerdown({ pointerId: 1, clientX: 10, clientY: 10 });
canvas.on.pointermove({ pointerId: 1, clientX: 60, clientY: 20, buttons: 1 });
canvas.on.pointerup({ pointerId: 1 });
const turned = sum();
canvas.on.dblclick({});
const again = sum();
slider.value = "1";
slider.on.input();
console.log(JSON.stringify({ before, turned, again, colored, lines: drawn, view: ids["view-name"].textContent }));
"""
