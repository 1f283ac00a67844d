"""Dropout: its rate, its mean, its randomness that is passed."""

import numpy as np
import pytest
import torch

from palate.nn.dropout import OFF, Dropout, random_bytes


def test_dropout_keeps_the_mean_and_repeats_under_a_seed():
    x = torch.ones(400, 500)
    first, again = (Dropout(0.3, torch.Generator().manual_seed(1))(x) for _ in range(2))
    assert torch.equal(first, again)
    assert abs(first.mean().item() - 1) < 0.01
    assert abs((first == 0).float().mean().item() - 0.3) < 0.005
    assert Dropout(0.3)(x) is x
    with pytest.raises(ValueError, match="dropout rate"):
        Dropout(1.0)


def test_random_bytes_are_uniform():
    counts = np.bincount(random_bytes(1_000_003, torch.Generator().manual_seed(5)).numpy(), minlength=256)
    expected = 1_000_003 / 256
    assert ((counts - expected) ** 2 / expected).sum() < 350  # chi-square, 255 degrees of freedom: p about 1e-4


def test_the_gradient_passes_where_the_value_did():
    x = torch.ones(50, 40, requires_grad=True)
    out = Dropout(0.5, torch.Generator().manual_seed(2))(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, out.detach())
    assert set(gradient.unique().tolist()) == {0.0, 2.0}


def test_the_global_generator_is_not_touched():
    before = torch.get_rng_state()
    Dropout(0.5, torch.Generator().manual_seed(2))(torch.ones(100))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_rate_or_no_generator_passes_all_through():
    x = torch.ones(9)
    assert OFF(x) is x and Dropout(0.0, torch.Generator())(x) is x
    assert random_bytes(0, None).shape == (0,)
