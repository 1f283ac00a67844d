"""Arms of claims about rankers: the gap and its interval, and arms taken up again."""

import numpy as np
import pytest

from palate.catalog.spaces import Range
from palate.contracts.conformance_ranker import click_rows
from palate.evaluation.metrics.predictive import auc
from palate.study.claims import Trial
from palate.study.effects import over_seeds
from palate.study.kept import Kept
from palate.study.row_arms import Arm, auc_gap, tuned_arm

PARTS = {"train": click_rows(300), "valid": click_rows(100, seed=1), "test": click_rows(100, seed=2)}


def test_the_gap_is_of_means_over_seeds_and_paired():
    rng = np.random.default_rng(0)
    truth = (rng.random(400) < 0.4).astype(np.float32)
    good = Arm(np.stack([truth + rng.normal(size=400), truth + rng.normal(size=400)]).astype(np.float32), {})
    bad = Arm(rng.normal(size=(3, 400)).astype(np.float32), {})
    gap = auc_gap(truth, good, bad, resamples=200, rows=400)
    expected = np.mean([auc(truth, p) for p in good.answers]) - np.mean([auc(truth, p) for p in bad.answers])
    assert gap.value == pytest.approx(expected)
    assert 0 < gap.low < gap.value < gap.high
    assert gap.details["rows"] == 400
    spread = [np.std([auc(truth, p) for p in arm.answers], ddof=1) for arm in (good, bad)]
    np.testing.assert_allclose(gap.details["sd over seeds"], spread)
    same = auc_gap(truth, good, good, resamples=50)
    assert same.value == same.low == same.high == 0


def test_seeds_that_differ_widen_the_interval_of_a_gap():
    rng = np.random.default_rng(1)
    truth = (rng.random(2_000) < 0.5).astype(np.float32)
    noise = rng.normal(size=(4, 2_000))
    base = Arm((truth + noise[:1]).astype(np.float32), {})
    same = Arm(np.repeat(truth[None] * 1.5 + noise[1:2], 4, 0).astype(np.float32), {})
    apart = Arm((truth * np.array([[0.5], [1.0], [2.0], [3.0]]) + noise).astype(np.float32), {})
    narrow, wide = (auc_gap(truth, arm, base, resamples=300) for arm in (same, apart))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    assert narrow.details["sd over seeds"] == [0.0, None]


def test_rows_of_one_person_are_drawn_together():
    rng = np.random.default_rng(2)
    truth = np.repeat((rng.random(100) < 0.5).astype(np.float32), 16)
    one, other = (Arm((truth + np.repeat(rng.normal(size=100), 16))[None].astype(np.float32), {}) for _ in range(2))
    alone, together = (auc_gap(truth, one, other, resamples=300, people=p) for p in (None, np.arange(1600) // 16))
    assert alone.value == together.value
    assert 3 < (together.high - together.low) / (alone.high - alone.low) < 5


def test_values_over_seeds_have_a_t_interval():
    found = over_seeds(np.array([1.0, 2.0, 3.0]))
    assert found.value == 2
    assert found.high - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert over_seeds(np.array([1.0])).low == -np.inf


def test_an_arm_is_tuned_fitted_and_taken_up(tmp_path):
    calls = []

    def facts(model):
        calls.append(model.name)
        return {"rate": model.config.lr}

    def arm():
        trial = Trial((0, 1), parts=Kept(tmp_path / "kept"))
        return tuned_arm(
            trial, "rows", PARTS, "lr", space={"lr": Range(0.01, 0.1, log=True)}, base={"epochs": 2}, trials=2, facts=facts
        )

    first, second = arm(), arm()
    assert first.answers.shape == (2, 100)
    np.testing.assert_array_equal(first.answers, second.answers)
    assert calls == ["lr", "lr"]
    assert first.facts == ({"rate": first.settings["lr"]},) * 2
    told = first.told(PARTS["test"].labels["click"])
    assert set(told) == {"AUC", "AUC, sd over seeds", "log loss", "AUC on validation", "settings"}
    assert told["AUC on validation"] == first.valid
    low, high = told["log loss"][1:]
    assert low < told["log loss"][0] < high
