"""A store in trouble, seen over HTTP: 503 with advice and a time to come back, then recovery without a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from palate.serve.http.app import make_app
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import ItemRow, Store

Serving = Callable[[str], AbstractContextManager[TestClient]]


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """Return what serves a store of three items; nobody waits long for a lock."""

    @contextmanager
    def serve(url: str) -> Iterator[TestClient]:
        settings = ServiceSettings().replace(server={"insecure_loopback": True}, pipeline={"sources": [{"kind": "new"}]})
        with Store.open(url, wait=0.3) as store:
            store.put_items([ItemRow(id=name, title=name) for name in ("a", "b", "c")])
            service = Service(store, settings, tmp_path / "models")
            with TestClient(make_app(service), raise_server_exceptions=False) as client:
                yield client

    return serve


def send(client: TestClient, name: str, size: int = 1) -> Any:
    """Send a batch of events; the context makes each about two kilobytes long."""
    events = [{"id": f"{name}-{n}", "user": "u", "item": "a", "context": {"x": "y" * 2_000}} for n in range(size)]
    return client.post("/v1/events", json={"events": events})


def refused(response: Any, word: str) -> None:
    """The service is in trouble, says which and what to do, and when to come back; no SQL and no stack trace."""
    assert response.status_code == 503, response.text
    problem = response.json()
    assert problem["code"] in ("busy", "unavailable") and word in problem["what"] and problem["remedy"]
    assert int(response.headers["Retry-After"]) >= 1
    assert not any(leak in response.text for leak in ("INSERT", "SELECT", "Traceback", "sqlite3", "psycopg"))


def unready(client: TestClient, word: str) -> None:
    """The service says that it isn't ready, and why."""
    answer = client.get("/v1/ready")
    assert answer.status_code == 503 and answer.json()["ready"] is False and word in answer.json()["store"]
    assert answer.headers["Retry-After"] == "1"


def recovered(client: TestClient, name: str) -> None:
    """What was refused is taken now, and everything answers."""
    kept = send(client, name)
    assert kept.status_code == 200 and kept.json()["stored"] == 1, kept.text
    again = send(client, name)
    assert again.json()["stored"] == 0 and again.json()["repeated"] == 1
    ready = client.get("/v1/ready")
    assert ready.status_code == 200 and ready.json()["store"] == "ok" and ready.json()["items"] == 3
    offered = client.post("/v1/recommendations", json={"user": "v"})
    assert offered.status_code == 200 and {item["id"] for item in offered.json()["items"]} == {"a", "b", "c"}, offered.text


def test_a_locked_database(serving: Serving, tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path / 'p.db'}") as client:
        other = sqlite3.connect(tmp_path / "p.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        refused(send(client, "first"), "locked")
        refused(client.put("/v1/items", json={"items": [{"id": "d"}]}), "locked")
        unready(client, "locked")
        assert client.get("/v1/items/a").status_code == 200, "readers go on"
        other.execute("ROLLBACK")
        other.close()
        recovered(client, "first")


def test_a_full_disk(serving: Serving, small_disk: Path) -> None:
    with serving(f"sqlite:///{small_disk / 'p.db'}") as client:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 600_000)
        taken = 0
        while (answer := send(client, f"big{taken}", 50)).status_code == 200:
            taken += 1
            assert taken < 100, "the disk never was full"
        refused(answer, "full")
        assert client.get("/v1/profile/u").json()["events"] == 50 * taken, "what was acknowledged can be read still"
        ballast.unlink()
        recovered(client, "last")
        assert client.get("/v1/profile/u").json()["events"] == 50 * taken + 1


def test_a_server_that_stops_and_starts_again(serving: Serving, postgres: Any, postgres_url: str) -> None:
    with serving(postgres_url) as client:
        assert send(client, "before").json()["stored"] == 1 and client.get("/v1/ready").status_code == 200
        postgres.stop()
        try:
            refused(send(client, "first"), "database server")
            refused(client.post("/v1/recommendations", json={"user": "u"}), "database server")
            unready(client, "database server")
            assert client.get("/v1/health").status_code == 200, "the process lives"
        finally:
            postgres.start()
        recovered(client, "first")
        assert client.get("/v1/profile/u").json()["events"] == 2
