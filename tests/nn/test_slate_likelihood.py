"""The likelihood of a click on what was shown: it sums to one over used slots, and empty ones have none."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.nn.slate_likelihood import negative_distance, slate_log_likelihood, slate_log_probabilities


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 1000))
def test_probabilities_over_used_slots_sum_to_one(rows, width, seed):
    g = torch.Generator().manual_seed(seed)
    scores, silent = 30 * torch.randn(rows, width, generator=g), torch.randn(rows, generator=g)
    used = torch.rand(rows, width, generator=g) < 0.6
    chance = slate_log_probabilities(scores, silent, used).exp()
    torch.testing.assert_close(chance.sum(1), torch.ones(rows))
    assert (chance[:, 1:][~used] == 0).all()


def test_by_hand():
    """Scores 0 and log 2, no click log 1: weights 1, 1, 2."""
    scores, used = torch.tensor([[0.0, float(np.log(2)), 99.0]]), torch.tensor([[True, True, False]])
    chance = slate_log_probabilities(scores, torch.zeros(1), used).exp()
    torch.testing.assert_close(chance, torch.tensor([[0.25, 0.25, 0.5, 0.0]]))
    found = slate_log_likelihood(scores.expand(2, 3), torch.zeros(2), used.expand(2, 3), torch.tensor([0, 2]))
    torch.testing.assert_close(found, torch.tensor([0.25, 0.5]).log())


def test_a_slate_without_items_can_only_have_no_click():
    found = slate_log_probabilities(torch.zeros(1, 2), torch.tensor([-3.0]), torch.zeros(1, 2, dtype=torch.bool))
    assert found.tolist() == [[0.0, -np.inf, -np.inf]]


def test_empty_places_have_no_gradient():
    scores = torch.tensor([[1.0, 5.0]], requires_grad=True)
    slate_log_likelihood(scores, torch.zeros(1), torch.tensor([[True, False]]), torch.tensor([1])).sum().backward()
    assert scores.grad[0, 1] == 0 and scores.grad[0, 0] > 0


def test_distance():
    z, v = torch.zeros(1, 2, requires_grad=True), torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    found = negative_distance(z, v)
    assert found.tolist()[0][0] == pytest.approx(-5.0) and found.tolist()[0][1] == pytest.approx(0.0, abs=1e-5)
    found.sum().backward()
    assert torch.isfinite(z.grad).all()
