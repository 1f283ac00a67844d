"""Guardrails: words are wrong no more often than promised, at all looks together, and right ones come."""

from __future__ import annotations

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.evaluation.experiments.guardrails import VERDICTS, Guardrail, guard
from palate.evaluation.experiments.moments import Moments


def looks(rng: np.random.Generator, mean: float, runs: int = 1000, batches: int = 40, size: int = 50) -> Moments:
    values = rng.normal(mean, 1.0, (runs, batches, size))
    n = np.broadcast_to(np.arange(1, batches + 1) * size, (runs, batches))
    return Moments.from_sums(n, values.sum(-1).cumsum(1), (values**2).sum(-1).cumsum(1))


RULES = [
    # the rule, the control's mean, and which variant's mean is worse by exactly the margin
    (Guardrail(0.1, relative=False), 0.0, -0.1),
    (Guardrail(0.1, relative=False, better="lower"), 0.0, 0.1),
    (Guardrail(0.02), 5.0, 4.9),
    (Guardrail(0.02, better="lower"), 5.0, 5.1),
    (Guardrail(0.02), -5.0, -5.1),
    (Guardrail(0.02, better="lower"), -5.0, -4.9),
]


@pytest.mark.parametrize(("rule", "control", "edge"), RULES)
def test_at_the_margin_neither_word_comes_too_often(rule: Guardrail, control: float, edge: float, at_most) -> None:
    rng = np.random.default_rng(0)
    found = guard(looks(rng, control), looks(rng, edge), rule, target=4000)
    at_most((found.verdict == 1).any(1), 0.05)
    at_most((found.verdict == -1).any(1), 0.05)


@pytest.mark.parametrize(("rule", "control", "edge"), RULES)
def test_right_words_come_as_units_do(rule: Guardrail, control: float, edge: float) -> None:
    rng = np.random.default_rng(1)
    c = looks(rng, control, runs=300)
    same = guard(c, looks(rng, control, runs=300), rule, target=4000)
    worse = guard(c, looks(rng, control + 2.5 * (edge - control), runs=300), rule, target=4000)
    assert (same.verdict == 1).any(1).mean() > 0.6 and (worse.verdict == -1).any(1).mean() > 0.9
    assert not (same.verdict == -1).any(1).mean() > 0.02 and not (worse.verdict == 1).any()
    assert (same.verdict[:, 4] == 1).mean() < (same.verdict[:, -1] == 1).mean()
    assert (worse.change < 0).mean() > 0.95


@pytest.mark.parametrize(("rule", "control", "edge"), RULES)
def test_verdict_and_ends_say_the_same(rule: Guardrail, control: float, edge: float) -> None:
    rng = np.random.default_rng(2)
    for mean in (control, edge, control + 2 * (edge - control)):
        found = guard(looks(rng, control, 200), looks(rng, mean, 200), rule, target=4000)
        ready = np.isfinite(found.low)
        margin = rule.margin
        np.testing.assert_array_equal((found.verdict == 1)[ready], (found.low > -margin)[ready])
        np.testing.assert_array_equal((found.verdict == -1)[ready], (found.high < -margin)[ready])
        assert (found.verdict[~ready] == 0).all()


def test_ends_are_covered_at_all_looks(at_most) -> None:
    rng = np.random.default_rng(3)
    found = guard(looks(rng, 5.0), looks(rng, 4.9), Guardrail(0.05), target=4000, confidence=0.9)
    at_most((found.low > -0.02).any(1), 0.1)
    at_most((found.high < -0.02).any(1), 0.1)


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_words_hold_for_rare_events_in_a_small_arm(better: str, at_most) -> None:
    rng = np.random.default_rng(6)
    arms = []
    for batch in (180, 20):
        events = rng.binomial(batch, 0.02, (1500, 300)).cumsum(1)
        arms.append(Moments.from_sums(np.broadcast_to(np.arange(1, 301) * batch, events.shape), events, events))
    for target in (10_000, 60_000):
        found = guard(*arms, Guardrail(0.0, better=better), target=target)
        at_most((found.verdict == 1).any(1), 0.05)
        at_most((found.verdict == -1).any(1), 0.05)


def test_a_relative_margin_needs_a_control_clear_of_zero() -> None:
    rng = np.random.default_rng(4)
    c, v = Moments.of(rng.normal(0.0, 1, 5000)), Moments.of(rng.normal(-3, 1, 5000))
    assert guard(c, v, Guardrail(0.1), target=10_000).verdict == 0
    assert guard(c, v, Guardrail(0.1, relative=False), target=10_000).verdict == -1


def test_before_the_start_nothing_is_known() -> None:
    rng = np.random.default_rng(5)
    few = guard(Moments.of(rng.normal(5, 1, 99)), Moments.of(rng.normal(1, 1, 500)), Guardrail(0.1), target=1000)
    assert VERDICTS[int(few.verdict)] == "not yet known" and few.low == -np.inf and few.high == np.inf


def test_wrong_rules_are_refused() -> None:
    for margin in (-0.1, float("nan")):
        with pytest.raises(ConfigError, match="margin"):
            Guardrail(margin)
    with pytest.raises(ConfigError, match="higher or lower"):
        Guardrail(0.1, better="up")
