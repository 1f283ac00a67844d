"""Loading beside the requests: few at a time, tried again from time to time, and told in words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palate.errors import BundleError
from palate.serve.errors import BusyError, NotFound, Unavailable
from palate.serve.models.loading import Loading
from palate.serve.models.shelf import MOST
from palate.serve.models.succession import RETRY
from palate.serve.pipeline.config import Need


class Store:
    """Stands for a shelf: what is held, and what a load does."""

    def __init__(self) -> None:
        self.held: set[Need] = set()
        self.kept: dict[object, frozenset[Need]] = {}
        self.loads: list[Need] = []
        self.work: Callable[[Need], None] = lambda need: None

    def holds(self, need: Need) -> bool:
        return need in self.held

    def keep(self, owner: object, needs: frozenset[Need]) -> None:
        self.kept[owner] = needs

    def load(self, need: Need, folder_of: Callable[[str], Path]) -> None:
        self.loads.append(need)
        self.work(need)
        self.held.add(need)


@pytest.fixture
def store() -> Store:
    """An empty shelf."""
    return Store()


@pytest.fixture
def loading(store: Store) -> Iterator[Loading]:
    """Loads onto the shelf; the clock stands still."""
    loading = Loading(store, _folder, clock=lambda: 0.0)  # type: ignore[arg-type]
    yield loading
    loading.close()


def _folder(version: str) -> Path:
    if version == "absent":
        raise NotFound("no such model.")
    return Path(version)


def model(version: str) -> Need:
    return Need("model", version)


def damaged(need: Need) -> None:
    raise BundleError("it is damaged.", where="/secret/place")


def test_what_is_needed_is_kept_and_loaded_once(loading: Loading, store: Store) -> None:
    loading.need("owner", [model("a"), model("b"), model("a")])
    loading.wait()
    loading.need("owner", [model("a"), model("b")])
    loading.wait()
    assert sorted(store.loads) == [model("a"), model("b")] and store.kept["owner"] == {model("a"), model("b")}


def test_a_load_that_fails_is_tried_again_later(loading: Loading, store: Store) -> None:
    store.work = damaged
    for _ in range(3):
        loading.need("owner", [model("a")])
        loading.wait()
    found = loading.trouble(model("a"))
    assert len(store.loads) == 1 and found is not None and found.words == "it is damaged."
    store.work = lambda need: None
    loading.clock = lambda: RETRY
    loading.need("owner", [model("a")])
    loading.wait()
    assert store.held == {model("a")} and loading.trouble(model("a")) is None


def test_a_caller_hears_what_is_wrong_without_another_load(loading: Loading, store: Store) -> None:
    store.work = damaged
    load = loading.ask(model("a"))
    assert load is not None
    with pytest.raises(BundleError, match="damaged"):
        load.result(10)
    for _ in range(3):
        with pytest.raises(BundleError, match="damaged"):
            loading.ask(model("a"))
    assert len(store.loads) == 1
    with pytest.raises(NotFound):
        loading.ask(model("absent"))
    assert loading.trouble(model("absent")) is None  # it may be published in a moment


def test_few_are_loaded_at_once_and_what_is_needed_does_not_queue_behind_them(loading: Loading, store: Store) -> None:
    go_on = threading.Event()
    store.work = lambda need: None if need.version == "needed" else _held(go_on)
    loads = [loading.ask(model(f"v{n}")) for n in range(MOST)]
    assert loading.ask(model("v0")) is loads[0]
    with pytest.raises(BusyError, match="other models"):
        loading.ask(model("one more"))
    with pytest.raises(Unavailable, match="being loaded"):
        loading.require(model("v1"))
    loading.need("owner", [model("needed")])
    future: Any = loading._under_way.get(model("needed"))
    assert future is None or future.result(10) is None
    assert store.held == {model("needed")}
    go_on.set()
    loading.wait()
    assert len(store.held) == MOST + 1
    loading.require(model("v1"))


def _held(go_on: threading.Event) -> None:
    assert go_on.wait(20)


def test_nothing_is_loaded_when_the_service_ends(loading: Loading, store: Store) -> None:
    loading.close()
    loading.need("owner", [model("a")])
    with pytest.raises(BusyError):
        loading.ask(model("b"))
    assert store.loads == [] and store.kept["owner"] == {model("a")}
