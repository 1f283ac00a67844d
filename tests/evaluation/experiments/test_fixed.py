"""Fixed size: against SciPy, against simulated experiments without and with an effect."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from palate.errors import ConfigError
from palate.evaluation.experiments.fixed import (
    adjust_p,
    compare_fixed,
    detectable_effect,
    interval,
    power,
    sample_size,
)
from palate.evaluation.experiments.moments import Moments
from palate.evaluation.metrics import business
from palate.evaluation.significance import holm


def ratio_arm(rng: np.random.Generator, runs: int, n: int, rate: float = 0.2) -> Moments:
    """Units that differ in how often they look, and in how often they click."""
    views = 1 + rng.poisson(rng.exponential(6.0, (runs, n)))
    own = rng.beta(5 * rate, 5 * (1 - rate), (runs, n))
    return Moments.of(rng.binomial(views, own), views)


# -- one comparison ---------------------------------------------------------------------------------


def test_welch_against_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(5, 1, 40), rng.normal(5.4, 3, 25)
    theirs = stats.ttest_ind(b, a, equal_var=False)
    found, ends = compare_fixed(Moments.of(a), Moments.of(b)), theirs.confidence_interval()
    assert found.p == pytest.approx(theirs.pvalue) and found.freedom == pytest.approx(theirs.df)
    assert (found.low, found.high) == (pytest.approx(ends.low), pytest.approx(ends.high))
    assert found.lift == pytest.approx(b.mean() / a.mean() - 1)


def test_fieller_ends_are_where_the_contrast_ends() -> None:
    rng = np.random.default_rng(1)
    c, v = Moments.of(rng.normal(2, 3, 200)), Moments.of(rng.normal(2.2, 3, 300))
    found = compare_fixed(c, v)
    k = stats.t.ppf(0.975, found.freedom)
    for end in (found.lift_low, found.lift_high):
        ratio = 1 + end
        assert abs(v.value - ratio * c.value) == pytest.approx(k * np.sqrt(v.error2 + ratio**2 * c.error2))
    delta = compare_fixed(c, v, method="delta")
    assert (delta.lift_low + delta.lift_high) / 2 == pytest.approx(float(delta.lift))
    assert found.lift_high > delta.lift_high  # the ratio leans to the right


def test_lift_of_a_negative_control_has_the_sign_of_the_difference() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(-5, 1, 100), rng.normal(-4, 1, 100)
    found = compare_fixed(Moments.of(a), Moments.of(b))
    mirrored = compare_fixed(Moments.of(-a), Moments.of(-b))
    assert 0 < found.lift_low < found.lift < found.lift_high
    assert (mirrored.lift_low, mirrored.lift_high) == (pytest.approx(-found.lift_high), pytest.approx(-found.lift_low))


def test_control_near_zero_has_an_unbounded_lift() -> None:
    rng = np.random.default_rng(3)
    found = compare_fixed(Moments.of(rng.normal(0, 1, 50)), Moments.of(rng.normal(1, 1, 50)))
    assert found.lift_low == -np.inf and found.lift_high == np.inf and found.p < 0.01


def test_no_spread_and_no_units() -> None:
    same, other = Moments.of(np.zeros(5)), Moments.of(np.ones(5))
    assert compare_fixed(same, same).p == 1 and compare_fixed(same, other).p == 0
    assert compare_fixed(other, other).lift_low == compare_fixed(other, other).lift_high == 0
    one = compare_fixed(Moments.of([1.0]), other)
    assert np.isnan(one.p) and np.isnan(one.low)


def test_interval_of_an_arm_against_scipy() -> None:
    values = np.random.default_rng(4).exponential(size=30)
    low, high = interval(Moments.of(values))
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    assert (low, high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


def test_holm_over_a_table_with_holes() -> None:
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    found = adjust_p(p)
    assert np.isnan(found[0, 1])
    np.testing.assert_allclose(found[~np.isnan(p)], holm(p[~np.isnan(p)]))


# -- simulated experiments --------------------------------------------------------------------------


def test_false_positives_of_means_are_nominal(nominal) -> None:
    rng = np.random.default_rng(5)
    for level in (0.05, 0.01):
        found = compare_fixed(Moments.of(rng.exponential(size=(4000, 400))), Moments.of(rng.exponential(size=(4000, 800))))
        nominal(found.p < level, level)
    nominal((found.low > 0) | (found.high < 0), 0.05)


def test_false_positives_of_ratios_are_nominal(nominal) -> None:
    rng = np.random.default_rng(6)
    c, v = ratio_arm(rng, 2000, 600), ratio_arm(rng, 2000, 600)
    nominal(compare_fixed(c, v).p < 0.05, 0.05)
    # as if views were independent: far from nominal, so that the test above can fail
    error = np.sqrt(0.2 * 0.8 * (1 / (c.n * c.base) + 1 / (v.n * v.base)))
    assert (np.abs(v.value - c.value) > 1.96 * error).mean() > 0.15


@pytest.mark.parametrize("method", ["fieller", "delta"])
def test_lifts_are_covered_as_often_as_stated(method, nominal) -> None:
    rng = np.random.default_rng(7)
    c, v = Moments.of(rng.exponential(1.0, (3000, 500))), Moments.of(rng.exponential(1.3, (3000, 500)))
    found = compare_fixed(c, v, method=method, confidence=0.9)
    nominal((found.lift_low <= 0.3) & (found.lift_high >= 0.3), 0.9)


def test_power_rises_with_effect_as_computed(nominal) -> None:
    rng = np.random.default_rng(8)
    c, rates = Moments.of(rng.normal(size=(2000, 400))), []
    for effect in (0.0, 0.1, 0.2, 0.3):
        hits = compare_fixed(c, Moments.of(rng.normal(effect, 1.0, (2000, 400)))).p < 0.05
        nominal(hits, power(effect, 1.0, 400, 400))
        rates.append(hits.mean())
    assert rates == sorted(rates) and rates[-1] > 0.95


# -- plans ------------------------------------------------------------------------------------------


def test_sizes_by_hand_and_as_in_metrics() -> None:
    assert sample_size(0.1, 1.0) == (1570, 1570)  # 2 (1.95996 + 0.84162)² / 0.1² = 1569.8, near 16 / 0.1²
    assert sample_size(0.1, 1.0)[0] == business.sample_size(1.0, 0.1)
    control, variant = sample_size(0.1, 1.0, ratio=0.25)
    assert variant == pytest.approx(control / 4, abs=1)
    assert power(0.1, 1.0, control, variant) == pytest.approx(0.8, abs=0.001)


def test_size_power_and_effect_are_inverses() -> None:
    for comparisons in (1, 6):
        n, _ = sample_size(-0.07, 2.5, power=0.9, confidence=0.99, comparisons=comparisons)
        options = {"confidence": 0.99, "comparisons": comparisons}
        assert power(-0.07, 2.5, n, n, **options) >= 0.9 > power(-0.07, 2.5, n - 1, n - 1, **options)
        assert detectable_effect(2.5, n, n, power=0.9, **options) == pytest.approx(0.07, rel=1e-4)
    assert sample_size(0.1, 1.0, comparisons=6)[0] > sample_size(0.1, 1.0)[0]


def test_wrong_plans_are_refused() -> None:
    with pytest.raises(ConfigError, match="effect of 0"):
        sample_size(0.0, 1.0)
    with pytest.raises(ConfigError, match="deviation"):
        power(0.1, -1.0, 10, 10)
    with pytest.raises(ConfigError, match="sizes"):
        detectable_effect(1.0, 0, 10)
    with pytest.raises(ConfigError, match="confidence"):
        compare_fixed(Moments.of([1.0, 2.0]), Moments.of([1.0, 2.0]), confidence=95)
    with pytest.raises(ConfigError, match="comparison"):
        power(0.1, 1.0, 10, 10, comparisons=0)
    with pytest.raises(ConfigError, match="fieller or delta"):
        compare_fixed(Moments.of([1.0, 2.0]), Moments.of([1.0, 2.0]), method="bca")
