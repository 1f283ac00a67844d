"""Incremental retraining: what it learns, what its gate asks, what its notes say, and when it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.catalog.registry import load
from palate.contracts.bundle import read_manifest
from palate.errors import ConfigError, DataError, UnsupportedError
from palate.recommend.ials import IALS
from palate.serve.errors import ConflictError
from palate.serve.retrain import retrain
from palate.serve.store import Event, ItemRow, Store

START, HALF = 1_700_000_000.0, 20
SMALL = {"dim": 8, "epochs": 12}


def happen(store: Store, people: range, items: int, seed: int, since: float) -> None:
    """Let people of two tastes choose eight of the first items each (even people even ones)."""
    rng = np.random.default_rng(seed)
    events = []
    for person in people:
        chosen = 2 * rng.choice(items // 2, 8, replace=False) + person % 2
        events += [
            Event(f"u{person:03}", f"i{item:02}", time=since + 60 * (150 * at + person)) for at, item in enumerate(chosen)
        ]
    store.add_events(events)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store with 120 people and 32 items, an iALS fitted on it, and later 60 people, old and new, and 40 items."""
    with Store.open(f"sqlite:///{tmp_path / 'palate.db'}", clock=lambda: START) as opened:
        opened.put_items([ItemRow(f"i{n:02}") for n in range(2 * HALF)])
        happen(opened, range(120), 32, 0, START)
        retrain(opened, tmp_path / "models", "ials", SMALL)
        happen(opened, range(90, 150), 2 * HALF, 1, START + 86_400)
        yield opened


def own_taste(folder: Path, people: range) -> float:
    """Share of the best five items of the person's taste."""
    model = load(folder)
    found = model.recommend(model.requests([f"u{p:03}" for p in people]), 5)
    items = [[int(raw[1:]) for raw in model.items_.ids.decode(row).to_pylist()] for row in found.items]
    return float(np.mean([item % 2 == person % 2 for person, row in zip(people, items, strict=True) for item in row]))


def test_the_active_model_learns_on(store: Store, tmp_path: Path) -> None:
    first = store.active_model()
    assert first is not None and first.position == 960
    done = retrain(store, tmp_path / "models", incremental=True)
    active = store.active_model()
    assert active is not None and active.version == done.version and active.position == store.position() == 1_440
    assert (done.before, done.updates) == (first.version, 1)
    notes = read_manifest(done.folder)["fit"]["notes"]
    assert notes["learnt_on_from"] == first.version and notes["updates"] == 1
    assert notes["store"] == {"id": store.identity, "position": 1_440}
    model = load(done.folder)
    assert len(model.users_) == 150 and model.item_counts_.sum() == 1_440 and (model.item_counts_ > 0).all()
    assert model.users_.ids.raw[:120].equals(load(first.path).users_.ids.raw)
    assert own_taste(done.folder, range(150)) > 0.95
    assert retrain(store, tmp_path / "models", incremental=True, gate=False).updates == 2
    full = retrain(store, tmp_path / "models", gate=False)
    assert (full.before, full.updates) == (None, 0)
    assert "updates" not in read_manifest(full.folder)["fit"]["notes"]


def test_the_gate_asks_about_what_the_active_model_never_saw(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[Any] = []
    update = IALS.update

    def watched(self: IALS, dataset: Any, **how: Any) -> Any:
        asked.append(dataset)
        return update(self, dataset, **how)

    monkeypatch.setattr(IALS, "update", watched)
    done = retrain(store, tmp_path / "models", incremental=True)
    held, whole = asked
    assert len(whole) == 1_440 and len(whole) - len(held) == 144  # a tenth of all; the later half of the new would be 240
    assert held.interactions.time.max() > START + 86_400
    assert done.gate is not None and done.gate.passed and done.gate.people >= 20
    assert done.gate.active is not None and done.gate.candidate > done.gate.active  # it can't offer what it never saw


def test_the_gate_refuses_an_update_that_spoils_the_model(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    fit = IALS._fit

    def spoilt(self: IALS, dataset: Any, fitting: Any) -> Any:
        notes = fit(self, dataset, fitting)
        if fitting.former is not None:
            self.vectors_ = fitting.rng("noise").standard_normal(self.vectors_.shape, np.float32)
        return notes

    monkeypatch.setattr(IALS, "_fit", spoilt)
    before = [row.version for row in store.models()]
    with pytest.raises(ConflictError, match="worse than the active one"):
        retrain(store, tmp_path / "models", incremental=True)
    assert [row.version for row in store.models()] == before


def test_too_little_news_leaves_the_gate_out(store: Store, tmp_path: Path) -> None:
    retrain(store, tmp_path / "models", gate=False)
    store.add_events([Event("u001", "i03", time=START + 9e6), Event("u002", "i04", time=START + 9e6 + 1)])
    done = retrain(store, tmp_path / "models", incremental=True)
    assert done.gate is None and done.updates == 1


def test_more_steps_may_be_asked_for_and_nothing_else(store: Store, tmp_path: Path) -> None:
    done = retrain(store, tmp_path / "models", "ials", {"update_epochs": "7"}, incremental=True, gate=False)
    assert load(done.folder).config.update_epochs == 7
    with pytest.raises(ConfigError, match="keeps the settings") as told:
        retrain(store, tmp_path / "models", None, {"dim": 16}, incremental=True)
    assert "dim" in str(told.value)
    with pytest.raises(ConfigError, match="another system"):
        retrain(store, tmp_path / "models", "ease", incremental=True)


def test_an_erased_person_is_not_carried_on(store: Store, tmp_path: Path) -> None:
    store.erase_user("u007")
    with pytest.raises(ConflictError, match="erased") as told:
        retrain(store, tmp_path / "models", incremental=True)
    assert "in full" in str(told.value)
    retrain(store, tmp_path / "models", gate=False)
    assert retrain(store, tmp_path / "models", incremental=True, gate=False).updates == 1


def test_what_can_not_be_learnt_on_from(store: Store, tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'other.db'}", clock=lambda: START) as other:
        happen(other, range(40), 32, 0, START)
        with pytest.raises(DataError, match="no model is active"):
            retrain(other, tmp_path / "models", incremental=True)
        active = store.active_model()
        assert active is not None
        other.add_model(active)
        other.activate(active.version)
        with pytest.raises(ConflictError, match="other data than this store's"):
            retrain(other, tmp_path / "models", incremental=True)
    retrain(store, tmp_path / "models", "ease", gate=False)
    with pytest.raises(UnsupportedError, match="ease can't learn on"):
        retrain(store, tmp_path / "models", incremental=True)
