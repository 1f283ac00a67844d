"""CUPED: unbiased, less variance by ρ², honest about what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from palate.errors import ConfigError, DataError
from palate.evaluation.experiments.cuped import Adjusted, adjust
from palate.evaluation.experiments.fixed import compare_fixed
from palate.evaluation.experiments.moments import Moments
from palate.evaluation.metrics import business


def simulate(runs: int, n: int, effect: float, missing: str | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    """Simulate experiments with ρ = 0.8; return estimates, errors and p-values without and with adjustment."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(runs):
        before = rng.normal(size=n)
        variant = (rng.random(n) < 0.4).astype(int)
        new = rng.random(n) < 0.3
        y = 0.8 * before + 0.6 * rng.normal(size=n) + effect * variant - 2.0 * new * (missing is not None)
        known = np.where(new, np.nan, before) if missing else before
        plain = Moments.by_variant(y, variant, 2)
        found = adjust(y, variant, {"before": known}, missing=missing or "indicator")
        two = [compare_fixed(one[0], one[1]) for one in (plain, found.moments)]
        rows.append([*(float(c.difference) for c in two), *(float(c.error) for c in two), *(float(c.p) for c in two)])
    names = ("plain", "adjusted", "plain_error", "adjusted_error", "plain_p", "adjusted_p")
    return dict(zip(names, np.array(rows).T, strict=True))


def test_estimate_is_unbiased_and_variance_falls_by_rho_squared(nominal) -> None:
    found = simulate(1500, 300, 0.3)
    assert found["adjusted"].mean() == pytest.approx(0.3, abs=3.5 * found["adjusted"].std() / np.sqrt(1500))
    left = found["adjusted"].var() / found["plain"].var()
    # 1 - 0.8²; the ratio of two variances of 1,500 runs has a relative error of about 5 %
    assert left == pytest.approx(0.36, rel=0.15)
    assert (found["adjusted_error"] ** 2).mean() == pytest.approx(found["adjusted"].var(), rel=0.13)
    nominal(np.abs(found["adjusted"] - 0.3) > 1.96 * found["adjusted_error"], 0.05)


def test_false_positives_are_nominal(nominal) -> None:
    nominal(simulate(2000, 300, 0.0, seed=1)["adjusted_p"] < 0.05, 0.05)


@pytest.mark.parametrize("missing", ["indicator", "mean"])
def test_missing_covariates_leave_the_estimate_unbiased(missing: str, nominal) -> None:
    # units without a covariate differ by two standard deviations: what is missing is not missing at random
    found = simulate(1000, 400, 0.3, missing=missing, seed=2)
    assert found["adjusted"].mean() == pytest.approx(0.3, abs=3.5 * found["adjusted"].std() / np.sqrt(1000))
    nominal(np.abs(found["adjusted"] - 0.3) > 1.96 * found["adjusted_error"], 0.05)
    assert found["adjusted"].var() < 0.9 * found["plain"].var()


def test_the_indicator_takes_more_away() -> None:
    one, two = (simulate(300, 400, 0.0, missing=way, seed=3)["adjusted_error"].mean() for way in ("indicator", "mean"))
    assert one < 0.85 * two


def test_as_in_metrics_where_nothing_differs_between_arms() -> None:
    rng = np.random.default_rng(4)
    before = rng.normal(size=400)
    y = 2 * before + rng.normal(size=400)
    one = adjust(y, np.zeros(400, int), {"before": before})
    np.testing.assert_allclose(one.values, business.cuped(y, before), atol=1e-12)
    rho2 = np.corrcoef(y, before)[0, 1] ** 2
    assert one.reduction == pytest.approx(rho2) and one.theta["before"] == pytest.approx(2, abs=0.2)


def test_theta_is_free_of_the_effect() -> None:
    # a huge effect, and arms that differ in the covariate by chance: pooled over arms as one, θ would be far from 1
    before = np.array([0.0, 1.0, 2.0, 1.0, 2.0, 3.0])
    variant = np.array([0, 0, 0, 1, 1, 1])
    one = adjust(before + 100 * variant, variant, {"before": before})
    assert one.theta["before"] == pytest.approx(1.0) and one.reduction == pytest.approx(1.0)
    assert one.moments.value[1] - one.moments.value[0] == pytest.approx(100.0)


