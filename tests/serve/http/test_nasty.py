"""Nasty input: every route answers each of it with a clear refusal or a right answer, never with a fault."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import uvicorn

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
    "nul": b'{"user": "a\x00b", "item": "i1"}',
    "nul as key": b'{"user": "u1", "item": "i1", "\x00": 1}',
    "nuls": bytes(1_000),
    "nul at the end": b'{"user": "u1", "item": "i1"}\x00',
    "lone surrogate": b'{"user": "\\ud800", "item": "i1"}',
}
#: JSON that is right, but ten megabytes.
HUGE = b'{"user": "u1", "item": "i1", "context": {"note": "' + b"x" * 10_000_000 + b'"}}'
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
#: Methods and paths in which a NUL stands for an id, or in one.
NUL_PATHS = [
    *(
        (method, f"/v1/{kind}/{id_}")
        for kind in ("items", "users", "profile")
        for id_ in ("%00", "u1%00", "%00x")
        for method in ("GET", "DELETE")
    ),
    ("GET", "/v1/profile/%00/export"),
    ("POST", "/v1/models/%00/activate"),
    ("POST", "/v1/experiments/a%00/start"),
    ("POST", "/v1/experiments/%00a/stop"),
    ("GET", "/v1/experiments/%00"),
    ("GET", "/v1/%00"),
    ("GET", "/v1/items%00"),
    ("GET", "/%00"),
]
ROUTES = ["events", "feedback", "recommendations", "similar", "rank", "search", "explain", "models", "experiments"]


@pytest.mark.parametrize("name", list(RAW))
@pytest.mark.parametrize("route", ROUTES)
def test_bodies_that_are_no_requests(live_shared: Any, route: str, name: str) -> None:
    headers = {"Authorization": f"Bearer {live_shared.keys['admin']}", "Content-Type": "application/json"}
    response = live_shared.client.post(f"/v1/{route}", content=RAW[name], headers=headers)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert {"code", "what", "request"} <= set(response.json())


def pieces(body: bytes, size: int = 65_536) -> Iterator[bytes]:
    """Yield a body piece by piece: it is sent without a length."""
    return (body[at : at + size] for at in range(0, len(body), size))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("route", ROUTES)
def test_ten_megabytes_are_turned_away_unread(live_shared: Any, route: str, streamed: bool) -> None:
    headers = {"Authorization": f"Bearer {live_shared.keys['admin']}", "Content-Type": "application/json"}
    before = live_shared.store.position()
    content = pieces(HUGE) if streamed else HUGE
    response = live_shared.client.post(f"/v1/{route}", content=content, headers=headers)
    assert response.status_code == 413, response.text[:200]
    assert response.json()["code"] == "too_large" and "max_body_bytes" in response.json()["remedy"]
    assert live_shared.store.position() == before


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_ten_megabytes_over_a_socket(live_shared: Any, streamed: bool) -> None:
    """A real connection: a length is refused before the body comes, and a stream at the first byte too many; others go on."""
    head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live_shared.keys['write']}\r\n"
    head += "Content-Type: application/json\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n" if streamed else f"Content-Length: {len(HUGE)}\r\n\r\n"
    with served(live_shared) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
            line.sendall(head.encode())
            for piece in pieces(HUGE[: live_shared.service.settings.server.max_body_bytes + 1] if streamed else b""):
                line.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            assert line.recv(65_536).startswith(b"HTTP/1.1 413 "), "it has heard enough, long before the end"
        with urlopen(f"http://127.0.0.1:{port}/v1/health", timeout=10) as answer:
            assert answer.status == 200


@contextmanager
def served(live: Any) -> Iterator[int]:
    """Serve on a port of this machine."""
    server = uvicorn.Server(uvicorn.Config(live.client.app, port=0, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@pytest.mark.parametrize(("method", "path"), NUL_PATHS)
def test_a_nul_in_a_path(live_shared: Any, method: str, path: str) -> None:
    response = live_shared.call(method, path)
    assert 400 <= response.status_code < 500, response.text
    assert {"code", "what", "request"} <= set(response.json())


@pytest.mark.parametrize(
    "query",
    ["items?after=%00", "items?after=a%00b", "items?limit=%00", "items?limit=1%00", "items?%00=1", "models/drift?days=%00"],
)
def test_a_nul_in_a_query(live_shared: Any, query: str) -> None:
    response = live_shared.call("GET", f"/v1/{query}")
    assert response.status_code == (200 if "?%00" in query else 422), response.text  # unknown parameters are passed over


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


@pytest.mark.parametrize(
    ("method", "path", "body", "advice"),
    [
        ("PUT", "/v1/items", {"items": [{"id": "i1", "titel": "A"}]}, "did you mean 'title'?"),
        ("PUT", "/v1/items", {"items": [{"id": "i1", "description": "A"}]}, "choose one of: attributes, available, "),
        ("POST", "/v1/recommendations", {"user": "u1", "kontext": {}}, "did you mean 'context'?"),
        ("POST", "/v1/recommendations", {"user": "u1", "filter": {"feild": "price"}}, None),
    ],
)
def test_a_key_that_is_not_known_names_the_right_ones(
    live_shared: Any, method: str, path: str, body: dict[str, Any], advice: str | None
) -> None:
    response = live_shared.call(method, path, body)
    assert response.status_code == 422, response.text
    assert advice is None or response.json()["remedy"].startswith(advice)


def test_unknown_paths_and_methods(live_shared: Any) -> None:
    assert live_shared.call("GET", "/v1/nothing").status_code == 404
    assert live_shared.call("PATCH", "/v1/items").status_code == 405
    assert live_shared.call("GET", "/v1/items/%2e%2e%2fetc%2fpasswd").status_code == 404
