"""Sums over pairs and their gradient: the fast form equals the plain one and a sum pair by pair, for any number of threads."""

import itertools

import numpy as np
import pytest

from palate.kernels.pair_sums import pair_slopes, pair_slopes_reference, pair_sums, pair_sums_reference
from palate.runtime import set_threads, threads


@pytest.mark.parametrize("shape", [(0, 3, 2), (1, 1, 1), (50, 7, 16)])
@pytest.mark.parametrize("count", [1, 2])
def test_fast_equals_reference(shape, count, monkeypatch):
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    rng, before = np.random.default_rng(0), threads()
    fields = rng.standard_normal(shape).astype(np.float32)
    grad = rng.standard_normal((shape[0], shape[2])).astype(np.float32)
    set_threads(count)
    try:
        out, sums = pair_sums(fields)
        slopes = pair_slopes(grad, fields, sums)
    finally:
        set_threads(before)
    plain = pair_sums_reference(fields)
    np.testing.assert_allclose(out, plain[0], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(sums, plain[1], atol=1e-5)
    np.testing.assert_allclose(slopes, pair_slopes_reference(grad, fields, sums), rtol=1e-6)


def test_is_the_sum_over_pairs_and_its_slope():
    fields = np.random.default_rng(1).standard_normal((4, 5, 3)).astype(np.float32)
    out, sums = pair_sums(fields)
    pairs = sum(fields[:, i] * fields[:, j] for i, j in itertools.combinations(range(5), 2))
    np.testing.assert_allclose(out, pairs, atol=1e-5)
    step = np.zeros_like(fields)
    step[:, 2, 1] = 1e-2
    change = (pair_sums(fields + step)[0] - pair_sums(fields - step)[0])[:, 1] / 2e-2
    np.testing.assert_allclose(change, pair_slopes(np.ones((4, 3), np.float32), fields, sums)[:, 2, 1], atol=1e-2)
