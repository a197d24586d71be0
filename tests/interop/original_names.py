"""Weights under the names of the Wan repositories, made from diffusers' or transformers' by rules of their own: the reverse of what is tested."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def _replaced(state: State, rules: list[tuple[str, str]]) -> dict[str, Tensor]:
    named = {}
    for name, value in state.items():
        for pattern, to in rules:
            name, found = re.subn(pattern, to, name)
            if found:
                break
        named[name] = value.clone()
    return named


def transformer(state: State) -> dict[str, Tensor]:
    inner = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o", "add_k_proj": "k_img", "add_v_proj": "v_img", "norm_added_k": "norm_k_img"}
    attention = [
        (rf"^(blocks\.\d+)\.attn{i}\.{re.escape(old)}\.", rf"\1.{name}.{new}.")
        for i, name in ((1, "self_attn"), (2, "cross_attn"))
        for old, new in (inner | {"norm_q": "norm_q", "norm_k": "norm_k"}).items()
    ]
    image = [("norm1", "0"), (r"ff\.net\.0\.proj", "1"), (r"ff\.net\.2", "3"), ("norm2", "4")]
    return _replaced(
        state,
        [
            *attention,
            (r"^(blocks\.\d+)\.norm2\.", r"\1.norm3."),
            (r"^(blocks\.\d+)\.ffn\.net\.0\.proj\.", r"\1.ffn.0."),
            (r"^(blocks\.\d+)\.ffn\.net\.2\.", r"\1.ffn.2."),
            (r"^(blocks\.\d+)\.scale_shift_table$", r"\1.modulation"),
            (r"^scale_shift_table$", "head.modulation"),
            (r"^proj_out\.", "head.head."),
            (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
            (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
            (r"^condition_embedder\.time_proj\.", "time_projection.1."),
            (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
            (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
            (r"^condition_embedder\.image_embedder\.pos_embed$", "img_emb.emb_pos"),
            *((rf"^condition_embedder\.image_embedder\.{old}\.", rf"img_emb.proj.{new}.") for old, new in image),
        ],
    )


def vae(state: State, num_blocks: int, nested: bool) -> dict[str, Tensor]:
    layers = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6", "conv_shortcut": "shortcut"}
    named, step = {}, num_blocks + 2
    for name, value in state.items():
        for old, new in layers.items():
            name = re.sub(rf"((?:resnets|down_blocks)\.\d+)\.{old}\.", rf"\1.{new}.", name)
        name = re.sub(r"^quant_conv\.", "conv1.", name)
        name = re.sub(r"^post_quant_conv\.", "conv2.", name)
        name = re.sub(r"^(encoder|decoder)\.conv_in\.", r"\1.conv1.", name)
        name = re.sub(r"^(encoder|decoder)\.norm_out\.", r"\1.head.0.", name)
        name = re.sub(r"^(encoder|decoder)\.conv_out\.", r"\1.head.2.", name)
        name = re.sub(r"mid_block\.attentions\.0\.", "middle.1.", name)
        name = re.sub(r"mid_block\.resnets\.([01])\.", lambda match: f"middle.{2 * int(match[1])}.", name)
        if nested:
            name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)\.", r"downsamples.\1.downsamples.\2.", name)
            name = re.sub(r"down_blocks\.(\d)\.downsampler\.", rf"downsamples.\1.downsamples.{num_blocks}.", name)
            name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)\.", r"upsamples.\1.upsamples.\2.", name)
            name = re.sub(r"up_blocks\.(\d)\.upsampler\.", rf"upsamples.\1.upsamples.{num_blocks + 1}.", name)
        else:
            name = re.sub(r"down_blocks\.", "downsamples.", name)
            name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"upsamples.{step * int(m[1]) + int(m[2])}.", name)
            name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"upsamples.{step * int(m[1]) + step - 1}.", name)
        named[name] = value.clone()
    return named


def text_encoder(state: State) -> dict[str, Tensor]:
    block = r"^encoder\.block\.(\d+)\.layer\."
    rules = [
        *((rf"{block}0\.SelfAttention\.{name}\.", rf"blocks.\1.attn.{name}.") for name in "qkvo"),
        (rf"{block}0\.SelfAttention\.relative_attention_bias\.", r"blocks.\1.pos_embedding.embedding."),
        (rf"{block}0\.layer_norm\.", r"blocks.\1.norm1."),
        (rf"{block}1\.layer_norm\.", r"blocks.\1.norm2."),
        (rf"{block}1\.DenseReluDense\.wi_0\.", r"blocks.\1.ffn.gate.0."),
        (rf"{block}1\.DenseReluDense\.wi_1\.", r"blocks.\1.ffn.fc1."),
        (rf"{block}1\.DenseReluDense\.wo\.", r"blocks.\1.ffn.fc2."),
        (r"^encoder\.final_layer_norm\.", "norm."),
        (r"^shared\.", "token_embedding."),
    ]
    return _replaced({name: value for name, value in state.items() if name != "encoder.embed_tokens.weight"}, rules)


def image_encoder(state: State) -> dict[str, Tensor]:
    state = {name if name.startswith("vision_model.") else f"vision_model.{name}": value for name, value in state.items()}
    layer, named = r"^vision_model\.encoder\.layers\.(\d+)\.", dict[str, Tensor]()
    for name in state:
        match = re.match(rf"{layer}self_attn\.q_proj\.(weight|bias)", name)
        if match:
            parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            named[f"visual.transformer.{match[1]}.attn.to_qkv.{match[2]}"] = torch.cat(parts)
    rest = {name: value for name, value in state.items() if not re.search(r"self_attn\.[qkv]_proj|position_ids", name)}
    inner = [
        ("layer_norm1", "norm1"),
        ("layer_norm2", "norm2"),
        (r"self_attn\.out_proj", "attn.proj"),
        (r"mlp\.fc1", "mlp.0"),
        (r"mlp\.fc2", "mlp.2"),
    ]
    rules = [
        *((rf"{layer}{old}\.", rf"visual.transformer.\1.{new}.") for old, new in inner),
        (r"^vision_model\.embeddings\.patch_embedding\.", "visual.patch_embedding."),
        (r"^vision_model\.embeddings\.class_embedding$", "visual.cls_embedding"),
        (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.pos_embedding"),
        (r"^vision_model\.pre_layrnorm\.", "visual.pre_norm."),
        (r"^vision_model\.post_layernorm\.", "visual.post_norm."),
    ]
    named |= _replaced(rest, rules)
    named["visual.cls_embedding"] = named["visual.cls_embedding"][None, None]
    named["visual.pos_embedding"] = named["visual.pos_embedding"][None]
    return named | {"visual.head": torch.zeros(2, 2), "textual.token_embedding.weight": torch.zeros(3, 2), "log_scale": torch.zeros(())}
