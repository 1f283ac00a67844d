"""Experts and gates: mixtures by hand."""

import numpy as np
import torch

from palate.nn.dropout import OFF
from palate.nn.experts import Experts, Gate


def test_a_gate_mixes_experts_by_its_weights() -> None:
    experts, gate = Experts(3, 4, (5, 2), np.random.default_rng(0)), Gate(4, 3, np.random.default_rng(1))
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    found, weights = experts(x, OFF), gate.weights(x)
    assert found.shape == (6, 3, 2) and experts.width == 2
    torch.testing.assert_close(weights.sum(1), torch.ones(6))
    torch.testing.assert_close(weights, torch.softmax(x @ gate.scores.weight.T, 1))
    by_hand = sum(weights[:, at, None] * stack(x, OFF) for at, stack in enumerate(experts.stacks))
    torch.testing.assert_close(gate(x, found), by_hand)
    assert (found >= 0).all(), "there is a ReLU after the last layer"


def test_experts_start_apart_and_none_are_none() -> None:
    first, second = Experts(2, 4, (3,), np.random.default_rng(0)).stacks
    assert not torch.equal(first.layers[0].weight, second.layers[0].weight)
    none = Experts(0, 4, (3,), np.random.default_rng(0))
    assert none(torch.ones(5, 4), OFF).shape == (5, 0, 3)
