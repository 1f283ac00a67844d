"""Searches over HTTP are on record: who asked for what, when, and what was found; and they are the person's own."""

from __future__ import annotations

from typing import Any

from palate.serve import answers, wire


def test_a_search_is_logged_with_what_was_found(live: Any) -> None:
    found = live.post("/v1/search", query="garden story", user="u1", k=3)
    live.post("/v1/search", query="nothing like it at all", user="u1", k=3, filter={"field": "price", "op": "<", "value": -1})
    live.service.settle()
    first, second = live.store.searches_of("u1")
    assert (first.query, first.user, first.anonymous, first.time) == ("garden story", "u1", None, live.service.clock())
    assert list(first.results) == [item["id"] for item in found["items"]] and len(first.results) == 3
    assert second.results == ()


def test_the_console_s_tile_moves_and_its_own_searches_are_no_traffic(live: Any) -> None:
    before = live.store.sizes()["searches"]
    live.post("/v1/search", query="space")
    live.post("/v1/search", query="space", anonymous="visit-1")
    answers.search(live.service, wire.SearchIn(query="space"))  # as the page Items asks
    live.service.settle()
    assert live.store.sizes()["searches"] == before + 2


def test_refused_searches_are_not_logged(live: Any) -> None:
    assert live.call("POST", "/v1/search", {"query": "x", "k": 100_000}).status_code == 422
    live.service.settle()
    assert live.store.sizes()["searches"] == 0


def test_searches_and_slates_of_a_visitor_come_out_and_go(live: Any) -> None:
    key = "visitor-with-a-key-that-stands-out"
    live.post("/v1/search", query="space", anonymous=key)
    slate = live.post("/v1/recommendations", anonymous=key, k=2, history=["i1"])
    live.post("/v1/feedback", slate=slate["slate"], item=slate["items"][0]["id"])
    live.service.settle()
    held = live.call("GET", f"/v1/profile/{key}/export").json()
    assert [search["query"] for search in held["searches"]] == ["space"]
    assert held["slates"][0]["asked"] == {"history": ["i1"], "k": 2} and len(held["slates"][0]["feedback"]) == 1
    removed = live.call("DELETE", f"/v1/profile/{key}").json()["removed"]
    assert (removed["slates"], removed["searches"], removed["impressions"], removed["feedback"]) == (1, 1, 2, 1)
    assert live.call("GET", f"/v1/profile/{key}/export").status_code == 404
