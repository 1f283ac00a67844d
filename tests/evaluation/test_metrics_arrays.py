"""Metrics of plain arrays: predicted values, similarities, business."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.spatial import distance

from palate.errors import DataError
from palate.evaluation.metrics import business as b
from palate.evaluation.metrics import fairness, sampling
from palate.evaluation.metrics import predictive as p
from palate.evaluation.metrics import similarity as s

Y, GUESS = [1.0, 2.0, 4.0, 0.0], [2.0, 2.0, 1.0, 1.0]
LABEL, CHANCE = [1, 0, 1, 0, 1], [0.9, 0.4, 0.4, 0.1, 0.6]


def test_errors_by_hand() -> None:
    assert p.mae(Y, GUESS) == 5 / 4
    assert p.mse(Y, GUESS) == 11 / 4
    assert p.rmse(Y, GUESS) == pytest.approx(math.sqrt(11 / 4))
    assert p.mape(Y, GUESS) == (pytest.approx(100 * (1 + 0 + 3 / 4) / 3), 1)
    assert p.r2(Y, GUESS) == pytest.approx(1 - 11 / 8.75)
    assert p.explained_variance(Y, GUESS) == pytest.approx(1 - (11 / 4 - (1 / 4) ** 2) / (8.75 / 4))
    assert math.isnan(p.r2([2, 2], [1, 2]))
    assert math.isnan(p.mape([0.0], [1.0])[0])


def test_chances_by_hand() -> None:
    assert p.auc(LABEL, CHANCE) == pytest.approx(5.5 / 6)
    assert p.accuracy(LABEL, CHANCE) == 4 / 5
    assert (p.precision(LABEL, CHANCE), p.recall(LABEL, CHANCE)) == (1.0, pytest.approx(2 / 3))
    assert p.f1(LABEL, CHANCE) == pytest.approx(0.8)
    assert p.brier(LABEL, CHANCE) == pytest.approx((0.01 + 0.16 + 0.36 + 0.01 + 0.16) / 5)
    loss = -(math.log(0.9) + math.log(0.6) + math.log(0.4) + math.log(0.9) + math.log(0.6)) / 5
    assert p.log_loss(LABEL, CHANCE) == pytest.approx(loss)
    base = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    assert p.normalised_entropy(LABEL, CHANCE) == pytest.approx(loss / base)
    assert p.relative_information_gain(LABEL, CHANCE) == pytest.approx(1 - loss / base)
    assert p.calibration_ratio(LABEL, CHANCE) == pytest.approx(2.4 / 3)
    # Bins of one half: {.4, .4, .1} with one of three, {.9, .6} with two of two.
    assert p.expected_calibration_error(LABEL, CHANCE, 2) == pytest.approx((abs(1 - 0.9) + abs(2 - 1.5)) / 5)
    assert p.log_loss([1], [0.0]) == pytest.approx(-math.log(1e-7))
    assert p.log_loss([1], [0.0], clip=0.01) == pytest.approx(-math.log(0.01))
    with pytest.raises(DataError, match="clip"):
        p.log_loss([1], [0.0], clip=0)
    assert math.isnan(p.auc([1, 1], [0.1, 0.2]))
    assert math.isnan(p.normalised_entropy([1, 1], [0.5, 0.5]))


def test_grouped_auc_by_hand() -> None:
    label, score, who = [1, 0, 1, 0, 0, 1, 1], [3, 1, 1, 1, 2, 0.5, 9], ["a", "a", "b", "b", "b", "b", "c"]
    # a: 1 of weight 2; b: 1 ties 1 and loses to 2, .5 loses both: ½ of 4 pairs, weight 4; c has one class.
    value, skipped = p.gauc(label, score, who)
    assert (value, skipped) == (pytest.approx((2 * 1 + 4 * 0.5 / 4) / 6), 1)
    alone, _ = p.gauc(label, score, [0] * 7)
    assert alone == pytest.approx(p.auc(label, score))
    assert math.isnan(p.gauc([1, 1], [1, 2], [0, 0])[0])


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_against_scikit_learn(seed: int) -> None:
    m = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    y, guess = rng.normal(size=50), rng.normal(size=50)
    label = np.concatenate([[0, 1], rng.integers(0, 2, 48)])
    chance = np.round(rng.random(50), 1).clip(0.05, 0.95)
    pairs = [
        (p.mae(y, guess), m.mean_absolute_error(y, guess)),
        (p.mse(y, guess), m.mean_squared_error(y, guess)),
        (p.rmse(y, guess), m.root_mean_squared_error(y, guess)),
        (p.r2(y, guess), m.r2_score(y, guess)),
        (p.explained_variance(y, guess), m.explained_variance_score(y, guess)),
        (p.mape(y, guess)[0], 100 * m.mean_absolute_percentage_error(y, guess)),
        (p.auc(label, chance), m.roc_auc_score(label, chance)),
        (p.pr_auc(label, chance), m.average_precision_score(label, chance)),
        (p.log_loss(label, chance), m.log_loss(label, chance)),
        (p.brier(label, chance), m.brier_score_loss(label, chance)),
        (p.accuracy(label, chance), m.accuracy_score(label, chance >= 0.5)),
        (p.precision(label, chance), m.precision_score(label, chance >= 0.5, zero_division=0)),
        (p.recall(label, chance), m.recall_score(label, chance >= 0.5)),
        (p.f1(label, chance), m.f1_score(label, chance >= 0.5, zero_division=0)),
    ]
    np.testing.assert_allclose(*zip(*pairs, strict=True), rtol=1e-9, atol=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_predictive_properties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, guess = rng.normal(size=30), rng.normal(size=30)
    label, score, who = np.concatenate([[0, 1], rng.integers(0, 2, 28)]), rng.normal(size=30), rng.integers(0, 4, 30)
    assert p.rmse(y, guess) >= p.mae(y, guess) - 1e-12
    assert p.r2(y, guess) == pytest.approx(p.explained_variance(y, guess) - (y - guess).mean() ** 2 / y.var())
    assert p.auc(label, score) == pytest.approx(p.auc(label, np.exp(score)))
    assert p.auc(label, score) == pytest.approx(1 - p.auc(label, -score))
    assert p.auc(label, np.zeros(30)) == 0.5
    own = p.by_group(p.auc, who, label, score)
    sizes = {key: (who == key).sum() for key in own if not math.isnan(own[key])}
    if sizes:
        wanted = sum(own[k] * n for k, n in sizes.items()) / sum(sizes.values())
        assert p.gauc(label, score, who)[0] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("function", "first", "second", "words"),
    [
        (p.mae, [], [], "length"),
        (p.mae, [1, 2], [1], "length"),
        (p.rmse, [1, np.nan], [1, 2], "finite"),
        (p.auc, [0, 2], [0.1, 0.2], "0 or 1"),
        (p.log_loss, [0, 1], [0.5, 1.5], "between 0 and 1"),
        (s.cosine, [1, 2], [1], "one length"),
        (s.euclidean, [], [], "one length"),
        (s.pearson, [1, np.inf], [1, 2], "finite"),
    ],
)
def test_wrong_arrays_are_refused(function, first, second, words) -> None:
    with pytest.raises(DataError, match=words):
        function(first, second)


# --- similarity --------------------------------------------------------------------------------------------------------


def test_similarity_by_hand() -> None:
    x, y = [1.0, 2.0, 3.0], [3.0, 2.0, 5.0]
    assert s.cosine(x, y) == pytest.approx(22 / math.sqrt(14 * 38))
    assert s.cosine([0, 0], [1, 2]) == 0
    assert s.euclidean(x, y) == pytest.approx(math.sqrt(8))
    assert s.manhattan(x, y) == 4
    assert s.chebyshev(x, y) == 2
    assert (s.hamming(x, y), s.hamming(x, y, normalised=True)) == (2, pytest.approx(2 / 3))
    assert (s.jaccard([1, 2, 3], [2, 3, 4]), s.jaccard([], [])) == (0.5, 0)
    assert s.dice([1, 2, 3], [3, 4]) == 0.4
    assert (s.overlap([1, 2, 3], [3, 2]), s.overlap([], [1])) == (1, 0)
    assert s.similarity_of_distance(3) == 0.25
    assert s.similarity_of_distance(3, "negative") == -3
    assert s.lift(2, 4, 5, 10) == 1
    assert s.pmi(4, 4, 5, 10) == 1
    assert s.pmi(0, 4, 5, 10) == -math.inf
    assert (s.significance_weight(10), s.significance_weight(80)) == (0.2, 1)
    assert s.pearson([1, 1, 1], x) == s.spearman(x, [2, 2, 2]) == s.kendall([1, 1, 1], x) == 0


def test_adjusted_cosine_is_not_pearson() -> None:
    nan = np.nan
    table = np.array([[5, 3, 1], [4, 2, nan], [nan, 1, 5], [2, 5, 2]], float)
    own = table[[0, 1, 3]] - np.array([[3], [3], [3]])
    wanted = (own[:, 0] * own[:, 1]).sum() / math.sqrt((own[:, 0] ** 2).sum() * (own[:, 1] ** 2).sum())
    assert s.adjusted_cosine(table, 0, 1) == pytest.approx(wanted)
    assert s.adjusted_cosine(table, 0, 1) != pytest.approx(s.pearson([5, 4, 2], [3, 2, 5]))
    assert s.adjusted_cosine(np.array([[1, nan], [nan, 2]]), 0, 1) == 0


def test_rank_biased_overlap() -> None:
    assert s.rank_biased_overlap([1, 2, 3], [1, 2, 3], 0.7) == pytest.approx(1)
    assert s.rank_biased_overlap([1, 2], [3, 4]) == 0
    assert s.rank_biased_overlap([], [1]) == 0
    # One common item at depth 2 of two lists of two: (1-p)/p · p²/2 + ½ p².
    assert s.rank_biased_overlap([1, 2], [3, 1], 0.5) == pytest.approx(0.5 / 0.5 * 0.25 / 2 + 0.25 / 2)
    assert s.rank_biased_overlap([1, 2], [1, 2, 3]) == s.rank_biased_overlap([1, 2, 3], [1, 2])
    # A prefix of the other list agrees at every depth seen.
    assert s.rank_biased_overlap([1, 2], [1, 2, 3], 0.8) == pytest.approx(1)
    with pytest.raises(DataError, match="twice"):
        s.rank_biased_overlap([1, 1], [1])


def test_lists_of_two_days() -> None:
    assert s.temporal_diversity([1, 2, 3], [3, 4, 5], 3) == pytest.approx(2 / 3)
    assert s.list_overlap([1, 2, 3], [3, 4, 5], 3) == pytest.approx(1 / 3)


vectors = arrays(np.float64, 6, elements=st.floats(-1e3, 1e3).map(lambda v: round(v, 2)))


@given(vectors, vectors)
@settings(max_examples=60, deadline=None)
def test_similarity_properties(x: np.ndarray, y: np.ndarray) -> None:
    for alike in (s.cosine, s.pearson, s.spearman, s.kendall):
        assert -1 <= alike(x, y) <= 1
        assert alike(x, y) == pytest.approx(alike(y, x))
    if np.ptp(x) and np.ptp(y):
        assert s.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
        assert s.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert s.chebyshev(x, y) <= s.euclidean(x, y) + 1e-9 <= s.manhattan(x, y) + 2e-9
    a, c = set(np.round(x).tolist()), set(np.round(y).tolist())
    assert s.jaccard(a, c) <= s.dice(a, c) <= s.overlap(a, c)


@given(vectors, vectors)
@settings(max_examples=60, deadline=None)
def test_distances_against_scipy(x: np.ndarray, y: np.ndarray) -> None:
    assert s.euclidean(x, y) == pytest.approx(distance.euclidean(x, y))
    assert s.manhattan(x, y) == pytest.approx(distance.cityblock(x, y))
    assert s.chebyshev(x, y) == distance.chebyshev(x, y)
    assert s.hamming(x, y, normalised=True) == pytest.approx(distance.hamming(x, y))
    if np.abs(x).max() > 0.1 and np.abs(y).max() > 0.1:
        assert s.cosine(x, y) == pytest.approx(1 - distance.cosine(x, y), abs=1e-9)
    a, c = x > 0, y > 0
    if (a | c).any():
        assert s.jaccard(np.flatnonzero(a), np.flatnonzero(c)) == pytest.approx(1 - distance.jaccard(a, c))
        assert s.dice(np.flatnonzero(a), np.flatnonzero(c)) == pytest.approx(1 - distance.dice(a, c))


@given(arrays(np.float64, (5, 3), elements=st.integers(1, 5).map(float)))
@settings(max_examples=40, deadline=None)
def test_adjusted_cosine_is_the_cosine_of_ratings_centred_by_user(table: np.ndarray) -> None:
    centred = table - table.mean(axis=1, keepdims=True)
    assert s.adjusted_cosine(table, 0, 1) == pytest.approx(s.cosine(centred[:, 0], centred[:, 1]), abs=1e-9)
    # Pearson's is the same thing with the means of the items, here those of the transposed table.
    own = table[:, :2] - table[:, :2].mean(axis=0)
    assert s.pearson(table[:, 0], table[:, 1]) == pytest.approx(s.cosine(own[:, 0], own[:, 1]), abs=1e-9)


# --- business ----------------------------------------------------------------------------------------------------------


def test_rates_by_hand() -> None:
    assert b.click_through_rate(5, 100) == 0.05
    assert b.conversion_rate(2, 5) * b.click_through_rate(5, 100) == pytest.approx(b.click_through_conversion_rate(2, 100))
    assert b.adoption_rate([10, 40, 0], 30) == pytest.approx(1 / 3)
    assert b.adoption_rate([10, 40], 30, impressions=100) == 0.01
    assert b.add_to_cart_rate(3, 4) == 0.75
    assert b.gross_merchandise_value([2.0, 3.0], [1, 4]) == 14
    assert b.gross_merchandise_value([2.0, 3.0]) == 5
    assert (b.revenue_per(10, 4), b.revenue_per_mille(10, 4000)) == (2.5, 2.5)
    assert (b.average_order_value(30, 3), b.units_per_order(9, 3)) == (10, 3)
    assert (b.return_rate(1, 4), b.take_rate(15, 100), b.hide_rate(1, 50)) == (0.25, 0.15, 0.02)
    assert (b.recommendation_share(35, 100), b.catalogue_turnover(20, 80)) == (0.35, 0.25)
    assert b.cost_per_thousand(0.5, 2000) == 0.25
    assert math.isnan(b.click_through_rate(0, 0))
    with pytest.raises(DataError, match="above its whole"):
        b.click_through_rate(5, 4)
    with pytest.raises(DataError):
        b.click_through_rate(-1, 4)


def test_people_over_time() -> None:
    assert b.churn([1, 2, 3, 3], [3, 4]) == pytest.approx(2 / 3)
    user, day = ["a", "a", "b", "b", "c", "d"], [0, 1, 0, 2, 1, 2]
    assert b.retention(user, day, 1) == pytest.approx(1 / 3)  # d's day has not come
    assert b.retention(user, day, 2) == 1 / 2
    assert math.isnan(b.retention(user, day, 7))
    assert b.mean_dwell([2, 4]) == 3
    assert b.mean_session_length(["x", "x", "y"]) == 1.5
    assert b.bounce_rate(["x", "x", "y"]) == 0.5
    assert b.sessions_per_user(["a", "a", "b", "a"], [1, 1, 1, 2]) == 1.5


def test_spread_of_sales() -> None:
    assert b.sales_gini([1, 1, 1]) == pytest.approx(0)
    assert b.sales_gini([0, 0, 9]) == pytest.approx(2 / 3)
    assert b.sales_tail_share([10, 1, 1, 1, 1], 0.2) == pytest.approx(4 / 14)
    assert b.lifetime_value(10, 0.5) == 20
    assert b.lifetime_value(10, 0.8, 0.1) == pytest.approx(sum(10 * (0.8 / 1.1) ** t for t in range(400)))
    assert b.lifetime_value(10, 1) == math.inf
    assert b.latency(np.arange(101))["p95"] == 95


def test_fairness() -> None:
    ratio = fairness.exposure_ratio([3, 1, 0, 0], [1, 1, 1, 1], ["x", "x", "y", "y"])
    assert ratio == {"x": 2.0, "y": 0.0}
    gap, means = fairness.group_gap([1, 0, np.nan, 1], ["x", "x", "y", "y"])
    assert (gap, means) == (0.5, {"x": 0.5, "y": 1.0})


def test_uplift_and_its_interval_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        base_t, base_c = rng.poisson(5, 400) + 1, rng.poisson(5, 400) + 1
        found = b.uplift(rng.binomial(base_t, 0.22), rng.binomial(base_c, 0.2), base_t, base_c)
        covered += found.low <= 0.1 <= found.high
    assert 0.92 <= covered / 300 <= 0.98
    assert b.uplift([2, 2], [1, 1]) == (1.0, 0.0, 1.0, 1.0)
    assert math.isnan(b.uplift([1, 2], [0, 0]).value)


def test_cuped_keeps_the_mean_and_loses_variance() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    y = 3 + 2 * x + rng.normal(size=500)
    better = b.cuped(y, x)
    assert better.mean() == pytest.approx(y.mean())
    assert better.var() == pytest.approx(y.var() * (1 - np.corrcoef(x, y)[0, 1] ** 2))
    np.testing.assert_array_equal(b.cuped([1, 2], [3, 3]), [1, 2])


def test_experiments() -> None:
    assert b.sample_ratio_mismatch([500, 510])[1] is False
    assert b.sample_ratio_mismatch([500, 700])[1] is True
    assert b.sample_ratio_mismatch([500, 250], [2, 1])[0] == pytest.approx(1)
    assert b.sample_size(1, 0.1) == pytest.approx(1600, rel=0.03)


def test_sampled_hit_rates_flatter() -> None:
    chance = sampling.sampled_hit_probability([1, 101, 1000], 1000, 99, 10)
    np.testing.assert_allclose(chance[[0, 2]], [1, 0], atol=1e-12)
    assert chance[1] == pytest.approx(stats.binom.cdf(9, 99, 100 / 999))
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, 999, (20_000, 99)) < 100).sum(1) < 10
    assert chance[1] == pytest.approx(drawn.mean(), abs=0.015)
    once = sampling.sampled_hit_probability([1, 11, 1000], 1000, 999, 10, draws="distinct")
    np.testing.assert_allclose(once, [1, 0, 0], atol=1e-12)  # all negatives drawn: the true rank counts
    with pytest.raises(DataError, match="ranks run"):
        sampling.sampled_hit_probability([0], 10, 5, 1)
