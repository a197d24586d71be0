"""The value that text encoders give, and the protocol that both of them meet."""

import dataclasses

import pytest
import torch

from diorama.text.states import TextEncoder, TextStates


class Counting:
    """The least that is a text encoder."""

    width = 2

    def encode(self, prompts):
        mask = torch.ones(len(prompts), 1, dtype=torch.bool)
        return TextStates(states=torch.ones(len(prompts), 1, 2), mask=mask, pooled=torch.ones(len(prompts), 2), truncated=(0,), unknown=(0,))


def test_anything_with_width_and_encode_is_an_encoder() -> None:
    encoder: TextEncoder = Counting()
    assert encoder.encode(["a"]).states.shape[-1] == encoder.width


def test_states_are_frozen() -> None:
    states = Counting().encode(["a"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        states.mask = torch.zeros(1, 1)
