"""Exports, imports and data sets: everything comes back, in blocks, whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import select

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions, concat
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.serve.errors import ConflictError
from palate.serve.store import Event, Feedback, ItemRow, ModelRow, Shown, Slate, Store, UserRow, bulk
from palate.serve.store.exchange import add_dataset, dataset, export_store, import_store, load_dataset, numbered_dataset
from palate.serve.store.tables import events as events_table


@pytest.fixture
def full(store):
    store.put_users([UserRow("ann", {"age": 30}), UserRow("bob", {"age": 40, "town": "Bern"})])
    store.put_items([ItemRow("a", "A", "text", ("x", "y"), 1.5, True, {"year": 1999, "odd": 1}), ItemRow("b", "B")])
    store.put_items([ItemRow("c", attributes={"odd": "one"}, image="c.jpg"), ItemRow("d", available=False)])
    store.delete_items(["b"])
    store.add_events([Event("ann", "a", "buy", 2.0, 10.5, "s", {"x": 1}, "e1"), Event("bob", "b", time=5.0)])
    store.add_events([Event("ann", "c", time=10.25)])
    store.add_slate(Slate("s", (Shown("a", 1, 0.5),), user="ann", policy="p", context={"x": "y\t\n\\"}))
    store.add_feedback([Feedback("s", "a")])
    store.add_model(ModelRow("m1", "ease", "/m1")), store.add_model(ModelRow("m2", "ease", "/m2"))
    store.activate("m1"), store.activate("m2")
    store.add_key("k", "0" * 64, ["read"])
    store.set_setting("x", 1)
    return store


def _tables(store: Store) -> dict[str, list]:
    with store.database.read() as connection:
        return {t.name: sorted(map(repr, connection.execute(t.select()))) for t in bulk.IN_ORDER}


class TestArchive:
    @pytest.mark.parametrize("block", [1, 50_000])
    def test_a_store_comes_back(self, full, tmp_path, postgres_other, monkeypatch, block):
        monkeypatch.setattr("palate.serve.store.archive.BLOCK", block)
        export_store(full, tmp_path / "out")
        for url in (f"sqlite:///{tmp_path / 'back.db'}", postgres_other()):
            with Store.open(url) as back:
                counts = import_store(back, tmp_path / "out")
                assert counts["events"] == 3 and back.identity == full.identity
                assert _tables(back) == _tables(full)
                assert back.add_events([Event("ann", "a")]).position == 4, "numbers go on"
                assert back.add_events([Event("ann", "a", "buy", 2.0, 10.5, "s", {"x": 1}, "e1")]).repeated == 1
                assert back.roll_back().version == "m1"

    def test_an_export_goes_into_an_empty_store_only(self, full, tmp_path):
        export_store(full, tmp_path / "out")
        export_store(full, tmp_path / "out")
        with pytest.raises(ConflictError):
            import_store(full, tmp_path / "out")

    def test_a_damaged_export_leaves_the_store_empty(self, full, tmp_path):
        folder = export_store(full, tmp_path / "out")
        facts = json.loads((folder / "store.json").read_text())
        for change in ("schema", "rows", "file", "none"):
            target = tmp_path / f"bad-{change}"
            export_store(full, target)
            if change == "schema":
                (target / "store.json").write_text(json.dumps({**facts, "schema": "9999"}))
            elif change == "rows":
                (target / "store.json").write_text(json.dumps({**facts, "rows": {**facts["rows"], "keys": 7}}))
            elif change == "file":
                (target / "impressions.parquet").write_bytes(b"PAR1 nonsense")
            else:
                (target / "feedback.parquet").unlink()
            with Store.open(f"sqlite:///{tmp_path / change}.db") as back:
                identity = back.identity
                with pytest.raises(DataError):
                    import_store(back, target)
                assert back.sizes()["users"] == 0 and back.identity == identity
                assert Store.open(back.url).identity == identity

    def test_something_else_is_not_overwritten(self, full, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letter.txt").write_text("dear")
        with pytest.raises(DataError):
            export_store(full, tmp_path / "mine")


@pytest.fixture
def postgres_other(postgres):
    return postgres.database


class TestDataset:
    def test_everything_models_learn_from(self, full):
        data = dataset(full)
        assert data.users.ids.raw.to_pylist() == ["ann", "bob"] and data.items.ids.raw.to_pylist() == ["a", "b", "c", "d"]
        events = data.interactions
        assert events.user.tolist() == [0, 0, 1] and events.item.tolist() == [2, 0, 1]
        assert events.time.tolist() == [10, 10, 5], "whole seconds, but in the true order"
        assert events.value.tolist() == [1.0, 2.0, 1.0] and events.session is None
        assert data.actions.raw.take(pa.array(events.action)).to_pylist() == ["view", "buy", "view"]
        assert data.items.column("title").to_pylist() == ["A", "B", None, None]
        assert data.items.column("categories").to_pylist() == [["x", "y"], None, None, None]
        assert data.items.column("odd").to_pylist() == ["1", None, "one", None], "mixed kinds become text"
        assert data.items.column("year").to_pylist() == [1999, None, None, None]
        assert data.users.column("age").to_pylist() == [30, 40]

    def test_an_empty_store_gives_an_empty_data_set(self, store):
        data = dataset(store)
        assert (len(data), data.n_users, data.n_items) == (0, 0, 0)

    def test_sessions_where_every_event_has_one(self, store):
        store.add_events([Event("u", "i", session="b", time=1.0), Event("u", "j", session="a", time=2.0)])
        data = dataset(store)
        assert data.sessions.raw.take(pa.array(data.interactions.session)).to_pylist() == ["b", "a"]
        assert data.interactions.value is None

    @pytest.mark.parametrize("block", [3, 50_000])
    def test_a_data_set_comes_back(self, store, monkeypatch, block):
        for module in ("exchange", "attributes"):
            monkeypatch.setattr(f"palate.serve.store.{module}.BLOCK", block)
        rng = np.random.default_rng(1)
        events = Interactions.sorted(
            rng.integers(0, 5, 40).astype(np.int32),
            rng.integers(0, 7, 40).astype(np.int32),
            time=rng.integers(0, 30, 40),
            value=rng.integers(1, 6, 40).astype(np.float32),
            action=rng.integers(0, 2, 40).astype(np.int32),
        )
        table = pa.table(
            {
                "title": [f"t{at}" for at in range(7)],
                "categories": [["x"], None, ["y", "z"], [], None, None, None],
                "price": [1.0, None, 2.0, 3.0, 4.0, 5.0, float("nan")],
                "year": pa.array([1990, None, 1991, 1992, 1993, 1994, 1995], pa.int32()),
                "vector": [[0.5]] * 7,
            }
        )
        given = Dataset(
            events,
            Entities(Vocabulary(pa.array(np.arange(5))), pa.table({"sex": ["f", "m", None, "f", "m"]})),
            Entities(Vocabulary(pa.array(np.arange(7))), table),
            actions=Vocabulary(["buy", "view"]),
        )
        assert load_dataset(store, given) == 40
        back = dataset(store)
        assert back.users.ids.raw.to_pylist() == [str(at) for at in range(5)]
        for name in ("user", "item", "time", "value", "action"):
            assert np.array_equal(getattr(back.interactions, name), getattr(events, name)), name
        assert back.items.column("title").equals(table["title"]) and back.items.column("year").to_pylist()[1:3] == [None, 1991]
        assert back.items.column("price").to_pylist() == [1.0, None, 2.0, 3.0, 4.0, 5.0, None]
        assert back.items.column("categories").to_pylist() == [["x"], None, ["y", "z"], None, None, None, None]
        assert back.items.column("vector") is None and back.users.column("sex").to_pylist() == ["f", "m", None, "f", "m"]
        assert [e.time for e in store.events_of("0", 3)] == sorted(events.time[events.user == 0])[-3:]
        assert store.pulse().items == 7 and store.events_after(0)["time"].to_pylist() == sorted(events.time.tolist())
        with pytest.raises(ConflictError):
            load_dataset(store, given)

    def test_a_bad_id_leaves_the_store_empty(self, store):
        with pytest.raises(DataError) as told:
            load_dataset(store, Dataset.from_columns(["u", "x" * 300], ["i", "j"]))
        assert told.value.where == "users[1]" and store.users() == []

    def test_indexes_are_there_again(self, store, tiny_dataset):
        load_dataset(store, tiny_dataset)
        from sqlalchemy import inspect

        with store.database.read() as connection:
            names = {index["name"] for index in inspect(connection).get_indexes("events")}
        assert names == {"events_by_id", "events_by_user", "events_by_time"}


def test_every_event_keeps_its_number(full):
    """The number of an event is found again whatever order, filter or numbering a data set has gone through."""
    full.erase_user("bob", scrub=False)
    full.add_events([Event("cid", "a", time=7.0), Event("ann", "d", time=1.0), Event("cid", "c", time=7.0)])
    data, numbers = numbered_dataset(full)
    events = data.interactions
    with full.database.read() as connection:
        rows = connection.execute(select(events_table.c.n, events_table.c.user, events_table.c.item)).all()
    wanted = {(user, item): number for number, user, item in rows}
    for kept in (events, events.take(events.time >= 7), concat(events.take(events.item > 0), events.take(events.item == 0))):
        people, things = (e.ids.decode(c).to_pylist() for e, c in ((data.users, kept.user), (data.items, kept.item)))
        found = numbers[kept.file_order].tolist()
        assert [wanted[pair] for pair in zip(people, things, strict=True)] == found
    assert len(wanted) == 5 == len(numbers)
    assert dataset(full).fingerprint == data.fingerprint


def _events(rows: list[tuple[str, str, str, float, int]], *, timed: bool = True) -> Dataset:
    """Return a data set of rows: user, item, action, value, time."""
    user, item, action, value, time = (list(column) for column in zip(*rows, strict=True))
    made = Dataset.from_columns(user, item, value=value, time=time if timed else None)
    actions, codes = Vocabulary.of(pa.array(action))
    events = replace(made.interactions, action=codes[made.interactions.file_order])
    return replace(made, interactions=events, actions=actions)


class TestAddedAgain:
    """A data set that comes in twice, alone or in a longer one."""

    @pytest.mark.parametrize("timed", [True, False])
    @pytest.mark.parametrize("before", [True, False], ids=["others", "empty"])
    def test_the_same_events_change_nothing(self, store, timed, before):
        if before:
            store.add_events([Event("u0", "i0", "buy", 1.0, time=100.0), Event("zoe", "i9", time=200.0)])
        other = store.position()
        rows = [("u0", "i0", "buy", 1.0, 100), ("u1", "i1", "buy", 2.0, 101)]
        rows += [("u0", "i0", "buy", 1.0, 100), ("u0", "i2", "view", 0.1, 103)]  # the first once more: that happened, too
        assert add_dataset(store, _events(rows, timed=timed)) == 4
        for again in (rows, rows[::-1], rows[:2]):
            assert add_dataset(store, _events(again, timed=timed)) == 0
        assert store.position() == other + 4
        grown = [*rows, ("u0", "i0", "buy", 1.0, 100), ("u7", "i7", "view", 3.0, 104)]
        assert add_dataset(store, _events(grown, timed=timed)) == 2
        assert store.position() == other + 6 and [e.item for e in store.events_of("u7")] == ["i7"]
        assert (store.events_of("u1")[0].time == 101.0) is timed

    def test_a_bad_id_beside_others_adds_nothing(self, store):
        store.add_events([Event("u", "i")])
        given = _events([*((f"u{n}", "i", "view", 1.0, n) for n in range(1_500)), ("u", "i", "x" * 300, 1.0, 9_999)])
        with pytest.raises(DataError) as told:
            add_dataset(store, given)
        assert told.value.where == "actions[1]" and store.position() == 1
