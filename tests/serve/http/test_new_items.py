"""Items that the model has not learnt of: offered, alike and explained right after they were put in, without any event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palate.serve.settings import ServiceSettings

FRESH = {"id": "fresh", "title": "Garden story 99", "text": "A tale of the garden with roses", "categories": ["garden"]}


@pytest.fixture(scope="module", params=["tfidf", "static"])
def shop(request: pytest.FixtureRequest, open_live: Callable[..., Iterator[Any]], tmp_path_factory: Any) -> Iterator[Any]:
    """A service in which an item was just put in, with the encoder that needs nothing and with one that is downloaded."""
    if request.param == "static":
        pytest.importorskip("wordllama")
    settings = ServiceSettings().replace(search={"encoder": request.param})
    for live in open_live(tmp_path_factory.mktemp("new"), settings):
        live.ids(user="u1", k=5)  # all that was there is taken up before
        live.call("PUT", "/v1/items", {"items": [FRESH, {"id": "bare"}]}).raise_for_status()
        yield live


def test_they_are_in_the_whole_list_of_everybody(shop: Any) -> None:
    for person in ({"user": "u0"}, {"user": "u1"}, {"user": "nobody-yet"}, {"history": ["i1"]}, {}):
        assert "fresh" in shop.ids(k=41, seen="allow", **person), person
        assert {"fresh", "bare"} <= set(shop.ids(k=42, seen="allow", **person)), person


def test_they_are_among_the_first_for_those_who_like_their_like(shop: Any) -> None:
    slate = shop.post("/v1/recommendations", user="u1", k=10, trace=True, why=True)
    at = next(item for item in slate["items"] if item["id"] == "fresh")
    assert "content" in {origin["source"] for origin in at["sources"]}
    assert at["why"] and {reason["kind"] for reason in at["why"]} == {"content"}
    assert next(step for step in slate["trace"] if step["step"] == "source content")["left"] == 1
    other = shop.post("/v1/recommendations", user="u0", k=42, trace=True, seen="allow")["items"]
    places = {item["id"]: item["position"] for item in other}
    assert places["fresh"] > at["position"] and places["bare"] > 10


def test_who_chose_nothing_else_is_answered_by_what_it_is_like_and_not_by_popularity(shop: Any) -> None:
    slate = shop.post("/v1/recommendations", history=["fresh"], k=8, trace=True)
    notes = {step["step"]: step["note"] for step in slate["trace"]}
    assert "by popularity" in notes["source personal"] and "all items are compared" in notes["source content"]
    kinds = [item["categories"] for item in slate["items"]]
    assert kinds.count(["garden"]) >= 7 and "fresh" not in {item["id"] for item in slate["items"]}
    nobody = shop.post("/v1/recommendations", k=8, trace=True)
    assert [item["id"] for item in nobody["items"][:5]] != [item["id"] for item in slate["items"][:5]]
    known = shop.post("/v1/recommendations", history=["fresh", "i0"], k=8, trace=True)
    assert not any("all items are compared" in step["note"] for step in known["trace"])


def test_what_is_like_them(shop: Any) -> None:
    found = shop.post("/v1/similar", items=["fresh"], k=8)
    assert len(found["items"]) == 8 and found["model"] is None and "fresh" not in {item["id"] for item in found["items"]}
    assert sum(item["categories"] == ["garden"] for item in found["items"]) == 8
    assert shop.post("/v1/similar", items=["bare"], k=8)["items"] == []
    narrow = {"field": "price", "op": "<", "value": 6}
    assert {item["id"] for item in shop.post("/v1/similar", items=["fresh"], k=3, filter=narrow)["items"]} == {"i1", "i3", "i5"}


def test_what_is_like_them_and_others(shop: Any) -> None:
    found = shop.post("/v1/similar", items=["fresh", "i0"], k=6)
    kinds = [item["categories"][0] for item in found["items"]]
    assert found["model"] is not None and kinds.count("garden") >= 2 and kinds.count("space") >= 2


def test_why_they_suit_a_person(shop: Any) -> None:
    found = shop.post("/v1/explain", user="u1", item="fresh")
    chosen = {event.item for event in shop.store.events_of("u1", 100)}
    assert {reason["item"] for reason in found["reasons"]} <= chosen and found["exact"]
    assert sum(reason["weight"] for reason in found["reasons"]) == pytest.approx(found["score"], abs=1e-5)
    assert found["score"] > shop.post("/v1/explain", user="u0", item="fresh")["score"]
    assert shop.call("POST", "/v1/explain", {"user": "u1", "item": "bare"}).status_code == 422


def test_a_change_a_ban_and_a_deletion_count_at_once(open_live: Callable[..., Iterator[Any]], tmp_path: Path) -> None:
    settings = ServiceSettings().replace(search={"encoder": "tfidf"})
    for live in open_live(tmp_path, settings):
        put = lambda **more: live.call("PUT", "/v1/items", {"items": [{**FRESH, **more}]}).raise_for_status()  # noqa: B023, E731
        put()
        assert "fresh" in live.ids(user="u1", k=10) and "fresh" not in live.ids(user="u0", k=10)
        put(title="Space story 99", text="A tale of the space with number 99", categories=["space"])
        assert "fresh" in live.ids(user="u0", k=10) and "fresh" not in live.ids(user="u1", k=10)
        put(available=False)
        assert "fresh" not in live.ids(user="u1", k=41, seen="allow")
        put()
        assert "fresh" in live.ids(user="u1", k=10)
        live.call("DELETE", "/v1/items/fresh")
        assert "fresh" not in live.ids(user="u1", k=41, seen="allow")


def test_without_a_model_items_are_alike_by_what_they_say(open_live: Callable[..., Iterator[Any]], tmp_path: Path) -> None:
    from palate.serve.store import ItemRow, Store

    with Store.open(f"sqlite:///{tmp_path / 'palate.db'}") as store:
        store.put_items([ItemRow(id=f"a{n}", title=f"Red {kind} {n}") for n in range(6) for kind in [("lamp", "sofa")[n % 2]]])
        from palate.serve.store import Event

        store.add_events([Event(user="u", item="a0", time=1.0)])
    for live in open_live(tmp_path, ServiceSettings().replace(search={"encoder": "tfidf"})):
        assert [item["id"] for item in live.post("/v1/similar", items=["a1"], k=2)["items"]] in (["a3", "a5"], ["a5", "a3"])
