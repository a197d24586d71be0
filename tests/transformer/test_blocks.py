"""The block: the identity at the start, and modulation as it is written."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from diorama.transformer import Transformer, TransformerConfig
from diorama.transformer.blocks import modulated_norm

TINY = TransformerConfig(
    num_attention_heads=2, attention_head_dim=12, in_channels=3, out_channels=3, text_dim=10, freq_dim=16, ffn_dim=40, num_layers=2, pooled_dim=6
)


def test_starts_as_the_identity_with_a_gradient_for_every_output_projection():
    net = Transformer(TINY)
    seen: list[torch.Tensor] = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, inputs, output: seen.extend((inputs[0].detach(), output.detach())))
    g = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(net.proj_out.weight, generator=g)
    packed = net.pack([torch.randn(3, 2, 2, 2, generator=g)], [0.5])
    net(packed, net.encode_text(torch.randn(1, 4, 10, generator=g), pooled=torch.randn(1, 6, generator=g))).square().sum().backward()
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    outputs = [p for name, p in net.named_parameters() if name.endswith(("to_out.0.weight", "ffn.net.2.weight"))]
    assert len(outputs) == 6
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in outputs)


def test_modulation_is_scale_then_shift_in_the_dtype_of_the_shift():
    g = torch.Generator().manual_seed(1)
    x, shift, scale = torch.randn(3, 4, 2, 6, generator=g)
    torch.testing.assert_close(modulated_norm(x, shift, scale, 1e-6), F.layer_norm(x, (6,), eps=1e-6) * scale + shift, atol=1e-5, rtol=1e-5)
    assert modulated_norm(x, shift.bfloat16(), scale.bfloat16(), 1e-6).dtype == torch.bfloat16
