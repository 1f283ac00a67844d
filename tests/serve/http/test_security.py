"""The door: keys, scopes, rates, limits, headers; nothing of the inside comes out."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from palate.errors import ConfigError
from palate.serve.http.problems import Refusal
from palate.serve.http.security import Doorman, new_key
from palate.serve.run import listen
from palate.serve.service import Service
from palate.serve.settings import ServerSettings, ServiceSettings
from palate.serve.store import Store


def test_without_a_key_nothing_is_answered(live: Any) -> None:
    for path, method in (("/v1/recommendations", "POST"), ("/v1/items", "GET"), ("/v1/metrics", "GET"), ("/v1/models", "GET")):
        response = live.call(method, path, {} if method == "POST" else None, scope=None)
        assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
        assert response.json()["code"] == "no_key" and "palate keys add" in response.json()["remedy"]
    assert live.call("GET", "/v1/health", scope=None).status_code == 200


@pytest.mark.parametrize("key", ["", "x", "plt_", "plt_test-read_", "plt_test-read_wrong", "plt_nobody_x" * 40, "plt_\u00e9_x"])
def test_wrong_keys_are_refused(live: Any, key: str) -> None:
    response = live.client.get("/v1/items", headers={"Authorization": f"Bearer {key}".encode()})
    assert response.status_code == 401


def test_scopes_are_held(live: Any) -> None:
    event = {"user": "u1", "item": "i1"}
    assert live.call("POST", "/v1/events", event, scope="read").status_code == 403
    assert live.call("POST", "/v1/events", event, scope="write").status_code == 200
    assert live.call("DELETE", "/v1/profile/u1", scope="write").status_code == 403
    assert live.call("POST", "/v1/models/rollback", scope="write").status_code == 403


def test_a_revoked_key_is_refused(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serve.http.security.REMEMBERED", 0.0)
    assert live.call("GET", "/v1/items", scope="read").status_code == 200
    live.store.revoke_key("test-read")
    assert live.call("GET", "/v1/items", scope="read").status_code == 401


def test_only_the_hash_of_a_key_is_kept(live: Any, tmp_path: Path) -> None:
    secret = live.keys["read"].split("_", 2)[2]  # a secret may hold "_" itself
    assert len(secret) > 40
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret.encode() not in held


def test_rates_are_limited_by_key(live: Any, tmp_path: Path) -> None:
    doorman = Doorman(live.store, ServerSettings(requests_per_second=1.0, burst=3))
    key = live.keys["read"]
    for _ in range(3):
        doorman.admit(key, "read")
    with pytest.raises(Exception, match="send fewer") as caught:
        doorman.admit(key, "read")
    assert caught.value.status == 429 and 0 < caught.value.retry_after <= 1
    doorman.admit(live.keys["write"], "read")


def test_wrong_keys_are_limited_by_address_before_the_store_is_asked(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    look_up = live.store.key
    monkeypatch.setattr(live.store, "key", lambda name: asked.append(name) or look_up(name))
    assert live.call("GET", "/v1/items", scope="read").status_code == 200
    statuses = [live.client.get("/v1/items", headers={"Authorization": f"Bearer plt_x{n}_y"}) for n in range(100)]
    assert [one.status_code for one in statuses] == [401] * 20 + [429] * 80
    assert 1 <= int(statuses[-1].headers["Retry-After"]) <= 6 and statuses[-1].json()["code"] == "too_many"
    assert len(asked) == 21
    monkeypatch.setattr("palate.serve.http.security.REMEMBERED", 0.0)
    assert live.call("GET", "/v1/items", scope="read").status_code == 200  # it was right before
    assert live.call("GET", "/v1/items", scope="write").status_code == 429  # it wasn't seen yet
    live.store.revoke_key("test-read")
    assert live.call("GET", "/v1/items", scope="read").status_code == 401
    assert live.call("GET", "/v1/items", scope=None).status_code == 401  # without a key nothing is guessed
    assert live.client.get("/v1/health").status_code == 200


def test_wrong_keys_of_one_address_do_not_shut_out_another(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("palate.serve.http.security.time.monotonic", lambda: now[0])
    monkeypatch.setattr("palate.serve.http.security.ADDRESSES", 3)
    doorman = Doorman(live.store, ServerSettings(wrong_keys=1, wrong_keys_per_minute=6.0))

    def status(address: str, key: str = "plt_nobody_x") -> int:
        try:
            doorman.admit(key, "read", address)
        except Refusal as refusal:
            return refusal.status
        return 200

    assert [status(a) for a in ("1.2.3.4", "1.2.3.4", "1.2.3.5", "::ffff:1.2.3.4")] == [401, 429, 401, 429]
    assert [status(a) for a in ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1")] == [401, 429, 401]
    assert status("2001:db8::1", live.keys["read"]) == 429 and status("9.9.9.9", live.keys["read"]) == 200
    now[0] += 11
    assert [status("2001:db8::1"), status("2001:db8::1")] == [401, 429]
    for last in range(9):
        assert status(f"5.5.5.{last}") == 401
    assert len(doorman._wrong) == 3


def test_without_keys_only_a_loopback_address_is_served(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(ConfigError, match="loopback"):
        Doorman(store, ServerSettings(insecure_loopback=True, host="0.0.0.0"))
    assert Doorman(store, ServerSettings(insecure_loopback=True)).admit(None, "admin").name == "loopback"
    store.close()


def test_large_bodies_batches_and_lists_are_refused(live: Any) -> None:
    assert live.call("POST", "/v1/recommendations", {"k": 10_000}).status_code == 422
    many = {"events": [{"user": "u", "item": "i"}] * 1_001}
    assert live.call("POST", "/v1/events", many).status_code == 422
    big = {"user": "u", "item": "i", "context": {"x": "y" * 3_000_000}}
    response = live.call("POST", "/v1/events", big)
    assert response.status_code == 413 and response.json()["code"] == "too_large"

    def stream() -> Any:
        for _ in range(40):
            yield b" " * 100_000

    headers = {"Authorization": f"Bearer {live.keys['write']}", "Content-Type": "application/json"}
    assert live.client.post("/v1/events", content=stream(), headers=headers).status_code == 413


def test_answers_carry_secure_headers_and_no_cors(live: Any) -> None:
    response = live.call("GET", "/v1/items", headers={"Origin": "https://evil.example"})
    assert response.headers["x-content-type-options"] == "nosniff" and response.headers["x-request-id"]
    assert response.headers["cache-control"] == "no-store"
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_faults_show_nothing_of_the_inside(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("SELECT secret FROM inside")

    monkeypatch.setattr("palate.serve.answers.similar", broken)
    response = live.call("POST", "/v1/similar", {"items": ["i1"]})
    assert response.status_code == 500
    assert "SELECT" not in response.text and "Traceback" not in response.text and response.json()["request"]


def test_key_names_and_scopes_are_checked(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'x.db'}")
    for name, scope in (("a b", "read"), ("x" * 60, "read"), ("ok", "root")):
        with pytest.raises(ConfigError):
            new_key(store, name, scope)
    assert ServiceSettings().server.insecure_loopback is False
    store.close()


def _wrong_from(client: TestClient, forwarded: str | None, times: int = 1) -> int:
    """Send wrong keys; return the last status."""
    headers = {"Authorization": "Bearer plt_x_y"} | ({} if forwarded is None else {"X-Forwarded-For": forwarded})
    return [client.get("/v1/items", headers=headers).status_code for _ in range(times)][-1]


def test_behind_a_trusted_proxy_wrong_keys_are_counted_by_caller(tmp_path: Path, open_live: Any) -> None:
    settings = ServiceSettings().replace(server={"trusted_proxies": ["10.1.0.0/16", "::1"]})
    for live in open_live(tmp_path, settings, "popularity"):
        proxy = TestClient(live.client.app, client=("10.1.2.3", 40_000))
        assert _wrong_from(proxy, "203.0.113.7", 21) == 429
        assert _wrong_from(proxy, "203.0.113.8") == 401  # somebody else behind the same proxy
        assert _wrong_from(proxy, "198.51.100.1, 203.0.113.7") == 429  # what a caller puts before its address is not believed
        assert _wrong_from(proxy, "203.0.113.7, 10.1.9.9") == 429  # two proxies, one before the other
        assert _wrong_from(proxy, "203.0.113.7:5555") == 429 and _wrong_from(proxy, None) == 401
        stranger = TestClient(live.client.app, client=("10.2.0.1", 40_000))
        assert _wrong_from(stranger, "203.0.113.9", 20) == 401
        assert _wrong_from(stranger, "203.0.113.10") == 429  # it is no proxy: its own address counts


def test_nobody_is_believed_by_default(live: Any) -> None:
    assert live.service.settings.server.trusted_proxies == ()
    near = TestClient(live.client.app, client=("127.0.0.1", 40_000))
    assert [_wrong_from(near, f"203.0.113.{n}") for n in range(21)] == [401] * 20 + [429]


def test_the_server_believes_no_proxy_on_its_own(live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # of uvicorn
    address, service = [], Service(live.store, ServiceSettings().replace(server={"port": 0}), live.service.models)
    server: list[uvicorn.Server] = []
    serve = uvicorn.Server.serve

    async def kept(self: uvicorn.Server, **named: Any) -> None:
        server.append(self)
        await serve(self, **named)

    monkeypatch.setattr(uvicorn.Server, "serve", kept)
    thread = threading.Thread(target=listen, args=(service,), kwargs={"on_ready": address.append}, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not address:
        assert time.monotonic() < until
        time.sleep(0.01)
    with httpx.Client(base_url=address[0]) as client:
        sent = [{"Authorization": "Bearer plt_x_y", "X-Forwarded-For": f"203.0.113.{n}"} for n in range(21)]
        assert [client.get("/v1/items", headers=headers).status_code for headers in sent] == [401] * 20 + [429]
    server[0].should_exit = True
    thread.join(20)
    assert not thread.is_alive()
