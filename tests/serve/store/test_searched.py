"""Searches come out of a store with what was chosen of what they found, and go into one from a data set."""

import pyarrow as pa
import pytest

from palate.data.dataset import Dataset
from palate.data.readers.logs import read_searches
from palate.data.search_events import searches_of_events
from palate.errors import DataError
from palate.serve.store import Event, ItemRow, Search
from palate.serve.store import searched as module
from palate.serve.store.exchange import dataset, load_dataset


@pytest.fixture
def searched(store):
    """Ann chose one of two things that she found; a visitor chose what came up; bob chose what no search found."""
    store.put_items([ItemRow(name) for name in "abc"])
    store.add_searches([Search("red shoe", "ann", 100.9, ("a", "b", "gone")), Search("hat", "bob", 50.0)])
    store.add_searches([Search("blue", None, 200.0, ("c",), anonymous="v1"), Search("who", "nobody known", 1.0, ("a",))])
    store.add_events([Event("ann", "a", time=101.2), Event("v1", "c", time=230.0), Event("bob", "b", time=60.0)])
    return store


@pytest.mark.parametrize("block", [1, 50_000])
def test_searches_come_out(searched, monkeypatch, block):
    monkeypatch.setattr(module, "read_blocks", lambda connection, wanted: bulk_blocks(connection, wanted, block))
    assert dataset(searched).searches is None, "only who asks for them reads them"
    found = dataset(searched, searched=True)
    users, items = found.users.ids.raw.to_pylist(), found.items.ids.raw.to_pylist()
    told = [
        (None if row["user"] is None else users[row["user"]], row["time"], row["query"], [items[i] for i in row["items"]])
        for row in found.searches.to_pylist()
    ]
    assert told == [
        ("ann", 100, "red shoe", ["a"]), ("bob", 50, "hat", []), ("v1", 200, "blue", ["c"]), (None, 1, "who", []),
    ]  # fmt: skip
    events = found.interactions
    led = {users[u]: row for u, row in zip(events.user.tolist(), searches_of_events(found).tolist(), strict=True)}
    assert led == {"ann": 0, "v1": 2, "bob": -1}


def bulk_blocks(connection, wanted, size):
    from palate.serve.store.bulk import read_blocks

    return read_blocks(connection, wanted, size)


def test_a_store_without_searches_has_no_log(store):
    store.put_items([ItemRow("a")])
    store.add_events([Event("ann", "a")])
    assert dataset(store, searched=True).searches is None


def test_searches_go_in_with_a_data_set(store):
    plain = Dataset.from_columns(["u", "u", "v"], ["x", "y", "x"], time=[10, 20, 30])
    log = {"user": ["u", "v", None, "u"], "query": ["red", " ", "lost", "blue"], "time": [9, 29, 40, 19]}
    data = read_searches(plain, pa.table({**log, "items": [["x", "y"], ["x"], [], ["y"]]}))
    load_dataset(store, data)
    assert [(one.query, one.user, one.time, one.results) for one in store.searches_of("u")] == [
        ("red", "u", 9.0, ("x", "y")), ("blue", "u", 19.0, ("y",)),
    ]  # fmt: skip
    assert store.sizes()["searches"] == 3  # one says nothing
    assert sorted(searches_of_events(data).tolist()) == [0, 1, 3]
    assert sorted(searches_of_events(dataset(store, searched=True)).tolist()) == [-1, 0, 2]


def test_a_query_that_can_t_stand_leaves_the_store_empty(store):
    plain = Dataset.from_columns(["u"], ["x"], time=[10])
    data = read_searches(plain, pa.table({"user": ["u"], "query": ["bad \x00 query"], "time": [9], "items": [["x"]]}))
    with pytest.raises(DataError, match="searches"):
        load_dataset(store, data)
    assert store.sizes()["events"] == 0
