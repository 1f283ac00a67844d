"""Cross-fitting for claims: how rows are cut, and that nothing is predicted by a model that was fitted on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.catalog.spaces import Range
from palate.data.row_fields import RowField
from palate.errors import DataError
from palate.study.claims import Trial
from palate.study.crossed_arms import Crossed, folds_of


def rows(n: int = 600) -> pa.Table:
    rng = np.random.default_rng(0)
    x = rng.integers(4, size=n)
    label = (rng.random(n) < 0.2 + 0.2 * x).astype(float)
    return pa.table({"row": np.arange(n), "x": [f"v{k}" for k in x], "label": label})


def numbers(part: Any) -> list[int]:
    return sorted(part.features.column("row").to_pylist())


def test_folds_and_validation_have_the_proportions_of_the_labels():
    labels = np.repeat([0.0, 1.0], [900, 100])
    np.random.default_rng(1).shuffle(labels)
    folds = folds_of(labels)
    assert np.bincount(folds + 1).tolist() == [100, 180, 180, 180, 180, 180]
    assert [labels[folds == k].sum() for k in range(-1, 5)] == [10, 18, 18, 18, 18, 18]
    np.testing.assert_array_equal(folds, folds_of(labels))
    assert (folds != folds_of(labels, seed=1)).any()


def test_a_label_with_too_few_rows_is_refused():
    with pytest.raises(DataError, match="too few rows of a label"):
        folds_of(np.array([0.0] * 100 + [1.0] * 5))


def test_every_row_but_validation_is_tested_once_and_never_fitted_there():
    trial, table = Trial((0,)), rows()
    cut = Crossed.of(trial, "made", table)
    assert set(trial.fingerprints) == {"made", "made, folds"}
    tested = sorted(r for part in cut.parts for r in numbers(part["test"]))
    held = numbers(cut.parts[0]["valid"])
    assert sorted(tested + held) == list(range(600)) and len(held) == 60
    for part in cut.parts:
        assert numbers(part["valid"]) == held
        assert sorted(numbers(part["train"]) + numbers(part["test"]) + held) == list(range(600))
    order = [r for part in cut.parts for r in part["test"].features.column("row").to_pylist()]
    np.testing.assert_array_equal(cut.truth, np.asarray(table.column("label"))[order])
    assert cut.people is None
    whose = np.array([f"p{r % 7}" for r in range(600)])
    assert Crossed.of(trial, "made", table, people=whose).people.tolist() == whose[order].tolist()


def test_an_arm_answers_each_fold_by_its_own_fit(monkeypatch):
    """A lookup of training labels by row would be right on every row that it has seen: on test rows it knows nothing."""
    pytest.importorskip("torch")
    trial = Trial((0, 1))
    cut = Crossed.of(trial, "made", rows())
    base = {"epochs": 3, "fields": (RowField("row", "category"), RowField("x", "category"))}
    arm = cut.arm(trial, "lr", space={"lr": Range(0.05, 0.1, log=True)}, base=base, trials=1)
    assert arm.answers.shape == (2, len(cut.truth)) == (2, 540)
    told = arm.told(cut.truth)["AUC"]
    assert 0.6 < told < 0.8, "x tells something, the row's own number nothing"
    at = 0
    for part in cut.parts:
        x = np.array(part["test"].features.column("x").to_pylist())
        own = arm.answers[0][at : at + len(x)]
        at += len(x)
        means = [own[x == f"v{k}"] for k in range(4)]
        assert all(np.ptp(one) < 1e-6 for one in means), "unknown rows with the same x are answered alike in a fold"
        assert means[0][0] < means[3][0]
