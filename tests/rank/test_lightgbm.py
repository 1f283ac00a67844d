"""LightGBM: columns by hand, both objectives, exact explanations, tasks, saving without pickle."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.conformance_ranker import click_rows
from palate.contracts.ranker import Rows
from palate.data.row_encoder import RowEncoder
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError, MissingExtraError
from palate.evaluation.metrics.predictive import auc, expected_calibration_error
from palate.rank.lightgbm import Columns, LightGBMRanker

pytest.importorskip("lightgbm")
QUICK: dict[str, Any] = {"rounds": 30, "lr": 0.1, "min_rows": 5}


def test_columns_by_hand() -> None:
    table = pa.table(
        {
            "item": ["a", "b", "a", None],
            "price": [1.0, 2.0, 3.0, 4.0],
            "age": [10, 20, 30, 40],
            "tags": [["x", "y"], ["x"], [], ["z"]],
            "history": [["p", "q"], ["q"], [], ["q", "p"]],
        }
    )
    fields = (
        RowField("item", "category"), RowField("price", "number", scale="none"), RowField("age", "bucket", buckets=2),
        RowField("tags", "list", max_length=3), RowField("history", "sequence", max_length=3),
    )  # fmt: skip
    encoder = RowEncoder.learn(fields, lambda: [table])
    encoded = encoder.encode(table)
    columns = Columns.learn(encoder, encoded.codes, 2)
    assert columns.names == ("item", "age", "price", "tags", "tags", "tags", "history", "history", "history", "history")
    assert columns.sets == (0, 9), "codes of the item and of the last of the history"
    # commonest first: x has the first code of tags; q that of the history
    expected = [
        [2, 2, 1, 1, 1, 2, 1, 1, 2, 2],
        [3, 3, 2, 1, 0, 1, 1, 0, 1, 2],
        [2, 3, 3, 0, 0, 0, 0, 0, 0, 0],
        [0, 3, 4, 0, 0, 1, 1, 1, 2, 3],
    ]
    np.testing.assert_array_equal(columns(encoded), expected)
    np.testing.assert_array_equal(columns(encoded.take(slice(2, 3))), expected[2:3])


def test_it_learns_what_a_line_cannot() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(2, size=(2, 2_000))
    table = pa.table({"first": [f"{x}" for x in first], "second": [f"{x}" for x in second]})
    rows = Rows(table, {"click": (first ^ second).astype(np.float32)})
    found = LightGBMRanker(**QUICK).fit(rows).predict(rows).values[:, 0]
    assert auc(rows.labels["click"], found) == 1.0


def test_it_stops_early() -> None:
    rows, valid = click_rows(400), click_rows(200, seed=1)
    model = LightGBMRanker(rounds=200, lr=0.3, patience=5).fit(rows, valid)
    assert model.record_.notes["trees"][0] < 200
    assert LightGBMRanker(rounds=12, patience=0).fit(rows, valid).record_.notes["trees"] == [12]


def test_explanations_add_up_to_the_score() -> None:
    rows = click_rows(400)
    model = LightGBMRanker(**QUICK).fit(rows)
    p = model.predict(rows).values[:, 0].astype(np.float64)
    for at in range(5):
        found = model.explain_row(rows.slice(at, at + 1))
        assert found.exact and {reason.detail["fields"][0] for reason in found.evidence} == set(rows.features.column_names)
        assert found.score == pytest.approx(found.rest + sum(reason.weight for reason in found.evidence))
        assert found.score == pytest.approx(np.log(p[at] / (1 - p[at])), abs=1e-5)


def graded(n: int = 150, seed: int = 0, *, binary: bool = False) -> Rows:
    """Requests of eight rows whose grade depends on quality; one column is the same within a request and misleads."""
    rng = np.random.default_rng(seed)
    quality, season = rng.integers(5, size=n * 8), np.repeat(rng.normal(size=n), 8)
    grade = np.clip(np.round(quality * 0.8 + rng.normal(0, 0.5, n * 8)), 0, 4)
    labels = (grade > 2).astype(np.float32) if binary else grade.astype(np.float32)
    table = pa.table({"quality": [f"q{q}" for q in quality], "season": season})
    return Rows(table, {"grade": labels}, groups=np.repeat(np.arange(n), 8).astype(np.int32))


@pytest.mark.parametrize("binary", [False, True], ids=["grades", "clicks"])
def test_lambdarank_orders_requests_and_answers_in_units(binary: bool) -> None:
    rows, new = graded(binary=binary), graded(seed=1, binary=binary)
    model = LightGBMRanker(**QUICK, objective="lambdarank").fit(rows, new)
    values = model.predict(new).values[:, 0]
    truth = new.labels["grade"]
    assert values.mean() == pytest.approx(truth.mean(), abs=0.1)
    assert np.corrcoef(values, truth)[0, 1] > 0.6
    best = [row[0] for row in model.rank(new).tolist()]
    assert truth[best].mean() > truth.mean() + (0.3 if binary else 1.0)
    if binary:
        assert values.min() > 0 and values.max() < 1


def test_lambdarank_refuses_what_it_cannot_use() -> None:
    rows = graded(20)
    with pytest.raises(DataError, match="which rows belong to a request"):
        LightGBMRanker(**QUICK, objective="lambdarank").fit(Rows(rows.features, rows.labels))
    halves = Rows(rows.features, {"grade": rows.labels["grade"] + 0.5}, groups=rows.groups)
    with pytest.raises(DataError, match="whole numbers from 0 to 30"):
        LightGBMRanker(**QUICK, objective="lambdarank").fit(halves)


def test_tasks_learn_from_their_own_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    item = rng.integers(3, size=900)
    stars, click = (item + 3.0).astype(np.float32), (rng.random(900) < item / 2).astype(np.float32)
    stars[::3], click[1::3] = np.nan, np.nan
    rows = Rows(pa.table({"item": [f"i{i}" for i in item]}), {"stars": stars, "click": click})
    model = LightGBMRanker(**{**QUICK, "rounds": 80}).fit(rows)
    found = model.predict(rows)
    for at in range(3):
        np.testing.assert_allclose(found.values[item == at].mean(0), [at + 3, at / 2], atol=0.1)
    assert model.explain_row(rows.slice(0, 1), "stars").score == pytest.approx(found.values[0, 0], abs=1e-4)
    model.save(tmp_path / "bundle")
    again = LightGBMRanker.load(tmp_path / "bundle")
    np.testing.assert_array_equal(again.predict(rows).values, found.values)
    assert again._state()["trees/0"].dtype == np.uint8 and bytes(again._state()["trees/0"][:4]) == b"tree"


@pytest.mark.parametrize("how", ["platt", "isotonic"])
def test_calibrated_probabilities_are_met_and_saved(how: str, tmp_path: Path) -> None:
    rows, valid, new = click_rows(400), click_rows(1_500, seed=1), click_rows(1_500, seed=2)
    sure = {"rounds": 150, "lr": 0.3, "patience": 0, "min_rows": 2}  # too long: it is too sure of itself
    plain, model = (LightGBMRanker(**sure, **more).fit(rows, valid) for more in ({}, {"calibrate": how}))
    raw, found, truth = plain.predict(new).values[:, 0], model.predict(new).values[:, 0], new.labels["click"]
    assert expected_calibration_error(truth, found) < 0.5 * expected_calibration_error(truth, raw)
    assert (np.diff(found[np.argsort(raw, kind="stable")].astype(np.float64)) >= -1e-7).all(), "the order has changed"
    model.save(tmp_path / "bundle")
    np.testing.assert_array_equal(LightGBMRanker.load(tmp_path / "bundle").predict(new).values, model.predict(new).values)
    with pytest.raises(ConfigError, match="calibration needs validation rows"):
        LightGBMRanker(calibrate=how).fit(rows)


def test_weights_count() -> None:
    table = pa.table({"item": ["a", "b"] * 200})
    click = np.array([1, 1, 0, 0] * 100, np.float32)
    weights = np.where(click > 0, 3.0, 1.0).astype(np.float32)
    model = LightGBMRanker(**{**QUICK, "rounds": 60}).fit(Rows(table, {"click": click}, weights))
    assert model.predict(Rows(table)).values.mean() == pytest.approx(0.75, abs=0.01)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    with pytest.raises(MissingExtraError, match="LightGBM needs lightgbm"):
        LightGBMRanker(**QUICK).fit(click_rows(50))


def test_the_library_keeps_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """A category of more values than bins; LightGBM's verbosity is a thread's own, so this thread has not heard of any."""
    rng = np.random.default_rng(0)
    table = pa.table({"user": [f"u{v}" for v in rng.integers(900, size=4_000)], "x": rng.normal(size=4_000)})
    rows = Rows(table, {"click": rng.integers(2, size=4_000).astype(np.float32)})
    model = LightGBMRanker(**QUICK, fields=[RowField("user", "category")])
    with ThreadPoolExecutor(1) as pool:
        fitted = pool.submit(model.fit, rows.slice(0, 3_000), rows.slice(3_000, 4_000)).result()
        pool.submit(fitted.predict, rows.slice(0, 9)).result()
    assert capfd.readouterr() == ("", "")
