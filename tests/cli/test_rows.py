"""Rankers by the command line: split, fit, evaluate, compare, predict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from palate.contracts.conformance_ranker import click_rows


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, palate: Callable[..., Any]) -> Path:
    """A folder with rows and a split of them."""
    folder = tmp_path_factory.mktemp("rows")
    made = click_rows(2_000)
    table = made.features.append_column("click", pa.array(made.labels["click"])).append_column("request", pa.array(made.groups))
    pq.write_table(table, folder / "rows.parquet")
    palate(
        "split",
        str(folder / "rows.parquet"),
        "--label",
        "click",
        "--group",
        "request",
        "--by",
        "group",
        "--out",
        str(folder / "split"),
    )
    return folder


QUICK = ("--set", "epochs=3", "--set", "dim=4", "--set", "lr=0.02")


def test_from_rows_to_predictions(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    told = palate("fit", "fm", "--data", str(rows / "split"), "--out", str(tmp_path / "fm"), *QUICK).output
    assert "palate evaluate" in told and "codes" in told
    found = json.loads(palate("evaluate", str(tmp_path / "fm"), "--split", str(rows / "split"), "--json").output)
    assert {v["metric"] for v in found["values"]} == {"auc", "gauc", "log_loss", "ece"} and found["looks"] == 1
    assert next(v["value"] for v in found["values"] if v["metric"] == "auc") > 0.55
    words = ("predict", str(tmp_path / "fm"), str(rows / "rows.parquet"), "--out", str(tmp_path / "out.parquet"))
    assert json.loads(palate(*words, "--json").output)["rows"] == 2_000
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.num_rows == 2_000 and 0 < out.column("predicted_click").to_numpy().mean() < 1


def test_a_file_alone_is_enough(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    words = ("fit", "lr", "--data", str(rows / "rows.parquet"), "--group", "request", "--out", str(tmp_path / "lr"), *QUICK)
    found = json.loads(palate(*words, "--json").output)
    assert found["notes"]["best_value"] is not None and 1_650 < found["data"]["rows"] < 1_950


@pytest.mark.parametrize(("column", "row"), [("price", 777), ("price", 1_200), ("click", 1_400)])
def test_errors_name_the_row_of_the_file_though_rows_are_held_out(
    column: str, row: int, rows: Path, palate: Callable[..., Any], tmp_path: Path
) -> None:
    table = pq.read_table(rows / "rows.parquet")
    values = table[column].to_numpy().astype(float)
    values[row] = np.inf
    wrong = table.set_column(table.column_names.index(column), column, pa.array(values))
    pq.write_table(wrong, tmp_path / "rows.parquet")
    words = ("fit", "lr", "--data", str(tmp_path / "rows.parquet"), "--label", "click", "--out", str(tmp_path / "lr"), *QUICK)
    for share in ("0.1", "0.5"):
        told = palate(*words, "--hold-out", share, code=1).output
        assert "infinite" in told and f"row {row}" in told


def test_a_fit_says_what_it_learnt_to_predict(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    words = ("fit", "lr", "--group", "request", "--out", str(tmp_path / "lr"), *QUICK)
    told = palate(*words, "--data", str(rows / "rows.parquet")).output
    assert "click, yes or no (a guess" in told and "leave_out" in told
    table = pq.read_table(rows / "rows.parquet")
    clicks = pa.array(np.where(np.arange(table.num_rows) == 9, 2, table["click"].to_numpy()))
    pq.write_table(table.drop_columns(["click"]).append_column("click", clicks), tmp_path / "two.parquet")
    told = palate(*words, "--data", str(tmp_path / "two.parquet"), "--label", "click").output
    assert "click, a number." in told


def test_reliability_is_printed(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    palate("fit", "lr", "--data", str(rows / "split"), "--out", str(tmp_path / "lr"), *QUICK)
    told = palate("evaluate", str(tmp_path / "lr"), "--split", str(rows / "split"), "--part", "valid").output
    assert "Reliability of click" in told and "predicted" in told and "happened" in told


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("fit", "lr", "--data", "{rows}/split", "--out", "{out}", "--with-valid"), "--with-valid"),
        (("fit", "lr", "--data", "{rows}/split", "--out", "{out}", "--label", "click"), "--label"),
        (("fit", "ease", "--data", "{work}/split", "--out", "{out}", "--label", "click"), "--label"),
        (("fit", "ease", "--data", "{work}/split", "--out", "{out}", "--column", "user=u"), "--column"),
        (("fit", "ease", "--data", "{work}/events.csv", "--out", "{out}", "--with-valid"), "--with-valid"),
        (("split", "{rows}/rows.parquet", "--label", "click", "--k-core", "2", "--out", "{out}"), "--k-core"),
        (("split", "{work}/events.csv", "--group-is-field", "--group", "user", "--out", "{out}"), "--group, --group-is-field"),
        (("compare", "{rows}/split", "--models", "lr", "--slices", "usual"), "--slices"),
        (("evaluate", "{out}", "--split", "{rows}/split", "--slices", "x", "--categories", "y"), "--slices, --categories"),
    ],
)
def test_options_that_would_count_for_nothing_are_refused(
    words: tuple[str, ...], named: str, rows: Path, work: Path, palate: Callable[..., Any], tmp_path: Path
) -> None:
    told = palate(*(word.format(rows=rows, work=work, out=tmp_path / "o") for word in words), code=2).output
    assert f"{named} would count for nothing" in told and not (tmp_path / "o").exists()


def test_fields_are_shown_and_can_be_edited(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    words = ("split", str(rows / "rows.parquet"), "--label", "click", "--group", "request", "--by", "group")
    guessed = json.loads(palate(*words, "--out", str(tmp_path / "split"), "--json").output)["fields"]
    kinds = {field["field"]: field["kind"] for field in guessed}
    assert "click" not in kinds and "request" not in kinds
    number = next(name for name, kind in kinds.items() if kind == "number")
    assert number in palate(*words, "--out", str(tmp_path / "again")).output
    edited = json.dumps([{"name": number, "kind": "bucket", "buckets": 4}])
    fit = ("fit", "fm", "--data", str(tmp_path / "split"), "--out", str(tmp_path / "fm"), *QUICK, "--set", f"fields={edited}")
    learnt = {field["field"]: field for field in json.loads(palate(*fit, "--json").output)["fields"]}
    assert learnt[number]["kind"] == "bucket" and 4 <= learnt[number]["codes"] <= 6
    assert {name for name in kinds if name != number} == set(learnt) - {number}


def test_a_group_may_be_a_field_too(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    words = ("split", str(rows / "rows.parquet"), "--label", "click", "--group", "request", "--out", str(tmp_path / "split"))
    assert "'request' says which rows go together, and is a field, too" in palate(*words, "--group-is-field").output
    fit = ("fit", "fm", "--data", str(tmp_path / "split"), "--out", str(tmp_path / "fm"), *QUICK, "--json")
    assert "request" in {field["field"] for field in json.loads(palate(*fit).output)["fields"]}
    found = palate("evaluate", str(tmp_path / "fm"), "--split", str(tmp_path / "split"), "--metrics", "auc,gauc", "--json")
    document = json.loads(found.output)
    assert {row["metric"] for row in document["values"]} == {"auc", "gauc"} and document["drawn by"] == "request"
    ranker = ("fit", "lightgbm", "--data", str(tmp_path / "split"), "--set", "objective=lambdarank")
    learnt = json.loads(palate(*ranker, "--out", str(tmp_path / "lgb"), "--json").output)
    assert "request" in {field["field"] for field in learnt["fields"]}


def test_predictions_come_with_reasons(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    few = tmp_path / "few.parquet"
    pq.write_table(pq.read_table(rows / "rows.parquet").slice(0, 20), few)
    palate("fit", "mlp", "--data", str(rows / "split"), "--out", str(tmp_path / "mlp"), *QUICK)
    words = ("predict", str(tmp_path / "mlp"), str(few), "--out", str(tmp_path / "out.parquet"))
    told = palate(*words, "--reasons", "2").output
    assert "reasons_click" in told and "reasons: 20 of 20 done" in told
    out = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert all(len(row["reasons_click"]) == 2 for row in out)
    assert all(abs(row["reasons_click"][0]["part"]) >= abs(row["reasons_click"][1]["part"]) for row in out)
    whole = palate(*words, "--reasons", "9", "--task", "click")
    assert {one["reason"].split("=")[0] for one in pq.read_table(tmp_path / "out.parquet").to_pylist()[0]["reasons_click"]} == {
        "user", "item", "price", "tags", "history", "title"
    }, whole.output  # fmt: skip
    assert "--reasons" in palate(*words, "--task", "click", code=2).output
    assert "click" in palate(*words, "--reasons", "1", "--task", "clack", code=2).output


def test_rankers_are_compared_on_equal_terms(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    words = ("compare", str(rows / "split"), "--models", "lr,fm", "--seeds", "2", "--out", str(tmp_path / "report.json"))
    told = palate(*words).output
    assert "auc" in told and "opened" in told
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["system"] for row in report["rows"]] == ["LR", "FM"] and len(report["pairs"]) == 1
    assert report["rows"][0]["auc"]["sd over seeds"] is not None


def test_requests_reach_a_ranker_that_learns_from_them(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    few = ("--set", "objective=lambdarank", "--set", "rounds=20")
    palate("fit", "lightgbm", "--data", str(rows / "split"), "--out", str(tmp_path / "trees"), *few)
    found = json.loads(palate("evaluate", str(tmp_path / "trees"), "--split", str(rows / "split"), "--json").output)
    assert next(v["value"] for v in found["values"] if v["metric"] == "gauc") > 0.5
    palate(
        "fit", "lightgbm", "--data", str(rows / "rows.parquet"), "--label", "click", "--out", str(tmp_path / "no"), *few, code=2
    )


def test_a_report_is_a_page_with_a_calibration_plot(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    palate("fit", "fm", "--data", str(rows / "split"), "--out", str(tmp_path / "fm"), *QUICK)
    palate("evaluate", str(tmp_path / "fm"), "--split", str(rows / "split"), "--out", str(tmp_path / "one.html"))
    palate("compare", str(rows / "split"), "--models", "lr,fm", "--out", str(tmp_path / "two.html"))
    for name, told in (("one", ["click", "auc"]), ("two", ["LR", "FM", "opened"])):
        page = (tmp_path / f"{name}.html").read_text()
        assert "<svg" in page and "Are the probabilities met?" in page
        assert "http" not in page.replace("http://www.w3.org", "")  # nothing comes from elsewhere
        assert all(word in page for word in told)


def test_what_the_intervals_draw_is_said(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    palate("fit", "lr", "--data", str(rows / "split"), "--out", str(tmp_path / "lr"), *QUICK)
    told = palate("evaluate", str(tmp_path / "lr"), "--split", str(rows / "split"), "--part", "valid").output
    assert "bootstrap over the values of column 'request', each with all its rows" in " ".join(told.split())
    table = pq.read_table(rows / "rows.parquet").drop_columns(["request"])
    pq.write_table(table, tmp_path / "rows.parquet")
    palate("split", str(tmp_path / "rows.parquet"), "--label", "click", "--out", str(tmp_path / "split"))
    told = palate("compare", str(tmp_path / "split"), "--models", "lr").output
    assert "bootstrap over single rows" in " ".join(told.split())


def test_a_look_that_gave_no_number_does_not_count(rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    made = tmp_path / "split"
    palate("split", str(rows / "rows.parquet"), "--label", "click", "--out", str(made))
    palate("fit", "lr", "--data", str(made), "--out", str(tmp_path / "lr"), "--set", "epochs=1")
    palate("fit", "lr", "--data", str(rows / "split"), "--out", str(tmp_path / "other"), "--set", "epochs=1")
    asked = ("evaluate", str(tmp_path / "lr"), "--split", str(made))
    assert "gauc needs groups" in palate(*asked, "--metrics", "gauc", code=2).output
    assert "unknown metric" in palate(*asked, "--metrics", "auk", code=2).output
    assert "unknown metric" in palate("compare", str(made), "--models", "lr", "--metrics", "auk", code=2).output
    assert json.loads(palate(*asked, "--json").output)["looks"] == 1
    palate("split", str(rows / "rows.parquet"), "--label", "click", "--out", str(made))
    assert json.loads(palate(*asked, "--json").output)["looks"] == 2, "an equal split keeps the looks"


def test_what_is_replaced_is_said(rows: Path, work: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    ours, events = str(tmp_path / "ours"), str(tmp_path / "events")
    of_rows = ("split", str(rows / "rows.parquet"), "--label", "click", "--out", ours)
    of_events = ("split", str(work / "events.csv"), "--dedup", "first", "--out", events)
    for words in (of_rows, of_events):
        assert "it replaced" not in " ".join(palate(*words).output.split())
        assert "it replaced the split that stood there" in " ".join(palate(*words).output.split())
        assert json.loads(palate(*words, "--json").output)["replaced"] is True
    assert "something else" in palate(*of_rows[:-1], events, code=1).output, "a split of another kind stays"
    assert "something else" in palate(*of_events[:-1], ours, code=1).output
    (tmp_path / "mine").write_text("x")
    assert "something else" in palate(*of_rows[:-1], str(tmp_path / "mine"), code=1).output
    assert (tmp_path / "mine").read_text() == "x"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("fit", "fm", "--data", "{rows}/rows.parquet", "--label", "clicks", "--out", "{out}"), "click"),
        (("predict", "{rows}/split", "{rows}/rows.parquet", "--out", "{out}"), "no bundle"),
        (("split", "{rows}/rows.parquet", "--label", "click", "--by", "group", "--out", "{out}"), "--group"),
        (("split", "{rows}/rows.parquet", "--label", "click", "--by", "groups", "--out", "{out}"), "unknown choice"),
        (("compare", "{rows}/split", "--models", "lr", "--out", "{out}/report.pdf"), "unknown kind"),
    ],
)
def test_errors_name_the_next_step(words, told, rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    result = palate(*(w.format(rows=rows, out=tmp_path / "o") for w in words), code=1 if told in ("no bundle", "click") else 2)
    assert told in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("compare", "{work}/split", "--models", "fm"), "can't recommend"),
        (("tune", "fm", "--data", "{work}/split", "--trials", "1", "--out", "{out}"), "palate compare SPLIT --models fm"),
        (("tune", "linucb", "--data", "nowhere"), "palate.study.tune_policy"),
        (("compare", "{rows}/split", "--models", "ease"), "can't rank"),
        (("recommend", "{out}/fm", "--user", "u1"), "can't recommend"),
    ],
)
def test_systems_of_another_verb_are_named(words, told, work, rows: Path, palate: Callable[..., Any], tmp_path: Path) -> None:
    palate("fit", "lr", "--data", str(rows / "split"), "--out", str(tmp_path / "fm"), *QUICK)
    result = palate(*(w.format(work=work, rows=rows, out=tmp_path) for w in words), code=2)
    assert told in " ".join(result.output.split())


def test_events_of_a_marketplace_become_rows(palate: Callable[..., Any], tmp_path: Path) -> None:
    from palate.simulate.merrec import Marketplace

    (tmp_path / "20230501").mkdir()
    pq.write_table(Marketplace(users=150, seed=1).table(), tmp_path / "20230501" / "000000000000.parquet")
    words = ("split", str(tmp_path), "--protocol", "event_rows", "--out", str(tmp_path / "rows"))
    found = json.loads(palate(*words, "--label", "item_view", "--set", "as_list=true", "--json").output)
    assert found["labels"] == ["item_view"] and found["spec"]["as_list"] is True and found["spec"]["how"] == "time"
    assert {"history", "product_id", "price"} <= {f["field"] for f in found["fields"]}
    told = palate(*words).output
    assert "rows cut at two moments" in told and "palate compare" in told
    assert json.loads((tmp_path / "rows" / "rows.json").read_text())["labels"] == ["item_view", "item_like"]
    fitted = palate("fit", "lr", "--data", str(tmp_path / "rows"), "--out", str(tmp_path / "lr"), "--set", "epochs=1", "--json")
    assert "sequence" not in {f["field"] for f in json.loads(fitted.output)["fields"]}
    assert "event_rows reads all events" in palate(*words, "--k-core", "3", code=2).output
    assert "min_events" in palate(*words, "--set", "min_event=3", code=2).output
    words = ("split", str(tmp_path), "--protocol", "next_product", "--out", str(tmp_path / "next"), "--json")
    assert json.loads(palate(*words).output)["spec"]["protocol"] == "next_product"
