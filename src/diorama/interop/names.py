"""What the modules of a Wan transformer are called: in Wan's own checkpoints and in diffusers, whose names are ours."""

from __future__ import annotations

__all__ = ["BLOCK_MODULES", "OTHER_MODULES"]

BLOCK_MODULES = {
    **{
        f"{theirs}.{their}": f"{ours}.{our}"
        for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for their, our in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"), ("norm_q", "norm_q"), ("norm_k", "norm_k"))
    },
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "norm3": "norm2",
}
"""Wan's name to ours, behind ``blocks.0.`` in both."""
OTHER_MODULES = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "head.head": "proj_out",
    "patch_embedding": "patch_embedding",
}
"""Wan's name to ours, outside the blocks."""
