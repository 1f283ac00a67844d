"""Slates, impressions, feedback, searches and conversations of the store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palate.errors import DataError
from palate.serve.errors import ConflictError, NotFound
from palate.serve.store import Conversation, Feedback, Search, Shown, Slate

SLATE = Slate(
    "s1",
    (Shown("a", 1, 0.5, "als", "control"), Shown("b", 2, 1.0)),
    user="u",
    time=100.0,
    policy="egreedy",
    model="m1",
    experiment="e",
    variant="v",
    context={"device": "phone"},
)


def test_a_slate_comes_back_as_it_was(store):
    assert store.add_slate(SLATE).stored == 1
    assert store.slate("s1") == SLATE and store.slate("s2") is None
    assert store.slates_of("u") == [SLATE]


def test_a_slate_again_is_harmless_another_of_its_id_a_conflict(store):
    store.add_slate(SLATE)
    assert store.add_slate(SLATE).repeated == 1
    with pytest.raises(ConflictError) as told:
        store.add_slates([replace(SLATE, id="s2"), replace(SLATE, user="v")])
    assert told.value.where == "slates[1].id" and store.slate("s2") is None


def test_propensities_that_can_not_be_are_refused_with_the_row(store):
    for chance in (0, 0.0, -0.1, 1.0001, float("nan"), None, "0.5"):
        bad = replace(SLATE, id="s2", items=(Shown("a", 1, 0.5), Shown("b", 2, chance)))
        with pytest.raises(DataError) as told:
            store.add_slates([SLATE, bad])
        assert told.value.where == "slates[1].items[1].propensity" and store.slate("s1") is None


def test_a_policy_that_does_not_draw_needs_no_propensity(store):
    sure = Slate("s", (Shown("a", 1), Shown("b", 2)), policy="top", stochastic=False, time=1.0)
    store.add_slate(sure)
    assert store.slate("s") == sure


def test_positions_are_taken_once(store):
    for items in ((Shown("a", 1, 1.0), Shown("b", 1, 1.0)), (Shown("a", 0, 1.0),), (Shown("a", 1.5, 1.0),)):
        with pytest.raises(DataError):
            store.add_slate(replace(SLATE, items=items))


def test_feedback_is_kept_once(store):
    store.add_slate(SLATE)
    assert store.add_feedback([Feedback("s1", "a"), Feedback("s1", "a", "buy", 9.5, 101.0, "f1")]).stored == 2
    again = store.add_feedback([Feedback("s1", "a"), Feedback("s1", "a", "buy", 9.5, id="f1"), Feedback("s1", "a", value=2.0)])
    assert (again.stored, again.repeated) == (1, 2)
    with pytest.raises(ConflictError):
        store.add_feedback([Feedback("s1", "b", "buy", 9.5, id="f1")])
    assert {(f.kind, f.value, f.id) for f in store.feedback_of("s1")} == {
        ("click", 1.0, None),
        ("buy", 9.5, "f1"),
        ("click", 2.0, None),
    }


def test_feedback_on_what_was_not_shown_is_refused(store):
    store.add_slate(SLATE)
    for bad in (Feedback("s2", "a"), Feedback("s1", "c")):
        with pytest.raises(NotFound) as told:
            store.add_feedback([Feedback("s1", "a"), bad])
        assert told.value.where == "feedback[1]"
    assert store.feedback_of("s1") == []


def test_rates_count_slates(store):
    for at in range(4):
        store.add_slate(replace(SLATE, id=f"s{at}", time=100.0 * at))
    store.add_feedback([Feedback("s1", "a"), Feedback("s1", "a", "buy"), Feedback("s2", "a"), Feedback("s3", "b", "skip")])
    assert store.rates(100.0) == {"a": (2, 3), "b": (0, 3)}
    assert store.rates(300.0) == {"a": (0, 1), "b": (0, 1)}


def test_the_log_for_off_policy_estimates(store):
    store.add_slates([replace(SLATE, id="s2", time=200.0, experiment=None), SLATE])
    store.add_feedback([Feedback("s1", "b"), Feedback("s1", "b", "buy", 4.0), Feedback("s1", "a", "hide")])
    store.add_feedback([Feedback("s1", "b", "dislike")])  # neither earns anything
    log = store.impressions_since(0.0)
    assert log["slate"].to_pylist() == ["s1", "s1", "s2", "s2"] and log["item"].to_pylist() == ["a", "b", "a", "b"]
    assert log["propensity"].to_pylist() == [0.5, 1.0, 0.5, 1.0] and log["reward"].to_pylist() == [0.0, 5.0, 0.0, 0.0]
    assert log["position"].to_pylist() == [1, 2, 1, 2] and log["context"][0].as_py() == '{"device":"phone"}'
    assert store.impressions_since(0.0, experiment="e").num_rows == 2
    assert store.impressions_since(150.0).num_rows == 2 and store.impressions_since(0.0, until=150.0).num_rows == 2
    assert store.impressions_since(999.0).schema == log.schema


def test_what_was_asked_is_kept_and_told_apart_from_what_was_not_noted(store):
    asked = {"k": 2, "text": "für heute", "filter": {"not": {"field": "price", "op": "exists"}}}
    store.add_slates([replace(SLATE, id="noted", asked=asked), replace(SLATE, id="empty", asked={}), SLATE])
    assert store.asked_of(["noted", "empty", "s1", "none"]) == {"noted": asked, "empty": {}}
    assert store.slate("noted").asked == asked and store.slate("empty").asked == {} and store.slate("s1").asked is None
    with pytest.raises(DataError) as told:
        store.add_slate(replace(SLATE, id="bad", asked={"diversity": float("nan")}))
    assert told.value.where == "slates[0].asked"


def test_the_latest_of_the_log_are_the_last_in_order(store):
    store.add_slates([replace(SLATE, id=f"s{at}", time=100.0 * at, stochastic=at > 0) for at in range(3)])
    log = store.impressions_since(0.0, limit=4, latest=True)
    assert log["slate"].to_pylist() == ["s1", "s1", "s2", "s2"] and log["position"].to_pylist() == [1, 2, 1, 2]
    first = store.impressions_since(0.0, limit=4)
    assert first["slate"].to_pylist() == ["s0", "s0", "s1", "s1"]
    last = first["time"][-1].as_py(), first["slate"][-1].as_py()
    whole = store.impressions_since(0.0)
    assert store.impressions_since(0.0, after=last).equals(whole.slice(4)) and len(whole) > 4
    assert store.impressions_since(0.0)["stochastic"].to_pylist() == [False, False, True, True, True, True]


def test_searches_and_conversations(store):
    visit = Search("green", time=6.0, anonymous="visit-1")
    store.add_searches([Search("red shoes", "u", 5.0, ("a", "b"), {"page": 1}), Search("blue", time=6.0), visit])
    assert store.export_user("visit-1")["searches"][0]["query"] == "green"
    assert store.searches_of("u") == [Search("red shoes", "u", 5.0, ("a", "b"), {"page": 1})]
    store.put_conversation(Conversation("c", "u", ({"role": "user", "text": "hello"},)))
    first = store.conversation("c")
    store.put_conversation(Conversation("c", "u", ({"role": "user", "text": "hello"}, {"role": "agent", "text": "hi"})))
    later = store.conversation("c")
    assert len(first.turns) == 1 and len(later.turns) == 2 and later.created == first.created < later.updated
    assert store.conversations_of("u") == [later] and store.conversation("d") is None
    with pytest.raises(DataError):
        store.put_conversation(Conversation("c", "u", ({"text": "\ud800"},)))
