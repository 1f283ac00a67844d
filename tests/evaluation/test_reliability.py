"""Reliability: bins by hand, intervals that cover, and the expected calibration error."""

import numpy as np
import pytest
from scipy import stats

from palate.errors import ConfigError, DataError
from palate.evaluation.metrics.predictive import expected_calibration_error
from palate.evaluation.reliability import effective_rows, reliability, wilson


def test_bins_by_hand() -> None:
    p, y = [0.05, 0.15, 0.19, 0.95, 1.0], [0, 1, 0, 1, 1]
    found = reliability(y, p, bins=10)
    np.testing.assert_allclose(found.low, [0.0, 0.1, 0.9])
    np.testing.assert_allclose(found.high, [0.1, 0.2, 1.0])
    np.testing.assert_allclose(found.mean, [0.05, 0.17, 0.975])
    np.testing.assert_allclose(found.rate, [0, 0.5, 1])
    assert found.count.tolist() == [1, 2, 2]
    assert found.error == pytest.approx((0.05 + 2 * 0.33 + 2 * 0.025) / 5)
    assert found.largest_error == pytest.approx(0.33)


@pytest.mark.parametrize("bins", [1, 7, 10, 50])
def test_the_error_is_the_metric(bins: int) -> None:
    rng = np.random.default_rng(0)
    p = rng.random(3_000)
    y = (rng.random(3_000) < p**2).astype(float)
    assert reliability(y, p, bins=bins).error == pytest.approx(expected_calibration_error(y, p, bins))


def test_bins_of_equal_count_keep_ties_together() -> None:
    rng = np.random.default_rng(0)
    p = np.round(rng.beta(1, 9, 5_000), 3)
    found = reliability((rng.random(5_000) < p).astype(float), p, by="count")
    assert found.count.sum() == 5_000 and len(found.count) == 10
    assert found.count.min() > 400 and found.count.max() < 600
    assert (found.low[1:] == found.high[:-1]).all() and (np.diff(found.mean) > 0).all()
    assert len(reliability([0, 1, 1], [0.5] * 3, by="count").count) == 1


def test_intervals_cover() -> None:
    rng = np.random.default_rng(0)
    held = [reliability((rng.random(2_000) < p).astype(float), p, bins=10).covered for p in rng.random((300, 2_000))]
    assert 0.93 < np.mean(held) < 0.97
    p = rng.random(20_000)
    assert reliability((rng.random(20_000) < p**2).astype(float), p).covered < 0.3


def test_intervals_cover_where_rows_of_a_person_go_together() -> None:
    """200 people, ten rows each of one prediction; people differ in their chances as a beta distribution says."""
    rng, p, people = np.random.default_rng(0), np.full(2_000, 0.3), np.repeat(np.arange(200), 10)
    clicks = [(rng.random(2_000) < np.repeat(rng.beta(0.6, 1.4, 200), 10)).astype(float) for _ in range(300)]
    assert 0.91 < np.mean([reliability(y, p, groups=people).covered for y in clicks]) < 0.98
    assert np.mean([reliability(y, p).covered for y in clicks]) < 0.75


def test_effective_rows_by_hand() -> None:
    y, own = np.array([1.0, 1, 0, 0, 1, 1, 0]), np.array([0, 0, 1, 1, 2, 2, 2])
    code = np.array([0, 0, 0, 0, 1, 1, 2])
    # Bin 0: two groups of two alike rows count as two; bins 1 and 2 are of one group each.
    np.testing.assert_allclose(effective_rows(y, code, np.array([0.5, 1.0, 0.0]), own), [2, 1, 1])
    rng = np.random.default_rng(0)
    y, code = (rng.random(50) < 0.4).astype(float), rng.integers(0, 2, 50)
    rate = np.array([y[code == b].mean() for b in (0, 1)])
    np.testing.assert_allclose(effective_rows(y, code, rate, np.arange(50)), np.bincount(code))


def test_wilson_solves_its_equation() -> None:
    rate, n = np.array([0.0, 0.1, 0.5, 1.0]), np.array([5.0, 40.0, 1000.0, 3.0])
    z = stats.norm.ppf(0.95)
    for end in wilson(rate, n, 0.9):
        np.testing.assert_allclose((rate - end) ** 2, z**2 * end * (1 - end) / n, atol=1e-12)
    assert (wilson(rate, n)[0] >= -1e-12).all() and (wilson(rate, n)[1] <= 1 + 1e-12).all()


def test_the_table_is_the_data_of_a_plot() -> None:
    table = reliability([0, 1], [0.2, 0.7]).table()
    assert table.column_names == ["low", "high", "mean", "rate", "rate_low", "rate_high", "count"]
    assert table.num_rows == 2


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one bin"):
        reliability([0, 1], [0.2, 0.7], bins=0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        reliability([0, 1], [0.2, 0.7], confidence=1.0)
    with pytest.raises(DataError):
        reliability([0, 1], [0.2, 1.7])
    with pytest.raises(DataError):
        reliability([0, 2], [0.2, 0.7])
