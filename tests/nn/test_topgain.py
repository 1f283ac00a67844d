"""The top-gain losses of GRU4Rec, by hand and by differences."""

import numpy as np
import pytest
import torch

from palate.nn.topgain import bpr_max, top1_max


def test_top_gain_losses_by_hand():
    own, others = torch.tensor([1.0]), torch.tensor([[0.0, 2.0, float("-inf")]])
    w = np.exp([0.0, 2.0]) / np.exp([0.0, 2.0]).sum()
    sigma = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    expected = -np.log(w[0] * sigma(1.0) + w[1] * sigma(-1.0)) + 0.5 * (w[1] * 4.0)
    assert bpr_max(own, others, 0.5).item() == pytest.approx(expected, rel=1e-5)
    expected = w[0] * (sigma(-1.0) + sigma(0.0)) + w[1] * (sigma(1.0) + sigma(4.0))
    assert top1_max(own, others).item() == pytest.approx(expected, rel=1e-5)


def test_top_gain_losses_have_finite_gradients_at_left_out_columns():
    others = torch.tensor([[0.3, float("-inf"), 0.1]], requires_grad=True)
    (bpr_max(torch.zeros(1), others) + top1_max(torch.zeros(1), others)).backward()
    assert torch.isfinite(others.grad).all()
    assert others.grad[0, 1] == 0


@pytest.mark.parametrize("loss", [bpr_max, top1_max])
def test_gradients_equal_differences(loss):
    g = torch.Generator().manual_seed(0)
    own, others = (torch.randn(*s, generator=g, dtype=torch.float64).requires_grad_() for s in ((4,), (4, 3)))
    assert torch.autograd.gradcheck(loss, (own, others))


def test_a_better_positive_lowers_both():
    others = torch.tensor([[0.5, -0.5]])
    for loss in (bpr_max, top1_max):
        assert loss(torch.tensor([2.0]), others) < loss(torch.tensor([0.0]), others)
