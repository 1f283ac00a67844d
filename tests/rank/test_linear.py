"""LR: the sum of weights by hand, and exact explanations."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError, NotFittedError
from palate.rank.linear import LR

QUICK = {"epochs": 3, "batch_size": 64, "lr": 0.05}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return click_rows(300)


@pytest.fixture(scope="module")
def model(rows: Rows) -> LR:
    return LR(**QUICK).fit(rows)


def logits(model: LR, rows: Rows) -> np.ndarray:
    p = model.predict(rows).values[:, 0].astype(np.float64)
    return np.log(p / (1 - p))


def test_the_logit_is_the_sum_of_weights() -> None:
    table = pa.table({"item": ["a", "b", "a"], "tags": [["x", "y"], [], ["y"]], "price": [1.0, 2.0, 3.0]})
    fields = (RowField("item", "category"), RowField("tags", "list"), RowField("price", "number", scale="none"))
    model = LR(fields=fields, epochs=0).fit(Rows(table, {"click": np.array([0, 1, 1], np.float32)}))
    assert (model.predict(Rows(table)).values == 0.5).all(), "it starts at even chances"
    main, layout = model.net_.main, model.encoder_.layout
    with torch.no_grad():
        main.weights.table[:, 0] = torch.arange(layout.n_codes) / 10
        main.weights.numbers[0, 0] = 0.5
        main.bias[0] = -1.0
    a, b = layout.bases["item"] + 2, layout.bases["item"] + 3  # the commoner first
    y, x = layout.bases["tags"] + 2, layout.bases["tags"] + 3
    expected = [-1 + a / 10 + (x + y) / 20 + 0.5, -1 + b / 10 + 1.0, -1 + a / 10 + y / 10 + 1.5]
    np.testing.assert_allclose(logits(model, Rows(table)), expected, atol=1e-5)


def test_an_explanation_adds_up(model: LR, rows: Rows) -> None:
    for at in range(10):
        found = model.explain_row(rows.slice(at, at + 1))
        assert found.exact and len(found.evidence) == 6
        assert found.score == pytest.approx(found.rest + sum(reason.weight for reason in found.evidence))
        assert found.score == pytest.approx(logits(model, rows)[at], abs=1e-4)
        weights = [abs(reason.weight) for reason in found.evidence]
        assert weights == sorted(weights, reverse=True)


def test_reasons_are_in_words(model: LR, rows: Rows) -> None:
    row = rows.slice(3, 4)
    words = {reason.subject.split("=")[0]: reason.subject for reason in model.explain_row(row).evidence}
    assert words["price"] == "price=missing"
    assert words["item"] == f"item={row.features.column('item')[0].as_py()}"
    assert words["history"] == "history=" + ", ".join(row.features.column("history")[0].as_py())[:60]


def test_crosses_are_named_by_what_they_join() -> None:
    table = pa.table({"a": ["x", "y"] * 20, "b": ["1", "1", "2", "2"] * 10})
    fields = (RowField("a", "category"), RowField("b", "category"), RowField("both", "cross", of=("a", "b")))
    model = LR(fields=fields, **QUICK).fit(Rows(table, {"click": np.array([0, 1] * 20, np.float32)}))
    subjects = {reason.subject for reason in model.explain_row(Rows(table.slice(1, 1))).evidence}
    assert subjects == {"a=y", "b=1", "both=y & 1"}


def test_values_are_explained_in_their_own_units() -> None:
    table = pa.table({"item": ["a", "b"] * 50})
    model = LR(epochs=60, lr=0.1, batch_size=50).fit(Rows(table, {"stars": np.array([10.0, 20.0] * 50, np.float32)}))
    found = model.explain_row(Rows(table.slice(1, 1)))
    assert found.score == pytest.approx(model.predict(Rows(table)).values[1, 0], abs=1e-3)
    assert found.score == pytest.approx(20, abs=0.3) and found.evidence[0].weight > 3


def test_bad_questions_are_refused(model: LR, rows: Rows) -> None:
    with pytest.raises(DataError, match="one row is explained at a time"):
        model.explain_row(rows.slice(0, 2))
    with pytest.raises(ConfigError, match="not predicted"):
        model.explain_row(rows.slice(0, 1), "buy")
    with pytest.raises(NotFittedError):
        LR().explain_row(rows.slice(0, 1))
