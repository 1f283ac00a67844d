"""Scores of contexts with a few events: the fast form against the plain definition."""

import numpy as np
import pytest

from palate.kernels.pair_scores import Unit, pair_scores, pair_scores_reference


def case(n, t, h, w, out, dice, seed=0):
    rng = np.random.default_rng(seed)
    contexts, matrices, base = (rng.normal(size=s).astype(np.float32) for s in ((n, w), (t, h, w), (t, h)))
    parts = (rng.normal(size=h).astype(np.float32) for _ in range(3))
    unit = Unit(dice, *parts, rng.normal(size=(out, h)).astype(np.float32), rng.normal(size=out).astype(np.float32))
    places = np.sort(rng.permutation(t + 2)[:t])
    return contexts, matrices, base, places, t + 2, unit


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (16, 3, 4, 8, 1), (37, 5, 7, 19, 3), (100, 2, 36, 16, 1)])
@pytest.mark.parametrize("dice", [True, False])
def test_it_is_the_plain_definition(shape, dice):
    given = case(*shape, dice)
    wide = [a.astype(np.float64) for a in given[:3]]
    expected = pair_scores_reference(*wide, *given[3:])
    found = pair_scores(*given)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    missing = np.setdiff1d(np.arange(given[4]), given[3])
    assert not found[:, missing].any()


def test_by_hand_and_far_out_sums():
    unit = Unit(True, np.float32([1]), np.float32([0]), np.float32([0.25]), np.float32([[2]]), np.float32([1]))
    given = np.float32([[0], [1000], [-1000]]), np.float32([[[1]]]), np.float32([[0]]), np.array([0]), 1
    np.testing.assert_allclose(pair_scores(*given, unit)[:, 0, 0], [1, 2001, 1 - 500], rtol=1e-6)
