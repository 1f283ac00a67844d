"""Ties between people: put in, replaced, read, learnt from, erased at both ends."""

from __future__ import annotations

import numpy as np
import pytest

from palate.data.dataset import Dataset, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.serve.store import Event, ModelRow, Store, UserRow
from palate.serve.store.exchange import dataset, export_store, import_store, load_dataset
from palate.serve.store.ties import MOST


def graph_of(data: Dataset) -> list[tuple[str, str]]:
    graph, names = data.graphs["social"], data.users.ids.raw.to_pylist()
    return [(names[head], names[tail]) for head, tail in zip(graph.head, graph.tail, strict=True)]


def test_ties_are_put_in_kept_and_replaced(store: Store) -> None:
    store.put_users([UserRow("ann", ties=["cem", "bob", "ann", "bob"]), UserRow("bob", ties=[]), UserRow("cem")])
    assert store.ties_of("ann") == ["bob", "cem"] and store.ties_of("bob") == store.ties_of("nobody") == []
    store.put_users([UserRow("ann", {"age": 30})])
    found = store.user("ann")
    assert found is not None and store.ties_of("ann") == ["bob", "cem"] and found.attributes == {"age": 30}
    store.put_users([UserRow("ann", ties=["dot"])])
    assert store.ties_of("ann") == ["dot"] and store.ties_of("bob") == []
    assert store.delete_user("ann") and store.ties_of("ann") == []


@pytest.mark.parametrize(
    ("ties", "words"),
    [
        ("bob", "list"),
        (["bob", ""], "1 to 200"),
        ([".."], "web address"),
        ([str(n) for n in range(MOST + 1)], "10,000"),
    ],
)
def test_what_is_no_tie_is_refused_and_nothing_written(store: Store, ties: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words) as told:
        store.put_users([UserRow("bob"), UserRow("ann", ties=ties)])
    assert (told.value.where or "").startswith("users[1].ties") and store.users() == []


def test_models_learn_from_ties_whose_ends_are_there(store: Store) -> None:
    store.put_users([UserRow("ann", ties=["bob", "stranger"])])
    store.add_events([Event("bob", "i1"), Event("cem", "i2")])
    store.put_users([UserRow("cem", ties=["ann"])])
    assert graph_of(dataset(store, tied=True)) == [("ann", "bob"), ("cem", "ann")]
    assert not dataset(store).graphs
    store.add_events([Event("stranger", "i1")])
    assert ("ann", "stranger") in graph_of(dataset(store, tied=True))


def test_a_data_set_brings_its_ties(store: Store, tmp_path, store_url: str) -> None:
    plain = Dataset.from_columns(["a", "b", "c", "a"], ["x", "x", "y", "z"])
    head, tail = np.array([0, 0, 1, 2, 0], np.int32), np.array([1, 1, 1, 0, 2], np.int32)
    weight = np.array([1, 1, 1, 1, -1], np.float32)
    graph = Graph(head, np.zeros(5, np.int32), tail, "user", "user", Vocabulary(["trusts"]), weight=weight)
    load_dataset(store, plain.derive({"step": "ties"}, graphs={"social": graph}))
    assert graph_of(dataset(store, tied=True)) == [("a", "b"), ("c", "a")]  # once each, no loop, no distrust
    export_store(store, tmp_path / "export")
    with Store.open(f"sqlite:///{tmp_path / 'again.db'}") as again:
        assert import_store(again, tmp_path / "export")["ties"] == 2 and again.ties_of("c") == ["a"]


def test_an_erasure_takes_both_ends(store: Store) -> None:
    store.add_model(ModelRow("before", "mhcn", "/", position=0))
    store.put_users([UserRow("ann", ties=["bob"]), UserRow("bob", ties=["ann", "cem"]), UserRow("cem", ties=["bob"])])
    store.add_model(ModelRow("after", "mhcn", "/", position=0))
    held = store.export_user("bob")
    assert held["user"]["ties"] == ["ann", "cem"] and held["tied_by"] == 2
    erased = store.erase_user("bob")
    assert erased.counts["ties"] == 4 and erased.models_owed == ["after"], "a model of ties owes them, whatever its events"
    assert store.ties_of("ann") == store.ties_of("cem") == []
    kept = store.export_user("ann")
    assert "bob" not in repr(kept) and kept["tied_by"] == 0
