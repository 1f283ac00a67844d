"""The shelf: loading one model holds up nobody who asks for another."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.data.dataset import Dataset
from palate.recommend.popularity import Popularity
from palate.serve.memory.catalogue import Catalogue
from palate.serve.models import shelf
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
    load, loading, go_on = shelf.load, threading.Event(), threading.Event()

    def held(folder: Path) -> Any:
        loading.set()
        assert go_on.wait(20)
        return load(folder)

    monkeypatch.setattr(shelf, "load", held)
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

    def broken(self: shelf.Loaded) -> None:
        raise ValueError("no answer")

    monkeypatch.setattr(shelf.Loaded, "warm", broken)
    with pytest.raises(ValueError, match="no answer"):
        models.get("a", lambda _: bundle)
    assert models.versions() == [] and catalogue._listeners == []
    assert np.array_equal(catalogue.shown, np.zeros(1_024, bool))
