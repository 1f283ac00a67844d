"""Samplers: distributions, log probabilities, hard negatives, negatives nobody has had."""

import numpy as np
import pytest
from scipy import sparse

from palate.errors import ConfigError
from palate.training.samplers import Hard, InBatch, Mixed, Popularity, Uniform, Unseen


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


def test_mixed_and_smoothed():
    counts = np.array([0, 1, 3])
    np.testing.assert_allclose(Popularity(counts, 1.0, smooth=1.0).q, np.array([1, 2, 4]) / 7)
    mixed = Mixed(counts, 1.0)
    np.testing.assert_allclose(mixed.q, (np.array([0, 0.25, 0.75]) + 1 / 3) / 2)
    assert fits(mixed.sample(rng(), 50_000), mixed.q)


def test_in_batch():
    sampler = InBatch(np.array([1, 3, 0]))
    with pytest.raises(ConfigError, match="positives"):
        sampler.sample(rng(), 3)
    drawn = sampler.sample(rng(), (100, 60), np.array([1, 1, 0]))
    assert fits(drawn, np.array([1 / 3, 2 / 3, 0]))
    np.testing.assert_allclose(sampler.log_q(np.array([0, 1])), np.log([0.25, 0.75]), rtol=1e-6)
    items, log_pi = sampler.shared(rng(), 99, np.array([1, 1, 0]))
    assert items.tolist() == [0, 1]
    np.testing.assert_allclose(log_pi, np.log([1 - 0.75**2, 1 - 0.25**2]), rtol=1e-5)


def test_shared_items_are_distinct_and_their_chance_is_right():
    sampler, hits = Popularity(np.array([1, 4, 15, 2])), np.zeros(4)
    source = rng()
    for _ in range(4000):
        items, log_pi = sampler.shared(source, 3, np.empty(0, np.int64))
        assert (np.diff(items) > 0).all()
        hits[items] += 1
    np.testing.assert_allclose(hits / 4000, np.exp(sampler.log_inclusion(np.arange(4), 3)), atol=0.03)
    np.testing.assert_allclose(log_pi, sampler.log_inclusion(items, 3))
    assert Uniform(1).log_inclusion(np.array([0]), 2).tolist() == [0]


@pytest.mark.parametrize("kind", ["mixed", "in_batch"])
def test_the_corrected_sum_over_shared_items_is_unbiased(kind):
    """Averaged over batches, Σ exp(s_j - log π_j) is the sum over all items."""
    source = np.random.default_rng(1)
    scores, counts = source.normal(size=40), source.integers(1, 100, 40)
    sampler = Mixed(counts, 1.0) if kind == "mixed" else InBatch(counts)
    sums = []
    for _ in range(4000):
        batch = source.choice(40, 13, p=counts / counts.sum())
        if kind == "in_batch":
            items = np.unique(batch[1:])  # what the first row sees of the others
            log_pi = sampler.log_inclusion(items, 12)
        else:
            items, log_pi = sampler.shared(source, 12, batch)
        sums.append(np.exp(scores[items] - log_pi).sum())
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - np.exp(scores).sum()) < 4 * error


def test_hard_takes_the_highest_scored_candidate():
    scores = np.random.default_rng(2).normal(size=(6, 40))

    def score(rows, items):
        return scores[rows[:, None], items]

    drawn = Hard(Uniform(40), 400, score).sample(rng(), 6)
    np.testing.assert_array_equal(drawn, scores.argmax(1))
    wide = Hard(Uniform(40), 3, score).sample(rng(), (6, 5))
    assert wide.shape == (6, 5)
    assert scores[np.arange(6)[:, None], wide].mean() > scores.mean() + 0.3
    with pytest.raises(ConfigError, match="candidates"):
        Hard(Uniform(3), 0, score)


def matrix():
    return sparse.csr_matrix(np.random.default_rng(3).random((30, 20)) < 0.3, dtype=np.float32)


def test_unseen_never_gives_what_was_had():
    had = matrix()
    users = np.repeat(np.arange(30), 50)
    drawn = Unseen(had).sample_for(rng(), users)
    assert not had.toarray()[users, drawn].any()
    full = Unseen(sparse.csr_matrix(np.ones((2, 4), np.float32)))
    assert (full.sample_for(rng(), np.array([0, 1])) == -1).all()


def test_unseen_of_people_is_a_pool_for_hard_negatives():
    had = matrix()
    users = np.arange(30)
    pool = Unseen(had).of(users)
    assert pool.sample(rng(), 30).shape == (30,)
    drawn = Hard(pool, 200, lambda rows, items: items).sample(rng(), 30)
    assert drawn.tolist() == [int(np.flatnonzero(~had[u].toarray()[0].astype(bool)).max()) for u in users]
