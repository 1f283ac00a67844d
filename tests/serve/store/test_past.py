"""What a person said of items, as answers read it: by user and visitor, as of a moment, gone with the person."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from palate.data.positive import Positive
from palate.serve.store import Event, Feedback, Shown, Slate, Store, past, schema
from palate.serve.store.past import Past, Said


@pytest.fixture
def shown(store: Store) -> Store:
    """A store with a slate for a user, one for a visitor, one for both and one for nobody."""
    items = tuple(Shown(f"i{n}", n + 1) for n in range(4))
    for id_, user, anonymous in (("s", "ann", None), ("v", None, "tab"), ("both", "ann", "tab"), ("nobody", None, None)):
        store.add_slate(Slate(id_, items, user=user, anonymous=anonymous, stochastic=False))
    return store


def _said(store: Store, *whom: str | None, **more: float) -> list[tuple[str, str, float]]:
    return [(one.item, one.kind, one.value) for one in store.past_of(*whom, **more).said]


def test_words_are_those_of_the_person_oldest_first(shown: Store) -> None:
    given = [
        ("s", "i0", "hide"),
        ("s", "i1", "click"),
        ("both", "i2", "like"),
        ("v", "i3", "dislike"),
        ("nobody", "i0", "hide"),
    ]
    for slate, item, kind in given:
        shown.add_feedback([Feedback(slate, item, kind)])
    assert _said(shown, "ann") == [("i0", "hide", 1.0), ("i2", "like", 1.0)]
    assert _said(shown, None, "tab") == [("i3", "dislike", 1.0)]
    assert _said(shown, "ann", "tab") == [("i0", "hide", 1.0), ("i2", "like", 1.0), ("i3", "dislike", 1.0)]
    assert _said(shown, "bob") == _said(shown, None) == []
    assert [(one.item, slate) for one, slate in shown.said_by("ann")] == [("i0", "s"), ("i2", "both")]


def test_words_and_events_are_as_of_a_moment(shown: Store) -> None:
    shown.add_events([Event("ann", "i0", time=10.0), Event("ann", "i1", time=30.0)])
    shown.add_feedback([Feedback("s", "i2", "hide", time=20.0), Feedback("s", "i2", "hide", 0.0, time=40.0)])
    assert shown.past_of("ann", before=30.0) == Past(["i0"], [10.0], [Said("i2", "hide", 1.0, 20.0)])
    assert shown.past_of("ann", before=20.0) == Past(["i0"], [10.0], [])
    shown.add_feedback([Feedback("s", "i3", "hide", value, time=50.0) for value in (1.0, 0.0, 2.0)])
    assert [one.value for one in shown.past_of("ann").said][2:] == [1.0, 0.0, 2.0]  # of one moment: as they came
    assert shown.past_of("ann", before=50.0).said == [Said("i2", "hide", 1.0, 20.0), Said("i2", "hide", 0.0, 40.0)]


def test_it_says_which_events_are_chosen(shown: Store) -> None:
    done = [("view", None), ("rating", 5.0), ("rating", 3.0), ("buy", None), ("rating", None)]
    shown.add_events([Event("ann", f"i{n}", kind, value, time=10.0 + n) for n, (kind, value) in enumerate(done)])
    shown.add_feedback([Feedback("s", "i2", "like", time=20.0)])

    def chosen(*texts: str) -> list[bool] | None:
        found = shown.past_of("ann", positive=Positive.parse(texts))
        assert found.items == [f"i{n}" for n in range(5)] and [one.item for one in found.said] == ["i2"]
        return found.chosen

    assert chosen() is None
    assert chosen("buy", "rating:4") == [False, True, False, True, False]
    assert chosen(":1") == [True] * 5 and chosen("rating:1") == [False, True, True, False, True]  # without a value: 1
    assert chosen("nothing") == [False] * 5
    assert shown.past_of("bob", positive=Positive.parse(["buy"])) == Past([], [], [], [])


@pytest.mark.parametrize("whom", ["ann", "tab"])
def test_they_go_with_the_person(shown: Store, whom: str) -> None:
    shown.add_feedback([Feedback("s", "i0", "hide"), Feedback("v", "i1", "hide"), Feedback("both", "i2", "hide")])
    shown.erase_user(whom, scrub=False)
    left = {"ann": [("i1", "hide", 1.0)], "tab": [("i0", "hide", 1.0)]}
    assert _said(shown, "ann", "tab") == left[whom]  # the slate of both was held about either


def test_feedback_of_an_older_store_gets_its_person(shown: Store, store_url: str) -> None:
    from palate.serve.store.upgrade import upgrade

    shown.add_feedback([Feedback("s", "i0", "hide"), Feedback("v", "i1", "hide"), Feedback("nobody", "i2", "hide")])
    with shown.database.write() as connection:
        for change in (
            *(f"DROP INDEX feedback_by_{name}" for name in ("unit", "number")),
            *(f"ALTER TABLE feedback DROP COLUMN {name}" for name in ("unit", "n")),
        ):
            connection.execute(text(change))
        connection.execute(text("DROP TABLE ties"))
        connection.execute(text("UPDATE palate_version SET version_num = '0003'"))
        upgrade(connection)
        assert schema.version(connection) == schema.HEAD
    assert _said(shown, "ann", "tab") == [("i0", "hide", 1.0), ("i1", "hide", 1.0)]


@pytest.mark.parametrize("both", [True, False])
def test_it_is_answered_from_indexes_alone(tmp_path: Path, both: bool) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'palate.db'}") as store:
        store.past_of("ann", "tab" if both else None)
        words, order = store.database._texts[past._statement("sqlite", both, None)]
        given = tuple({"before": 9.0, "most": 5}.get(name, fixed or "ann") for name, fixed in order)
        with store.database.read() as connection:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", given)]
    looks = [step for step in plan if step.startswith(("SEARCH", "SCAN")) and ("events" in step or "feedback" in step)]
    assert len(looks) == 2 and all("COVERING INDEX" in look for look in looks), plan
    assert both or not any("TEMP B-TREE" in step for step in plan), plan
