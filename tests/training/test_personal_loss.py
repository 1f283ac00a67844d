"""The sampler by personal loss: its chances, its limits, its pools, and the odds that it promises."""

import numpy as np
import pytest
import torch
from scipy import sparse, stats

from palate.errors import ConfigError
from palate.training.personal_loss import PersonalLossSampler, positions, selection

INFINITY = float("inf")


@pytest.fixture(scope="module")
def matrix():
    rng = np.random.default_rng(0)
    dense = rng.random((30, 40)) < 0.3
    dense[0] = False
    dense[1] = True
    dense[2] = np.arange(40) < 2
    return sparse.csr_matrix(dense.astype(np.float32))


def test_chances_by_hand_and_their_limits():
    losses = torch.tensor([[0.1, 0.2, 0.4], [3.0, 1.0, 2.0]], dtype=torch.float64)
    p = selection(losses, 0.1)
    wanted = np.exp(-np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(p[0].numpy(), wanted / wanted.sum())
    torch.testing.assert_close(p.sum(1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(selection(losses + 7.5, 0.1), p)
    torch.testing.assert_close(selection(losses, INFINITY), torch.full((2, 3), 1 / 3, dtype=torch.float64))
    assert selection(losses, 0.0).tolist() == [[1, 0, 0], [0, 1, 0]]
    torch.testing.assert_close(selection(losses, 1e-4), selection(losses, 0.0))
    torch.testing.assert_close(selection(losses, 1e9), selection(losses, INFINITY))


@pytest.mark.parametrize("length", [3, 4, 8, 9, 30])
def test_places_of_a_pool_are_even(length):
    """Without repeats, and every pair of places as likely as every other."""
    k, n = 3, 60_000
    found = positions(np.full(n, length), k, np.random.default_rng(0))
    assert found.min() >= 0 and found.max() < length
    assert (np.diff(np.sort(found, 1), axis=1) > 0).all()
    pairs = np.bincount(found[:, 0] * length + found[:, 2], minlength=length**2).reshape(length, length)
    assert (np.diag(pairs) == 0).all()
    assert stats.chisquare(pairs[~np.eye(length, dtype=bool)]).pvalue > 1e-4


def test_short_rows_repeat():
    found = positions(np.array([1, 2, 2]), 5, np.random.default_rng(0))
    assert (found[0] == 0).all() and set(found[1:].ravel()) == {0, 1}


def test_pools_hold_what_people_had_and_a_negative_they_had_not(matrix):
    sampler = PersonalLossSampler(4, 0.1, 0).bind(matrix)
    dense, batches = matrix.toarray() > 0, sampler.epoch(1, 64, np.random.default_rng(0))
    seen, rows = np.zeros(30, int), 0
    for pools in batches:
        assert pools.candidates.shape == (len(pools), 4)
        assert dense[pools.users[:, None], pools.candidates].all()
        np.testing.assert_array_equal(matrix.indices[pools.places], pools.candidates)
        told = pools.negatives >= 0
        assert (pools.users[~told] == 1).all() and not dense[pools.users[told], pools.negatives[told]].any()
        rows += len(pools)
        seen += np.bincount(pools.users, minlength=30)
    assert rows == matrix.nnz and seen[0] == 0
    assert stats.chisquare(seen[1:]).pvalue > 1e-4  # people alike, whatever their number of items


def test_the_warm_up_has_pools_of_one(matrix):
    sampler = PersonalLossSampler(4, 0.1, 2).bind(matrix)
    widths = [next(iter(sampler.epoch(e, 8, np.random.default_rng(e)))).candidates.shape[1] for e in (1, 2, 3)]
    assert widths == [1, 1, 4]


@pytest.mark.parametrize(("k", "tau"), [(5, INFINITY), (1, 0.1)])
def test_without_temperature_or_pool_it_is_plain_sampling(matrix, k, tau):
    """χ² of 100,000 draws for one person, under losses that differ widely."""
    sampler = PersonalLossSampler(k, tau, 0).bind(matrix)
    rng, own = np.random.default_rng(1), matrix[5].indices
    pools = sampler.draw(np.full(100_000, 5, np.int32), k, rng)
    losses = torch.from_numpy(pools.candidates.astype(np.float32))
    chosen = pools.candidates[np.arange(len(pools)), sampler.choose(losses, pools)]
    counts = np.bincount(chosen, minlength=40)
    assert counts[np.setdiff1d(np.arange(40), own)].sum() == 0
    assert stats.chisquare(counts[own]).pvalue > 1e-4


def test_draws_follow_the_chances(matrix):
    sampler = PersonalLossSampler(3, 0.5, 0).bind(matrix)
    pools = sampler.draw(np.full(100_000, 5, np.int32), 3, np.random.default_rng(2))
    losses = torch.tensor([0.1, 0.5, 0.9]).repeat(len(pools), 1)
    counts = np.bincount(sampler.choose(losses, pools), minlength=3)
    wanted = selection(losses[:1].double(), 0.5)[0].numpy() * len(pools)
    assert stats.chisquare(counts, wanted * counts.sum() / wanted.sum()).pvalue > 1e-4


def test_no_temperature_takes_the_least_loss(matrix):
    sampler = PersonalLossSampler(4, 0.0, 0).bind(matrix)
    pools = sampler.draw(sampler.people[3:], 4, np.random.default_rng(3))
    losses = torch.from_numpy(np.random.default_rng(4).random(pools.candidates.shape))
    np.testing.assert_array_equal(sampler.choose(losses, pools), losses.argmin(1).numpy())


def test_weights_are_means_of_the_noted_chances(matrix):
    sampler = PersonalLossSampler(2, 1.0, 0).bind(matrix)
    assert np.isnan(sampler.weights).all()
    rng, total, drawn = np.random.default_rng(5), np.zeros(matrix.nnz), np.zeros(matrix.nnz)
    for _ in range(20):
        pools = sampler.draw(sampler.people[rng.integers(len(sampler.people), size=16)], 2, rng)
        losses = torch.from_numpy(rng.random((16, 2)))
        sampler.choose(losses, pools)
        p = selection(losses, 1.0).numpy()
        for row in np.flatnonzero(pools.negatives >= 0):
            np.add.at(total, pools.places[row], 2 * p[row])
            np.add.at(drawn, pools.places[row], 1)
    np.testing.assert_allclose(sampler.weights[drawn > 0], (total / np.maximum(drawn, 1))[drawn > 0], rtol=1e-6)
    assert np.isnan(sampler.weights[drawn == 0]).all()


def test_the_odds_of_noise_are_as_promised():
    """Normal losses with means m1 and m2 and the same spread: odds exp(-(m2 - m1)/τ) within 5%, in large pools."""
    rng, k, tau, shift = np.random.default_rng(6), 400, 0.5, 0.6
    false = np.arange(k) < k // 2
    losses = rng.normal(1.0, 0.3, (4000, k)) + shift * false
    p = selection(torch.from_numpy(losses), tau).numpy()
    assert p[:, false].sum() / p[:, ~false].sum() == pytest.approx(np.exp(-shift / tau), rel=0.05)


@pytest.mark.parametrize("wrong", [{"k": 0}, {"tau": -1.0}, {"warmup": -1}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="a pool needs"):
        PersonalLossSampler(**wrong)
