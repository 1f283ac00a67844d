"""A live service over a small store: two tastes, items with text and prices, a model fitted on the store itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from palate.serve.http.app import make_app
from palate.serve.http.security import new_key
from palate.serve.models.retrain import retrain
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Event, ItemRow, Store

NOW = 1_700_000_000.0
ITEMS, PEOPLE = 40, 60


@dataclass
class Live:
    """A service with its clients by scope."""

    service: Service
    store: Store
    keys: dict[str, str]
    client: TestClient

    def call(self, method: str, path: str, body: Any = None, *, scope: str | None = "admin", **more: Any) -> Any:
        """Send a request with a key of a scope; return the response."""
        headers = {} if scope is None else {"Authorization": f"Bearer {self.keys[scope]}"}
        return self.client.request(method, path, json=body, headers={**headers, **more.pop("headers", {})}, **more)

    def post(self, path: str, **body: Any) -> Any:
        """Post a body, expect success, return the answer."""
        response = self.call("POST", path, body)
        assert response.status_code == 200, response.text
        return response.json()

    def ids(self, **body: Any) -> list[str]:
        """Return the ids of a recommendation."""
        return [item["id"] for item in self.post("/v1/recommendations", **body)["items"]]


def fill(store: Store) -> None:
    """Items of two kinds; people who like one of them."""
    kinds = ("space", "garden")
    store.put_items(
        [
            ItemRow(
                id=f"i{n}",
                title=f"{kinds[n % 2].title()} story {n}",
                text=f"A tale of the {kinds[n % 2]} with number {n}",
                categories=(kinds[n % 2],),
                price=float(n),
                attributes={"year": 1980 + n, "maker": f"m{n % 5}"},
                created=NOW - 86_400 * (ITEMS - n),
            )
            for n in range(ITEMS)
        ]
    )
    rng = np.random.default_rng(0)
    events = []
    for person in range(PEOPLE):
        liked = 2 * rng.choice(ITEMS // 2, 8, replace=False) + person % 2
        for at, item in enumerate(liked.tolist()):
            events.append(Event(user=f"u{person}", item=f"i{item}", time=NOW - 86_400 * 40 + 3_600 * (at * PEOPLE + person)))
    store.add_events(events)


def opened(folder: Path, settings: ServiceSettings | None = None, system: str = "ials") -> Iterator[Live]:
    """Open a store, fill it, fit a model, and serve."""
    url = f"sqlite:///{folder / 'palate.db'}"
    settings = settings or ServiceSettings()
    settings = settings.replace(store={**settings.store.model_dump(), "url": url})
    store = Store.open(url, clock=lambda: NOW)
    if not store.position():
        fill(store)
        retrain(store, folder / "models", system, {"dim": 8, "epochs": 5} if system == "ials" else {})
    keys = {scope: new_key(store, f"test-{scope}", scope) for scope in ("read", "write", "admin")}
    service = Service(store, settings, folder / "models", clock=lambda: NOW, seed=0)
    with TestClient(make_app(service), raise_server_exceptions=False) as client:
        yield Live(service, store, keys, client)
    store.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A service of its own for a test."""
    yield from opened(tmp_path)


@pytest.fixture(scope="module")
def live_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service shared by the tests of a file."""
    yield from opened(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="session")
def open_live() -> Callable[..., Iterator[Live]]:
    """Return the function that opens a service, for tests with settings of their own."""
    return opened
