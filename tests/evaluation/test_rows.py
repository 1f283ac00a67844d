"""Rows judged: values as the metrics have them, intervals that hold the truth, groups drawn whole."""

from __future__ import annotations

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.evaluation.metrics import predictive
from palate.evaluation.rows import judge_rows, paired_rows
from palate.runtime import generator


def clicks(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = generator(seed, "clicks")
    p = rng.random(n)
    return (rng.random(n) < p).astype(np.float32), p.astype(np.float32), rng.integers(max(2, n // 10), size=n)


def test_values_are_those_of_the_metrics() -> None:
    y, p, g = clicks(500)
    found = {v.metric: v.value for v in judge_rows(y, p, groups=g)}
    assert found == {
        "auc": predictive.auc(y, p),
        "gauc": predictive.gauc(y, p, g)[0],
        "log_loss": predictive.log_loss(y, p),
        "ece": predictive.expected_calibration_error(y, p),
    }
    y[::3] = np.nan
    seen = ~np.isnan(y)
    assert judge_rows(y, p, metrics=["auc"])[0].value == predictive.auc(y[seen], p[seen])
    assert {v.metric for v in judge_rows(np.array([1.0, 2.5, 3.0]), np.array([1.0, 2.0, 3.0]))} == {"rmse", "mae"}


def test_intervals_hold_the_true_value_about_as_often_as_they_say() -> None:
    truth = 5 / 6  # AUC of uniform chances that are right
    held = [v.low <= truth <= v.high for s in range(60) for v in judge_rows(*clicks(300, s)[:2], metrics=["auc"], seed=s)]
    assert 0.85 <= np.mean(held) <= 1.0


def test_groups_are_drawn_whole_so_repeats_widen_the_interval() -> None:
    y, p, _ = clicks(100)
    y, p, g = np.repeat(y, 20), np.repeat(p, 20), np.repeat(np.arange(100), 20)
    [alone], [whole] = judge_rows(y, p, metrics=["auc"]), judge_rows(y, p, groups=g, metrics=["auc"])
    assert whole.high - whole.low > 3 * (alone.high - alone.low)


@pytest.mark.parametrize("metric", ["auc", "pr_auc", "log_loss", "brier", "calibration_ratio"])
def test_intervals_over_groups_are_those_of_as_many_rows(metric: str) -> None:
    """Rows that stand twenty times in a group of their own say as much as once."""
    y, p, _ = clicks(400)
    [once] = judge_rows(y, p, metrics=[metric], resamples=400)
    many, g = (np.repeat(y, 20), np.repeat(p, 20)), np.repeat(np.arange(400), 20)
    [whole], [alone] = judge_rows(*many, groups=g, metrics=[metric], resamples=400), judge_rows(*many, metrics=[metric])
    width = once.high - once.low
    assert whole.high - whole.low == pytest.approx(width, rel=0.2) and alone.high - alone.low < width / 3


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_pairs_draw_groups_whole(metric: str) -> None:
    y, p, _ = clicks(200)
    worse = 0.5 * p + 0.5 * generator(1, "noise").random(len(p))
    many, g = [np.repeat(a, 20) for a in (y, p, worse)], np.repeat(np.arange(200), 20)
    [whole, alone] = (paired_rows(many[0], [many[1]], [many[2]], metric=metric, groups=groups) for groups in (g, None))
    assert whole.value == alone.value and whole.high - whole.low > 3 * (alone.high - alone.low)


def test_pairs_are_judged_on_the_same_rows() -> None:
    y, p, _ = clicks(2_000)
    worse = 0.5 * p + 0.5 * generator(1, "noise").random(len(p))
    found = paired_rows(y, [p], [worse])
    assert found.low > 0 and found.value == pytest.approx(predictive.auc(y, p) - predictive.auc(y, worse))
    turned = paired_rows(y, [worse], [p], metric="log_loss")
    assert turned.high < 0
    assert paired_rows(y, [p], [p]).value == 0


@pytest.mark.parametrize(
    ("metrics", "truth", "words"), [(["auk"], [0, 1], "auc"), (["gauc"], [0, 1], "groups"), (["auc"], [0, 2.5], "0 and 1")]
)
def test_metrics_that_do_not_fit_are_refused(metrics, truth, words) -> None:
    with pytest.raises(ConfigError, match=words):
        judge_rows(np.array(truth, float), np.array([0.1, 0.2]), metrics=metrics)
