"""Segment softmax, its gradient, and inner products along edges: fast against plain."""

import numpy as np
import pytest

from palate.data.ragged import offsets_of
from palate.kernels.segments import (
    edge_inner,
    edge_inner_reference,
    segment_softmax,
    segment_softmax_reference,
    segment_softmax_slope,
    segment_softmax_slope_reference,
)
from palate.runtime import set_threads, threads


def segments(rows=400, most=9, seed=0):
    rng = np.random.default_rng(seed)
    offsets = offsets_of(rng.integers(0, most, rows))
    return rng, offsets, (4 * rng.standard_normal(offsets[-1])).astype(np.float32)


def test_by_hand():
    got = segment_softmax(np.array([0, 2, 2, 3]), np.log(np.array([1, 3, 7], np.float32)))
    np.testing.assert_allclose(got, [0.25, 0.75, 1], rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_fast_equals_plain(seed):
    rng, offsets, scores = segments(seed=seed)
    shares = segment_softmax(offsets, scores)
    np.testing.assert_allclose(shares, segment_softmax_reference(offsets, scores), rtol=1e-5, atol=1e-7)
    slope = rng.standard_normal(len(scores)).astype(np.float32)
    wanted = segment_softmax_slope_reference(offsets, shares, slope)
    np.testing.assert_allclose(segment_softmax_slope(offsets, shares, slope), wanted, rtol=1e-4, atol=1e-6)
    a, b = (rng.standard_normal((n, 5)).astype(np.float32) for n in (400, 30))
    tails = rng.integers(0, 30, len(scores)).astype(np.int32)
    wanted = edge_inner_reference(offsets, tails, a, b)
    np.testing.assert_allclose(edge_inner(offsets, tails, a, b), wanted, rtol=1e-4, atol=1e-5)


def test_shares_sum_to_one_and_large_scores_do_not_overflow():
    _, offsets, scores = segments()
    shares = segment_softmax(offsets, 1e4 * scores)
    assert np.isfinite(shares).all()
    filled = np.diff(offsets) > 0
    np.testing.assert_allclose(np.add.reduceat(shares, offsets[:-1][filled]), 1, rtol=1e-5)


def test_no_edges():
    empty, none = np.zeros(4, np.int64), np.empty(0, np.float32)
    assert len(segment_softmax(empty, none)) == len(segment_softmax_slope(empty, none, none)) == 0
    assert len(segment_softmax_reference(empty, none)) == len(segment_softmax_slope_reference(empty, none, none)) == 0
    x = np.zeros((3, 2), np.float32)
    assert len(edge_inner(empty, np.empty(0, np.int32), x, x)) == 0


def test_threads_do_not_change_the_bits():
    _rng, offsets, scores = segments(rows=60_000)
    before, found = threads(), []
    try:
        for count in (1, 2):
            set_threads(count)
            found.append(segment_softmax(offsets, scores).tobytes())
    finally:
        set_threads(before)
    assert found[0] == found[1]
