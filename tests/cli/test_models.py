from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diorama.checkpoint import load_file, write_file
from diorama.cli import main
from diorama.cli.models import parse_bytes, run
from diorama.errors import InputError, TooLargeError
from diorama.pipeline.load import load_models, model_folder


def test_memory_is_read_as_it_is_said() -> None:
    assert parse_bytes("8GB") == parse_bytes(" 8 gib ") == parse_bytes("8g") == 8 * 2**30
    assert parse_bytes("1.5GB") == 3 * 2**29
    assert parse_bytes("512MB") == 2**29
    for text in ("8", "GB", "8TB", "-1GB", "0GB", "eight"):
        with pytest.raises(InputError, match="write for example 8GB"):
            parse_bytes(text)


def test_list_names_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_models(None, "cpu").text_encoder.save(tmp_path / "a" / "export")  # type: ignore[attr-defined]
    (tmp_path / "a" / "export" / "model_index.json").write_text("{}")
    run(["list", str(tmp_path)])
    shown = capsys.readouterr().out
    default, partial = shown.splitlines()[:2]
    assert default.startswith("(the default)")
    assert "MB" in default
    assert partial.startswith(str(tmp_path / "a" / "export"))
    assert "cannot be read" in partial
    assert "lacks transformer, vae" in partial
    assert "wan2.2-ti2v-5b" in shown


def test_plan_says_what_a_request_takes_and_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    run(["plan", "wan2.1-t2v-1.3b", "--size", "128x96", "--seconds", "0.3", "--card", "8GB", "--host", "64GB"])
    shown = capsys.readouterr().out
    assert shown.startswith("Wan-AI/Wan2.1-T2V-1.3B-Diffusers: 128x96, 5 frames, 50 steps")
    assert "disk 28.9" in shown
    assert " GB (transformer" in shown
    assert "TFLOP in all" in shown
    lines = shown.splitlines()
    plain = next(line for line in lines if line.startswith("(none)"))
    assert plain.endswith("does not fit"), "the text encoder alone has 11 GB"
    assert "fits a card of 8.0 GiB and 64.0 GiB of host memory with: --quantise int8 --offload model" in shown


def test_plan_refuses_what_no_setting_makes_fit() -> None:
    with pytest.raises(TooLargeError, match=r"GiB of 0\.1 on the card"):
        run(["plan", "wan2.1-t2v-1.3b", "--size", "128x96", "--seconds", "0.3", "--card", "128MB", "--host", "64GB"])
    with pytest.raises(InputError, match=r"no open model 'wan2\.1-14b'"):
        run(["plan", "wan2.1-14b"])


def test_plan_of_the_packaged_model(capsys: pytest.CaptureFixture[str]) -> None:
    run(["plan", "--card", "cpu", "--host", "4GB", "--size", "128x64"])
    shown = capsys.readouterr().out
    assert f"{model_folder(None)}: 128x64, 33 frames, 24 steps" in shown
    assert " MB (transformer" in shown
    assert "GFLOP a step" in shown
    assert "fits a CPU with 4.0 GiB of host memory with: no settings" in shown


def test_export_names_the_field_outside_wan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["models", "export", str(model_folder(None)), str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "transformer.pooled_dim is 192 and must be null in the Wan graph" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_export_of_a_lora_renames_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = {f"transformer.blocks.0.attn1.to_q.lora_{part}.weight": torch.ones(2, 2) for part in "AB"}
    write_file(tmp_path / "a.safetensors", pair)
    run(["export", str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors"), "--naming", "kohya"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "b.safetensors")
    assert set(load_file(tmp_path / "b.safetensors")[0]) == {
        f"lora_unet_blocks_0_self_attn_q.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")
    }


def test_import_writes_a_folder_that_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["import", str(model_folder(None)), str(tmp_path / "mine"), "--dtype", "float32"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "mine")
    read, packaged = load_models(tmp_path / "mine", "cpu").transformer, load_models(None, "cpu").transformer
    assert all(torch.equal(value, packaged.state_dict()[name]) for name, value in read.state_dict().items())
