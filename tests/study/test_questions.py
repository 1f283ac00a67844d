"""Questions by the piece: the same people, histories and numbers as when asked all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.dataset import Dataset
from palate.data.protocols import split
from palate.data.split import Split
from palate.errors import DataError
from palate.recommend.ease import EASE
from palate.simulate.world import World
from palate.study import questions
from palate.study.questions import Asked, asked, of_history, of_parquet, of_split, of_users, people_in


@pytest.fixture(scope="module")
def parts() -> Split:
    world = World(users=90, items=40, events=1_500, topics=4, min_events=5, seed=2)
    return split(world.dataset(text=False, impressions=False), "leave_one_out")


@pytest.fixture(scope="module")
def model(parts: Split) -> EASE:
    return EASE().fit(parts.train)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "BLOCK", 8)
    monkeypatch.setattr(questions, "PIECE", 20)


def rows(pieces: Any, model: EASE, **how: Any) -> list[tuple[Any, int, list[int], list[int]]]:
    """Return number, person, user number, history and excluded items of every question."""
    found: list[Any] = []
    for piece in pieces:
        before = len(found)
        for block in asked(piece, model, **how):
            assert block.start == len(found) and len(block.people) == len(block.requests) <= questions.BLOCK
            excluded = block.requests.exclude
            lists = (
                block.requests.histories.ragged.tolist(),
                [None] * len(block.people) if excluded is None else excluded.tolist(),
            )
            found += zip(block.people.to_pylist(), block.requests.users.tolist(), *lists, strict=True)
        assert len(found) - before == people_in(piece)
    return found


def test_a_split_is_asked_as_in_one_piece(parts: Split, model: EASE) -> None:
    users, histories = parts.people("test")
    people, lists = parts.train.users.ids.decode(users).to_pylist(), histories.ragged.tolist()
    assert rows(of_split(model, parts), model) == list(zip(people, users.tolist(), lists, lists, strict=True))
    assert {row[3] for row in rows(of_split(model, parts), model, include_seen=True)} == {None}
    assert len(list(of_split(model, parts))) == 5 and parts.looks == 0


def test_times_and_values_of_a_split_are_carried(parts: Split, model: EASE) -> None:
    _, histories = parts.people("test")
    blocks = [block.requests.histories for piece in of_split(model, parts) for block in asked(piece, model)]
    for name in ("times", "values", "actions"):
        whole, found = getattr(histories, name), [getattr(h, name) for h in blocks]
        if whole is None:
            assert found == [None] * len(blocks)
        else:
            assert np.array_equal(np.concatenate(found), whole) and found[0].dtype == whole.dtype


def test_users_have_the_bundles_histories_and_strangers_none(model: EASE) -> None:
    names = [*map(str, model.users_.ids.raw.to_pylist()[:30]), "-7"]
    found = rows(of_users(model, names), model)
    assert [row[0] for row in found] == [int(name) for name in names]
    assert [row[2] for row in found] == [*model.histories_.ragged.tolist()[:30], []]
    assert found[-1][1] == -1
    mixed = rows(of_users(model, [*names, "a stranger"]), model)
    assert [row[0] for row in mixed] == [*names, "a stranger"], "one name that is no number: all are text"
    assert [row[1:] for row in mixed[:31]] == [row[1:] for row in found]
    assert rows(of_users(model, ["9" * 30]), model)[0][0] == "9" * 30
    assert list(of_users(model, [])) == []


def test_one_history(model: EASE) -> None:
    assert rows(of_history(["3", "no such item", "1"]), model) == [
        ("(history)", -1, *[[model.items_.ids.number(i) for i in (3, 1)]] * 2)
    ]


LISTS = [[1, 5, 9], [], [7], [1, 2, 999_999, 3], None, [4, None, 6]]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int32()), pa.list_(pa.string())])
def test_histories_in_parquet(model: EASE, tmp_path: Path, kind: pa.DataType) -> None:
    lists = [
        None if row is None else [None if i is None else str(i) if kind == pa.list_(pa.string()) else i for i in row]
        for row in LISTS
    ]
    table = pa.table({"user": ["s1", "s2", "s3", "s4", "s5", "s6"] * 7, "items": pa.array(lists * 7, kind)})
    pq.write_table(table, tmp_path / "h.parquet", row_group_size=11)
    number = model.items_.ids.number
    known = [[n for i in row or () if i is not None and (n := number(i)) >= 0] for row in LISTS]
    found = rows(of_parquet(tmp_path / "h.parquet"), model)
    assert [row[2] for row in found] == known * 7 == [row[3] for row in found]
    assert [row[0] for row in found] == table["user"].to_pylist() and {row[1] for row in found} == {-1}


def test_a_folder_of_histories_is_read_in_the_order_of_names(model: EASE, tmp_path: Path) -> None:
    users = model.users_.ids.raw.to_pylist()
    for name, some in (("b", users[:3]), ("a", users[3:5]), ("_no", users[5:6])):
        table = pa.table({"user": some, "items": [[1, 2]] * len(some), "times": pa.array([[5, 6]] * len(some))})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    found = rows(of_parquet(tmp_path), model)
    assert [row[0] for row in found] == [*users[3:5], *users[:3]]
    assert [row[1] for row in found] == [3, 4, 0, 1, 2], "people whom the bundle knows are asked about as themselves"


@pytest.mark.parametrize("unit", [None, "ms", "ns"])
def test_times_are_seconds(model: EASE, tmp_path: Path, unit: str | None) -> None:
    kind = pa.int64() if unit is None else pa.timestamp(unit)
    seconds = [1_600_000_000, 1_600_000_060]
    scale = {"ms": 10**3, "ns": 10**9}.get(unit or "", 1)
    times = pa.array([[s * scale for s in seconds]], pa.list_(kind))
    pq.write_table(pa.table({"user": ["x"], "items": [[1, 2]], "times": times, "values": [[1.0, 2.5]]}), tmp_path / "h.parquet")
    block: Asked = next(asked(next(of_parquet(tmp_path / "h.parquet")), model))
    histories = block.requests.histories
    assert histories.times is not None and histories.times.tolist() == seconds
    assert histories.values is not None and histories.values.tolist() == [1.0, 2.5] and histories.values.dtype == np.float32


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("shares", [1, 4])
def test_events_are_gathered_into_histories(
    parts: Split, model: EASE, tmp_path: Path, timed: bool, shares: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = parts.train.interactions
    order = np.random.default_rng(0).permutation(len(events)) if timed else np.arange(len(events))
    ids = parts.train.users.ids.raw, parts.train.items.ids.raw
    columns = {"user": ids[0].take(pa.array(events.user[order])), "item": ids[1].take(pa.array(events.item[order]))}
    if timed:
        # Distinct times that keep the order of each person's events.
        columns["time"] = pa.array(np.arange(len(events))[order])
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    monkeypatch.setattr(questions, "EVENTS", -(-len(events) // shares))
    found = {row[0]: row[2] for row in rows(of_parquet(tmp_path / "events.parquet"), model)}
    assert found == dict(zip(ids[0].to_pylist(), model.histories_.ragged.tolist(), strict=True))
    again = [row[0] for row in rows(of_parquet(tmp_path / "events.parquet"), model)]
    assert again == list(found), "the same order each time"


def test_bad_files_are_told(model: EASE, tmp_path: Path) -> None:
    def told(table: pa.Table | None, words: str) -> None:
        if table is not None:
            pq.write_table(table, tmp_path / "h.parquet")
        with pytest.raises(DataError, match=words):
            rows(of_parquet(tmp_path / "h.parquet"), model)

    (tmp_path / "h.parquet").write_text("no parquet")
    told(None, "can't be read as Parquet")
    told(pa.table({"who": ["a"], "items": [[1]]}), "neither histories nor events")
    told(pa.table({"user": ["a"], "items": ["1,2"]}), "neither histories nor events")
    told(pa.table({"user": pa.array([], pa.string()), "items": pa.array([], pa.list_(pa.int64()))}), "nobody is in it")
    told(pa.table({"user": ["a", None], "items": [[1], [2]]}), "has no user")
    told(pa.table({"user": ["a", "b"], "items": [[1], [2]], "times": [[1], [1, 2]]}), "items and times differ in length")
    told(pa.table({"user": ["a"], "items": [[1, 2]], "times": [[1, None]]}), "missing in the lists of times")
    pq.write_table(pa.table({"user": ["a"], "item": [1]}), tmp_path / "i.parquet")
    with pytest.raises(DataError, match="different columns"):
        of_parquet(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no Parquet"):
        of_parquet(tmp_path / "empty")
    pieces = list(of_parquet(tmp_path / "h.parquet"))
    (tmp_path / "h.parquet").unlink()
    with pytest.raises(DataError, match="is not here"):
        next(asked(pieces[0], model))


def test_text_ids(tmp_path: Path) -> None:
    model = EASE(reg=1.0).fit(Dataset.from_columns(["a", "a", "b", "b"], ["x", "y", "y", "z"]))
    pq.write_table(pa.table({"user": ["b", "new"], "items": [["x"], ["z", "?"]]}), tmp_path / "h.parquet")
    assert rows(of_parquet(tmp_path / "h.parquet"), model) == [("b", 1, [0], [0]), ("new", -1, [2], [2])]
    assert [row[0] for row in rows(of_users(model, ["a", "7"]), model)] == ["a", "7"]


class Reader(EASE):
    """Reads words, or says so."""

    reads_words = True


def test_what_people_say_stands_in_a_column(parts: Split, model: EASE, tmp_path: Path) -> None:
    items = parts.train.items.ids.raw[:2].to_pylist()
    table = pa.table({"user": ["a", "b", "c"], "items": [items, [], items[:1]], "text": ["quiet", None, "loud"]})
    pq.write_table(table, tmp_path / "said.parquet")
    reader = Reader().fit(parts.train)
    (block,) = [block for piece in of_parquet(tmp_path / "said.parquet") for block in asked(piece, reader)]
    assert list(block.requests.texts or ()) == ["quiet", "", "loud"]
    (other,) = [block for piece in of_parquet(tmp_path / "said.parquet") for block in asked(piece, model)]
    assert other.requests.texts is None
    pq.write_table(table.set_column(2, "text", pa.array([1, 2, 3])), tmp_path / "numbers.parquet")
    with pytest.raises(DataError, match="is text"):
        list(next(asked(piece, reader) for piece in of_parquet(tmp_path / "numbers.parquet")))


class Follower(EASE):
    """Reads ties, or says so."""

    reads_ties = True


def test_whom_people_are_tied_to_stands_in_a_column(parts: Split, model: EASE, tmp_path: Path) -> None:
    people, items = parts.train.users.ids.raw[:2].to_pylist(), parts.train.items.ids.raw[:1].to_pylist()
    named = [[str(person) for person in people], None, ["nobody known"]]
    table = pa.table({"user": ["a", "b", "c"], "items": [items, [], items], "ties": pa.array(named)})
    pq.write_table(table, tmp_path / "tied.parquet")
    follower = Follower().fit(parts.train)
    (block,) = [block for piece in of_parquet(tmp_path / "tied.parquet") for block in asked(piece, follower)]
    assert block.requests.ties is not None and [row.tolist() for row in block.requests.ties] == [[0, 1], [], []]
    (other,) = [block for piece in of_parquet(tmp_path / "tied.parquet") for block in asked(piece, model)]
    assert other.requests.ties is None
    pq.write_table(table.set_column(2, "ties", pa.array(["x", "y", "z"])), tmp_path / "names.parquet")
    with pytest.raises(DataError, match="lists of people"):
        list(asked(next(of_parquet(tmp_path / "names.parquet")), follower))
    (piece,) = of_history([], ties=["nobody known", str(people[1])])
    (alone,) = asked(piece, follower)
    assert alone.requests.ties is not None and alone.requests.ties[0].tolist() == [1]
