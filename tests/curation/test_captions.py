"""The caption stage: windows, merging, scores, and the three who may describe."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.chat import chat_server

from diorama.curation.captions import Captioning, CaptionOptions, Captions, caption_clip, describer, merge, with_scores
from diorama.curation.manifest import Row
from diorama.errors import InputError
from diorama.media import Clip, Pixels, decode_picture
from diorama.text.captioner import Captioner, CaptionerConfig
from diorama.text.rewrite import split_prompt
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary

FRAMES = np.arange(40, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(24, 2).repeat(3, 3)


def by_level(frames: Pixels, fps: float) -> Captions:
    """Describe how bright a window is; the second sentence never changes."""
    kind = "dark" if frames.mean() < 19.5 else "bright"
    return Captions(dense=f"A {kind} field of {len(frames) / fps:g} s. The camera stays still.", short=f"a {kind} field")


def test_long_clips_are_described_in_equal_windows() -> None:
    told = caption_clip(FRAMES, 10.0, by_level, CaptionOptions(window=1.0))
    assert told.dense.startswith("A dark field of 1 s.")
    assert told.dense.count(" s.") == 2  # two dark windows say the same, and so do two bright ones
    assert told.dense == "A dark field of 1 s. The camera stays still. Then a bright field of 1 s."
    assert told.short == "a dark field. Then a bright field"
    assert caption_clip(FRAMES, 10.0, by_level, CaptionOptions(window=4.0)).dense == "A bright field of 4 s. The camera stays still."
    assert caption_clip(FRAMES[:1], 10.0, by_level, CaptionOptions(window=0.01)).short == "a dark field"


def test_merged_captions_are_prompts_that_split_into_as_many_shots() -> None:
    texts = ["A red ball rolls left.", "A blue cube falls.", "A blue cube falls.", "The camera pans right. A blue cube falls."]
    merged = merge(texts)
    assert merged == "A red ball rolls left. Then a blue cube falls. Then the camera pans right."
    assert split_prompt(merged) == ["A red ball rolls left", "a blue cube falls", "the camera pans right"]
    with pytest.raises(InputError, match="0 captions"):
        merge([])


def test_scores_are_appended_as_a_prompt_can_ask_for_them() -> None:
    assert with_scores("A ball", {"motion": 3.21, "text_area": 0.5}, ("motion", "text_area")) == "A ball. Motion score: 3.2, text area score: 0.5."
    assert with_scores("A ball.", {}, ()) == "A ball."
    assert with_scores("A ball.", {"sharpness": 1.0}, ("motion", "sharpness")) == "A ball. Sharpness score: 1."  # a still has no motion
    with pytest.raises(InputError, match=r"'loudness' cannot be appended.*motion"):
        CaptionOptions(scores=("motion", "loudness"))


def tiny_captioner(folder: Path) -> Captioner:
    vocabulary = build_vocabulary(["[UNK]", "red", "ball"], ["red ball"], 160)
    size = CaptionerConfig(
        vocabulary_size=len(vocabulary), max_tokens=6, num_frames=2, area=1024, widths=(8, 8, 16), reach=1, num_heads=2, depth=1, decoder_width=16
    )
    Captioner(size, PromptTokenizer(vocabulary)).save(folder)
    return Captioner.load(folder)


def test_the_stage_captions_rows_with_their_own_scores_and_keeps_what_came_with_the_files(tmp_path: Path) -> None:
    captioner = tiny_captioner(tmp_path / "c")
    options = CaptionOptions(source=str(tmp_path / "c"), scores=("motion",), window=10.0)
    stage = Captioning(options)
    rows = [
        Row(source="a.mp4", fps=30.0, motion=0.25),
        Row(source="b.mp4", caption="By hand. In two sentences.", captioner="facts"),
        Row(source="c.png", kind="image"),
    ]
    asked: list[Row] = []

    def clip(row: Row) -> Clip:
        asked.append(row)
        return Clip(frames=FRAMES, fps=10.0)

    first, second, still = stage(rows, clip)
    assert asked == [rows[0], rows[2]]
    dense, short = (captioner.write(captioner.see([FRAMES]), kind)[0] for kind in ("dense", "short"))
    assert (first.caption, still.caption) == (with_scores(dense, {"motion": 0.25}, ("motion",)), dense)
    assert (first.caption_short, first.captioner) == (short, str(tmp_path / "c"))
    assert (second.caption, second.caption_short, second.captioner) == (rows[1].caption, "By hand.", "facts")


def test_another_model_or_setting_is_another_stage(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tiny_captioner(tmp_path / "c")
    options = CaptionOptions(source=str(tmp_path / "c"))
    before = Captioning(options).identity
    assert Captioning(dataclasses.replace(options, timeout=3.0)).identity == before
    assert Captioning(dataclasses.replace(options, window=2.0)).identity != before
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        tiny_captioner(tmp_path / "c")
    assert Captioning(options).identity != before


def test_our_captioner_writes_both_kinds(tmp_path: Path) -> None:
    again = tiny_captioner(tmp_path / "c")
    told = describer(CaptionOptions(source=str(tmp_path / "c")))(FRAMES, 10.0)
    assert told == Captions(dense=again.write(again.see([FRAMES]), "dense")[0], short=again.write(again.see([FRAMES]), "short")[0])
    assert told.record() == {"dense": [told.dense], "short": [told.short]}


def _seen(body: dict[str, Any], *_: str) -> str:
    """Say what was shown."""
    text, *images = body["messages"][0]["content"]
    shown = [decode_picture(base64.b64decode(image["image_url"]["url"].partition(",")[2])) for image in images]
    sizes = {f"{frame.shape[1]}x{frame.shape[0]}" for frame in shown}
    if "0.1 seconds" in text["text"]:
        return "First sentence. Second one."
    return f"{body['model']} sees {len(shown)} of {sizes.pop()}, the last at {shown[-1].mean():.0f}. Well.\n\nSHORT: A grey field."


@pytest.fixture
def endpoint() -> Iterator[str]:
    with chat_server(_seen) as url:
        yield url


def test_an_endpoint_is_shown_frames_and_asked_for_both_kinds(endpoint: str) -> None:
    options = CaptionOptions(source=endpoint, model="eye", frames=3, side=12 + 4)
    describe = describer(options)
    told = describe(FRAMES, 10.0)
    assert told == Captions(dense="eye sees 3 of 16x11, the last at 39. Well.", short="A grey field.")
    assert describe(FRAMES[:1], 10.0) == Captions(dense="First sentence. Second one.", short="First sentence.")
    assert options.label == f"eye at {endpoint}"


def test_a_vision_language_model_of_transformers_is_asked(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = ["<unk>", "<pad>", "</s>", "<image>", "a", "red", "ball", "rolls", "."]
    cut = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    cut.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>", "additional_special_tokens": ["<image>"]}
    template = "{% for m in messages %}{% for c in m['content'] %}{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}{% endfor %}"
    transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_object=cut, **names),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    ).save_pretrained(tmp_path)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    vision = transformers.CLIPVisionConfig(**small, num_hidden_layers=2, image_size=28, patch_size=14)
    text = transformers.LlamaConfig(
        **small, vocab_size=len(words), num_hidden_layers=1, num_key_value_heads=2, pad_token_id=1, eos_token_id=2, bos_token_id=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=3, image_seq_length=4)
        transformers.LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    describe = describer(CaptionOptions(source=str(tmp_path), frames=2, side=32))
    told = describe(FRAMES, 10.0)
    assert set(told.dense.split()) <= set(words)
    assert told.dense.startswith(told.short)


def test_what_cannot_describe_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder and no web address"):
        describer(CaptionOptions(source="captoiner"))
    with pytest.raises(InputError, match="needs the name of a model"):
        CaptionOptions(source="http://localhost/v1")
    with pytest.raises(InputError, match="window and timeout"):
        CaptionOptions(window=0.0)
