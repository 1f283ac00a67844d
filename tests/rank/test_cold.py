"""COLD: gates find the fields that matter, the budget is kept, and what was dropped is not read."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError
from palate.evaluation.metrics.predictive import auc
from palate.rank.cold import Cold

QUICK: dict[str, Any] = {"epochs": 4, "batch_size": 64, "lr": 0.02, "dim": 4, "hidden": (16, 8)}


def noisy(n: int = 1_500, seed: int = 0) -> Rows:
    """Two fields that matter, and six that don't."""
    rng = np.random.default_rng(seed)
    good, noise = rng.integers(6, size=(2, n)), rng.integers(6, size=(6, n))
    logit = 2 * np.sin(good[0]) + 2 * np.cos(2 * good[1])
    columns = {f"noise{at}": [f"v{x}" for x in column] for at, column in enumerate(noise)}
    columns |= {f"good{at}": [f"v{x}" for x in column] for at, column in enumerate(good)}
    return Rows(pa.table(columns), {"click": (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)})


@pytest.fixture(scope="module")
def model() -> Cold:
    return Cold(**{**QUICK, "epochs": 10}, embedding_reg=0.1, budget=0.55).fit(noisy())


def test_gates_find_what_matters(model: Cold) -> None:
    assert set(list(model.gates_)[:2]) == {"good0", "good1"}
    assert list(model.gates_.values()) == sorted(model.gates_.values(), reverse=True)
    assert all(0 < gate < 1 for gate in model.gates_.values())


def test_the_budget_is_kept_and_used(model: Cold) -> None:
    def cost(k: int) -> float:  # multiplications: vectors, dense layers
        return k * 4 + k * 4 * 16 + 16 * 8 + 8

    k = len(model.kept_)
    assert cost(k) / cost(8) <= 0.55 < cost(k + 1) / cost(8)
    assert model.record_.notes["spent"] == pytest.approx(cost(k) / cost(8))
    assert model.kept_ == tuple(model.gates_)[:k]
    assert model.record_.notes["kept"] == list(model.kept_)
    assert model.net_.deep.layers[0].weight.shape == (16, 4 * k)
    assert not any("squeeze" in name for name in model.net_.state_dict())


def test_what_was_dropped_is_not_needed(model: Cold) -> None:
    new = noisy(400, seed=1)
    whole = model.predict(new).values
    few = Rows(new.features.select(list(model.kept_)))
    np.testing.assert_array_equal(model.predict(few).values, whole)
    assert auc(new.labels["click"], whole[:, 0]) > 0.8
    with pytest.raises(DataError, match="a column that the model reads is missing"):
        model.predict(Rows(new.features.drop_columns(["good0"])))


def test_the_choice_is_saved(model: Cold, tmp_path: Path) -> None:
    model.save(tmp_path / "bundle")
    again = Cold.load(tmp_path / "bundle")
    assert again.kept_ == model.kept_ and again.gates_ == model.gates_
    assert again.export()["kept"] == list(model.kept_)
    np.testing.assert_array_equal(again.predict(noisy(50)).values, model.predict(noisy(50)).values)


def test_time_may_be_the_budget() -> None:
    rows = noisy(600)
    assert len(Cold(**QUICK, budget_us=1e6).fit(rows).kept_) == 8
    with pytest.raises(ConfigError, match="the best field alone costs more than the budget"):
        Cold(**QUICK, budget_us=1e-6).fit(rows)


def test_parts_of_a_cross_are_kept_with_it() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(4, size=(2, 1_200))
    table = pa.table({"first": [f"{x}" for x in first], "second": [f"{x}" for x in second], "noise": rng.normal(size=1_200)})
    rows = Rows(table, {"click": ((first + second) % 2).astype(np.float32)})
    fields = (
        RowField("first", "category"), RowField("second", "category"), RowField("noise", "number"),
        RowField("both", "cross", of=("first", "second")),
    )  # fmt: skip
    model = Cold(**{**QUICK, "epochs": 8}, fields=fields, budget=1.0).fit(rows)
    assert model._with_needed(("noise", "both")) == ("noise", "both", "first", "second")
    assert auc(rows.labels["click"], model.predict(rows).values[:, 0]) > 0.95


def test_a_fit_is_resumed_in_both_halves(tmp_path: Path) -> None:
    rows, valid = click_rows(200), click_rows(100, seed=1)
    whole = Cold(**QUICK, budget=0.9).fit(rows, valid)
    first = Cold(**QUICK, budget=0.9).fit(rows, valid, checkpoint=tmp_path)
    seen: list[int] = []
    again = Cold(**QUICK, budget=0.9).fit(rows, valid, checkpoint=tmp_path, callbacks=[lambda e: seen.append(e.epoch)])
    assert not seen, "both halves were at their end"
    for model in (first, again):
        np.testing.assert_array_equal(model.predict(valid).values, whole.predict(valid).values)
