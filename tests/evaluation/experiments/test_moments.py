"""Moments: against numpy, and against each other."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from palate.errors import DataError
from palate.evaluation.bootstrap import bootstrap_ci
from palate.evaluation.experiments.moments import Moments
from palate.evaluation.metrics.business import uplift


def rows(seed: int = 0, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    views = rng.poisson(rng.exponential(8.0, n)) + 1.0
    return rng.binomial(views.astype(int), rng.beta(2, 8, n)).astype(float), views


def test_mean_by_hand() -> None:
    one = Moments.of([1.0, 2.0, 6.0])
    assert one.value == 3 and one.variance == 7 and one.error2 == pytest.approx(7 / 3)


def test_ratio_by_hand() -> None:
    # R = 6/4; y - R x = 1 - 1.5, 5 - 4.5 = -.5, .5; variance .5 / x̄² = .5 / 4
    one = Moments.of([1.0, 5.0], [1.0, 3.0])
    assert one.value == 1.5 and one.variance == pytest.approx(0.125) and one.error2 == pytest.approx(0.0625)


def test_four_ways_to_the_same_totals() -> None:
    y, x = rows()
    whole = astuple(Moments.of(y, x))
    parts = Moments.of(y[:123], x[:123]) + Moments.of(y[123:123], x[123:123]) + Moments.of(y[123:], x[123:])
    sums = Moments.from_sums(len(y), y.sum(), (y**2).sum(), x.sum(), (x * y).sum(), (x**2).sum())
    arms = Moments.by_variant(np.r_[y, y + 1], np.r_[np.zeros(500, int), np.ones(500, int)], 2, np.r_[x, x])
    for other in (parts, sums, arms[0]):
        np.testing.assert_allclose(astuple(other), whole, rtol=1e-10)
    assert arms[1].value == pytest.approx((y + 1).sum() / x.sum())


def test_delta_method_matches_the_bootstrap() -> None:
    y, x = rows(1, 2000)
    resampled = bootstrap_ci(y / x, weights=x, resamples=4000)
    one = Moments.of(y, x)
    assert one.value == pytest.approx(float(resampled.value))
    # the bootstrap's own error at 4,000 resamples is about 1.1 %
    assert np.sqrt(one.error2) == pytest.approx(float(resampled.error), rel=0.05)
    # an analysis by view instead of by unit would be wrong by more than that
    by_view = np.sqrt(one.value * (1 - one.value) / x.sum())
    assert by_view < 0.9 * np.sqrt(one.error2)


def test_agrees_with_the_uplift_of_metrics() -> None:
    (y, x), (w, v) = rows(2), rows(3)
    c, t = Moments.of(y, x), Moments.of(w, v)
    expected = np.sqrt(t.error2 / c.value**2 + t.value**2 * c.error2 / c.value**4)
    assert uplift(w, y, v, x).standard_error == pytest.approx(expected, rel=1e-9)


def test_numbers_far_from_zero_keep_their_digits() -> None:
    times = 1.7e9 + np.random.default_rng(0).normal(size=1000)
    one = Moments.of(times[:400]) + Moments.of(times[400:])
    assert one.variance == pytest.approx((times - 1.7e9).var(ddof=1), rel=1e-6)


def test_nothing_is_nan_and_not_zero() -> None:
    empty = Moments.by_variant(np.array([1.0, 2.0]), np.array([1, 1]), 3)
    assert np.isnan(empty.value[0]) and np.isnan(empty.error2[2]) and empty.value[1] == 1.5
    assert np.isnan(Moments.of([1.0]).variance) and np.isnan(Moments.of([1.0, 1.0], [0.0, 0.0]).value)
    assert np.isnan(Moments.from_sums(0, 0, 0).value)
    with pytest.raises(DataError, match="three sums"):
        Moments.from_sums(1, 1, 1, x=1)
