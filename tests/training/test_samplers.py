"""Samplers: distributions, log probabilities, hard negatives, negatives nobody has had."""

import numpy as np
import pytest
from scipy import sparse

from palate.errors import ConfigError
from palate.training.samplers import Hard, InBatch, Popularity, Uniform, Unseen
from palate.training.triples import Pairs


def rng():
    return np.random.default_rng(0)


def fits(drawn, q):
    """Chi-squared against a distribution, well inside p = 0.0001."""
    counts = np.bincount(drawn.ravel(), minlength=len(q))
    assert not counts[q == 0].any()
    expected = drawn.size * q[q > 0]
    chi = ((counts[q > 0] - expected) ** 2 / expected).sum()
    return chi < len(expected) + 6 * np.sqrt(2 * len(expected))


def test_uniform():
    sampler = Uniform(7)
    drawn = sampler.sample(rng(), (100, 70))
    assert drawn.shape == (100, 70) and drawn.dtype == np.int32
    assert fits(drawn, np.full(7, 1 / 7))
    np.testing.assert_allclose(sampler.log_q(np.arange(7)), -np.log(7), rtol=1e-6)


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0, 2.0])
def test_popularity(power):
    counts = np.array([1, 100, 0, 7, 30, 30])
    sampler = Popularity(counts, power)
    q = counts.astype(float) ** power
    q /= q.sum()
    assert fits(sampler.sample(rng(), 50_000), q)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(sampler.log_q(np.arange(6)), np.log(q), rtol=1e-5)


def test_popularity_of_many_items_and_of_one():
    counts = np.random.default_rng(1).zipf(1.3, 500).clip(max=10_000)
    assert fits(Popularity(counts, 1.0).sample(rng(), 200_000), counts / counts.sum())
    assert not Popularity(np.array([5]), 1.0).sample(rng(), 10).any()
    with pytest.raises(ConfigError):
        Popularity(np.zeros(3), 1.0)


def test_in_batch():
    sampler = InBatch(np.array([1, 3, 0]))
    with pytest.raises(ConfigError):
        sampler.sample(rng(), 3)
    assert set(sampler.use(np.array([1, 1, 0])).sample(rng(), 100).tolist()) == {0, 1}
    np.testing.assert_allclose(sampler.log_q(np.array([0, 1])), np.log([0.25, 0.75]), rtol=1e-6)


def test_hard_takes_the_highest_scored_candidate():
    scores = np.random.default_rng(2).normal(size=(6, 40))

    def score(rows, items):
        return scores[rows[:, None], items]

    drawn = Hard(Uniform(40), 400, score).sample(rng(), 6)
    np.testing.assert_array_equal(drawn, scores.argmax(1))
    wide = Hard(Uniform(40), 3, score).sample(rng(), (6, 5))
    assert wide.shape == (6, 5)
    assert scores[np.arange(6)[:, None], wide].mean() > scores.mean() + 0.3
    with pytest.raises(ConfigError, match="probability"):
        Hard(Uniform(3), 2, score).log_q(np.arange(2))


def matrix():
    return sparse.csr_matrix(np.random.default_rng(3).random((30, 20)) < 0.3, dtype=np.float32)


def test_unseen_never_gives_what_was_had():
    had = matrix()
    users = np.repeat(np.arange(30), 50)
    drawn = Unseen(had).sample_for(rng(), users)
    assert not had.toarray()[users, drawn].any()
    full = Unseen(sparse.csr_matrix(np.ones((2, 4), np.float32)))
    assert (full.sample_for(rng(), np.array([0, 1])) == -1).all()


def test_an_epoch_holds_each_pair_once():
    had = matrix()
    pairs = Pairs(had, 32)
    batches = list(pairs.epoch(rng()))
    assert len(batches) == len(pairs.epoch(rng())) == -(-had.nnz // 32)
    users, items = (np.concatenate([getattr(b, n) for b in batches]) for n in ("users", "positives"))
    assert had.toarray()[users, items].all()
    assert len(set(zip(users.tolist(), items.tolist(), strict=True))) == had.nnz
    other = np.concatenate([b.users for b in pairs.epoch(np.random.default_rng(1))])
    assert not np.array_equal(other, users)


def test_an_epoch_of_people_holds_them_whole():
    had = matrix()
    batches = list(Pairs(had, 32).epoch_of_people(rng()))
    assert len(batches) > 3
    seen = np.concatenate([np.unique(b.users) for b in batches])
    assert sorted(seen) == np.flatnonzero(np.diff(had.indptr)).tolist()
    for b in batches:
        for user in np.unique(b.users):
            np.testing.assert_array_equal(b.positives[b.users == user], had[user].indices)
