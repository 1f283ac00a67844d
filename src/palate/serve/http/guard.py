"""The door: every request gets an id, a limit of size, security headers, and is counted and timed, before anything reads it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from palate.serve.http.metrics import Meters
from palate.serve.http.paths import parted
from palate.serve.http.problems import Refusal, raw

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Headers of every answer of the API.
SECURE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


class Guard:
    """ASGI middleware (see the module's text); paths outside ``/v1`` only get an id and are counted.

    ``wider`` names beginnings of paths whose bodies may be larger, and how large.
    """

    def __init__(self, app: App, meters: Meters, most: int, wider: Mapping[str, int] | None = None) -> None:
        self.app, self.meters, self.most, self.wider = app, meters, most, {} if wider is None else wider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope.setdefault("palate.request", uuid.uuid4().hex[:16])
        started, status = time.perf_counter(), 500
        api = scope["path"].startswith("/v1")
        inner = {**scope, "path": parted(scope)} if api else scope

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = SECURE if api else SECURE[:2]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode()), *own]
            await send(message)

        most = next((size for start, size in self.wider.items() if scope["path"].startswith(start)), self.most)
        try:
            _check_length(scope, most)
            await self.app(inner, _Counted(receive, most), sending)
        except Refusal as refusal:
            await _refuse(refusal, request_id, sending)
        finally:
            self.meters.request(_route(inner), scope["method"], status, time.perf_counter() - started)


def _check_length(scope: Scope, most: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value[:20]) > most):
            raise _too_large(most)


class _Counted:
    """Counts what is read of a body, and stops at the limit (a length may be absent, or a lie)."""

    def __init__(self, receive: Receive, most: int) -> None:
        self.receive, self.most, self.read = receive, most, 0

    async def __call__(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.request":
            self.read += len(message.get("body", b""))
            if self.read > self.most:
                raise _too_large(self.most)
        return message


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"send at most {most:,} bytes, in several requests; the limit is server.max_body_bytes")


def _route(scope: Scope) -> str:
    """Return the pattern of the path, so that ids don't become labels of metrics."""
    route = scope.get("route")
    return str(getattr(route, "path", "other"))


async def _refuse(refusal: Refusal, request_id: str, send: Send) -> None:
    body = raw(refusal.problem(request_id))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
