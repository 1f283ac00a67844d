"""Significance: against hand-counted cases, SciPy, and what must hold if nothing differs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from palate.errors import ConfigError, DataError
from palate.evaluation import bootstrap, significance
from palate.evaluation.significance import (
    benjamini_hochberg,
    bootstrap_ci,
    effect_size_dz,
    holm,
    paired_permutation,
    paired_permutations,
    paired_t,
    wilcoxon,
)


def sample(n: int = 300, shift: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, n)


# -- permutation ------------------------------------------------------------------------------------


def test_exact_flips_by_hand() -> None:
    # |±1 ±2 ±3| >= 6 for two of eight flips; >= 4 (of 1 + 3 + 0) is not asked here
    assert paired_permutation(np.array([1.0, 2.0, 3.0])).p == 2 / 8
    # of ±1 ±1 -2: observed sum is 0, every flip is at least as far
    assert paired_permutation(np.array([1.0, 1.0, -2.0])).p == 1.0


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_exact_flips_equal_enumeration(values: list[int]) -> None:
    given_ = np.array(values, float)
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((-1, 1), repeat=len(values))]
    assert paired_permutation(given_).p == pytest.approx(np.mean([s >= abs(sum(values)) for s in sums]))


def test_drawn_flips_agree_with_all_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = sample(14, 0.4)
    exact = paired_permutation(differences)
    monkeypatch.setattr(significance, "EXACT_UP_TO", 3)
    drawn = paired_permutation(differences, flips=40_000)
    assert "all" in exact.method and "40,000" in drawn.method
    assert drawn.p == pytest.approx(exact.p, abs=0.01)


def test_permutation_against_scipy() -> None:
    differences = sample(80, 0.2, seed=3)
    theirs = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1)
    assert paired_permutation(differences, flips=20_000).p == pytest.approx(theirs.pvalue, abs=0.012)


def test_permutation_p_is_never_zero_and_symmetric() -> None:
    differences = sample(200, 5.0)
    assert paired_permutation(differences, flips=999).p == 1 / 1000
    assert paired_permutation(-differences).p == paired_permutation(differences).p


def test_missing_people_are_left_out() -> None:
    differences = sample(100)
    holed = np.insert(differences, [10, 50], np.nan)
    assert paired_t(holed) == paired_t(differences)
    assert wilcoxon(holed) == wilcoxon(differences)
    tested = paired_permutation(holed)
    assert tested.n == 100 and tested.statistic == pytest.approx(differences.mean())


def test_permutation_has_the_same_bits_for_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.stack([sample(100, s) for s in (0.0, 0.1, 0.2)], axis=1)
    whole = paired_permutations(table, flips=500)
    for size in (1, 100 * 9 * 7):
        monkeypatch.setattr(significance, "BLOCK_BYTES", size)
        assert [t.p for t in paired_permutations(table, flips=500)] == [t.p for t in whole]
    assert [paired_permutation(column, flips=500).p for column in table.T] == [t.p for t in whole]


@pytest.mark.parametrize("test", [paired_permutation, paired_t, wilcoxon])
def test_no_difference_has_p_one(test) -> None:
    assert test(np.zeros(50)).p == 1.0
    assert test(np.empty(0)).p == 1.0


@pytest.mark.parametrize("test", ["permutation", "t", "wilcoxon"])
def test_p_values_are_uniform_when_nothing_differs(test: str) -> None:
    rng = np.random.default_rng(11)
    table = rng.laplace(size=(60, 400)) * rng.choice([0.0, 1.0], (60, 400), p=[0.3, 0.7])
    if test == "permutation":
        p = np.array([t.p for t in paired_permutations(table, flips=1000, seed=2)])
    else:
        one = paired_t if test == "t" else wilcoxon
        p = np.array([one(column).p for column in table.T])
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert 0.02 < (p < 0.05).mean() < 0.085


# -- t, Wilcoxon, effect ----------------------------------------------------------------------------


def test_t_and_wilcoxon_against_scipy() -> None:
    differences = sample(50, 0.3, seed=5)
    t = stats.ttest_1samp(differences, 0.0)
    assert paired_t(differences).p == pytest.approx(t.pvalue, rel=1e-10)
    assert paired_t(differences).statistic == pytest.approx(t.statistic, rel=1e-10)
    for zeros in ("wilcox", "pratt"):
        with_zeros = np.concatenate([differences, np.zeros(5)])
        assert wilcoxon(with_zeros, zeros=zeros).p == stats.wilcoxon(with_zeros, zero_method=zeros).pvalue


def test_t_by_hand() -> None:
    # mean 2, sd 1, n 3: t = 2 / (1 / sqrt 3)
    tested = paired_t(np.array([1.0, 2.0, 3.0]))
    assert tested.statistic == pytest.approx(2 * np.sqrt(3))
    assert paired_t(np.full(5, 0.25)).p == 0.0


def test_effect_size_by_hand() -> None:
    assert effect_size_dz(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert effect_size_dz(np.zeros(4)) == 0.0
    assert effect_size_dz(np.full(4, -1.0)) == -np.inf
    assert np.isnan(effect_size_dz(np.array([np.nan])))


# -- many tests -------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    # ascending .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, never falling: .04 .06 .06 .06
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03, 0.02])), [0.06, 0.04, 0.06, 0.06])


def test_benjamini_hochberg_by_hand() -> None:
    # ascending .01 .02 .03 .5 times 4/1 4/2 4/3 4/4 = .04 .04 .04 .5
    np.testing.assert_allclose(benjamini_hochberg(np.array([0.5, 0.01, 0.03, 0.02])), [0.5, 0.04, 0.04, 0.04])


@given(st.lists(st.floats(0, 1), max_size=12))
@settings(max_examples=60, deadline=None)
def test_adjusted_p_values_are_ordered(values: list[float]) -> None:
    p = np.array(values)
    strict, loose = holm(p), benjamini_hochberg(p)
    assert (strict >= loose - 1e-15).all() and (loose >= p - 1e-15).all() and (strict <= 1).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(strict[order]) >= 0).all() and (np.diff(loose[order]) >= -1e-15).all()
    if len(p):
        np.testing.assert_allclose(loose, stats.false_discovery_control(p), atol=1e-12)


@pytest.mark.parametrize("wrong", [[0.5, 1.2], [-0.1], [float("nan")]])
def test_wrong_p_values_are_refused(wrong: list[float]) -> None:
    with pytest.raises(DataError):
        holm(np.array(wrong))


# -- bootstrap --------------------------------------------------------------------------------------


def test_bootstrap_mean_is_exact_and_its_interval_like_the_formula() -> None:
    values = sample(2000)
    found = bootstrap_ci(values, resamples=4000)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.1 * error)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_against_scipy(method: str) -> None:
    values = np.random.default_rng(1).exponential(size=60)
    found = bootstrap_ci(values, method=method, resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, method=method, n_resamples=20_000, rng=2).confidence_interval
    assert found.low == pytest.approx(theirs.low, abs=0.03)
    assert found.high == pytest.approx(theirs.high, abs=0.03)


def test_bca_leans_with_the_skew() -> None:
    values = np.random.default_rng(1).exponential(size=40)
    plain, leaning = bootstrap_ci(values), bootstrap_ci(values, method="bca")
    assert leaning.low > plain.low and leaning.high > plain.high


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    found = bootstrap_ci(rng.normal(size=(80, 500)), resamples=600)
    assert 0.90 < ((found.low <= 0) & (found.high >= 0)).mean() < 0.975


def test_columns_share_resamples_and_equal_single_columns() -> None:
    table = np.stack([sample(50), sample(50, seed=1)], axis=1)
    table[3, 1] = np.nan
    both = bootstrap_ci(table)
    for at in range(2):
        one = bootstrap_ci(table[:, at])
        np.testing.assert_allclose(one, [part[at] for part in both], rtol=1e-12)


def test_bootstrap_is_the_same_for_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = sample(64)
    whole = [bootstrap_ci(values, statistic=s, resamples=101) for s in ("mean", "median")]
    monkeypatch.setattr(bootstrap, "BLOCK_BYTES", 24 * 64 * 7)
    cut = [bootstrap_ci(values, statistic=s, resamples=101) for s in ("mean", "median")]
    np.testing.assert_allclose(cut, whole, rtol=1e-12)
    assert bootstrap_ci(values, resamples=101, seed=1).low != pytest.approx(whole[0].low)


def test_weights_and_clusters_by_hand() -> None:
    values, weights = np.array([1.0, 2.0, np.nan]), np.array([3.0, 1.0, 5.0])
    assert bootstrap_ci(values, weights=weights).value == pytest.approx(5 / 4)
    doubled = np.repeat(sample(40), 3)
    groups = np.repeat(np.arange(40), 3)
    naive, grouped, plain = bootstrap_ci(doubled), bootstrap_ci(doubled, clusters=groups), bootstrap_ci(sample(40))
    assert grouped.high - grouped.low == pytest.approx(plain.high - plain.low, rel=1e-9)
    assert naive.high - naive.low < 0.7 * (grouped.high - grouped.low)


def test_median_interval() -> None:
    values = np.append(sample(101), 1e6)
    found = bootstrap_ci(values, statistic="median")
    assert found.value == np.median(values) and found.low < found.value < found.high < 1


def test_nobody_and_one_person() -> None:
    assert np.isnan(bootstrap_ci(np.full(3, np.nan))).all()
    assert np.isnan(bootstrap_ci(np.empty(0))).all()
    assert tuple(bootstrap_ci(np.array([0.25]), method="bca")) == (0.25, 0.25, 0.25, 0.0)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="confidence"):
        bootstrap_ci(sample(), confidence=95)
    with pytest.raises(ConfigError, match="median"):
        bootstrap_ci(sample(), statistic="median", method="bca")
    with pytest.raises(DataError, match="infinity"):
        bootstrap_ci(np.array([1.0, np.inf]))
    with pytest.raises(DataError, match="one column"):
        paired_permutation(np.zeros((3, 2)))
