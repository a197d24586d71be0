from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diorama.data import CacheConfig, Encoders, LatentCache, Sample, ShardSet, Text, padded, write_shard
from diorama.data.latents import first_captions
from diorama.errors import DataError
from diorama.media import Clip, to_tensor
from diorama.worlds import scene as worlds

SHAPES = [(5, 32, 48), (5, 48, 32), (5, 32, 48), (1, 32, 32), (5, 32, 48)]


def shards(folder: Path, numbers: range = range(2)) -> ShardSet:
    rng = np.random.default_rng(0)
    for number in numbers:
        samples = []
        for i, (t, h, w) in enumerate(SHAPES):
            frames = rng.integers(0, 256, (t, 1, 1, 3), dtype=np.uint8).repeat(h, 1).repeat(w, 2)
            frames[:, :, : w // 2] //= 2
            captions = {"dense": [f"a ball rolls left in clip {number} {i}", "unused"], "short": [f"ball {i}", "unused"]}
            samples.append(Sample(key=f"k{number}-{i}", frames=frames, fps=12.0, record={"captions": captions}))
        write_shard(folder, number, samples)
    return ShardSet(folder)


class Counting:
    """Encoders that count their calls."""

    def __init__(self) -> None:
        self.clips: list[int] = []
        self.texts: list[str] = []

    def video(self, video: Tensor) -> Tensor:
        self.clips.append(len(video))
        return torch.nn.functional.avg_pool3d(video[:, :, ::4], (1, 16, 16))

    def text(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        self.texts.extend(prompts)
        lengths = [len(prompt.split()) for prompt in prompts]
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        states = torch.tensor([float(len(prompt)) for prompt in prompts])[:, None, None] * mask[..., None].repeat(1, 1, 4)
        return states, mask, states[:, 0] + 1

    def encoders(self) -> Encoders:
        return Encoders(video=self.video, text=self.text, mirror=lambda text: text.replace("left", "right"), identity="one")


def test_latents_and_texts_come_back(tmp_path: Path) -> None:
    source, counting = shards(tmp_path / "s"), Counting()
    cache = LatentCache(tmp_path / "c", source, "one")
    done: list[tuple[int, int]] = []
    cache.build(counting.encoders(), progress=lambda a, b: done.append((a, b)))
    assert done == [(0, 10), (10, 10)]
    assert len(cache) == 10
    assert cache.grids()[:4] == [(2, 2, 3), (2, 3, 2), (2, 2, 3), (1, 2, 2)]
    for index in (0, 1, 3, 9):
        expected = Counting().video(to_tensor(Clip(source.frames(index), 1.0)))[0]
        torch.testing.assert_close(cache.latent(index), expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(cache.latent(index, 1), expected.flip(-1), atol=1e-3, rtol=1e-3)
    assert cache.num_captions(0) == 2
    assert "a ball rolls right in clip 1 4" in counting.texts
    assert "unused" not in counting.texts
    text = cache.text(9, 1, 0)
    assert text.states.shape == (8, 4)
    assert text.states.unique().tolist() == [len("a ball rolls right in clip 1 4")]
    assert cache.text(2, 0, 1).pooled.tolist() == [len("ball 2") + 1] * 4


def test_where_objects_are_comes_back_mirrored_too(tmp_path: Path) -> None:
    frames = np.zeros((5, 32, 48, 3), np.uint8)
    percent = np.zeros((5, 2, 3), int)
    percent[3, 1, 0] = 20
    captions = {"dense": ["a ball"], "short": []}
    scene = {"bodies": [{"shape": "cone", "color": "green", "motion": "rest"}]}
    table = {"cell": 16, "percent": percent.tolist(), "body": (percent > 0).astype(int).tolist()}
    records = [{"captions": captions}, {"captions": captions, "scene": scene, "coverage": table}]
    write_shard(tmp_path / "s", 0, [Sample(key=f"k{i}", frames=frames, fps=12.0, record=record) for i, record in enumerate(records)])
    cache = LatentCache(tmp_path / "c", ShardSet(tmp_path / "s"), "one")
    cache.build(Counting().encoders())
    assert cache.coverage(0) is None
    plain, mirrored = cache.coverage(1), cache.coverage(1, 1)
    assert plain is not None
    assert mirrored is not None
    assert plain.nonzero().tolist() == [[1, 1, 0]]
    assert mirrored.nonzero().tolist() == [[1, 1, 2]]
    assert cache.kinds(0) is None
    for variant, where in enumerate((plain, mirrored)):
        kinds = cache.kinds(1, variant)
        assert kinds is not None
        assert torch.equal(kinds > 0, (where > 0).expand(kinds.shape))
        assert kinds[0].max() == 1 + worlds.SHAPES.index("cone")
    shorter = LatentCache(tmp_path / "c", ShardSet(tmp_path / "s"), "one", CacheConfig(num_frames=1))
    shorter.build(Counting().encoders())
    assert shorter.coverage(1) is None  # the record speaks of other frames than the latent holds


def test_the_share_of_dense_captions_is_kept(tmp_path: Path) -> None:
    kinds = [{"dense": ["a b", "c d", "e f"], "short": ["a", "c"]}, {"dense": ["only dense"], "short": []}, {"short": ["s", "t", "u"]}]
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    write_shard(tmp_path / "s", 0, [Sample(key=f"k{i}", frames=frames, fps=12.0, record={"captions": texts}) for i, texts in enumerate(kinds)])
    cache = LatentCache(tmp_path / "c", ShardSet(tmp_path / "s"), "one", CacheConfig(captions=3, mirrored=False))
    cache.build(Counting().encoders())
    places = [i / 1000 for i in range(1000)]
    for share in (0.0, 0.3, 0.5, 1.0):
        chosen = [cache.choose(0, place, share) for place in places]
        assert abs(sum(caption < 3 for caption in chosen) / 1000 - share) < 0.002
        assert set(chosen) == {*(range(3) if share > 0 else ()), *(range(3, 5) if share < 1 else ())}
        assert {cache.choose(1, place, share) for place in places} == {0}
        assert {cache.choose(2, place, share) for place in places} == {0, 1, 2}


def test_half_of_each_kind_is_every_caption_alike_also_of_an_index_that_does_not_count_them(tmp_path: Path) -> None:
    source = shards(tmp_path / "s")
    cache = LatentCache(tmp_path / "c", source, "one", CacheConfig(captions=2))
    cache.build(Counting().encoders())
    for path in cache.folder.glob("*.json"):
        index = json.loads(path.read_text())
        for variants in index["entries"]:
            for entry in variants:
                assert entry.pop("dense") == 2
        path.write_text(json.dumps(index))
    old = LatentCache(tmp_path / "c", source, "one", CacheConfig(captions=2))
    for place in (0.0, 0.24, 0.26, 0.49, 0.5, 0.76, 0.999):
        assert cache.choose(3, place) == old.choose(3, place) == int(place * 4)


def test_clips_off_the_grid_are_brought_to_it_and_have_a_cache_of_their_own(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (31, 90, 130, 3), dtype=np.uint8)
    record = {"captions": {"dense": ["a b"], "short": ["a"]}}
    write_shard(tmp_path / "s", 0, [Sample(key="k", frames=frames, fps=30.0, record=record)])
    source = ShardSet(tmp_path / "s")
    with pytest.raises(DataError, match="multiples of 16"):
        LatentCache(tmp_path / "c", source, "one").build(Counting().encoders())
    config = CacheConfig(area=4096, fps=10.0, num_frames=9)
    cache = LatentCache(tmp_path / "c", source, "one", config)
    cache.build(Counting().encoders())
    assert cache.folder != LatentCache(tmp_path / "c", source, "one").folder
    assert (cache.grids(), cache.fps(0)) == ([(3, 3, 5)], 10.0)
    with pytest.raises(DataError, match="area 4"):
        CacheConfig(area=4)


def test_clips_of_one_shape_are_encoded_together(tmp_path: Path) -> None:
    source, counting = shards(tmp_path / "s"), Counting()
    LatentCache(tmp_path / "c", source, "one").build(counting.encoders())
    assert sorted(counting.clips) == [4, 4, 12]
    small = Counting()
    LatentCache(tmp_path / "d", source, "one", CacheConfig(mirrored=False, batch_tokens=1)).build(small.encoders())
    assert small.clips == [1] * 10
    assert len(small.texts) == len(set(small.texts)) + 5  # each tar has its own part, and both say "ball 0"


def test_a_finished_cache_is_not_built_again(tmp_path: Path) -> None:
    source = shards(tmp_path / "s")
    LatentCache(tmp_path / "c", source, "one").build(Counting().encoders())
    again, counting = LatentCache(tmp_path / "c", source, "one"), Counting()
    assert again.missing() == []
    again.build(counting.encoders())
    assert counting.clips == []


def test_a_grown_set_encodes_the_new_part_only(tmp_path: Path) -> None:
    LatentCache(tmp_path / "c", shards(tmp_path / "s"), "one").build(Counting().encoders())
    grown, counting = LatentCache(tmp_path / "c", shards(tmp_path / "s", range(2, 3)), "one"), Counting()
    assert grown.missing() == [2]
    grown.build(counting.encoders())
    assert sum(counting.clips) == 10
    assert grown.text(14).states.shape == (8, 4)


def test_a_folder_that_is_named_twice_is_encoded_once(tmp_path: Path) -> None:
    once, counting = len(shards(tmp_path / "s")), Counting()
    cache = LatentCache(tmp_path / "c", ShardSet([tmp_path / "s", tmp_path / "s"]), "one")
    cache.build(counting.encoders())
    assert sum(counting.clips) == 2 * once  # each and its mirror image
    assert cache.missing() == []
    for index in range(once):
        assert torch.equal(cache.latent(index), cache.latent(index + once))


def test_a_killed_build_goes_on(tmp_path: Path) -> None:
    source, counting = shards(tmp_path / "s"), Counting()
    cache = LatentCache(tmp_path / "c", source, "one", CacheConfig(together=5))

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.build(counting.encoders(), progress=stop)
    assert cache.missing() == [1]
    with pytest.raises(DataError, match="lacks"):
        cache.latent(5)
    cache.build(counting.encoders())
    assert sum(counting.clips) == 20


def test_other_weights_or_settings_find_no_cache(tmp_path: Path) -> None:
    source = shards(tmp_path / "s", range(1))
    LatentCache(tmp_path / "c", source, "one").build(Counting().encoders())
    assert LatentCache(tmp_path / "c", source, "two").missing() == [0]
    assert LatentCache(tmp_path / "c", source, "one", CacheConfig(captions=2)).missing() == [0]
    assert LatentCache(tmp_path / "c", source, "one", CacheConfig(batch_tokens=7)).missing() == []


def test_latents_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = replace(Counting().encoders(), video=lambda video: torch.full((len(video), 1, 2, 2, 2), float("nan")))
    with pytest.raises(DataError, match="not finite"):
        LatentCache(tmp_path / "c", shards(tmp_path / "s", range(1)), "one").build(broken)


def test_damage_is_named(tmp_path: Path) -> None:
    source = shards(tmp_path / "s", range(1))
    cache = LatentCache(tmp_path / "c", source, "one")
    cache.build(Counting().encoders())
    next(cache.folder.glob("*.json")).write_text("{")
    with pytest.raises(DataError, match="is damaged at"):
        LatentCache(tmp_path / "c", source, "one").latent(0)


def test_a_record_needs_captions() -> None:
    assert first_captions({"captions": {"dense": ["a", "b"], "short": ["c", "d"]}}, 1) == ["a", "c"]
    for record in ({}, {"captions": "a"}, {"captions": {"dense": []}}):
        with pytest.raises(DataError, match="no captions"):
            first_captions(record, 1)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(DataError, match="at least 1"):
        CacheConfig(captions=0)


def test_texts_of_any_lengths_are_padded_to_the_longest() -> None:
    texts = [Text(states=torch.randn(length, 3), pooled=torch.randn(3)) for length in (2, 4, 1)]
    states, mask, pooled = padded(texts)
    assert states.shape == (3, 4, 3)
    assert mask.sum(1).tolist() == [2, 4, 1]
    assert not states[~mask].any()
    for text, row, seen, short in zip(texts, states, mask, pooled, strict=True):
        assert torch.equal(row[seen], text.states)
        assert torch.equal(short, text.pooled)
