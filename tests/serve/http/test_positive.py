"""Events that count as choices: answers start from what the active model learnt from, and know of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from palate.serve.memory.people import Person
from palate.serve.models.drift import drift
from palate.serve.models.retrain import retrain
from palate.serve.store import Event

NOW = 1_700_000_000.0


@pytest.fixture
def choosing(live: Any) -> Any:
    """A service whose model learns from views and high ratings; somebody new looked at garden items, and rated two of space."""
    done = [("i1", "look", None), ("i2", "rating", 5.0), ("i3", "look", None), ("i4", "rating", 4.0), ("i6", "rating", 1.0)]
    live.store.add_events([Event("new", item, kind, value, time=NOW - 900 + n) for n, (item, kind, value) in enumerate(done)])
    retrain(live.store, live.service.models, "ials", {"dim": 8, "epochs": 5}, positive=["view", "rating:4"], gate=False)
    live.service.catch_up()
    assert live.service.shelf.positive is not None
    return live


def _ids(service: Any, rows: Any) -> list[str]:
    return [service.catalogue.items[row].id for row in rows.tolist()]


def test_a_person_is_what_they_chose(choosing: Any) -> None:
    service = choosing.service
    person = service.person("new")
    assert _ids(service, person.rows) == ["i2", "i4"] and person.times.tolist() == [NOW - 899, NOW - 897]
    assert _ids(service, person.events().rows) == ["i1", "i2", "i3", "i4", "i6"]
    assert _ids(service, person.seen) == ["i1", "i2", "i3", "i4", "i6"]
    assert _ids(service, person.until(NOW - 897).rows) == ["i2"]
    assert _ids(service, person.until(NOW - 897).events().rows) == ["i1", "i2", "i3"]
    assert person.mix(service.catalogue) == {"space": 1.0}
    assert len(service.store.past_of("u0").items) == len(service.person("u0").rows)  # views all count


def test_what_was_met_is_left_out_and_what_was_not_chosen_may_come(choosing: Any) -> None:
    every = {f"i{n}" for n in range(40)}
    met, chosen = {"i1", "i2", "i3", "i4", "i6"}, {"i2", "i4"}
    assert set(choosing.ids(user="new", k=40)) == every - met
    assert set(choosing.ids(user="new", k=40, seen="chosen")) == every - chosen
    assert set(choosing.ids(user="new", k=40, seen="allow")) == every
    best = choosing.ids(user="new", k=5, seen="chosen", experiments=False)
    assert sum(int(item[1:]) % 2 == 0 for item in best) >= 4  # as their ratings say, whatever they looked at


def test_a_like_of_what_was_only_met_counts(choosing: Any) -> None:
    shown = choosing.post("/v1/recommendations", user="new", k=40, seen="allow")
    choosing.service.settle()
    choosing.post("/v1/feedback", slate=shown["slate"], item="i3", kind="like", time=NOW - 1)
    person = choosing.service.person("new")
    assert _ids(choosing.service, person.rows) == ["i2", "i4", "i3"]
    assert _ids(choosing.service, person.acts().rows) == ["i2", "i4"]
    assert _ids(choosing.service, person.events().rows) == ["i1", "i2", "i3", "i4", "i6"]


def test_what_a_bundle_knows_comes_before(choosing: Any) -> None:
    catalogue = choosing.service.catalogue
    base = Person.of("new", ["i8", "i9"], [1.0, 2.0], catalogue)
    live = Person.of("new", ["i1", "i2"], [3.0, 4.0], catalogue, chosen=[False, True])
    both = live.after(base)
    assert _ids(choosing.service, both.rows) == ["i8", "i9", "i2"]
    assert _ids(choosing.service, both.events().rows) == ["i8", "i9", "i1", "i2"]


def test_trends_and_drift_count_what_counts(choosing: Any) -> None:
    service = choosing.service
    rows, counts = service.trending(1.0, (), 10)
    assert sorted(_ids(service, rows)) == ["i2", "i4"] and counts.tolist() == [1, 1]
    looked, _ = service.trending(1.0, ("look",), 10)
    assert sorted(_ids(service, looked)) == ["i1", "i3"]
    found = drift(service, days=1.0)
    assert found.now["events"] == 5  # activity is activity
    choosing.store.add_events([Event(f"stranger{n}", "i1", "look", time=NOW - 10) for n in range(50)])
    again = drift(service, days=1.0)
    assert again.now["events"] == 55 and again.unknown_people == found.unknown_people and again.stability == found.stability


def test_a_profile_counts_all_that_was_done(choosing: Any) -> None:
    told = choosing.call("GET", "/v1/profile/new").json()
    assert told["events"] == 5 and set(told["taste"]) == {"space"}


def test_a_persons_events_that_count(choosing: Any) -> None:
    store, positive = choosing.store, choosing.service.shelf.positive
    assert [event.item for event in store.events_of("new", positive=positive)] == ["i2", "i4"]
    assert [event.item for event in store.events_of("new", 1, positive=positive)] == ["i4"]  # looks take no place
    assert len(store.events_of("new")) == 5
