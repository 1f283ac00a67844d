"""Neighbours drawn without replacement, and segment maxima: fast against plain."""

import numpy as np
import pytest

from palate.data.ragged import offsets_of
from palate.kernels.edge_samples import (
    sample_edges,
    sample_edges_reference,
    scatter_max,
    segment_max,
    segment_max_reference,
)


@pytest.mark.parametrize("most", [1, 3, 20])
def test_draws_equal_plain_and_are_without_replacement(most):
    rng = np.random.default_rng(0)
    offsets = offsets_of(rng.integers(0, 12, 50))
    rows = rng.permutation(50)[:30]
    bounds, places = sample_edges(offsets, rows, most, 7)
    for found, wanted in zip((bounds, places), sample_edges_reference(offsets, rows, most, 7), strict=True):
        np.testing.assert_array_equal(found, wanted)
    for at, row in enumerate(rows):
        own = places[bounds[at] : bounds[at + 1]]
        assert len(own) == min(most, offsets[row + 1] - offsets[row]) and (np.diff(own) > 0).all()
        assert ((own >= offsets[row]) & (own < offsets[row + 1])).all()


def test_a_row_gets_the_same_in_any_company():
    offsets = offsets_of([9, 9, 9])
    _, alone = sample_edges(offsets, np.array([1]), 3, 5)
    bounds, both = sample_edges(offsets, np.array([2, 1]), 3, 5)
    np.testing.assert_array_equal(alone, both[bounds[1] :])
    assert sample_edges(offsets, np.array([1]), 3, 6)[1].tolist() != alone.tolist()


def test_draws_are_uniform():
    """Every edge of a row of ten is among three drawn in 3/10 of all draws."""
    offsets = offsets_of([10])
    counts = np.zeros(10)
    for seed in range(4000):
        counts[sample_edges(offsets, np.array([0]), 3, seed)[1]] += 1
    np.testing.assert_allclose(counts / 4000, 0.3, atol=0.03)


def test_nothing_to_draw():
    bounds, places = sample_edges(np.zeros(4, np.int64), np.array([0, 2]), 3, 0)
    assert bounds.tolist() == [0, 0, 0] and len(places) == 0
    bounds, places = sample_edges(offsets_of([2]), np.empty(0, np.int64), 3, 0)
    assert bounds.tolist() == [0] and len(places) == 0


def test_maxima_equal_plain():
    rng = np.random.default_rng(1)
    offsets = offsets_of(rng.integers(0, 6, 40))
    tails = rng.integers(0, 15, offsets[-1]).astype(np.int32)
    x = rng.integers(-2, 3, (15, 4)).astype(np.float32)  # with ties
    for found, wanted in zip(segment_max(offsets, tails, x), segment_max_reference(offsets, tails, x), strict=True):
        np.testing.assert_array_equal(found, wanted)
    values, sources = segment_max(offsets, tails, x)
    back = scatter_max(np.ones_like(values), sources, 15)
    assert back.sum() == (sources >= 0).sum() == (np.diff(offsets) > 0).sum() * 4
