"""What is answered, and what an acknowledged event, a new item or a deletion does to the very next answer."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_known_person_gets_unseen_items_of_their_taste(live: Any) -> None:
    slate = live.post("/v1/recommendations", user="u0", k=5, trace=True, why=True)
    seen = {event.item for event in live.store.events_of("u0", 100)}
    assert len(slate["items"]) == 5 and not seen & {item["id"] for item in slate["items"]}
    assert sum(item["categories"] == ["space"] for item in slate["items"]) >= 4
    assert slate["cold"] is False and slate["model"].startswith("ials-")
    assert [item["position"] for item in slate["items"]] == [1, 2, 3, 4, 5]
    assert all(item["sources"] and item["why"] for item in slate["items"])
    assert {step["step"] for step in slate["trace"]} >= {"source personal", "source trending", "filter"}


def test_an_acknowledged_event_counts_in_the_very_next_answer(live: Any) -> None:
    first = live.ids(user="u0", k=3)
    live.post("/v1/events", user="u0", item=first[0], type="watch")
    assert first[0] not in live.ids(user="u0", k=20)
    assert first[0] in live.ids(user="u0", k=40, seen="allow")


def test_a_new_person_is_folded_in_at_once(live: Any) -> None:
    cold = live.post("/v1/recommendations", user="new", k=5)
    assert cold["cold"] is True and len(cold["items"]) == 5
    for number in (1, 3, 5, 7, 9):
        live.post("/v1/events", user="new", item=f"i{number}")
    warm = live.post("/v1/recommendations", user="new", k=5)
    assert warm["cold"] is False
    assert sum(item["categories"] == ["garden"] for item in warm["items"]) >= 4
    same = live.ids(history=["i1", "i3", "i5", "i7", "i9"], k=5)
    assert same == [item["id"] for item in warm["items"]]


def test_a_new_item_is_found_at_once_and_never_after_its_deletion(live: Any) -> None:
    live.call("PUT", "/v1/items", {"items": [{"id": "fresh", "title": "Zebra opera", "categories": ["stage"]}]})
    assert live.post("/v1/search", query="zebra")["items"][0]["id"] == "fresh"
    live.post("/v1/events", user="u1", item="fresh")
    assert "fresh" in live.ids(user="u2", k=40, filter={"field": "categories", "op": "has", "value": "stage"})
    assert live.call("DELETE", "/v1/items/fresh").status_code == 200
    assert "fresh" not in live.ids(user="u2", k=40)
    assert all(item["id"] != "fresh" for item in live.post("/v1/search", query="zebra")["items"])
    assert live.call("GET", "/v1/items/fresh").status_code == 404
    assert live.call("POST", "/v1/similar", {"items": ["fresh"]}).status_code == 404


def test_what_is_not_available_does_not_come(live: Any) -> None:
    first = live.ids(user="u0", k=1)[0]
    kept = live.call("GET", f"/v1/items/{first}").json()
    live.call("PUT", "/v1/items", {"items": [{**kept, "available": False}]})
    assert first not in live.ids(user="u0", k=40)
    assert live.post("/v1/rank", candidates=[first, "i1"], user="u0")["unknown"] == [first]
    live.call("PUT", "/v1/items", {"items": [kept]})
    assert live.ids(user="u0", k=1) == [first]


def test_filters_and_exclusions(live: Any) -> None:
    cheap = live.post("/v1/recommendations", user="u0", k=5, filter={"field": "price", "op": "<", "value": 12})
    assert cheap["items"] and all(item["price"] < 12 for item in cheap["items"])
    one = {"all": [{"field": "categories", "op": "has", "value": "garden"}, {"field": "price", "op": ">", "value": 36}]}
    assert set(live.ids(user="u0", k=5, filter=one)) == {"i37", "i39"}
    first = live.ids(user="u0", k=2)
    assert live.ids(user="u0", k=1, exclude=[first[0]]) == [first[1]]


def test_starting_from_items(live: Any) -> None:
    near = live.post("/v1/similar", items=["i0", "i2"], k=5)
    assert len(near["items"]) == 5 and not {"i0", "i2"} & {item["id"] for item in near["items"]}
    assert sum(item["categories"] == ["space"] for item in near["items"]) >= 4
    assert not {"i0", "i2"} & set(live.ids(items=["i0", "i2"], k=40))


def test_candidates_of_the_caller_are_put_into_order(live: Any) -> None:
    ranked = live.post("/v1/rank", user="u0", candidates=[*(f"i{n}" for n in range(12)), "nonsense", "i2"])
    assert ranked["unknown"] == ["nonsense"]
    assert len(ranked["items"]) == 12
    assert sum(item["categories"] == ["space"] for item in ranked["items"][:6]) >= 5
    scores = [item["score"] for item in ranked["items"]]
    assert scores == sorted(scores, reverse=True)


def test_search_by_words_and_by_taste(live: Any) -> None:
    found = live.post("/v1/search", query="tale number 7")["items"]
    assert found[0]["id"] == "i7"
    plain = [item["id"] for item in live.post("/v1/search", query="story", k=10, personal=0.0, user="u1")["items"]]
    mine = [item["categories"][0] for item in live.post("/v1/search", query="story", k=10, personal=1.0, user="u1")["items"]]
    assert len(plain) == 10 and mine.count("garden") >= 8
    assert live.post("/v1/search", query="nothingofthekind")["items"] == []


def test_reasons(live: Any) -> None:
    item = live.ids(user="u0", k=1)[0]
    found = live.post("/v1/explain", user="u0", item=item)
    seen = {event.item for event in live.store.events_of("u0", 100)}
    assert {reason["item"] for reason in found["reasons"]} <= seen and found["reasons"]
    if found["exact"]:
        assert sum(r["weight"] for r in found["reasons"]) + found["rest"] == pytest.approx(found["score"], abs=1e-3)


def test_profile(live: Any) -> None:
    found = live.call("GET", "/v1/profile/u1").json()
    assert found["events"] == 8 and found["taste"]["garden"] == 1.0
    assert found["recent"][0]["time"] >= found["recent"][-1]["time"]
    assert live.call("GET", "/v1/profile/nobody").json()["known"] is False


def test_slates_are_logged_and_take_feedback(live: Any) -> None:
    slate = live.post("/v1/recommendations", user="u0", k=3)
    item = slate["items"][0]["id"]
    assert live.post("/v1/feedback", slate=slate["slate"], item=item)["stored"] == 1
    assert live.post("/v1/feedback", slate=slate["slate"], item=item)["repeated"] == 1
    assert live.call("POST", "/v1/feedback", {"slate": "nonsense", "item": item}).status_code == 404
    assert live.call("POST", "/v1/feedback", {"slate": slate["slate"], "item": "i999"}).status_code in (404, 422)


def test_lists_for_nobody_are_remembered_until_something_changes(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serve.service.RECENT", 1e9)
    first = live.post("/v1/recommendations", k=3)
    assert first["slate"] is None and first["cold"] is True
    with monkeypatch.context() as patch:
        patch.setattr("palate.serve.answers.recommend", None)  # what is remembered asks nobody
        assert live.post("/v1/recommendations", k=3) == first
    gone = first["items"][0]["id"]
    live.call("DELETE", f"/v1/items/{gone}")
    assert gone not in live.ids(k=3)
    assert live.post("/v1/recommendations", user="u1", k=3)["slate"] is not None
