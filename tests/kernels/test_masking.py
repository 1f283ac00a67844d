"""Dropout on the output of a ReLU, and its gradient: the fast form equals the plain one, for any number of threads."""

import numpy as np
import pytest

from palate.kernels.masking import mask, mask_reference, mask_slope, mask_slope_reference
from palate.runtime import set_threads, threads


@pytest.mark.parametrize("n", [0, 1, 1003])
@pytest.mark.parametrize("cut", [1, 26, 255])
@pytest.mark.parametrize("count", [1, 2])
def test_fast_equals_reference(n, cut, count, monkeypatch):
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    rng, before, scale = np.random.default_rng(n), threads(), 256 / (256 - cut)
    values = np.maximum(rng.standard_normal(n), 0).astype(np.float32)
    random, slope = rng.integers(0, 256, n, dtype=np.uint8), rng.standard_normal(n).astype(np.float32)
    found, truth = values.copy(), values.copy()
    back, back_truth = np.empty_like(slope), np.empty_like(slope)
    set_threads(count)
    try:
        mask(found, random, cut, scale)
        mask_slope(slope, found, back, scale)
    finally:
        set_threads(before)
    mask_reference(truth, random, cut, scale)
    mask_slope_reference(slope, truth, back_truth, scale)
    np.testing.assert_array_equal(found, truth)
    np.testing.assert_array_equal(back, back_truth)
    assert ((found == 0) == ((values == 0) | (random < cut))).all()


def test_by_hand():
    values = np.array([2, 0, 3], np.float32)
    mask(values, np.array([127, 200, 128], np.uint8), 128, 2.0)
    assert values.tolist() == [0, 0, 6]
    out = np.empty(3, np.float32)
    mask_slope(np.array([1, 1, 1], np.float32), values, out, 2.0)
    assert out.tolist() == [0, 0, 2]
