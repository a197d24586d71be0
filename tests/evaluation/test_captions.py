"""Captions of the grammar are read back without loss, in either of its vocabularies; false captions are counted as false."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from diorama.errors import InputError
from diorama.evaluation.captions import CaptionConfig, CaptionReader, attributes, evaluate_captions, read_caption, rendered_clips, total
from diorama.evaluation.judge import Seen
from diorama.evaluation.score import Score, grade
from diorama.train.lessons import described_scene
from diorama.worlds.captions import caption, mirror_caption, paraphrase
from diorama.worlds.scene import Scene


def scenes(count: int) -> list[Scene]:
    """Return scenes whose bodies differ in colour, as rendered ones do."""
    found = [described_scene(seed) for seed in range(count)]
    return [scene for scene in found if len({body.color for body in scene.bodies}) == len(scene.bodies)]


@pytest.mark.parametrize("write", [caption, paraphrase])
def test_dense_captions_are_read_without_loss(write) -> None:
    several = scenes(400)
    assert len(several) > 200
    scores = total([attributes(scene, write(scene, i).dense) for i, scene in enumerate(several)])
    # A body that hits another may leave out where to; all else is said in every dense caption.
    assert {name for name, score in scores.items() if score.rate < 1} <= {"body direction"}
    assert scores["body direction"].rate > 0.95


def test_short_captions_are_read_as_far_as_they_go() -> None:
    several = scenes(200)
    scores = total([attributes(scene, caption(scene, i).short) for i, scene in enumerate(several)])
    assert all(scores[name].rate == 1 for name in ("colour", "shape", "motion", "count", "nothing else"))
    assert scores["floor"].rate < 0.5


def test_a_sentence_with_partners_and_carriers() -> None:
    reading = read_caption(
        "As the camera pans to the left, a large shiny red ball rolls to the right and passes behind a small blue cube "
        "next to a yellow cone on green grass at dusk, while the white pill, it bounces."
    )
    assert reading.bodies == (
        Seen("red", "sphere", "pass_behind", "right"),
        Seen("yellow", "cone", "rest", "none"),
        Seen("blue", "box", "rest", "none"),
        Seen("white", "capsule", "bounce", "none"),
    )
    assert (reading.count, reading.camera, reading.floor, reading.light) == (4, "pan_left", "grass", "sunset")
    assert reading.asked[0] == reading.bodies[0]
    assert reading.asked[-1] == Seen("black", "", "", "")


@pytest.mark.parametrize(
    ("text", "camera"),
    [
        ("with the camera panning right", "pan_right"),
        ("with the camera moving closer", "dolly_in"),
        ("the camera is there, with the camera circling left", "orbit_left"),
        ("with the view swiveling left", "pan_left"),
        ("crane shot going up: nothing", "crane_up"),
        ("nothing of it", "static"),
    ],
)
def test_the_camera_is_found_in_all_its_forms(text: str, camera: str) -> None:
    assert read_caption(text).camera == camera


def test_free_prose_is_read_as_far_as_its_words_are_known() -> None:
    reading = read_caption("In this video we see a lovely ORANGE cylinder, which slides left; leftovers of a blackbird and a red house.")
    assert reading.bodies == (Seen("orange", "cylinder", "slide", "left"),)
    assert read_caption("").count == 0


def test_a_false_caption_fails_what_it_says_wrong() -> None:
    scene = next(scene for scene in scenes(50) if len(scene.bodies) == 2 and scene.camera.move == "pan_left")
    text = caption(scene, 3).dense
    mirrored = attributes(scene, mirror_caption(text))
    assert mirrored["camera"] == Score(right=0, trials=1)
    assert mirrored["colour"] == Score(right=2, trials=2)
    one = dataclasses.replace(scene, bodies=(dataclasses.replace(scene.bodies[0], motion="bounce", partner=None),))
    half = attributes(scene, caption(one, 3).dense)
    assert half["colour"] == Score(right=1, trials=2)
    assert half["count"] == Score(right=0, trials=1)
    assert half["nothing else"] == Score(right=1, trials=1)
    assert attributes(one, text)["nothing else"] == Score(right=0, trials=1)
    assert attributes(scene, "")["motion"] == Score(right=0, trials=2)
    with pytest.raises(InputError, match="0 captions"):
        total([])


def test_a_reader_of_captions_takes_the_judges_place() -> None:
    scene = scenes(5)[0]
    reader = CaptionReader(lambda clips: [caption(scene, 1).dense for _ in clips], {})
    (reading,) = reader.read([np.zeros((2, 8, 8, 3), np.uint8)])
    assert grade(scene, reading)["all five"]
    assert reader.identity() == CaptionReader(lambda clips: [], {}).identity()


def test_rendered_clips_are_described_and_counted(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="MuJoCo is not installed")
    config = CaptionConfig(count=3, width=48, height=48, num_frames=5)
    truth = iter([caption(scene, 0).dense for scene, _, _ in rendered_clips(config)])
    done: list[tuple[int, int]] = []
    report = evaluate_captions(lambda frames: next(truth), tmp_path, label="the truth", config=config, progress=lambda *at: done.append(at))
    assert done[-1] == (3, 3)
    assert all(report.scores[name].rate == 1 for name in ("colour", "shape", "camera", "motion", "floor", "light"))
    assert report.new_pairs["camera"].trials == 1
    assert "the truth: 3 clips" in (tmp_path / "report.txt").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["scores"]["camera"] == {"right": 3, "trials": 3}
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2]
    assert len(list((tmp_path / "sheets").iterdir())) == 3


def test_bad_config() -> None:
    with pytest.raises(InputError, match="1 to 4 bodies"):
        CaptionConfig(max_bodies=5)
