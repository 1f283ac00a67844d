"""A sequence model, served: an acknowledged event changes the very next answer, and the order of events matters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from palate.serve.models.retrain import retrain
from palate.serve.settings import ServiceSettings
from palate.serve.store import Event, ItemRow, Store

#: Items stand on a ring; half of the people go round it one way and half the other.
ITEMS, PEOPLE, LENGTH = 20, 80, 8


@pytest.fixture(scope="module")
def walk(open_live: Callable[..., Iterator[Any]], tmp_path_factory: Any) -> Iterator[Any]:
    """A service whose active model is a small SASRec that learnt which way people go."""
    folder = tmp_path_factory.mktemp("walk")
    rng = np.random.default_rng(0)
    with Store.open(f"sqlite:///{folder / 'palate.db'}") as store:
        store.put_items([ItemRow(id=f"i{n}") for n in range(ITEMS)])
        events = []
        for person in range(PEOPLE):
            start, way = rng.integers(ITEMS), 1 if person % 2 else -1
            events += [
                Event(user=f"u{person}", item=f"i{(start + way * at) % ITEMS}", time=1_600_000_000.0 + at * PEOPLE + person)
                for at in range(LENGTH)
            ]
        store.add_events(events)
        small = {"dim": 16, "blocks": 1, "heads": 1, "max_len": 10, "epochs": 40, "patience": 0, "batch_size": 32, "lr": 0.01}
        retrain(store, folder / "models", "sasrec", {**small, "dropout": 0.0, "n_negatives": 32}, gate=False)
    pipeline = {"sources": [{"kind": "model"}]}
    yield from open_live(folder, ServiceSettings().replace(pipeline=pipeline, search={"encoder": "off"}))


def test_an_acknowledged_event_changes_the_very_next_answer(walk: Any) -> None:
    for item in ("i3", "i4", "i5"):
        walk.post("/v1/events", user="walker", item=item)
    assert walk.ids(user="walker", k=1) == ["i6"]
    for at in range(6, 10):
        walk.post("/v1/events", user="walker", item=f"i{at}")
        assert walk.ids(user="walker", k=1) == [f"i{at + 1}"]


def test_the_order_of_events_matters(walk: Any) -> None:
    assert walk.ids(history=["i10", "i11", "i12"], k=1) == ["i13"]
    assert walk.ids(history=["i12", "i11", "i10"], k=1) == ["i9"]
    for item in ("i12", "i11", "i10"):
        walk.post("/v1/events", user="back", item=item)
    assert walk.ids(user="back", k=1) == ["i9"]


def test_an_event_of_the_past_takes_its_place_in_the_order(walk: Any) -> None:
    times = {"i15": 1_700_000_000.0, "i16": 1_700_000_010.0, "i14": 1_699_999_990.0}
    walk.post("/v1/events", events=[{"user": "late", "item": item, "time": time} for item, time in times.items()])
    assert walk.ids(user="late", k=1) == ["i17"]
