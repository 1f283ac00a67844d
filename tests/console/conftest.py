"""A live service with its console: a small store of two tastes, two models, one experiment and explored slates."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import uvicorn

pytest.importorskip("nicegui", reason="the console needs NiceGUI")

from palate.serve.http.app import make_app
from palate.serve.http.security import new_key
from palate.serve.models.retrain import retrain
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


class Tour:
    """A browser window that is logged in, and what is checked of every page."""

    def __init__(self, page: Any, site: Any, shots: Path) -> None:
        self.page, self.site, self.shots = page, site, shots

    def go(self, path: str) -> Any:
        """Open a page of the console, and wait until it is connected."""
        self.page.goto(f"{self.site.url}/console/{path}")
        self.page.wait_for_load_state("networkidle")
        return self.page

    def press(self, name: str) -> None:
        """Press the first button of a name."""
        self.page.get_by_role("button", name=name, exact=True).first.click()

    def sure(self, name: str) -> None:
        """Say yes to a question."""
        self.page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()

    def choose(self, label: str, option: str) -> None:
        """Choose in the first list of a label."""
        self.page.get_by_role("combobox", name=label, exact=True).first.click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def sees(self, text: str | re.Pattern[str], timeout: float = 15_000) -> None:
        """Wait for a text."""
        self.page.get_by_text(text).first.wait_for(timeout=timeout)

    def check(self, name: str) -> None:
        """Photograph the page by day, by night and on a phone; ask axe; nothing may stand out sideways."""
        self.page.wait_for_function("!document.querySelector('.q-notification')")  # what fades has no contrast
        for look, width in (("light", 1280), ("dark", 1280), ("phone", 360)):
            self.page.set_viewport_size({"width": width, "height": 800})
            if look != "light":
                self.page.get_by_role("button", name=re.compile("Switch to")).click()
                self.page.wait_for_timeout(250)
            self.page.wait_for_timeout(200)
            self.page.screenshot(path=self.shots / f"{name}-{look}.png", full_page=True)
            self.axe(f"{name} {look}")
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{name} is {wide} pixels wide on a phone"

    def tab_to(self, role: str, name: str | re.Pattern[str], *, back: bool = False) -> None:
        """Press Tab until something of a role and name has the focus."""
        wanted = self.page.get_by_role(role, name=name, exact=isinstance(name, str)).first
        wanted.wait_for()
        for _ in range(150):
            self.page.keyboard.press("Shift+Tab" if back else "Tab")
            if wanted.evaluate("e => e === document.activeElement || e.contains(document.activeElement)"):
                return
        raise AssertionError(f"the keyboard does not reach the {role} {name!r}")

    def axe(self, what: str) -> None:
        """No rule of axe may be broken."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        told = [
            f"{v['id']} ({v['impact']}): {v['nodes'][0]['html'][:300]} {v['nodes'][0]['failureSummary'][:300]}" for v in found
        ]
        assert not found, f"{what}: " + "\n".join(told)


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
def browser(left_out: Callable[[str], NoReturn]) -> Iterator[Any]:
    """Start Chromium once for a file."""
    for module, package in (("playwright", "playwright"), ("axe_playwright_python", "axe-playwright-python")):
        if importlib.util.find_spec(module) is None:
            left_out(f"Chromium left out: {package} is not installed: pip install {package}")
    if not Path(CHROMIUM).exists():
        left_out(f"Chromium left out: none at {CHROMIUM}: apt-get install chromium, or set PALATE_CHROMIUM")
    from playwright import sync_api as playwright

    with playwright.sync_playwright() as p:
        try:
            opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        except playwright.Error as error:
            left_out(f"Chromium left out: it does not start: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of screenshots: named by PALATE_SCREENSHOTS, else a temporary one."""
    named = os.environ.get("PALATE_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def session(browser: Any, site: Any) -> Any:
    """Log in as an administrator; return what the browser keeps of it."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/")
    page.get_by_label("API key").fill(site.keys["admin"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def tour(browser: Any, site: Any, session: Any, shots: Path) -> Iterator[Tour]:
    """A window, logged in as an administrator; at the end nothing may have gone wrong behind the scenes."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, storage_state=session)
    page = context.new_page()
    page.set_default_timeout(15_000)
    errors: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]) if request.url.startswith("http") else None)
    yield Tour(page, site, shots)
    context.close()
    assert errors == []
    assert hosts == {site.url.removeprefix("http://")}


@pytest.fixture
def axe(browser: Any, site: Any, shots: Path) -> Any:
    """Return a function that asks axe about any page."""
    return lambda page, what: Tour(page, site, shots).axe(what)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder of reports, in the place of the one below the working folder."""
    from palate.console import comparison

    monkeypatch.setattr(comparison, "REPORTS", tmp_path / "reports")
    (tmp_path / "reports").mkdir()
    return tmp_path / "reports"


@pytest.fixture(scope="session")
def report() -> Any:
    """A small real comparison of four systems on a synthetic world."""
    from palate.data.protocols import split
    from palate.simulate.world import World, WorldConfig
    from palate.study.compare import compare

    events = World(WorldConfig(users=300, items=100, events=6_000, seed=2)).dataset()
    metrics = ("ndcg@10", "recall@10", "coverage@10", "novelty@10", "diversity@10")
    return compare(
        split(events, "leave_one_out"), ["random", "popularity", "item_knn", "ease"], metrics=metrics, name="Small world"
    )
