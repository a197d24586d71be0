"""Importing any module has no effect on the process, and start-up is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "src" / "diorama"

CHECK = """
import importlib, os, sys, threading
from pathlib import Path
names = sys.argv[1:]
def state():
    import logging, random, signal
    torch = sys.modules.get("torch")
    flags = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.initial_seed()) if torch else ()
    return (dict(os.environ), os.getcwd(), list(sys.argv), logging.getLogger().handlers[:], threading.active_count(),
            signal.getsignal(signal.SIGINT), random.getstate(), sorted(Path.cwd().iterdir()), flags)
import torch, numpy
numpy_state = str(numpy.random.get_state())
before = state()
for name in names:
    importlib.import_module(name)
    after = state()
    assert after == before, f"importing {name} changed the process: {[i for i, (a, b) in enumerate(zip(before, after)) if a != b]}"
assert str(numpy.random.get_state()) == numpy_state
"""


def module_names() -> list[str]:
    names = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in names if not name.endswith("__main__")]


def test_importing_every_module_has_no_effect(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CHECK, *module_names()], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_start_up_imports_no_heavy_library() -> None:
    code = "import sys, diorama, diorama.cli; print(*sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    heavy = ["torch", "numpy", "av", "PIL", "mujoco", "transformers", "diffusers", "tokenizers", "safetensors", "tensorboard", "tyro"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_model_is_loaded_without_torchs_compiler() -> None:
    code = "import sys; from diorama import Pipeline; Pipeline.load(device='cpu'); print(*sorted({*sys.argv[1:]} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code, "torch._dynamo", "transformers"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "", "it costs two seconds"