def test_ratio_metric(nominal) -> None:
    rng, estimates, hits = np.random.default_rng(5), [], []
    for _ in range(600):
        habit = rng.beta(2, 8, 400)
        views = 1 + rng.poisson(5 + 20 * habit)
        variant = (rng.random(400) < 0.5).astype(int)
        clicks = rng.binomial(views, habit)
        old = 1 + rng.poisson(15, 400)
        found = adjust(clicks, variant, {"rate before": rng.binomial(old, habit) / old}, base=views)
        plain = Moments.by_variant(clicks, variant, 2, views)
        compared = compare_fixed(found.moments[0], found.moments[1])
        estimates.append((float(plain.value[1] - plain.value[0]), float(compared.difference)))
        hits.append(float(compared.p) < 0.05)
    plain, adjusted = np.array(estimates).T
    nominal(np.array(hits), 0.05)
    assert adjusted.var() < 0.75 * plain.var()
    assert adjusted.mean() == pytest.approx(0.0, abs=3.5 * adjusted.std() / np.sqrt(600))


def test_adjusted_ratio_keeps_its_value_and_spread_without_covariates_that_help() -> None:
    rng = np.random.default_rng(6)
    views, variant = 1 + rng.poisson(4, 900), rng.integers(0, 3, 900)
    clicks = rng.binomial(views, 0.3)
    found, plain = (
        adjust(clicks, variant, {"constant": np.ones(900)}, base=views),
        Moments.by_variant(clicks, variant, 3, views),
    )
    np.testing.assert_allclose(found.moments.value, plain.value)
    np.testing.assert_allclose(found.moments.error2, plain.error2)
    assert found.reduction == pytest.approx(0.0, abs=1e-12) and found.theta == {"constant": 0.0}


def test_large_lifts_are_covered_since_the_centre_is_counted(nominal) -> None:
    rng, covered, without = np.random.default_rng(7), [], []
    for _ in range(1500):
        before = rng.normal(size=200)
        variant = (np.arange(200) < 100).astype(int)
        y = (5 + 2 * before + 0.5 * rng.normal(size=200)) + 5 * variant
        one: Adjusted = adjust(y, variant, {"before": before})
        for out, common in ((covered, one.common), (without, 0.0)):
            found = compare_fixed(one.moments[0], one.moments[1], common=common)
            out.append(bool(found.lift_low <= 1.0 <= found.lift_high))
    nominal(np.array(covered), 0.95)
    assert np.mean(without) < 0.85


def test_covariates_that_depend_on_each_other_or_are_all_missing() -> None:
    rng = np.random.default_rng(8)
    before, variant = rng.normal(size=300), rng.integers(0, 2, 300)
    y = before + rng.normal(size=300)
    one = adjust(y, variant, {"a": before})
    many = adjust(y, variant, {"a": before, "b": 1e6 * before, "c": np.full(300, np.nan)})
    np.testing.assert_allclose(many.values, one.values, atol=1e-7)
    assert many.missing == {"a": 0, "b": 0, "c": 300}
    assert many.theta["c"] == 0


def test_wrong_input_is_refused() -> None:
    y, variant = np.zeros(4), np.array([0, 0, 1, 1])
    with pytest.raises(DataError, match="finite number a unit"):
        adjust(y, variant, {"a": np.array([1.0, np.inf, 0.0, 0.0])})
    with pytest.raises(DataError, match="finite number a unit"):
        adjust(y, variant, {"a": np.zeros(3)})
    with pytest.raises(DataError, match="covariate"):
        adjust(y, variant, {})
    with pytest.raises(ConfigError, match="no such way"):
        adjust(y, variant, {"a": y}, missing="drop")
    with pytest.raises(DataError, match="denominator"):
        adjust(y, variant, {"a": np.arange(4.0)}, base=np.array([1.0, 1.0, 0.0, 0.0]))
