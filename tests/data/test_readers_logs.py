"""Searches, impressions and dialogues beside a data set."""

import json

import polars as pl
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset, Entities
from palate.data.readers import read_dialogues, read_impressions, read_searches, rows_dropped
from palate.errors import ConfigError, DataError


def toy() -> Dataset:
    data = Dataset.from_columns(["ann", "ben"], [7, 9])
    items = Entities(data.items.ids, pa.table({"title": ["Seven", "Nine"]}))
    return Dataset(data.interactions, data.users, items)


def test_searches(tmp_path):
    path = tmp_path / "searches.csv"
    path.write_text(
        "user_id,keyword,timestamp,search_session_id,items\nann,red shoes,1700000000000,s1,7|9\nzoe,hat,1700000001000,s2,5\n"
    )
    table = read_searches(toy(), path).searches
    assert table.column("query").to_pylist() == ["red shoes", "hat"]
    assert table.column("user").to_pylist() == [0, None]
    assert table.column("time").to_pylist() == [1_700_000_000, 1_700_000_001]
    assert table.column("items").to_pylist() == [[0, 1], []]
    assert table.column("session").to_pylist() == ["s1", "s2"]


def test_searches_from_a_frame_with_lists():
    frame = pl.DataFrame({"q": ["a", "b"], "uid": ["ben", "ann"], "clicked_items": [[9, 7], None]})
    data = read_searches(toy(), frame)
    assert data.searches.column("items").to_pylist() == [[1, 0], []]
    assert data.spec[-1]["step"] == "read searches"
    assert data.spec[-1]["unknown"] == {"user": 0}


def test_impressions():
    frame = pl.DataFrame(
        {
            "user": ["ann", "ann", "ben"],
            "item_id": [7, 9, 4],
            "click": [1, 0, 0],
            "position": [1, 2, 1],
            "propensity_score": [0.5, 0.25, 1.0],
        }
    ).with_columns(slate_id=pl.Series([0, 0, 1]), banner=pl.Series(["x", "y", "z"]))
    table = read_impressions(toy(), frame).impressions
    assert table.column("item").to_pylist() == [0, 1, None]
    assert table.column("click").to_pylist() == [1, 0, 0]
    assert table.column("propensity").type == pa.float32()
    assert table.column("impression").to_pylist() == [0, 0, 1]
    assert table.column("banner").to_pylist() == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("column", "value"), [("propensity", 0.0), ("propensity", 1.5), ("click", 2.0), ("propensity", float("nan"))]
)
def test_impressions_out_of_range(column, value):
    with pytest.raises(DataError) as caught:
        read_impressions(toy(), pl.DataFrame({"item": [7, 9], column: [1.0, value]}))
    assert caught.value.where == "Polars frame, row 2"
    assert column in caught.value.what and caught.value.remedy


def test_bad_rows_of_a_log_are_named_by_line_or_dropped_and_counted(tmp_path):
    path = tmp_path / "shown.csv"
    path.write_text(
        "user,item,time,click,propensity\nann,7,10,1,0.5\nann,9,soon,0,0.5\nben,9,30,0,1.5\nben,7,40,maybe,1\nben,7\n"
    )
    with pytest.raises(DataError) as caught:
        read_impressions(toy(), path)
    assert caught.value.where == f"{path}, line 6"
    path.write_text(path.read_text().removesuffix("ben,7\n"))
    with pytest.raises(DataError) as caught:
        read_impressions(toy(), path)
    assert (caught.value.where, caught.value.value) == (f"{path}, line 3", "soon")
    path.write_text(path.read_text() + "ben,7\n")
    data = read_impressions(toy(), path, on_bad_rows="drop")
    assert data.impressions.select(["user", "item", "time", "click"]).to_pylist() == [
        {"user": 0, "item": 0, "time": 10, "click": 1.0}
    ]
    assert sorted(rows_dropped(data).values()) == [1, 1, 1, 1]


def test_dialogues(tmp_path):
    talks = [
        {
            "id": "d1",
            "user": "ben",
            "turns": [{"role": "user", "text": "hi"}, {"role": "system", "text": "Seven?", "items": [7]}],
        },
        {"dialog_id": 5, "messages": [{"speaker": "S", "text": "x", "item": ["Nine", "unknown"]}]},
        [{"text": "bare"}],
    ]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(t) + "\n" for t in talks))
    for source in (path, talks):
        table = read_dialogues(toy(), source).dialogues
        assert table.column("dialogue").to_pylist() == [0, 0, 1, 2]
        assert table.column("turn").to_pylist() == [0, 1, 0, 0]
        assert table.column("id").to_pylist() == ["d1", "d1", "5", "2"]
        assert table.column("user").to_pylist() == [1, 1, None, None]
        assert table.column("role").to_pylist() == ["user", "system", "S", None]
        assert table.column("items").to_pylist() == [[], [0], [1], []]


def test_bad_logs(tmp_path):
    data = toy()
    with pytest.raises(DataError, match="query"):
        read_searches(data, pl.DataFrame({"user": ["ann"]}))
    with pytest.raises(DataError, match="no such file"):
        read_searches(data, tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="role"):
        read_searches(data, pl.DataFrame({"query": ["x"]}), columns={"words": "query"})
    with pytest.raises(DataError, match="line 1, turn 1"):
        read_dialogues(data, [{"turns": [{"role": "user"}]}])
    with pytest.raises(DataError, match="list of turns"):
        read_dialogues(data, [{"text": "x"}])
    with pytest.raises(DataError, match="no dialogues"):
        read_dialogues(data, [])


def test_click_counts_are_not_lost():
    with pytest.raises(DataError, match="not a finite number"):
        read_impressions(toy(), pl.DataFrame({"item": [7], "click": ["yes"]}))
