"""Nasty input: every route answers each of it with a clear refusal or a right answer, never with a fault."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
RAW: dict[str, bytes] = {
    "nothing": b"",
    "not json": b"hello",
    "half": b'{"user": "u1"',
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "invalid utf-8": b'{"user": "\xff\xfe", "item": "i1"}',
    "utf-16": '{"user": "u1"}'.encode("utf-16"),
    "deep": DEEP,
    "deep list": b"[" * 200_000,
    "nan": b'{"user": "u", "item": "i", "value": NaN}',
    "infinity": b'{"user": "u", "item": "i", "value": 1e999}',
    "long number": b'{"k": ' + b"9" * 6_000 + b"}",
    "duplicate keys": b'{"user": "u1", "user": "u2", "item": "i1", "k": 1, "k": 2}',
    "nul escaped": b'{"user": "a\\u0000b", "item": "i1"}',
    "lone surrogate": b'{"user": "\\ud800", "item": "i1"}',
}
TEXTS = [
    "'; DROP TABLE events; --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "..\\..\\windows",
    "%00",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "a\r\nSet-Cookie: x=1",
    "\u202eevil",
    "x" * 200,
    "𝕬" * 100,
    "",
    "x" * 100_000,
]
NUMBERS = [-1, 0, 10**30, -(10**30), 1e308, True, "1", [], {}, None]
ROUTES = ["events", "feedback", "recommendations", "similar", "rank", "search", "explain", "models", "experiments"]


@pytest.mark.parametrize("name", list(RAW))
@pytest.mark.parametrize("route", ROUTES)
def test_bodies_that_are_no_requests(live_shared: Any, route: str, name: str) -> None:
    headers = {"Authorization": f"Bearer {live_shared.keys['admin']}", "Content-Type": "application/json"}
    response = live_shared.client.post(f"/v1/{route}", content=RAW[name], headers=headers)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert {"code", "what", "request"} <= set(response.json())


@pytest.mark.parametrize("text", TEXTS)
def test_texts(live_shared: Any, text: str) -> None:
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("events", {"user": text, "item": text, "type": "view", "context": {text: text}}),
        ("events", {"user": "u1", "item": "i1", "id": text}),
        ("recommendations", {"user": text, "text": text, "items": [text], "exclude": [text], "model": text}),
        ("recommendations", {"user": text, "filter": {"field": text, "op": "==", "value": text}}),
        ("recommendations", {"user": text, "filter": {"field": "attributes." + text, "op": "==", "value": text}}),
        ("search", {"query": text, "user": text}),
        ("explain", {"item": text, "user": text}),
        ("rank", {"candidates": [text], "user": text}),
        ("feedback", {"slate": text, "item": text, "kind": text}),
        ("models", {"version": text, "bundle": text}),
    ]
    for route, body in bodies:
        response = live_shared.call("POST", f"/v1/{route}", body)
        assert response.status_code < 500, (route, response.text)
        assert "Traceback" not in response.text and "sqlalchemy" not in response.text.lower()
    for path in ("items", "users", "profile") if 0 < len(text) <= 200 else ():  # the first event above made them
        response = live_shared.call("GET", f"/v1/{path}/{quote(text, safe='')}")
        assert response.status_code == 200 and text in (response.json().get("id"), response.json().get("user")), path


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers(live_shared: Any, number: Any) -> None:
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("events", {"user": "u1", "item": "i1", "value": number}),
        ("events", {"user": "u1", "item": "i1", "time": number}),
        ("recommendations", {"user": "u1", "k": number}),
        ("recommendations", {"user": "u1", "diversity": number}),
        ("recommendations", {"user": "u1", "filter": {"field": "price", "op": "<", "value": number}}),
        ("search", {"query": "story", "k": number, "personal": number}),
        ("recommendations", {"history": [number]}),
    ]
    for route, body in bodies:
        response = live_shared.call("POST", f"/v1/{route}", body)
        assert response.status_code < 500, (route, body, response.text)


def test_texts_of_items_come_out_as_they_went_in_and_are_never_markup(live_shared: Any) -> None:
    nasty = "<img src=x onerror=alert(1)>'; --"
    live_shared.call("PUT", "/v1/items", {"items": [{"id": nasty, "title": nasty, "text": nasty}]})
    response = live_shared.call("POST", "/v1/search", {"query": "onerror"})
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.text)["items"][0]["title"] == nasty


def test_a_batch_with_one_bad_row_is_refused_whole_and_the_row_is_named(live_shared: Any) -> None:
    before = live_shared.store.position()
    rows: list[dict[str, Any]] = [{"user": "u1", "item": "i1"} for _ in range(5)]
    rows[3]["value"] = "three"
    response = live_shared.call("POST", "/v1/events", {"events": rows})
    assert response.status_code == 422 and ".3." in response.json()["where"]
    assert live_shared.store.position() == before


def test_unknown_paths_and_methods(live_shared: Any) -> None:
    assert live_shared.call("GET", "/v1/nothing").status_code == 404
    assert live_shared.call("PATCH", "/v1/items").status_code == 405
    assert live_shared.call("GET", "/v1/items/%2e%2e%2fetc%2fpasswd").status_code == 404
