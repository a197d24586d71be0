from __future__ import annotations

from typing import Any

import pytest
import torch

from diorama.errors import InputError
from diorama.interop.settings import Settings


def test_flags_are_what_the_command_line_takes() -> None:
    assert Settings().flags == ""
    assert Settings(dtype="bf16", quantise="int8", offload="block", tile=256).flags == "--dtype bf16 --quantise int8 --offload block --tile 256"
    assert Settings(quantise="fp8-products", compile="graphs").flags == "--quantise fp8-products --compile graphs"
    assert Settings(dtype="float32").torch_dtype is torch.float32
    assert Settings().torch_dtype is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "fp16"}, "--dtype fp16 is unknown; did you mean 'bf16'"),
        ({"quantise": "int4"}, "--quantise int4 is unknown; did you mean 'int8'"),
        ({"offload": "disk"}, "--offload disk is unknown; allowed: none, model, block"),
        ({"tile": 0}, "a tile of 0 pixels"),
        ({"compile": "graph"}, "--compile graph is unknown; did you mean 'graphs'"),
        ({"compile": "blocks", "offload": "block"}, "--compile blocks does not go with --offload block, .*; allowed: --offload none or model"),
        ({"compile": "graphs", "offload": "model"}, "--compile graphs does not go with --offload model, .*; allowed: --offload none"),
        ({"quantise": "fp8-products", "dtype": "float32"}, "fp8-products gives results in bf16; leave --dtype float32 out"),
    ],
)
def test_what_is_not_known_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**wrong)
