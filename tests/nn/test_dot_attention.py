"""Attention over ragged lists: values and gradients against plain torch, and nothing for an empty list."""

import numpy as np
import pytest
import torch

from palate.data.ragged import Ragged
from palate.nn.additive_attention import Neighbours
from palate.nn.dot_attention import dot_attention, dot_attention_reference


def lists(rows, width):
    made = Ragged.from_rows(rows)
    return Neighbours(made.offsets, made.values, width)


@pytest.mark.parametrize("rows", [[[0, 1], [], [3, 3, 2]], [[]], [[1]]])
def test_fast_equals_plain(rows):
    rng, near = np.random.default_rng(0), lists(rows, 5)
    keys = torch.tensor(rng.standard_normal((len(rows), 4)), dtype=torch.float32, requires_grad=True)
    values = torch.tensor(rng.standard_normal((5, 4)), dtype=torch.float32, requires_grad=True)
    weights = torch.tensor(rng.standard_normal((len(rows), 4)), dtype=torch.float32)
    found = []
    for function in (dot_attention, dot_attention_reference):
        out = function(keys, values, near)
        found.append((out, *torch.autograd.grad((out * weights).sum(), (keys, values))))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)
    for row, columns in enumerate(rows):
        if not columns:
            assert not found[0][0][row].any()


def test_by_hand():
    keys, values = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0], [np.log(3.0), 0.0]])
    out = dot_attention(keys, values, lists([[0, 1]], 2))
    torch.testing.assert_close(out, torch.tensor([[0.75 * np.log(3.0), 0.5]], dtype=torch.float32))
