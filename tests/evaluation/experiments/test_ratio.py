"""Sample-ratio mismatch: the martingale exactly, false alarms at most nominal, true ones found."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from palate.errors import ConfigError, DataError
from palate.evaluation.experiments.ratio import check_ratio, fixed_ratio_p, sequential_ratio_p
from palate.evaluation.metrics.business import sample_ratio_mismatch

SHARES = [[0.5, 0.5], [0.9, 0.1], [0.4, 0.3, 0.2, 0.1]]


def test_fixed_is_the_test_of_metrics() -> None:
    for counts, weights in (([480, 520], [1, 1]), ([900, 130, 10], [0.85, 0.14, 0.01])):
        assert fixed_ratio_p(counts, weights) == pytest.approx(sample_ratio_mismatch(counts, weights)[0])


def test_sequential_factor_by_hand() -> None:
    # K = 1 (the least): Dirichlet(1/2, 1/2) and 2 units of one arm: (1/2 · 3/2) / (1 · 2) / (1/4) = 1.5
    assert sequential_ratio_p([2, 0], [1, 1], target=1) == pytest.approx(1 / 1.5)
    assert sequential_ratio_p([0, 0], [1, 1], target=1) == 1


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.7, 0.2, 0.1]])
def test_factor_has_mean_one_if_shares_are_right(weights: list[float]) -> None:
    # over all sequences of 6 units, weighted by their probability: 1/p where p < 1, so that the mean stays at most 1
    from palate.evaluation.experiments import ratio

    whole = 0.0
    for sequence in product(range(len(weights)), repeat=6):
        counts = np.bincount(sequence, minlength=len(weights))
        chance = float(np.prod(np.array(weights)[list(sequence)]))
        whole += chance * np.exp(float(ratio.log_factor(counts, weights, strength=3.0)))
    assert whole == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("weights", SHARES)
def test_false_alarms(weights: list[float], nominal, at_most) -> None:
    counts = np.random.default_rng(0).multinomial(100, weights, (4000, 80)).cumsum(1)
    nominal(fixed_ratio_p(counts[:, -1], weights) < 0.05, 0.05)
    for threshold in (0.05, 0.001):
        at_most((sequential_ratio_p(counts, weights, target=8000, threshold=threshold) < threshold).any(1), threshold)
    # the fixed test read 80 times alarms far more often than it says
    assert (fixed_ratio_p(counts, weights) < 0.05).any(1).mean() > 0.25


@pytest.mark.parametrize("weights", SHARES)
def test_true_alarms_are_found(weights: list[float]) -> None:
    lost = np.array(weights) * np.linspace(1.0, 0.9, len(weights))  # the last arm loses a tenth of its units
    counts = np.random.default_rng(1).multinomial(1000, lost / lost.sum(), (500, 100)).cumsum(1)
    p = sequential_ratio_p(counts, weights, target=100_000)
    assert (p < 0.001).any(1).mean() > 0.97
    assert (p[:, 5] < 0.001).mean() < (p[:, 40] < 0.001).mean()


@pytest.mark.filterwarnings("error")
def test_an_arm_for_hardly_anybody_is_no_fault_unless_somebody_is_in_it() -> None:
    assert sequential_ratio_p([0, 50], [1e-320, 1], target=100) == pytest.approx(1)
    assert sequential_ratio_p([25, 25], [1e-320, 1], target=100) < 1e-100


def test_words() -> None:
    good = check_ratio([5050, 4950], [1, 1], target=10_000)
    bad = check_ratio([5500, 4500], [1, 1], target=10_000)
    odd = check_ratio([5170, 4830], [1, 1], target=10_000)
    assert good.verdict == "as planned" and "no sign" in good.says and "5,050 : 4,950" in good.says
    assert bad.verdict == "mismatch" and "Conclude nothing" in bad.says and bad.p < 1e-9
    assert odd.verdict == "suspicious" and odd.p_fixed < 0.001 <= odd.p and "check again" in odd.says
    assert good.expected == (5000.0, 5000.0)


def test_wrong_input_is_refused() -> None:
    for counts in ([5], [5, -1], [5, np.nan]):
        with pytest.raises(DataError, match="two arms"):
            fixed_ratio_p(counts, np.ones(len(counts)))
    for weights in ([1], [1, 0], [1, 1, 1]):
        with pytest.raises(ConfigError, match="weights above 0"):
            check_ratio([5, 5], weights, target=10)
    with pytest.raises(ConfigError, match="planned number"):
        sequential_ratio_p([5, 5], [1, 1], target=0)
    with pytest.raises(ConfigError, match="threshold"):
        check_ratio([5, 5], [1, 1], target=10, threshold=0)
