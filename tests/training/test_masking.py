"""Masks: complementary, with the seed inside, of the right size; dropout keeps one value of each field."""

import numpy as np
import pytest

from palate.data.features import Features
from palate.data.ragged import Ragged
from palate.training.masking import correlated_fields, kept_values, random_fields

#: Fields 0 and 1 say the same, 2 and 3 nearly.
INFORMATION = np.array([[1, 0.9, 0.1, 0.2], [0.9, 1, 0.1, 0.15], [0.1, 0.1, 1, 0.8], [0.2, 0.15, 0.8, 1]])


@pytest.mark.parametrize("k", range(1, 10))
def test_sizes_and_seeds(k):
    rng = np.random.default_rng(0)
    draws = [correlated_fields(rng.random((k, k)), rng) for _ in range(50)]
    assert {int(d.sum()) for d in draws} == {max(1, min(k - 1, 1 + k // 2))}
    assert np.any(draws, axis=0).all()  # every field is masked at some time
    assert {int(random_fields(k, rng).sum()) for _ in range(20)} == {max(1, k // 2)}


def test_a_field_and_its_copy_are_masked_together():
    """Of four fields the seed and the two nearest are masked: both of the seed's pair, whichever the seed is."""
    rng = np.random.default_rng(1)
    masks = {tuple(np.flatnonzero(correlated_fields(INFORMATION, rng)).tolist()) for _ in range(100)}
    assert masks == {(0, 1, 3), (0, 2, 3)}
    apart = [random_fields(4, rng) for _ in range(200)]
    assert any(m[0] != m[1] for m in apart)


def test_the_seed_itself_is_masked():
    """A field that nothing tells of is masked when it is the seed (published code leaves it in)."""
    information = np.eye(3) + np.array([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]])
    rng = np.random.default_rng(0)
    assert any(correlated_fields(information, rng)[2] for _ in range(50))


def test_views_partition_the_values():
    features = Features(Ragged.from_rows([[0, 1], [5], [], [7, 8, 9], [2], [6]]), np.zeros((2, 0), np.float32), 3)
    fields = np.array([True, False, True])
    rng = np.random.default_rng(0)
    first, second = kept_values(features, fields, 0.0, rng), kept_values(features, ~fields, 0.0, rng)
    np.testing.assert_array_equal(first, ~second)
    np.testing.assert_array_equal(features.bags.values[first], [0, 1, 7, 8, 9, 6])


def test_dropout_keeps_one_value_of_each_field():
    features = Features(Ragged.from_rows([list(range(20)), [21], list(range(22, 25)), []]), np.zeros((2, 0), np.float32), 2)
    rng, every = np.random.default_rng(0), np.ones(2, bool)
    kept = np.array([kept_values(features, every, 0.5, rng) for _ in range(400)])
    assert kept[:, 20].all()
    assert kept[:, :20].any(axis=1).all() and kept[:, 21:].any(axis=1).all()
    assert abs(kept[:, :20].mean() - (0.5 + 0.5 / 20)) < 0.03
    hard = np.array([kept_values(features, every, 0.999, rng) for _ in range(50)])
    assert (hard[:, :20].sum(1) >= 1).all() and hard[:, :20].sum(1).mean() < 1.2
