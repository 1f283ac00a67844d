"""What is written comes back exactly, or is refused; nothing is half-written."""

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data import writers
from palate.data.dataset import Dataset, Entities, Graph
from palate.data.filters import min_value
from palate.data.interactions import Interactions
from palate.data.readers import read
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).filter(
    lambda t: t not in ("nan", "NaN", "null", "NULL") and t.strip() == t and t
)
IDS = st.one_of(
    st.lists(TEXT, min_size=2, max_size=6, unique=True),
    st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=6, unique=True),
)


@st.composite
def datasets(draw):
    users, items = draw(IDS), draw(IDS)
    n = draw(st.integers(2, 25))
    user = np.array([0, 1, *draw(st.lists(st.integers(0, len(users) - 1), min_size=n - 2, max_size=n - 2))])
    item = np.array(draw(st.lists(st.integers(0, len(items) - 1), min_size=n, max_size=n)))
    columns = {}
    if draw(st.booleans()):
        columns["time"] = np.array(draw(st.lists(st.integers(-(10**9), 2 * 10**9), min_size=n, max_size=n)))
    if draw(st.booleans()):
        numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
        columns["value"] = np.array(draw(st.lists(numbers, min_size=n, max_size=n)), np.float32)
    if draw(st.booleans()):
        columns["action"] = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    actions = Vocabulary(["view", "buy"]) if "action" in columns else None
    events = Interactions.sorted(user, item, **columns)
    return Dataset(events, Entities(Vocabulary(users)), Entities(Vocabulary(items)), actions=actions, name="drawn")


def same(left: Dataset, right: Dataset) -> None:
    assert left.users.ids == right.users.ids
    assert left.items.ids == right.items.ids
    one, other = left.interactions.columns, right.interactions.columns
    assert set(one) - {"row"} == set(other) - {"row"}
    for name in set(one) - {"row", "action"}:
        np.testing.assert_array_equal(one[name], other[name])
        assert one[name].dtype == other[name].dtype
    if left.actions is not None:
        assert left.actions.decode(one["action"]).equals(right.actions.decode(other["action"]))
    order = [np.argsort(np.argsort(d.interactions.file_order, kind="stable")) for d in (left, right)]
    np.testing.assert_array_equal(*order)


