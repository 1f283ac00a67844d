"""Keys, scopes and rates: who may do what, and how often.

A key is ``plt_<name>_<secret>``; the store holds the name and the SHA-256 of the secret (256 bits of chance need no slow
hash), compared in constant time. Scopes: ``read`` asks, ``write`` also sends events, items, users and feedback, ``admin`` does
everything.

An address that sends too many wrong keys is turned away before the store is asked; only a key that was right before goes on
being looked up, so that one stray program doesn't lock out the others behind its address.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
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
#: Addresses whose wrong keys are counted, at most: the ones heard of last.
ADDRESSES = 10_000
_REMEDY = "send 'Authorization: Bearer KEY'; make a key with: palate keys add NAME"
_NO_HASH = "0" * 64
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


def _parts(key: str | None) -> tuple[str, str]:
    """Return name and secret of a key; no secret where it can't be one."""
    name, _, secret = (key or "").removeprefix(PREFIX).partition("_")
    good = key is not None and key.startswith(PREFIX) and len(key) <= 200
    return (name, secret) if good else ("", "")


def _network(address: str) -> str:
    """Return what wrong keys are counted by: an address, or of IPv6 the network of 64 bits that one customer has."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return str(known)
    return str(known.ipv4_mapped or ipaddress.ip_network((known, 64), strict=False))


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
        self._right: dict[str, str] = {}  # hashes of keys that were right, by name
        self._wrong: OrderedDict[str, _Bucket] = OrderedDict()
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def admit(self, key: str | None, scope: Scope, address: str = "") -> Caller:
        """Return the caller, or refuse; ``address`` is where the request came from."""
        caller = self._caller(key, address)
        if scope not in caller.scopes:
            raise Refusal(403, f"use a key with the scope {scope!r}")
        wait = self._bucket(caller.name).take()
        if wait > 0:
            raise Refusal(429, "send fewer requests; the limits are server.requests_per_second and burst", retry_after=wait)
        return caller

    def remembers(self, key: str | None, address: str = "") -> bool:
        """Say whether :meth:`admit` can answer without a look into the store."""
        name, secret = _parts(key)
        known = self._known.get(name)
        fresh = known is not None and time.monotonic() - known[0] < REMEMBERED / 2
        return not secret or fresh or (self._wait(address) > 0 and not self._was_right(name, secret))

    def _caller(self, key: str | None, address: str) -> Caller:
        if key is None:
            if self.settings.insecure_loopback:
                return Caller("loopback", INCLUDES["admin"])
            raise Refusal(401, _REMEDY)
        name, secret = _parts(key)
        wait = self._wait(address)
        if wait > 0 and not self._was_right(name, secret):
            raise Refusal(429, "too many wrong keys came from this address; use a right one", retry_after=wait)
        hashed, scopes = self._look_up(name) if secret else (_NO_HASH, frozenset())
        if not hmac.compare_digest(hashed, _hash(secret)):
            self._count_wrong(address)
            raise Refusal(401, _REMEDY)
        if self._right.get(name) != hashed:
            with self._lock:
                self._right = {**self._right, name: hashed}
        return Caller(name, scopes)

    def _was_right(self, name: str, secret: str) -> bool:
        """Say whether this very key was right before (it may have been revoked since)."""
        return hmac.compare_digest(self._right.get(name, _NO_HASH), _hash(secret))

    def _wait(self, address: str) -> float:
        """Return the seconds until an address may send a wrong key again; 0 if it may now."""
        found = self._wrong.get(_network(address))
        return 0.0 if found is None else found.wait()

    def _count_wrong(self, address: str) -> None:
        network = _network(address)
        with self._lock:
            if network not in self._wrong:
                self._wrong[network] = _Bucket(self.settings.wrong_keys_per_minute / 60, self.settings.wrong_keys)
            self._wrong.move_to_end(network)
            while len(self._wrong) > ADDRESSES:
                self._wrong.popitem(last=False)
            bucket = self._wrong[network]
        bucket.take()

    def _look_up(self, name: str) -> tuple[str, frozenset[str]]:
        """Return hash and scopes of a key; one that never matches where there is none."""
        now = time.monotonic()
        known = self._known.get(name)
        if known is not None and now - known[0] < REMEMBERED:
            return known[1], known[2]
        found = self.store.key(name)
        if found is None:
            return _NO_HASH, frozenset()
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
            wait = self._fill()
            self.left -= wait == 0
            return wait

    def wait(self) -> float:
        """Return the seconds until there is one to take; 0 if there is one now."""
        with self._lock:
            return self._fill()

    def _fill(self) -> float:
        now = time.monotonic()
        self.left = min(self.size, self.left + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, (1 - self.left) / self.rate)


def address_of(request: Request) -> str:
    """Return where a request came from: what is connected, or whom a trusted proxy names (``server.trusted_proxies``)."""
    return "" if request.client is None else request.client.host


def needs(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Return the dependency of routes that need a scope."""

    async def check(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> Caller:
        doorman: Doorman = request.app.state.doorman
        key = None if given is None else given.credentials
        address = address_of(request)
        if doorman.remembers(key, address):
            return doorman.admit(key, scope, address)
        return await to_thread.run_sync(doorman.admit, key, scope, address)  # it reads the store, which may take its time

    return check
