"""Sequential: the promise over all looks, held against simulated experiments that are read after every batch."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.evaluation.experiments.fixed import compare_fixed
from palate.evaluation.experiments.moments import Moments
from palate.evaluation.experiments.sequential import (
    anytime_p,
    best_clock,
    compare_sequential,
    multiplier,
    steadied,
)


def looks(values: np.ndarray) -> Moments:
    """Total ``float[runs, looks, batch]`` cumulatively: one entry a run and look."""
    runs, batches, size = values.shape
    n = np.broadcast_to(np.arange(1, batches + 1) * size, (runs, batches))
    return Moments.from_sums(n, values.sum(-1).cumsum(1), (values**2).sum(-1).cumsum(1))


def draw(rng: np.random.Generator, kind: str, shape: tuple[int, ...], shift: float = 0.0) -> np.ndarray:
    made = {
        "normal": lambda: rng.normal(size=shape),
        "exponential": lambda: rng.exponential(size=shape) - 1,
        "rare": lambda: (rng.random(shape) < 0.02) - 0.02,
        "heavy": lambda: rng.lognormal(0.0, 1.5, shape) - np.exp(1.5**2 / 2),
    }
    return made[kind]() + shift


# -- the formula ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_interval_is_narrowest_at_the_target(confidence: float, sides: int) -> None:
    best = best_clock(confidence, sides)
    scales = best * np.array([0.5, 0.8, 1.0, 1.25, 2.0])
    widths = multiplier(scales, confidence=confidence, sides=sides)
    # beside all mixtures tuned otherwise and read at the same size: a factor on the clock
    assert np.argmin(widths) == 2 if sides == 2 else widths[2] <= widths.min() * 1.01
    assert multiplier(0.0, confidence=confidence) == np.inf


def test_by_hand() -> None:
    # -W(-0.05² / e) - 1: the root of log((1 + r) / 0.05²) = r
    r = best_clock(0.95)
    assert np.log((1 + r) / 0.05**2) == pytest.approx(r)
    assert multiplier(r) == pytest.approx(np.sqrt(1 + r)) and multiplier(r) / 1.959964 == pytest.approx(1.55, abs=0.005)
    # r = 3, z = 4: sqrt(4) exp(-16 · 3 / 8)
    assert anytime_p(4.0, 1.0, 3.0) == pytest.approx(2 * np.exp(-6))
    assert anytime_p(4.0, 1.0, 3.0, sides=1) == pytest.approx(1 / np.expm1(6))
    assert anytime_p(-4.0, 1.0, 3.0, sides=1) == 1 and anytime_p(0.0, 1.0, 3.0) == 1


@pytest.mark.parametrize("sides", [1, 2])
def test_p_value_and_interval_say_the_same(sides: int) -> None:
    scale = np.array([0.01, 1.0, 8.0, 500.0])
    k = multiplier(scale, confidence=0.95, sides=sides)
    np.testing.assert_allclose(anytime_p(k, 1.0, scale, sides=sides), 0.05, rtol=1e-9)


def test_lift_ends_are_where_the_contrast_ends() -> None:
    rng = np.random.default_rng(0)
    c, v = Moments.of(rng.exponential(2.0, 900)), Moments.of(rng.exponential(2.2, 1100))
    found = compare_sequential(c, v, target=4000)
    k = multiplier(best_clock(0.95) * 2000 / 4000)
    c, v = steadied(c, v)
    assert found.high - found.difference == pytest.approx(k * np.sqrt(c.error2 + v.error2))
    ratio = 1 + found.lift_low
    assert v.value - ratio * c.value == pytest.approx(k * np.sqrt(v.error2 + ratio**2 * c.error2))


def test_a_small_variance_is_raised_by_hand() -> None:
    # 101 units of variance 1 beside 11 of 0: both together 100 / 110; the second gets 1000 / 1010 of that
    c, v = Moments.of(np.r_[np.ones(50), -np.ones(50), 0.0]), Moments.of(np.full(11, 3.0))
    assert c.variance == pytest.approx(1.0) and v.variance == 0
    one, two = steadied(c, v)
    assert one.variance == pytest.approx(1.0) and two.variance == pytest.approx(1000 / 1010 * 100 / 110)
    assert two.value == 3 and two.n == 11
    large = Moments.of(np.tile([1.0, -1.0], 50_000))
    assert steadied(large, Moments.of(np.tile([2.0, -2.0], 50_000)))[0].variance == pytest.approx(1.0, rel=0.02)


def test_before_the_start_and_without_spread_nothing_is_known() -> None:
    rng = np.random.default_rng(1)
    few = compare_sequential(Moments.of(rng.normal(size=99)), Moments.of(rng.normal(9, 1, 500)), target=1000)
    assert (few.low, few.high, few.lift_low, few.p) == (-np.inf, np.inf, -np.inf, 1.0)
    flat = compare_sequential(Moments.of(np.zeros(500)), Moments.of(np.ones(500)), target=1000)
    assert (flat.low, flat.high, flat.p) == (-np.inf, np.inf, 1.0)
    empty = compare_sequential(Moments.from_sums(0, 0, 0), Moments.from_sums(0, 0, 0), target=1000)
    assert empty.high == np.inf and empty.p == 1 and np.isnan(empty.difference)


def test_wrong_settings_are_refused() -> None:
    one = Moments.of(np.arange(200.0))
    with pytest.raises(ConfigError, match="narrowest"):
        compare_sequential(one, one, target=0)
    with pytest.raises(ConfigError, match="two units"):
        compare_sequential(one, one, target=100, start=1)
    with pytest.raises(ConfigError, match="confidence"):
        compare_sequential(one, one, target=100, confidence=1.0)
    with pytest.raises(ConfigError, match="too low"):
        best_clock(0.5, 1)


# -- simulated experiments --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "exponential", "rare", "heavy"])
def test_false_positives_with_a_look_after_every_batch(kind: str, at_most) -> None:
    rng = np.random.default_rng(2)
    c, v = (looks(draw(rng, kind, (1000, 50, 60))) for _ in range(2))
    for target in (600, 6000, 60_000):
        found = compare_sequential(c, v, target=target)
        at_most((found.p < 0.05).any(1), 0.05)
        at_most(((found.low > 0) | (found.high < 0)).any(1), 0.05)
    # whoever reads the fixed-size test as often is told of a difference in a third of such experiments
    assert (compare_fixed(c, v).p < 0.05).any(1).mean() > 0.2


def test_true_difference_and_lift_are_covered_at_all_looks(at_most) -> None:
    rng = np.random.default_rng(3)
    c, v = looks(draw(rng, "exponential", (1000, 40, 50), 1.0)), looks(draw(rng, "exponential", (1000, 40, 50), 1.2))
    found = compare_sequential(c, v, target=4000, confidence=0.9)
    at_most(((found.low > 0.2) | (found.high < 0.2)).any(1), 0.1)
    at_most(((found.lift_low > 0.2) | (found.lift_high < 0.2)).any(1), 0.1)


def test_power_rises_with_effect_and_experiments_stop_early() -> None:
    rng = np.random.default_rng(4)
    c, rates, stops = looks(draw(rng, "normal", (500, 40, 50))), [], []
    for effect in (0.0, 0.05, 0.1, 0.2, 0.3):
        hits = compare_sequential(c, looks(draw(rng, "normal", (500, 40, 50), effect)), target=4000).p < 0.05
        rates.append(hits.any(1).mean())
        stops.append(np.where(hits.any(1), hits.argmax(1), 40).mean())
    assert rates == sorted(rates) and rates[0] < 0.05 and rates[-1] == 1.0
    assert stops == sorted(stops, reverse=True) and stops[-1] < 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "rare", "heavy"])
@pytest.mark.parametrize("share", [1, 9])
def test_false_positives_over_a_thousand_looks(kind: str, share: int, at_most) -> None:
    rng = np.random.default_rng(5)
    hits = []
    for _ in range(12):
        c, v = looks(draw(rng, kind, (100, 1000, 20 * share))), looks(draw(rng, kind, (100, 1000, 20)))
        hits.append(np.stack([(compare_sequential(c, v, target=t * share).p < 0.05).any(1) for t in (1000, 10_000)]))
    for one in np.concatenate(hits, axis=1):
        at_most(one, 0.05)


def test_very_rare_events_in_a_small_arm(at_most) -> None:
    rng = np.random.default_rng(7)
    c, v = (Moments.from_sums(n, y, y) for n, y in (rare(rng, 900), rare(rng, 100)))
    at_most((compare_sequential(c, v, target=20_000).p < 0.05).any(1), 0.05)


def rare(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    events = rng.binomial(batch, 0.005, (2000, 100)).cumsum(1)
    return np.broadcast_to(np.arange(1, 101) * batch, events.shape), events


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("arriving", [False, True])
def test_totals_that_grow_between_daily_looks(lasting: float, arriving: bool, at_most) -> None:
    """A month of daily looks at units who come back: outside of what the theorem says, so it is measured."""
    rng = np.random.default_rng(6)
    runs, units, days = 1000, 400, 30

    def arm() -> Moments:
        habit, total, found = rng.exponential(size=(runs, units)), np.zeros((runs, units)), []
        for day in range(days):
            here = max(100, units * (day + 1) // days) if arriving else units
            total[:, :here] += (lasting * habit + (1 - lasting) * rng.exponential(size=(runs, units)))[:, :here]
            found.append(Moments.of(total[:, :here]))
        return Moments(*(np.stack([getattr(one, part.name) for one in found], axis=1) for part in fields(Moments)))

    at_most((compare_sequential(arm(), arm(), target=2 * units).p < 0.05).any(1), 0.05)
