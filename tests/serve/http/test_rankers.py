"""Rankers in the service: from its own log to a ranker that orders its answers, in rows made alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from palate.cli.main import app
from palate.contracts.ranker import Rows
from palate.errors import ConfigError, UnsupportedError
from palate.rank.cold import Cold
from palate.rank.fm import FM
from palate.rank.lightgbm import LightGBMRanker
from palate.serve import wire
from palate.serve.answers import recommend
from palate.serve.memory.catalogue import Catalogue, Item
from palate.serve.models.production import publish
from palate.serve.pipeline.config import PipelineConfig
from palate.serve.pipeline.sources import Question
from palate.serve.privacy import erase, export
from palate.serve.rows.asked import Asker, kinds_of, rows_of
from palate.serve.rows.clicks import click_rows, write_click_rows

NOW = 1_700_000_000.0


@pytest.fixture(scope="module")
def ranked(live_shared: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, str, Path]:
    """The service after people of two tastes clicked what they like, with a ranker that learnt from its log."""
    live = live_shared
    for _ in range(4):
        for person in range(0, 60, 2):
            slate = live.post("/v1/recommendations", user=f"u{person}", k=10, seen="allow", context={"device": "phone"})
            liked = [item["id"] for item in slate["items"] if item["price"] is not None and item["price"] < 20]
            for item in liked:
                live.post("/v1/feedback", slate=slate["slate"], item=item, kind="click", value=1.0)
    live.service.settle()
    table = pa.concat_tables(click_rows(live.store))
    rows = Rows.of_table(table.drop_columns(["time"]), ["click"], group="slate")
    model = FM(dim=4, epochs=25, lr=0.03, batch_size=128, patience=0).fit(rows)
    folder = tmp_path_factory.mktemp("rankers") / "bundle"
    model.save(folder)
    publish(live.store, "fm-1", folder)
    return live, "fm-1", folder


def test_rows_of_the_log_are_what_was_shown(ranked: Any) -> None:
    live = ranked[0]
    table = pa.concat_tables(click_rows(live.store))
    assert table.num_rows == 4 * 30 * 10 and set(table.column("context.device").to_pylist()) == {"phone"}
    cheap = np.array(table.column("price").to_pylist()) < 20
    np.testing.assert_array_equal(np.array(table.column("click").to_pylist()) > 0, cheap)
    assert len(set(table.column("slate").to_pylist())) == 120


def test_the_command_writes_them(ranked: Any, tmp_path: Path) -> None:
    words = ["store", "rows", str(tmp_path / "rows.parquet"), "--store", ranked[0].store.url, "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == pq.read_metadata(tmp_path / "rows.parquet").num_rows >= 1_200
    nothing = CliRunner().invoke(app, [*words, "--since", "1e11"])
    assert nothing.exit_code == 1 and "no slate was shown" in nothing.output


def test_a_history_holds_what_was_before_the_slate(live: Any, tmp_path: Path) -> None:
    live.post("/v1/events", user="fresh one", item="i1", time=NOW - 10)
    slate = live.post("/v1/recommendations", user="fresh one", k=3)
    live.post("/v1/events", user="fresh one", item="i2")
    live.service.settle()
    assert write_click_rows(live.store, tmp_path / "rows.parquet") >= 3
    rows = [row for row in pq.read_table(tmp_path / "rows.parquet").to_pylist() if row["slate"] == slate["slate"]]
    assert len(rows) == 3 and all(row["history"] == ["i1"] and row["history_length"] == 1.0 for row in rows)


def test_candidates_are_put_in_the_order_of_the_ranker(ranked: Any) -> None:
    live, version, _ = ranked
    found = live.call(
        "POST", "/v1/rank", {"user": "u2", "candidates": ["i38", "i2", "none", "i39", "i3"], "model": version}
    ).json()
    order = [item["id"] for item in found["items"]]
    assert set(order[:2]) == {"i2", "i3"} and found["unknown"] == ["none"] and found["model"] == version
    scores = [item["score"] for item in found["items"]]
    assert scores == sorted(scores, reverse=True) and 0 < min(scores) < max(scores) <= 1


def test_a_ranker_says_why(ranked: Any) -> None:
    live, version, _ = ranked
    asked = {"user": "u2", "item": "i2", "context": {"device": "phone"}, "model": version}
    found = live.call("POST", "/v1/explain", asked).json()
    assert found["exact"] and found["model"] == version and found["item"] == "i2"
    assert found["score"] == pytest.approx(found["rest"] + sum(reason["weight"] for reason in found["reasons"]), abs=1e-6)
    words = {reason["text"].split("=")[0] for reason in found["reasons"]}
    assert "context.device" in words and "price" in words
    alone = {"user": "u2", "candidates": ["i2"], "context": {"device": "phone"}, "model": version}
    expected = live.call("POST", "/v1/rank", alone).json()
    assert 1 / (1 + np.exp(-found["score"])) == pytest.approx(expected["items"][0]["score"], abs=1e-5)
    assert live.call("POST", "/v1/explain", {"user": "u2", "item": "i2", "model": "none"}).status_code == 404


def test_training_and_answering_make_the_same_rows(ranked: Any) -> None:
    """The score of an answer is the prediction of the row that the log keeps of it."""
    live, version, _ = ranked
    ranker = live.service.shelf.ranker(version, live.service.folder)
    table = pa.concat_tables(click_rows(live.store)).slice(500, 10)
    logged = ranker.model.predict(Rows(table)).values[:, 0]
    row = table.to_pylist()[0]
    asker = Asker(row["user"], row["history"], row["time"], {}, {"device": "phone"}, int(row["history_length"]))
    answered = ranker.score(asker, live.service.catalogue, live.service.catalogue.rows_of(table.column("item").to_pylist()))
    np.testing.assert_allclose(answered, logged, atol=1e-6)


def test_the_pipeline_ranks_by_it_and_says_so(ranked: Any) -> None:
    live, version, _ = ranked
    config = PipelineConfig.parse({"rank": {"kind": "ranker", "model": version, "task": "click"}})
    service = live.service
    pipeline = service.pipeline_of(config)
    person = service.person("u4")
    question = Question(person, 10, context={"device": "phone"}, now=service.clock())
    answer = pipeline.answer(question, service.rng)
    prices = [service.catalogue.items[pick.row].price for pick in answer.picks]
    assert np.mean([price < 20 for price in prices]) >= 0.7
    assert any(step.step == f"rank by {version}" for step in answer.trace.steps)
    assert [pick.score for pick in answer.picks] == sorted((pick.score for pick in answer.picks), reverse=True)


def test_a_pre_ranker_chooses_what_the_ranker_looks_at(ranked: Any, tmp_path: Path) -> None:
    """COLD learnt that the dear ones are clicked: what it keeps is what FM, which likes the cheap ones, may order."""
    live, version, _ = ranked
    service = live.service
    table = pa.concat_tables(click_rows(live.store))
    dear = pa.array(1 - np.array(table.column("click").to_pylist()), pa.float32())
    rows = Rows.of_table(table.select(["price"]).append_column("click", dear), ["click"])
    Cold(dim=4, epochs=10, lr=0.03, batch_size=128, patience=0, budget=1.0).fit(rows).save(tmp_path / "cold")
    publish(live.store, "cold-1", tmp_path / "cold")
    config = PipelineConfig.parse(
        {
            "sources": [{"kind": "new", "days": 1_000, "quota": 100}],
            "pre_rank": {"model": "cold-1", "pool": 30, "keep": 12},
            "rank": {"kind": "ranker", "model": version, "pool": 500},
        }
    )
    person = service.person("u4")
    question = Question(person, 10, context={"device": "phone"}, now=service.clock())
    answer = service.pipeline_of(config).answer(question, service.rng)
    steps = {step.step: step for step in answer.trace.steps}
    before, after = steps["pre-rank by cold-1"], steps[f"rank by {version}"]
    assert (before.came, before.left, after.came) == (40, 12, 12) and before.note == "10 beyond its pool"
    candidates = np.arange(39, 9, -1)  # the newest 30
    given = service.expected("cold-1", question, candidates, "")
    kept = candidates[np.argsort(-given, kind="stable")[:12]]
    assert {pick.row for pick in answer.picks} <= set(kept.tolist()) and min(kept) >= 18
    assert [pick.row for pick in answer.picks] == kept[
        np.argsort(-service.expected(version, question, kept, ""), kind="stable")[:10]
    ].tolist()
    moves = answer.trace.moves
    assert sum("not kept" in move for own in moves.values() for move in own) == 18
    long = service.pipeline_of(config).answer(replace(question, k=25), service.rng)
    assert len(long.picks) == 25 and {step.step: step for step in long.trace.steps}["pre-rank by cold-1"].left == 25


def test_what_a_pre_ranker_leaves_out_fills_a_list_that_limits_cut_short(ranked: Any) -> None:
    live, version, _ = ranked
    service = live.service
    config = PipelineConfig.parse(
        {
            "sources": [{"kind": "new", "days": 1_000, "quota": 100}],
            "pre_rank": {"model": version, "keep": 1},
            "rank": {"kind": "model"},
            "caps": [{"field": "maker", "most": 1}],
        }
    )
    answer = service.pipeline_of(config).answer(Question(service.person("u4"), 5, now=service.clock()), service.rng)
    assert len({service.catalogue.items[pick.row].attributes["maker"] for pick in answer.picks}) == 5
    scores = [pick.score for pick in answer.picks]
    assert scores == sorted(scores, reverse=True)


def test_trees_rank_in_the_service(ranked: Any, tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    live = ranked[0]
    table = pa.concat_tables(click_rows(live.store))
    rows = Rows.of_table(table.drop_columns(["time"]), ["click"], group="slate")
    model = LightGBMRanker(rounds=20, lr=0.3).fit(rows)
    model.save(tmp_path / "trees")
    publish(live.store, "trees-1", tmp_path / "trees")
    asked = {"user": "u2", "candidates": ["i38", "i2", "i39", "i3"], "context": {"device": "phone"}, "model": "trees-1"}
    found = live.call("POST", "/v1/rank", asked).json()
    assert {item["id"] for item in found["items"][:2]} == {"i2", "i3"} and found["model"] == "trees-1"
    service = live.service
    question = Question(service.person("u2"), 4, context={"device": "phone"}, now=service.clock())
    ranker = service.shelf.ranker("trees-1", service.folder)
    asker = service.asker(question.person, question.context, question.now, ranker)
    made = rows_of(asker, [service.catalogue.items[2]], ranker.kinds)
    by_id = {item["id"]: item["score"] for item in found["items"]}
    assert by_id["i2"] == pytest.approx(float(model.predict(Rows(made)).values[0, 0]), abs=1e-6)
    config = PipelineConfig.parse({"rank": {"kind": "ranker", "model": "trees-1"}})
    answer = service.pipeline_of(config).answer(question, service.rng)
    assert all(service.catalogue.items[pick.row].price < 20 for pick in answer.picks)
    assert any(step.step == "rank by trees-1" for step in answer.trace.steps)


def test_a_ranker_can_not_answer_from_the_whole_catalogue(ranked: Any) -> None:
    live, version, _ = ranked
    for path, body in (
        ("/v1/recommendations", {"user": "u1", "model": version}),
        (f"/v1/models/{version}/activate", {}),
    ):
        response = live.call("POST", path, body)
        assert response.status_code in (400, 409, 422, 501), response.text
        assert "ranker" in response.text
    assert live.store.active_model().version != version
    with pytest.raises(UnsupportedError, match="ranker"):
        publish(live.store, "fm-2", ranked[2], activate=True)
    assert live.store.model("fm-2") is None


def test_wrong_settings_are_told() -> None:
    with pytest.raises(Exception, match="by its version"):
        PipelineConfig.parse({"rank": {"kind": "ranker"}})
    with pytest.raises(ConfigError, match="stands before a model or ranker"):
        PipelineConfig.parse({"pre_rank": {"model": "cold-1"}})
    with pytest.raises(ConfigError, match="keep <= pool"):
        PipelineConfig.parse({"rank": {"kind": "model"}, "pre_rank": {"model": "cold-1", "keep": 500, "pool": 100}})
    with pytest.raises(ConfigError, match="by its version"):
        PipelineConfig.parse({"rank": {"kind": "model"}, "pre_rank": {"model": "active"}})


def test_erasing_a_person_cleans_rankers_too(ranked: Any) -> None:
    live, version, folder = ranked
    assert any(b"u58" in path.read_bytes() for path in folder.iterdir())

    assert version in export(live.service, "u58")["bundles"]
    assert version in erase(live.service, "u58").bundles
    assert not any(b"u58" in path.read_bytes() for path in folder.iterdir())
    again = live.call("POST", "/v1/rank", {"user": "u2", "candidates": ["i38", "i2"], "model": version}).json()
    assert again["items"][0]["id"] == "i2"


def test_attributes_have_one_kind_each() -> None:
    catalogue = Catalogue()
    for at, attributes in enumerate(
        [{"year": 1990, "tags": ["a"], "mixed": 1}, {"year": 2001.5, "mixed": "x", "deep": {"a": 1}}]
    ):
        catalogue._put(Item(f"i{at}", attributes=attributes, created=1_000.0))
    kinds = kinds_of(catalogue, [{"age": 3}, {"age": None}], [{}])
    assert {name: kinds[name] for name in ("item.year", "item.tags", "item.mixed", "item.deep", "user.age")} == {
        "item.year": "number",
        "item.tags": "list",
        "item.mixed": "text",
        "item.deep": "text",
        "user.age": "number",
    }
    asker = Asker("u", ["i0"], 1_000.0 + 86_400, {"age": "7"}, {}, 1)
    rows = rows_of(asker, catalogue.items, kinds).to_pylist()
    assert rows[0]["item.mixed"] == "1" and rows[1]["item.deep"] == '{"a": 1}' and rows[0]["user.age"] == 7.0
    assert rows[0]["age_days"] == 1.0 and rows[0]["title"] is None and rows[0]["price"] is None
    assert rows[0]["hour"] == "0" and rows[0]["weekday"] == "4"
    wrong = Asker("u", [], 0.0, {"age": "old"}, {}, 0)
    assert rows_of(wrong, catalogue.items[:1], {"user.age": "number"}).to_pylist() == [{"user.age": None}]


@pytest.mark.parametrize(
    ("kind", "values", "made"),
    [
        ("number", [1, 2.5, None, float("inf"), float("nan")], [1.0, 2.5, None, None, None]),
        ("number", [1, 2.5, None, "7", "old", True, float("inf"), 2**70], [1.0, 2.5, None, 7.0, None, 1.0, None, 2.0**70]),
        ("text", ["a", None, ""], ["a", None, ""]),
        ("text", ["a", None, "", 1, {"b": 2}], ["a", None, "", "1", '{"b": 2}']),
        ("list", [["a", "b"], None, [], ("c",)], [["a", "b"], None, [], ["c"]]),
        ("list", [["a", None], None, [], "card"], [["a"], None, [], ["card"]]),
        ("list", [["a", 1], "card"], [["a", "1"], ["card"]]),
        ("list", [["a", None], ["b"]], [["a"], ["b"]]),
    ],
)
def test_values_are_the_same_whether_or_not_others_are_of_their_kind(kind: Any, values: list[Any], made: list[Any]) -> None:
    items = [Item(f"i{at}", attributes={"x": value}) for at, value in enumerate(values)]
    asker = Asker("u", ["i0"], 0.0, {}, {}, 1)
    rows = rows_of(asker, items, {"item.x": kind, "history": "list"})
    assert rows.column("item.x").to_pylist() == made and rows.column("history").to_pylist() == [["i0"]] * len(items)
    alone = [rows_of(asker, [item], {"item.x": kind}).column("item.x").to_pylist()[0] for item in items]
    assert alone == made and rows_of(asker, [], {"item.x": kind, "user": "text"}).num_rows == 0


def test_answers_of_the_service_use_it_where_the_file_says_so(ranked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    live, version, _ = ranked
    service = live.service
    config = PipelineConfig.parse({"rank": {"kind": "ranker", "model": version}})
    monkeypatch.setattr(service, "pipeline", service.pipeline_of(config))
    slate = recommend(service, wire.RecommendIn(user="u6", k=5, seen="allow", context={"device": "phone"}, trace=True))
    assert any("rank by" in step.step for step in slate.trace)


def test_columns_that_the_service_never_has_are_named_and_stay_empty(tmp_path: Path) -> None:
    n, rng = 60, np.random.default_rng(0)
    table = pa.table(
        {
            "item": [f"i{v}" for v in rng.integers(9, size=n)],
            "city": [f"c{v}" for v in rng.integers(9, size=n)],
            "item.brand": [f"b{v}" for v in rng.integers(3, size=n)],
            "item_age": rng.normal(size=n),
        }
    )
    FM(dim=2, epochs=1).fit(Rows(table, {"click": rng.integers(2, size=n).astype(np.float32)})).save(tmp_path / "fm")
    words = ["publish", str(tmp_path / "fm"), "--store", str(tmp_path / "shop.db")]
    told = " ".join(CliRunner().invoke(app, [*words, "--version", "one"]).output.split())
    assert told.endswith("so these are empty in every answer: city, item_age")
    found = json.loads(CliRunner().invoke(app, [*words, "--version", "two", "--json"]).stdout)
    assert found["empty_columns"] == ["city", "item_age"] and found["store"].endswith("shop.db")
    asked = Asker("u1", ["i1"], NOW, {}, {}, 1)
    rows = rows_of(asked, [Item(id="i1", title="One")], {"city": "text", "item_age": "number", "weekday": "text"})
    assert rows.to_pylist() == [{"city": None, "item_age": None, "weekday": "1"}]


def test_a_key_that_stands_for_another_is_told(ranked: Any) -> None:
    refused = ranked[0].call("POST", "/v1/rank", {"items": ["i1", "i2"]})
    assert refused.status_code == 422
    assert refused.json()["remedy"] == "items is not known here; give candidates instead"
    refused = ranked[0].call("POST", "/v1/rank", {"candidates": ["i1"], "items": ["i1"]})
    assert refused.status_code == 422 and "items" in refused.json()["where"]