@given(datasets())
@settings(max_examples=60, deadline=None)
def test_parquet_round_trip(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("parquet") / "out"
    back = read(writers.write_parquet(data, folder))
    same(data, back)
    assert back.fingerprint == data.fingerprint
    np.testing.assert_array_equal(back.interactions.file_order, data.interactions.file_order)
    assert (back.name, back.actions) == (data.name, data.actions)


@given(datasets())
@settings(max_examples=60, deadline=None)
def test_recbole_round_trip(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("recbole") / "out"
    same(data, read(writers.write_recbole(data, folder)))


def rich() -> Dataset:
    data = Dataset.from_columns(["a", "b", "a"], [1, 2, 3], time=[5, 5, 4], value=[1.5, 2.0, 3.0], name="rich")
    entities, relations = Vocabulary(["m.1", "m.2"]), Vocabulary(["directed", "acted"])
    ends = (np.array(c, np.int32) for c in ([0, 1], [1, 0], [1, 0]))
    knowledge = Graph(*ends, "entity", "entity", relations, entities, np.array([0, -1, 1], np.int32))
    social = Graph(
        *(np.array(c, np.int32) for c in ([0], [0], [1])), "user", "user", Vocabulary(["link"]), weight=np.float32([2])
    )
    attributes = pa.table(
        {"title": ["One film", "Two\tfilms", None], "categories": [["A", "B"], [], None], "price": [1.5, None, 3.0]}
    )
    return replace(
        data,
        users=Entities(data.users.ids, pa.table({"age": [20, 30]})),
        items=Entities(data.items.ids, attributes),
        graphs={"knowledge": knowledge, "social": social},
        searches=pa.table({"query": ["x"], "user": pa.array([0], pa.int32())}),
    )


def test_parquet_keeps_attributes_graphs_logs_and_spec(tmp_path):
    data = min_value(rich(), 1.0)
    back = read(writers.write_parquet(data, tmp_path / "out"))
    assert back.items.attributes.equals(data.items.attributes)
    assert back.users.attributes.equals(data.users.attributes)
    assert back.searches.equals(data.searches)
    assert [dict(s) for s in back.spec] == [dict(s) for s in data.spec]
    for name, graph in data.graphs.items():
        other = back.graphs[name]
        for field in ("head", "relation", "tail", "weight", "item_entity"):
            np.testing.assert_array_equal(getattr(graph, field), getattr(other, field))
        assert (graph.relations, graph.entities, graph.heads) == (other.relations, other.entities, other.heads)


def test_parquet_holds_raw_ids(tmp_path):
    writers.write_parquet(rich(), tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "interactions.parquet")
    assert table.column("user").to_pylist() == ["a", "a", "b"]
    assert table.column("item").to_pylist() == [3, 1, 2]
    assert table.column("row").to_pylist() == [2, 0, 1]


def test_recbole_keeps_attributes_and_graphs(tmp_path):
    data = rich()
    back = read(writers.write_recbole(data, tmp_path / "out"))
    assert back.items.attributes.to_pydict()["title"] == ["One film", "Two films", None]
    assert back.items.attributes.to_pydict()["categories"][0] == ["A", "B"]
    assert back.items.attributes.to_pydict()["price"] == [1.5, None, 3.0]
    graph = back.graphs["knowledge"]
    names = graph.entities.decode(graph.item_entity).to_pylist()
    assert names == ["m.1", None, "m.2"]
    triples = zip(*(w.decode(c).to_pylist() for w, c in _ends(graph)), strict=True)
    assert list(triples) == [("m.1", "acted", "m.2"), ("m.2", "directed", "m.1")]
    assert back.graphs["social"].weight.tolist() == [2]
    first = (tmp_path / "out" / "out.inter").read_text().splitlines()
    assert first[:2] == ["user_id:token\titem_id:token\trating:float\ttimestamp:float", "a\t1\t1.5\t5"]


def _ends(graph):
    return ((graph.entities, graph.head), (graph.relations, graph.relation), (graph.entities, graph.tail))


@pytest.mark.parametrize("odd", ["a\tb", "a\nb", "", "nan"])
def test_recbole_refuses_ids_that_would_not_come_back(tmp_path, odd):
    data = Dataset.from_columns(["a", odd], [1, 2])
    with pytest.raises(DataError, match="atomic file"):
        writers.write_recbole(data, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_writers_replace_their_own_but_nothing_else(tmp_path):
    for write, kind in ((writers.write_parquet, "parquet"), (writers.write_recbole, "inter")):
        folder = tmp_path / write.__name__
        write(rich(), folder)
        (folder / f"left-over.{kind}").touch()
        write(rich(), folder)
        assert not (folder / f"left-over.{kind}").exists()
        (folder / "thesis.txt").write_text("precious")
        with pytest.raises(DataError, match=r"something else(.|\n)*thesis\.txt"):
            write(rich(), folder)
        assert (folder / "thesis.txt").read_text() == "precious"
        other = tmp_path / f"other-{write.__name__}"
        other.mkdir()
        (other / "thesis.txt").write_text("precious")
        with pytest.raises(DataError, match="something else"):
            write(rich(), other)
        assert (other / "thesis.txt").read_text() == "precious"


def test_a_failed_writing_leaves_the_old_one(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    writers.write_parquet(rich(), folder)
    before = sorted(p.name for p in folder.iterdir())
    monkeypatch.setattr(writers, "_write_graph", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        writers.write_parquet(rich(), folder)
    assert sorted(p.name for p in folder.iterdir()) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_damaged_folder_is_named(tmp_path):
    folder = writers.write_parquet(rich(), tmp_path / "out")
    (folder / "items.parquet").unlink()
    with pytest.raises(DataError, match=r"items\.parquet"):
        read(folder)
    manifest = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(DataError, match="another schema"):
        read(folder)


RUN = "u1 Q0 a 1 2.5 sys\nu1 Q0 b 2 0.1 sys\nu2 Q0 c 1 -1 sys\n"


def test_run_round_trip(tmp_path):
    scores = [[np.float32(0.1), np.float32(0.05)], [], [1e300]]
    path = writers.write_run(tmp_path / "x.run", ["u1", 7, "ü"], [["a", 5], [], ["c"]], scores, "My system")
    assert path.read_text(encoding="utf-8").splitlines()[0] == f"u1 Q0 a 1 {float(np.float32(0.1))!r} My_system"
    users, items, values = writers.read_run(path)
    assert users.to_pylist() == ["u1", "u1", "ü"]
    assert items.to_pylist() == ["a", "5", "c"]
    assert values.tolist() == [float(np.float32(0.1)), float(np.float32(0.05)), 1e300]


def test_run_of_arrays_and_gzip(tmp_path):
    items, scores = np.array([[3, 1], [2, 0]]), np.array([[2.0, 1.0], [5.0, 5.0]], np.float32)
    path = writers.write_run(tmp_path / "x.run.gz", [0, 1], items, scores)
    assert gzip.decompress(path.read_bytes()).decode().splitlines()[2] == "1 Q0 2 1 5.0 palate"
    assert writers.read_run(path)[2].tolist() == [2, 1, 5, 5]


@pytest.mark.parametrize(
    ("users", "items", "scores", "reason"),
    [
        (["a b"], [["x"]], [[1]], "blank"),
        ([""], [["x"]], [[1]], "blank"),
        (["a"], [["x\ty"]], [[1]], "blank"),
        (["a"], [["x"]], [[float("nan")]], "finite"),
        (["a"], [["x"]], [[float("inf")]], "finite"),
        (["a"], [["x", "y"]], [[1, 2]], "rise"),
        (["a"], [["x", "y"]], [[1]], "differ"),
        (["a", "a"], [["x"], ["y"]], [[1], [1]], "twice"),
    ],
)
def test_run_refuses_what_readers_would_misread(tmp_path, users, items, scores, reason):
    with pytest.raises(DataError, match=reason) as caught:
        writers.write_run(tmp_path / "x.run", users, items, scores)
    assert str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("u1 Q0 a 1 2.5", "u1 Q0 a 1 2.5"),
        ("u1 Q0 my item 1 2.5 s", None),
        ("u1 Q0 a one 2.5 s", "one"),
        ("u1 Q0 a 1 high s", "high"),
        ("u1 Q0 a 1 nan s", "nan"),
        ("u1 Q0 a 1 inf s", "inf"),
    ],
)
def test_read_run_names_the_bad_line(tmp_path, line, value):
    path = tmp_path / "x.run"
    path.write_text(RUN + line + "\n")
    with pytest.raises(DataError) as caught:
        writers.read_run(path)
    assert caught.value.where == f"{path}, line 4"
    assert value is None or caught.value.value == value
    assert "rank score" in caught.value.remedy


@pytest.mark.parametrize("change", [str, lambda t: t.replace(" ", "\t"), lambda t: t.replace(" ", "  "), lambda t: t + "\n \n"])
def test_read_run_takes_blanks_and_tabs(tmp_path, change):
    path = tmp_path / "x.run"
    path.write_text(change(RUN))
    users, items, scores = writers.read_run(path)
    assert (users.to_pylist(), items.to_pylist(), scores.tolist()) == (["u1", "u1", "u2"], ["a", "b", "c"], [2.5, 0.1, -1.0])


def test_read_run_keeps_ids_as_text(tmp_path):
    path = tmp_path / "x.run"
    path.write_text('007 Q0 nan 1 3 s\n"q Q0 null 1 2 s\n')
    users, items, _ = writers.read_run(path)
    assert (users.to_pylist(), items.to_pylist()) == (["007", '"q'], ["nan", "null"])


def test_missing_and_empty_runs(tmp_path):
    (tmp_path / "empty.run").touch()
    for name in ("none.run", "empty.run"):
        with pytest.raises(DataError, match=name):
            writers.read_run(tmp_path / name)


def test_qrels_round_trip(tmp_path):
    path = writers.write_qrels(tmp_path / "x.qrels", ["u", "v"], [["a", "b"], ["c"]], [[2, 1.0], [0]])
    assert path.read_text() == "u 0 a 2\nu 0 b 1\nv 0 c 0\n"
    users, items, gains = writers.read_qrels(path)
    assert (users.to_pylist(), items.to_pylist(), gains.tolist()) == (["u", "u", "v"], ["a", "b", "c"], [2, 1, 0])
    assert writers.write_qrels(tmp_path / "y.qrels", ["u"], [["a", "b"]]).read_text() == "u 0 a 1\nu 0 b 1\n"
    for wrong in ([[0.5]], [[-1]], [[float("nan")]]):
        with pytest.raises(DataError):
            writers.write_qrels(tmp_path / "z.qrels", ["u"], [["a"]], wrong)
    assert not (tmp_path / "z.qrels").exists()


@pytest.mark.parametrize("name", ["/dev/stdout", "-"])
def test_run_to_standard_output(capsys, name):
    writers.write_run(name, ["u"], [["a"]], [[1.0]], "s")
    assert capsys.readouterr().out == "u Q0 a 1 1.0 s\n"
    assert not Path("-").exists()


def test_run_to_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read_end = pool.submit(pipe.read_text)
        writers.write_run(pipe, ["u"], [["a"]], [[1.0]], "s")
        assert read_end.result(timeout=10) == "u Q0 a 1 1.0 s\n"
    assert pipe.is_fifo()
