"""The shelf: loading one model holds up nobody who asks for another."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.data.dataset import Dataset
from palate.errors import UnsupportedError
from palate.explore.epsilon_greedy import EpsilonGreedy
from palate.recommend.popularity import Popularity
from palate.serve.memory.catalogue import Catalogue
from palate.serve.models import loaded, shelf
from palate.serve.models.loaded import Loaded
from palate.serve.pipeline.config import Need
from palate.simulate.world import World, WorldConfig


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted model on disk."""
    data: Dataset = World(WorldConfig(users=30, items=20, events=300, seed=1)).dataset()
    return Popularity().fit(data).save(tmp_path_factory.mktemp("bundle") / "popularity")


def test_a_load_holds_up_no_other_model(bundle: Path, monkeypatch: Any) -> None:
    models = shelf.Shelf(Catalogue())
    models.activate("a", bundle)
    models.get("b", lambda _: bundle)
    load, loading, go_on = loaded.load, threading.Event(), threading.Event()

    def held(folder: Path) -> Any:
        loading.set()
        assert go_on.wait(20)
        return load(folder)

    monkeypatch.setattr(loaded, "load", held)
    thread = threading.Thread(target=models.get, args=("c", lambda _: bundle))
    thread.start()
    assert loading.wait(20)
    turned = threading.Thread(target=models.turn_to, args=("b",))
    turned.start()
    turned.join(5)
    assert not turned.is_alive() and models.active is models.find("b")
    go_on.set()
    thread.join()
    assert models.turn_to("c") and models.active is models.find("c")
    assert not models.turn_to("absent")


def test_a_model_that_can_not_be_warmed_up_leaves_no_trace(bundle: Path, monkeypatch: Any) -> None:
    catalogue = Catalogue()
    models = shelf.Shelf(catalogue)

    def broken(self: Loaded) -> None:
        raise ValueError("no answer")

    monkeypatch.setattr(Loaded, "warm", broken)
    with pytest.raises(ValueError, match="no answer"):
        models.get("a", lambda _: bundle)
    assert models.versions() == [] and catalogue._listeners == []
    assert np.array_equal(catalogue.shown, np.zeros(1_024, bool))


def filled(bundle: Path, *versions: str) -> shelf.Shelf:
    """Return a shelf whose active model is ``active``, asked for some versions in turn."""
    models = shelf.Shelf(Catalogue())
    models.activate("active one", bundle)
    for version in versions:
        models.get(version, lambda _: bundle)
    return models


def test_asking_for_many_versions_keeps_a_few_the_longest_unused_go(bundle: Path) -> None:
    models = filled(bundle, "a", "b", "c", "a", "d")
    assert sorted(models.versions()) == ["a", "active one", "c", "d"] and len(models.versions()) == shelf.MOST
    assert len(models.catalogue._listeners) == shelf.MOST  # who is let go hears no more
    for version in "efghi":
        models.get(version, lambda _: bundle)
    assert models.active is models.find("active one") and len(models.versions()) == shelf.MOST


def test_what_is_kept_stays_however_much_is_asked_for(bundle: Path) -> None:
    models = filled(bundle, "k0", "k1")
    needs = [Need("model", f"k{n}") for n in range(5)]
    models.keep("experiments", needs[:2])
    models.keep("pipeline", needs[2:])
    for version in ("k2", "k3", "k4", "x", "y", "z"):
        models.get(version, lambda _: bundle)
    assert sorted(models.versions()) == ["active one", *(need.version for need in needs), "z"]
    models.keep("pipeline", ())
    assert sorted(models.versions()) == ["active one", "k0", "k1", "z"]


def test_the_model_that_answered_before_is_the_last_to_go(bundle: Path) -> None:
    models = filled(bundle, "a", "b", "c")
    models.activate("c", bundle)
    models.get("d", lambda _: bundle)
    assert sorted(models.versions()) == ["active one", "b", "c", "d"]
    assert models.turn_to("active one")


def test_rankers_count_too(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ranker:
        def __init__(self, version: str, folder: Path) -> None:
            self.version = version

        def warm(self, catalogue: Catalogue) -> None:
            pass

    monkeypatch.setattr(shelf, "LoadedRanker", Ranker)
    models = filled(bundle, "a")
    models.keep("pipeline", [Need("ranker", "r0")])
    for n in range(6):
        models.ranker(f"r{n}", lambda _: bundle)
    held = [f"r{n}" for n in range(6) if models.holds(Need("ranker", f"r{n}"))]
    assert held == ["r0", "r4", "r5"] and models.versions() == ["active one"]


def test_policies_count_too(bundle: Path, tmp_path: Path) -> None:
    data: Dataset = World(WorldConfig(users=30, items=20, events=300, seed=1)).dataset()
    policy = EpsilonGreedy().fit(data).save(tmp_path / "policy")
    models = filled(bundle, "a")
    models.keep("pipeline", [Need("policy", "p0")])
    for n in range(6):
        models.load(Need("policy", f"p{n}"), lambda _: policy)
    held = [f"p{n}" for n in range(6) if models.holds(Need("policy", f"p{n}"))]
    assert held == ["p0", "p4", "p5"] and models.versions() == ["active one"]
    assert [found.version for found in models.policies()] == held
    assert models.fitted("p5", lambda _: policy) is models.policy("p5", lambda _: policy).policy
    with pytest.raises(UnsupportedError, match=r"whole catalogue") as refused:
        models.get("p6", lambda _: policy)
    assert "[pipeline.explore]" in str(refused.value)
    with pytest.raises(UnsupportedError, match="no policy"):
        models.policy("active one", lambda _: bundle)
    assert not models.holds(Need("policy", "active one"))


def test_an_activation_survives_others_that_crowd_the_model_out(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the load and the turn the model may be let go: it is loaded again, and hears of the catalogue."""
    models = filled(bundle)
    models.keep("experiments", [Need("model", f"k{n}") for n in range(4)])
    for n in range(4):
        models.get(f"k{n}", lambda _: bundle)
    get, crowded = models.get, list[Loaded]()

    def crowding(version: str, folder_of: Any) -> Loaded:
        found = get(version, folder_of)
        if not crowded:
            crowded.append(get("crowd", lambda _: bundle))
        return found

    monkeypatch.setattr(models, "get", crowding)
    models.activate("new", bundle)
    active = models.active
    assert active is not None and active is models.find("new")
    assert active._changed in models.catalogue._listeners
