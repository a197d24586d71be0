"""The one table of names: it loses none, and every name of ours is a module of the graph."""

from __future__ import annotations

import torch

from diorama.interop.names import BLOCK_MODULES, OTHER_MODULES
from diorama.transformer import Transformer, TransformerConfig


def test_every_name_is_one_module_of_the_graph() -> None:
    wan = TransformerConfig(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        image_dim=10,
        added_kv_proj_dim=24,
        pooled_dim=None,
        coordinates="index",
        place=False,
    )
    with torch.device("meta"):
        model = Transformer(wan)
    modules = {name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))}
    ours = [*(f"blocks.0.{name}" for name in BLOCK_MODULES.values()), *OTHER_MODULES.values()]
    assert len(ours) == len(set(ours))
    assert set(ours) == modules - {"", "blocks.0", "condition_embedder.image_embedder"}
