"""Structure from motion with pycolmap, in a process of its own: its C++ checks end the process, and it can hang.

``python -m diorama.geometry.sfm_worker STAGE FOLDER`` runs one stage on the files that ``sfm`` left in the folder and writes one file:

* match: features.npz -> matches.db, matches verified by two-view geometry;
* map: matches.db -> model.npz, the largest model after a last bundle adjustment;
* map=0.5: the same with the lens held at 0.5 longer sides until that last adjustment -> model-0.5.npz.

A file appears under its name only when it is whole, so a stage that was killed is simply done again. The worker ends when its standard
input does, which is when its parent is gone, however that ended.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["believable", "main"]

FOCAL_RATIO = (0.3, 8.0)
"""Believable focal lengths in longer sides: fields of view from 118 to 7 degrees."""

MAX_RADIAL = 1.0
"""Believable radial terms; a fisheye has about 0.5."""

MAX_ERROR, MIN_ANGLE = 4.0, 1.5
"""Observations further from their point than this in pixels, and points under a smaller angle than this in degrees, are thrown out last."""


def main(stage: str, folder: Path) -> None:
    """Run one stage.

    Args:
        stage: "match", "map", or "map=F" with the lens held at a focal length of F longer sides.
        folder: Holds features.npz, pairs.txt and options.json.
    """
    import pycolmap

    options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    pycolmap.set_random_seed(int(options["seed"]))
    if stage == "match":
        _match(pycolmap, folder, int(options["num_threads"]))
    elif stage == "map":
        _map(pycolmap, folder, folder / "matches.db", "", options)
    elif stage.startswith("map="):
        start = stage.removeprefix("map=")
        database = _held_at(pycolmap, folder, start)
        _map(pycolmap, folder, database, f"-{start}", options)
        database.unlink()
    else:
        raise SystemExit(f"stage '{stage}' is not known; allowed: match, map, map=F")


def _match(colmap: Any, folder: Path, num_threads: int) -> None:
    part = folder / "matches.part.db"
    for leftover in folder.glob("matches.part.db*"):
        leftover.unlink()
    with np.load(folder / "features.npz") as features:
        database = colmap.Database.open(str(part))
        width, height = (int(side) for side in features["size"])
        focal = 1.2 * max(width, height)
        camera = colmap.Camera(model="SIMPLE_RADIAL", width=width, height=height, params=[focal, width / 2, height / 2, 0.0])
        camera.camera_id = database.write_camera(camera)
        rig = colmap.Rig()
        rig.add_ref_sensor(camera.sensor_id)
        rig_id = database.write_rig(rig)
        ends = np.cumsum(features["counts"])
        for number, (start, end) in enumerate(zip(ends - features["counts"], ends, strict=True)):
            image = database.write_image(colmap.Image(name=f"{number:06d}", camera_id=camera.camera_id))
            frame = colmap.Frame()
            frame.rig_id = rig_id
            frame.add_data_id(colmap.data_t(camera.sensor_id, image))
            database.write_frame(frame)
            database.write_keypoints(image, features["points"][start:end])
            data = colmap.FeatureDescriptors(type=colmap.FeatureExtractorType.SIFT, data=features["descriptors"][start:end])
            database.write_descriptors(image, data)
        database.close()
    matching = colmap.FeatureMatchingOptions(num_threads=num_threads, use_gpu=False)
    pairing = colmap.ImportedPairingOptions(match_list_path=str(folder / "pairs.txt"))
    colmap.match_image_pairs(str(part), matching_options=matching, pairing_options=pairing, device=colmap.Device.cpu)
    part.rename(folder / "matches.db")


def _held_at(colmap: Any, folder: Path, start: str) -> Path:
    """Return a copy of the matches, which know nothing of lenses, whose camera has a focal length of ``start`` longer sides."""
    path = folder / f"matches-{start}.db"
    for leftover in folder.glob(f"{path.name}*"):
        leftover.unlink()
    shutil.copyfile(folder / "matches.db", path)
    database = colmap.Database.open(str(path))
    for camera in database.read_all_cameras():
        camera.focal_length = float(start) * max(camera.width, camera.height)
        database.update_camera(camera)
    database.close()
    return path


def _map(colmap: Any, folder: Path, database: Path, suffix: str, options: dict[str, Any]) -> None:
    """Map from a database into ``model<suffix>.npz``; with a suffix the lens is held until the last adjustment."""
    num_threads = int(options["num_threads"])
    begun = time.monotonic()
    models = folder / f"models{suffix}"
    models.mkdir(exist_ok=True)
    # a radial term that is free while few frames are known runs away; it is found at the end, from all of them
    pipeline = colmap.IncrementalPipelineOptions(
        num_threads=num_threads,
        min_model_size=3,
        min_num_matches=10,
        random_seed=int(options["seed"]),
        extract_colors=False,
        ba_refine_extra_params=False,
        ba_refine_focal_length=not suffix,
        min_focal_length_ratio=FOCAL_RATIO[0],
        max_focal_length_ratio=FOCAL_RATIO[1],
        max_num_models=8,
        # a third of the usual bundle adjustments on the way; the last one, over everything, is run to its end
        ba_global_frames_ratio=1.3,
        ba_global_points_ratio=1.3,
        ba_global_max_num_iterations=30,
        ba_global_max_refinements=2,
    )
    pipeline.mapper.num_threads = num_threads
    pipeline.mapper.abs_pose_refine_extra_params = False
    pipeline.mapper.abs_pose_refine_focal_length = not suffix
    found = list(colmap.incremental_mapping(str(database), str(folder), str(models), options=pipeline).values())
    mapped = time.monotonic()
    found.sort(key=lambda model: (model.num_reg_images(), model.num_points3D()), reverse=True)
    if found:
        # what a failed beginning left behind is no second world: that has frames of its own
        largest = set(found[0].reg_image_ids())
        found = [found[0], *(model for model in found[1:] if not set(model.reg_image_ids()) <= largest)]
    result: dict[str, Any] = {"sizes": np.array([model.num_reg_images() for model in found], dtype=np.int64), "map_seconds": mapped - begun}
    if found:
        found[0] = _adjusted(colmap, found[0], num_threads)
        colmap.ObservationManager(found[0]).filter_all_points3D(MAX_ERROR, MIN_ANGLE)
        result["adjust_seconds"] = time.monotonic() - mapped
        found[0].update_point_3d_errors()
        result.update(_arrays(found[0]))
    part = folder / f"model{suffix}.part.npz"
    np.savez(part, **result)
    part.rename(folder / f"model{suffix}.npz")


def _adjusted(colmap: Any, model: Any, num_threads: int) -> Any:
    """Return a model after its last bundle adjustment, with a radial term where the clip can tell one.

    A camera that flies straight ahead cannot: radial term, focal length and speed make up for each other. Where the term runs away it stays 0.
    """
    for radial in (True, False):
        adjusted = colmap.Reconstruction(model)
        adjustment = colmap.BundleAdjustmentOptions(refine_extra_params=radial, print_summary=False)
        adjustment.ceres.solver_options.num_threads = num_threads
        colmap.bundle_adjustment(adjusted, adjustment)
        if all(believable(camera.params, max(camera.width, camera.height)) for camera in adjusted.cameras.values()):
            break
    return adjusted


def believable(params: Any, longer_side: float) -> bool:
    """Return whether a lens (focal length and centre in pixels, radial term) is one that somebody builds."""
    focal, _, _, radial = (float(value) for value in params)
    return FOCAL_RATIO[0] <= focal / longer_side <= FOCAL_RATIO[1] and abs(radial) <= MAX_RADIAL


def _arrays(model: Any) -> dict[str, Any]:
    """Return a model as arrays; frames by their number, points by their row."""
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda image: image.name)
    poses = np.tile(np.eye(4), (len(images), 1, 1))
    for row, image in enumerate(images):
        poses[row, :3] = image.cam_from_world().matrix()
    rows = {identity: row for row, identity in enumerate(model.points3D)}
    points = [model.points3D[identity] for identity in rows]
    frames, seen, pixels = [], [], []
    for image in images:
        for point in image.points2D:
            if point.has_point3D():
                frames.append(int(image.name))
                seen.append(rows[point.point3D_id])
                pixels.append(point.xy)
    camera = model.cameras[images[0].camera_id]
    return {
        "frames": np.array([int(image.name) for image in images]),
        "poses": poses,
        "camera": np.array(camera.params),
        "points": np.array([point.xyz for point in points]).reshape(-1, 3),
        "errors": np.array([point.error for point in points]),
        "tracks": np.array([point.track.length() for point in points], dtype=np.int64),
        "seen_frames": np.array(frames, dtype=np.int64),
        "seen_points": np.array(seen, dtype=np.int64),
        "seen_pixels": np.array(pixels).reshape(-1, 2),
    }


def _end_with_input() -> None:
    """End this process when its standard input ends; ``runtime.end_with_parent`` would bring torch along, a second for every stage."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _end_with_input()
    main(sys.argv[1], Path(sys.argv[2]))
