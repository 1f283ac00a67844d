"""A live service with its console: a small store of two tastes, two models, one experiment and explored slates."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

from palate.serve.http.app import make_app
from palate.serve.http.security import new_key
from palate.serve.retrain import retrain
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Event, ItemRow, Store

NOW = 1_700_000_000.0
ITEMS, PEOPLE = 40, 60
SOURCES = [{"kind": "model"}, {"kind": "trending"}, {"kind": "search", "weight": 3.0}]
NASTY = "<img src=x onerror=\"document.title='owned'\"> & <b>bold</b>"
PICTURE = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='10' height='10'%3E"
    "%3Ccircle cx='5' cy='5' r='4' fill='teal'/%3E%3C/svg%3E"
)
CHROMIUM = os.environ.get("PALATE_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def fill(store: Store) -> None:
    """Items of two kinds, one with a nasty title and some with pictures; people who like one of the kinds."""
    kinds = ("space", "garden")
    store.put_items(
        [
            ItemRow(
                id=f"i{n}",
                title=NASTY if n == 2 else f"{kinds[n % 2].title()} story {n}",
                text=f"A tale of the {kinds[n % 2]} with number {n}",
                categories=(kinds[n % 2], "long" if n % 3 else "short"),
                price=float(n),
                attributes={"year": 1980 + n},
                image=PICTURE if n % 4 == 0 else None,
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
            events.append(Event(user=f"u{person}", item=f"i{item}", time=NOW - 86_400 * 24 + 3_600 * (at * PEOPLE + person)))
    store.add_events(events)


@dataclass
class Site:
    """A running console.

    Attributes
    ----------
    url
        Of the service.
    service, store
        What stands behind it.
    keys
        API keys by scope.
    """

    url: str
    service: Service
    store: Store
    keys: dict[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the console in a thread."""
    from palate.console import mount

    folder = tmp_path_factory.mktemp("console")
    url = f"sqlite:///{folder / 'palate.db'}"
    settings = ServiceSettings().replace(
        store={"url": url}, server={"port": 0}, pipeline={"sources": SOURCES, "explore": {"kind": "epsilon", "epsilon": 0.3}}
    )
    store = Store.open(url, clock=lambda: NOW)
    fill(store)
    first = retrain(store, folder / "models", "ease", {}, activate=True)
    retrain(store, folder / "models", "popularity", {}, gate=False, activate=False)
    assert store.model(first.version) is not None
    keys = {scope: new_key(store, f"test-{scope}", scope) for scope in ("read", "admin")}
    service = Service(store, settings, folder / "models", clock=lambda: NOW, seed=0)
    server = uvicorn.Server(uvicorn.Config(make_app(service, mount), port=0, log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the service did not start"
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Site(f"http://127.0.0.1:{port}", service, store, keys)
    server.should_exit = True
    thread.join(20)
    store.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Chromium once for a file."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium, or set PALATE_CHROMIUM")
    with playwright.sync_playwright() as p:
        try:
            opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        except playwright.Error as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"Chromium does not start: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of screenshots: named by PALATE_SCREENSHOTS, else a temporary one."""
    named = os.environ.get("PALATE_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
