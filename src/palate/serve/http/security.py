"""Keys, scopes and rates: who may do what, and how often.

A key is ``plt_<name>_<secret>``; the store holds the name and the SHA-256 of the secret (256 bits of chance need no slow
hash), compared in constant time. Scopes: ``read`` asks, ``write`` also sends events, items, users and feedback, ``admin`` does
everything.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from palate.errors import ConfigError
from palate.serve.http.problems import Refusal
from palate.serve.settings import ServerSettings
from palate.serve.store import Store

Scope = Literal["read", "write", "admin"]
#: What each scope includes.
INCLUDES: dict[str, frozenset[str]] = {
    "read": frozenset({"read"}),
    "write": frozenset({"read", "write"}),
    "admin": frozenset({"read", "write", "admin"}),
}
PREFIX = "plt_"
#: Seconds for which a key that was found is remembered.
REMEMBERED = 5.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
bearer = HTTPBearer(auto_error=False, description="An API key made by: palate keys add NAME")


@dataclass(frozen=True)
class Caller:
    """Who sent a request."""

    name: str
    scopes: frozenset[str]


def new_key(store: Store, name: str, scope: str) -> str:
    """Make a key, keep its hash, and return the key (it can't be shown again)."""
    if scope not in INCLUDES:
        raise ConfigError("there is no such scope.", where="scope", value=scope, remedy=f"choose one of: {', '.join(INCLUDES)}")
    if not name.replace("-", "").isalnum() or len(name) > 50:
        raise ConfigError("a key's name has letters, digits and dashes.", where="name", value=name)
    secret = secrets.token_urlsafe(32)
    store.add_key(name, _hash(secret), INCLUDES[scope])
    return f"{PREFIX}{name}_{secret}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class Doorman:
    """Checks keys and rates of one service."""

    def __init__(self, store: Store, settings: ServerSettings) -> None:
        if settings.insecure_loopback and settings.host not in _LOOPBACK:
            raise ConfigError(
                "without keys the service listens on a loopback address only.",
                where="server.host",
                value=settings.host,
                remedy="set host = '127.0.0.1', or make a key: palate keys add NAME",
            )
        self.store, self.settings = store, settings
        self._known: dict[str, tuple[float, str, frozenset[str]]] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def admit(self, key: str | None, scope: Scope) -> Caller:
        """Return the caller, or refuse."""
        caller = self._caller(key)
        if scope not in caller.scopes:
            raise Refusal(403, f"use a key with the scope {scope!r}")
        wait = self._bucket(caller.name).take()
        if wait > 0:
            raise Refusal(429, "send fewer requests; the limits are server.requests_per_second and burst", retry_after=wait)
        return caller

    def remembers(self, key: str | None) -> bool:
        """Say whether :meth:`admit` can answer without a look into the store."""
        name = (key or "").removeprefix(PREFIX).partition("_")[0]
        known = self._known.get(name)
        return not name or (known is not None and time.monotonic() - known[0] < REMEMBERED / 2)

    def _caller(self, key: str | None) -> Caller:
        if key is None and self.settings.insecure_loopback:
            return Caller("loopback", INCLUDES["admin"])
        remedy = "send 'Authorization: Bearer KEY'; make a key with: palate keys add NAME"
        name, _, secret = (key or "").removeprefix(PREFIX).partition("_")
        if not key or not key.startswith(PREFIX) or not secret or len(key) > 200:
            raise Refusal(401, remedy)
        hashed, scopes = self._look_up(name)
        if not hmac.compare_digest(hashed, _hash(secret)):
            raise Refusal(401, remedy)
        return Caller(name, scopes)

    def _look_up(self, name: str) -> tuple[str, frozenset[str]]:
        """Return hash and scopes of a key; one that never matches where there is none."""
        now = time.monotonic()
        known = self._known.get(name)
        if known is not None and now - known[0] < REMEMBERED:
            return known[1], known[2]
        found = self.store.key(name)
        if found is None:
            return "0" * 64, frozenset()
        entry = (now, found.hash, frozenset(found.scopes))
        with self._lock:
            self._known = {**self._known, name: entry}
        return entry[1], entry[2]

    def _bucket(self, name: str) -> _Bucket:
        found = self._buckets.get(name)
        if found is None:
            with self._lock:
                found = self._buckets.setdefault(name, _Bucket(self.settings.requests_per_second, self.settings.burst))
        return found


class _Bucket:
    """A token bucket: filled steadily, emptied by requests."""

    def __init__(self, rate: float, size: int) -> None:
        self.rate, self.size, self.left, self.at = rate, float(size), float(size), time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> float:
        """Take one; return 0, or the seconds to wait for the next."""
        with self._lock:
            now = time.monotonic()
            self.left = min(self.size, self.left + (now - self.at) * self.rate)
            self.at = now
            if self.left < 1:
                return (1 - self.left) / self.rate
            self.left -= 1
            return 0.0


def needs(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Return the dependency of routes that need a scope."""

    async def check(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> Caller:
        doorman: Doorman = request.app.state.doorman
        key = None if given is None else given.credentials
        if doorman.remembers(key):
            return doorman.admit(key, scope)
        return await to_thread.run_sync(doorman.admit, key, scope)  # it reads the store, which may take its time

    return check
