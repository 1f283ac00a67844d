"""Losses from clicks that are missing not at random: what holds exactly, and what holds over many draws."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from palate.nn.unbiased import (
    click_gain,
    clipped_bias,
    clipped_variance,
    effective_size,
    irrelevant,
    pointwise,
    relevant,
)

LOSSES = ("ce", "square")
DRAWS = 2000


@pytest.fixture(scope="module")
def world():
    """Scores, relevance and exposure of 12 people and 15 items; some pairs are rarely seen."""
    rng = np.random.default_rng(0)
    gamma, theta = rng.uniform(0.05, 0.9, (12, 15)), rng.uniform(0.05, 1, (12, 15))
    scores = np.log(gamma / (1 - gamma)) - 1 + rng.normal(0, 0.5, gamma.shape)  # what a model might say
    return tuple(torch.from_numpy(a) for a in (scores, gamma, theta))


def estimates(world, clip, loss, draws=DRAWS):
    scores, gamma, theta = world
    rng = np.random.default_rng(1)
    out = np.empty(draws)
    for at in range(draws):
        clicks = (rng.random(scores.shape) < gamma.numpy()) & (rng.random(scores.shape) < theta.numpy())
        out[at] = pointwise(scores, torch.from_numpy(clicks) / theta.clamp(min=clip), loss).item()
    return out


@pytest.mark.parametrize("loss", LOSSES)
def test_the_estimate_is_right_in_the_mean(world, loss):
    """Over draws of exposure and relevance, within four standard errors; the naive loss is far off."""
    scores, gamma, _ = world
    ideal = pointwise(scores, gamma, loss).item()
    found = estimates(world, 0.0, loss)
    error = found.std() / np.sqrt(DRAWS)
    assert abs(found.mean() - ideal) < 4 * error
    naive = estimates(world, 1.0, loss, 500)
    assert abs(naive.mean() - ideal) > 20 * error


@pytest.mark.parametrize("clip", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_bias_and_variance_follow_their_formulas(world, loss, clip):
    scores, gamma, theta = world
    found = estimates(world, clip, loss)
    bias = found.mean() - pointwise(scores, gamma, loss).item()
    variance = clipped_variance(scores, gamma, theta, clip, loss).item()
    assert bias == pytest.approx(clipped_bias(scores, gamma, theta, clip, loss).item(), abs=4 * np.sqrt(variance / DRAWS))
    assert found.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / DRAWS))


def test_clipping_trades_variance_for_bias(world):
    clips = (0.0, 0.2, 0.5, 1.0)
    variances = [clipped_variance(*world, clip, "ce").item() for clip in clips]
    assert sorted(variances, reverse=True) == variances
    assert clipped_bias(*world, 0.0, "ce").item() == 0
    assert clipped_bias(*world, 1.0, "ce").item() != 0


@pytest.mark.parametrize("loss", LOSSES)
def test_the_sparse_form_is_the_dense_form(world, loss):
    scores, _, theta = world
    clicks = torch.from_numpy(np.random.default_rng(2).random(scores.shape) < 0.2)
    dense = pointwise(scores, clicks / theta, loss)
    sparse = irrelevant(scores, loss).sum() + (click_gain(scores, loss) / theta)[clicks].sum()
    torch.testing.assert_close(sparse / scores.numel(), dense, rtol=1e-12, atol=0)
    torch.testing.assert_close(click_gain(scores, loss), relevant(scores, loss) - irrelevant(scores, loss))


def test_full_exposure_is_plain_cross_entropy(world):
    scores, _, theta = world
    clicks = torch.from_numpy(np.random.default_rng(2).random(scores.shape) < 0.2).double()
    plain = functional.binary_cross_entropy_with_logits(scores, clicks)
    assert abs(pointwise(scores, clicks / torch.ones_like(theta), "ce") - plain) < 1e-7
    assert abs(pointwise(scores, clicks / theta.clamp(min=1.0), "ce") - plain) < 1e-7


def test_gradients_by_hand(world):
    """A click pulls with ``p - 1/θ``, which never changes sign; any other pair with ``p``."""
    scores, _, theta = world
    clicks = torch.from_numpy(np.random.default_rng(2).random(scores.shape) < 0.2)
    s = scores.clone().requires_grad_()
    (pointwise(s, clicks / theta, "ce") * s.numel()).backward()
    p = torch.sigmoid(scores)
    torch.testing.assert_close(s.grad, torch.where(clicks, p - 1 / theta, p))
    assert (s.grad[clicks] < 0).all()


def test_effective_size():
    assert effective_size(np.ones(7)) == pytest.approx(7)
    assert effective_size(np.array([3.0, 1.0])) == pytest.approx(1.6)
    assert effective_size(np.empty(0)) == 0
