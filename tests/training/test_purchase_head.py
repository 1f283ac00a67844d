"""The purchase head: it finds planted weights, falls with the distance, and its isotonic map is monotone."""

import numpy as np
import pytest

from palate.errors import DataError
from palate.training.purchase_head import PurchaseHead, fit_head, sigmoid


def rows(n=20_000, weights=(-1.0, -2.0, 0.7), seed=0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.uniform(0, 2, n), rng.normal(1, 1, n)])
    p = sigmoid(weights[0] + x @ np.array(weights[1:]))
    return x, rng.random(n) < p, np.ones(n), p


def test_finds_planted_weights():
    x, bought, weight, p = rows()
    head = fit_head(x, bought, weight)
    np.testing.assert_allclose(head.weights, [-1, -2, 0.7], atol=0.15)
    assert np.abs(head.probabilities(head.logits(x)) - p).mean() < 0.01


def test_a_row_of_weight_three_is_three_rows():
    x, bought, weight, _ = rows(300)
    times = np.random.default_rng(1).integers(1, 4, 300)
    whole = fit_head(np.repeat(x, times, 0), np.repeat(bought, times), np.ones(times.sum()))
    np.testing.assert_allclose(fit_head(x, bought, weight * times).weights, whole.weights, rtol=1e-6)


def test_probability_falls_with_the_distance_even_where_the_rows_say_otherwise():
    for planted in (-2.0, 1.5):
        x, bought, weight, _ = rows(4000, (-0.5, planted, 0.7))
        head = fit_head(x, bought, weight).calibrate(x, bought, weight)
        line = np.column_stack([np.linspace(0, 3, 50), np.ones(50)])
        p = head.probabilities(head.logits(line))
        assert (np.diff(p) <= 0).all() and (p[0] > p[-1]) == (planted < 0)
        assert (head.weights[1] == 0) == (planted > 0)


def test_the_isotonic_map_is_monotone_and_mends_a_wrong_scale():
    x, bought, weight, p = rows()
    plain = fit_head(x, bought, weight)
    off = PurchaseHead(plain.weights * 3, plain.knots, plain.rate)
    mended = off.calibrate(*rows(seed=2)[:3])
    assert (np.diff(mended.knots) >= 0).all() and (np.diff(mended.knots[0]) > 0).all()
    assert (mended.knots[1] > 0).all() and (mended.knots[1] < 1).all()
    gaps = [np.abs(h.probabilities(h.logits(x)) - p).mean() for h in (off, mended)]
    assert gaps[1] < 0.02 < gaps[0]


def test_columns_that_do_not_vary_say_nothing():
    x, bought, weight, _ = rows(500)
    found = fit_head(np.column_stack([x, np.full(500, 7.0)]), bought, weight)
    assert found.weights[-1] == 0
    np.testing.assert_allclose(found.weights[:-1], fit_head(x, bought, weight).weights, atol=1e-8)


def test_bad_rows_are_refused():
    x, bought, weight, _ = rows(20)
    with pytest.raises(DataError, match="bought and of people who did not"):
        fit_head(x, np.ones(20), weight)
    with pytest.raises(DataError, match="finite"):
        fit_head(np.where(x > 1, np.nan, x), bought, weight)
    with pytest.raises(DataError, match="one row each"):
        fit_head(x, bought[:5], weight)
