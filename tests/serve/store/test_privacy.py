"""Persons' rights: everything comes out, nothing is left behind, old things go."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from palate.errors import DataError
from palate.serve.store import (
    Conversation,
    Event,
    Exposure,
    Feedback,
    ModelRow,
    Search,
    Shown,
    Slate,
    Store,
    UserRow,
)

NAME = "Marie-Curie-7c1f"
KINDS = ("feedback", "impressions", "slates", "events", "searches", "conversations", "exposures", "ties", "users")


def _live(store: Store, user: str, n: int = 3) -> None:
    """Have a person do a bit of everything."""
    store.put_users([UserRow(user, {"mail": f"{user}@example.org"}, ties=["somebody"])])
    store.add_events([Event(user, f"i{at}", time=100.0 + at, id=f"{user}/{at}", context={"me": user}) for at in range(n)])
    store.add_slate(Slate(f"{user}-slate", (Shown("i1", 1, 0.5), Shown("i2", 2, 0.5)), user=user, time=100.0, policy="p"))
    store.add_feedback([Feedback(f"{user}-slate", "i1", id=f"{user}-f")])
    store.add_searches([Search(f"gift for {user}", user, 100.0)])
    store.put_conversation(Conversation(f"{user}-talk", user, ({"text": f"I am {user}"},)))
    if store.experiment("e") is None:
        store.add_experiment("e", {})
    store.add_exposures([Exposure("e", user, "a")])


def test_export_gives_all_that_is_held(store):
    _live(store, NAME)
    _live(store, "other")
    held = json.loads(json.dumps(store.export_user(NAME)))
    assert held["user"]["attributes"] == {"mail": f"{NAME}@example.org"} and held["user"]["ties"] == ["somebody"]
    assert [e["item"] for e in held["events"]] == ["i0", "i1", "i2"]
    assert held["slates"][0]["items"][1]["item"] == "i2" and held["slates"][0]["feedback"][0]["id"] == f"{NAME}-f"
    assert held["searches"][0]["query"] == f"gift for {NAME}" and held["conversations"][0]["id"] == f"{NAME}-talk"
    assert held["exposures"][0]["experiment"] == "e" and "other" not in json.dumps(held)
    assert not any(store.export_user("nobody").values())


def test_erase_removes_every_row_and_says_what_is_owed(store):
    store.add_model(ModelRow("before", "ease", "/"))
    store.add_events([Event("somebody", "i0")])
    store.add_model(ModelRow("number", "ease", "/", position=1))
    _live(store, NAME)
    _live(store, "other")
    store.add_model(ModelRow("after", "ease", "/"))
    store.add_model(ModelRow("number-after", "ease", "/", position=2))
    kept = store.export_user("other")
    erased = store.erase_user(NAME)
    assert dict(erased.counts) == {kind: {"events": 3, "impressions": 2}.get(kind, 1) for kind in KINDS}
    assert erased.models_owed == ["after", "number-after"]
    assert not any(store.export_user(NAME).values()) and store.export_user("other") == kept
    assert store.erased_at(NAME) > 0 and store.erased_at("other") is None
    again = store.erase_user(NAME)
    assert not any(again.counts.values()) and again.models_owed == []


def _visit(store: Store, key: str) -> None:
    """Have somebody without an account get a slate, react, search and meet an experiment."""
    shown = (Shown("i1", 1, 0.5), Shown("i2", 2, 0.5))
    asked = {"k": 2, "text": f"for {key}"}
    store.add_slate(Slate(f"{key}-visit", shown, anonymous=key, time=100.0, policy="p", asked=asked))
    store.add_feedback([Feedback(f"{key}-visit", "i1")])
    store.add_searches([Search(f"gift for {key}", None, 100.0, anonymous=key)])
    if store.experiment("e") is None:
        store.add_experiment("e", {})
    store.add_exposures([Exposure("e", key, "a")])


def test_visitors_without_an_account_have_the_same_rights(store):
    _visit(store, NAME)
    _visit(store, "other")
    held = json.loads(json.dumps(store.export_user(NAME)))
    assert [slate["id"] for slate in held["slates"]] == [f"{NAME}-visit"] and len(held["slates"][0]["feedback"]) == 1
    assert held["slates"][0]["asked"] == {"k": 2, "text": f"for {NAME}"}
    assert [search["query"] for search in held["searches"]] == [f"gift for {NAME}"] and len(held["exposures"]) == 1
    kept = store.export_user("other")
    counts = dict(store.erase_user(NAME).counts)
    assert counts == {"feedback": 1, "impressions": 2, "slates": 1, "searches": 1, "exposures": 1} | dict.fromkeys(
        ("events", "conversations", "ties", "users"), 0
    )
    assert not any(store.export_user(NAME).values()) and store.export_user("other") == kept
    assert store.erased_at(NAME) > 0


def test_a_visit_before_the_account_belongs_to_both_names(store):
    store.add_slate(Slate("s", (Shown("i1", 1, 1.0),), user="ann", anonymous="visit-1", policy="p"))
    assert store.export_user("ann")["slates"] == store.export_user("visit-1")["slates"] != []
    assert store.erase_user("visit-1").counts["slates"] == 1 and store.slate("s") is None


def test_no_table_names_the_person_afterwards(store):
    from palate.serve.store.tables import IN_ORDER

    _live(store, NAME)
    _visit(store, NAME)
    store.erase_user(NAME)
    with store.database.read() as connection:
        for table in IN_ORDER:
            assert NAME not in repr(connection.execute(table.select()).all()), table.name


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_no_file_holds_the_bytes_afterwards(tmp_path):
    """Rows of all sizes among others that come and go, so that trees are rebuilt and leave copies behind."""
    rng = np.random.default_rng(5)

    def event(number: str) -> Event:
        user = NAME if rng.random() < 0.2 else f"u{rng.integers(300)}"
        context = {"x": user * int(rng.integers(60))}
        return Event(user, "i", "view", None, float(rng.random()), user, context, f"{rng.random()}-{user}-{number}")

    with Store.open(f"sqlite:///{tmp_path / 'p.db'}", synchronous="NORMAL") as store:
        _live(store, NAME)
        _visit(store, NAME)
        for at in range(60):
            store.add_events([event(f"{at}-{j}") for j in range(100)])
            with store.database.write() as connection:
                others = (int(rng.integers(7)), NAME)
                connection.exec_driver_sql('DELETE FROM events WHERE n % 7 = ? AND "user" <> ?', others)
        assert _bytes_of(tmp_path).count(NAME.encode()) > 1_000
        assert store.erase_user(NAME).files_clean
        assert NAME.encode() not in _bytes_of(tmp_path)
        assert store.add_events([Event("u1", "i")]).stored == 1
    assert NAME.encode() not in _bytes_of(tmp_path)


def test_erasures_are_counted_and_known_by_name(store):
    assert store.pulse().erasures == 0 and "anybody" not in store.erasures_since(0)
    store.add_events([Event(user, "i") for user in ("u1", "u2", "u3")])
    store.erase_user("u1", scrub=False)
    first = store.pulse().erasures
    store.erase_user("u2", scrub=False)
    store.erase_user("nobody", scrub=False)  # nothing was held
    every, later = store.erasures_since(0), store.erasures_since(first)
    assert [user in every for user in ("u1", "u2", "u3", "nobody")] == [True, True, False, False]
    assert [user in later for user in ("u1", "u2")] == [False, True]
    assert every.last == later.last == store.pulse().erasures > first > 0
    assert [user in (store.erasures_since(every.last) | later) for user in ("u1", "u2")] == [False, True]
    store.erase_user("in-a-bundle-alone", scrub=False, elsewhere=True)
    assert "in-a-bundle-alone" in store.erasures_since(every.last) and store.pulse().erasures > every.last
    assert store.erasures_since(10_000).last == 10_000 and every.key not in repr(every)


def test_many_are_erased_and_scrubbed_once(tmp_path):
    with Store.open(f"sqlite:///{tmp_path / 'p.db'}") as store:
        people = [f"{NAME}-{at}" for at in range(5)]
        for person in people:
            _live(store, person)
            assert not store.erase_user(person, scrub=False).files_clean
        assert store.scrub() and NAME.encode() not in _bytes_of(tmp_path)


def test_a_reader_that_holds_the_log_is_admitted(tmp_path):
    with Store.open(f"sqlite:///{tmp_path / 'p.db'}", wait=0.2) as store:
        _live(store, NAME)
        with store.database.snapshot() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM events").one()
            assert not store.erase_user(NAME).files_clean
        assert store.scrub() and NAME.encode() not in _bytes_of(tmp_path)


def test_retention_deletes_what_is_old(store_url):
    now = [1_000_000.0]
    with Store.open(store_url, clock=lambda: now[0]) as store:
        _live(store, "old")
        now[0] += 10 * 86_400
        store.add_events([Event("old", "i0"), Event("new", "i1")])
        store.add_slate(Slate("s", (Shown("i1", 1, 1.0),), policy="p"))
        assert store.retain(5) == {"events": 3, "slates": 1, "searches": 1, "conversations": 1}
        sizes = store.sizes()
        assert (sizes["events"], sizes["slates"], sizes["impressions"], sizes["feedback"]) == (2, 1, 1, 0)
        with pytest.raises(DataError):
            store.retain(0)


def test_retention_works_in_blocks(store, monkeypatch):
    from palate.serve.store import privacy

    monkeypatch.setattr(privacy, "BLOCK", 4)
    store.add_events([Event("u", "i", time=1.0) for _ in range(10)])
    assert store.retain(1)["events"] == 10
