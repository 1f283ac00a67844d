"""Retraining, anew and incremental: what it learns, what its gate asks, what its notes say, and when it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.catalog.registry import load
from palate.contracts.bundle import read_manifest
from palate.errors import ConfigError, DataError, UnsupportedError
from palate.recommend.ials import IALS
from palate.serve.errors import ConflictError
from palate.serve.models import gate
from palate.serve.models.production import publish
from palate.serve.models.retrain import retrain
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
    with pytest.raises(ConflictError, match="nothing was published"):
        retrain(store, tmp_path / "models", incremental=True)
    assert [row.version for row in store.models()] == before


@pytest.mark.parametrize("incremental", [True, False])
def test_what_the_gate_can_not_decide_is_refused_unless_one_says_otherwise(
    store: Store, tmp_path: Path, incremental: bool
) -> None:
    retrain(store, tmp_path / "models", gate=False)
    store.add_events([Event("u001", "i03", time=START + 9e6), Event("u002", "i04", time=START + 9e6 + 1)])
    before = [row.version for row in store.models()]
    with pytest.raises(ConflictError, match="could not decide") as told:
        retrain(store, tmp_path / "models", incremental=incremental)
    assert "by 1 people, and 20 are needed" in str(told.value) and "--publish-undecided" in str(told.value)
    assert [row.version for row in store.models()] == before
    done = retrain(store, tmp_path / "models", incremental=incremental, undecided="publish")
    assert done.gate is not None and not done.gate.decided and not done.gate.passed
    assert done.updates == incremental and store.active_model().version == done.version


def test_a_bundle_that_can_not_be_read_leaves_the_gate_undecided(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(store.active_model().path)
    with pytest.raises(ConflictError, match="could not decide") as told:
        retrain(store, tmp_path / "models", "ials", SMALL, positive=[])
    assert "can't be read" in str(told.value)
    for gated in (True, False):  # nor is it known what it learnt from: nothing is taken for granted
        with pytest.raises(ConflictError, match="isn't known which events count"):
            retrain(store, tmp_path / "models", "ials", SMALL, gate=gated)
    assert retrain(store, tmp_path / "models", "ials", SMALL, positive=[], gate=False).gate is None


def test_the_gate_asks_the_active_bundle_itself(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[Any] = []
    ask = gate.ask

    def watched(model: Any, questions: Any, train: Any, seed: int = 0) -> Any:
        asked.append((model, questions, train))
        return ask(model, questions, train, seed)

    monkeypatch.setattr(gate, "ask", watched)
    active = load(store.active_model().path)
    done = retrain(store, tmp_path / "models")
    (new, questions, train), (old, again, _), (before, earlier, _) = asked
    assert again is questions
    np.testing.assert_array_equal(old.vectors_, active.vectors_)
    assert len(train) == 1_440 - 144 and questions.times.min() > START + 86_400
    assert len(new.histories_.items) == len(train) and not np.array_equal(new.vectors_[:20], old.vectors_[:20])
    assert earlier.times.max() < START + 86_400 and len(before.histories_.items) == 960 - 96
    found = done.gate
    assert found is not None and found.passed and found.decided and found.people == len(questions) >= 20
    assert 0 < found.unknown < 0.5 and "items that the active model doesn't know" in found.reason
    assert found.personal > 0.1 and found.personal_before > 0.1
    kept = read_manifest(done.folder)["metrics"]
    assert kept == {"ndcg@10": found.candidate, "personal_ndcg@10": found.personal_candidate}
    asked.clear()
    happen(store, range(60), 2 * HALF, 2, START + 2 * 86_400)
    assert retrain(store, tmp_path / "models").gate.personal_before == found.personal_candidate
    assert len(asked) == 2  # what was kept needs no third fit


def spoil(store: Store, kind: str) -> None:
    """Let events come whose people, or whose items, are mixed up."""
    rng = np.random.default_rng(5)
    events: list[Event] = []
    for person in range(60, 120):
        chosen = 2 * rng.choice(HALF, 8, replace=False) + person % 2
        events += [
            Event(f"u{person:03}", f"i{n:02}", time=START + 9e5 + 60 * (150 * at + person)) for at, n in enumerate(chosen)
        ]
    order, names = rng.permutation(len(events)), rng.permutation(2 * HALF)
    if kind == "people":
        events = [replace(event, user=events[at].user) for event, at in zip(events, order, strict=True)]
    elif kind == "items":
        events = [replace(event, item=events[at].item) for event, at in zip(events, order, strict=True)]
    elif kind == "names of items":
        events = [replace(event, item=f"i{names[int(event.item[1:])]:02}") for event in events]
    store.add_events(events)


@pytest.mark.parametrize(("system", "settings"), [("ials", SMALL), ("ease", {})])
@pytest.mark.parametrize("kind", ["people", "items", "names of items"])
def test_spoiled_events_are_refused_for_the_same_system(
    store: Store, tmp_path: Path, system: str, settings: dict[str, Any], kind: str
) -> None:
    retrain(store, tmp_path / "models", system, settings, gate=False)
    spoil(store, kind)
    before = [row.version for row in store.models()]
    with pytest.raises(ConflictError, match="spoiled") as told:
        retrain(store, tmp_path / "models")
    assert "the new events don't fit the people" in str(told.value.value)
    assert [row.version for row in store.models()] == before


@pytest.mark.parametrize(("system", "settings"), [("ials", SMALL), ("ease", {}), ("popularity", {})])
def test_sound_events_pass_for_the_same_system(store: Store, tmp_path: Path, system: str, settings: dict[str, Any]) -> None:
    retrain(store, tmp_path / "models", system, settings, gate=False)
    spoil(store, "nothing")
    done = retrain(store, tmp_path / "models")
    assert done.gate is not None and done.gate.passed and done.gate.people >= 20


def test_spoiled_events_are_refused_for_an_update_too(store: Store, tmp_path: Path) -> None:
    retrain(store, tmp_path / "models", gate=False)
    spoil(store, "people")
    with pytest.raises(ConflictError, match="spoiled"):
        retrain(store, tmp_path / "models", incremental=True)


def test_other_settings_are_weighed_where_little_is_new(store: Store, tmp_path: Path) -> None:
    retrain(store, tmp_path / "models", gate=False)
    with pytest.raises(ConflictError, match="worse than the active one"):
        retrain(store, tmp_path / "models", "random")
    done = retrain(store, tmp_path / "models", "ease")
    assert done.gate is not None and done.gate.passed and "both fitted anew" in done.gate.reason
    assert done.gate.unknown is None


def test_what_was_seen_is_left_out_of_the_questions(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    """An event with a time far ahead, which the active model has learnt, neither moves the border nor is asked about."""
    store.add_events([Event("u000", "i39", time=START + 9e8)])
    retrain(store, tmp_path / "models", gate=False)
    spoil(store, "nothing")
    asked: list[Any] = []
    ask = gate.ask
    monkeypatch.setattr(gate, "ask", lambda model, questions, *rest: asked.append(questions) or ask(model, questions, *rest))
    assert retrain(store, tmp_path / "models").gate.passed
    assert asked[0].times.max() < START + 9e7


def test_a_bundle_from_elsewhere_is_asked_about_later_times(store: Store, tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'other.db'}", clock=lambda: START) as other:
        happen(other, range(120), 2 * HALF, 0, START)
        publish(other, "foreign", load(store.active_model().path).save(tmp_path / "foreign"), activate=True)
        with pytest.raises(ConflictError, match="could not decide"):
            retrain(other, tmp_path / "models")
        happen(other, range(60, 120), 2 * HALF, 3, START + 9e5)
        done = retrain(other, tmp_path / "models")
        assert done.gate is not None and done.gate.decided and done.gate.passed


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


def glance(store: Store, people: range, since: float) -> None:
    """Let people look at twelve items of the other taste."""
    store.add_events(
        [
            Event(f"u{person:03}", f"i{item:02}", "look", time=since + item)
            for person in people
            for item in range(1 - person % 2, 24, 2)
        ]
    )


def test_what_counts_is_said_once(store: Store, tmp_path: Path) -> None:
    glance(store, range(150), START + 90_000)
    models = tmp_path / "models"
    spoilt = retrain(store, models, gate=False)
    assert spoilt.positive is None and load(spoilt.folder).item_counts_.sum() == 1_440 + 150 * 12
    done = retrain(store, models, positive=["view"], gate=False)
    assert done.positive is not None and done.positive.texts == ["view"]
    model = load(done.folder)
    assert model.item_counts_.sum() == 1_440 and len(model.items_) == 2 * HALF
    again = retrain(store, models, gate=False)
    assert again.positive == done.positive and load(again.folder).item_counts_.sum() == 1_440
    learnt_on = retrain(store, models, incremental=True, gate=False)
    assert learnt_on.positive == done.positive and load(learnt_on.folder).item_counts_.sum() == 1_440
    other = retrain(store, models, "popularity", gate=False, activate=False)  # the events are the store's, not the system's
    assert other.positive == done.positive
    assert retrain(store, models, positive=[], gate=False).positive is None


def test_the_gate_asks_about_what_counts(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(gate, "_personal_before", lambda *_: looked.append(True))
    looked: list[bool] = []
    models = tmp_path / "models"
    retrain(store, models, positive=["view"], gate=False)
    happen(store, range(90, 150), 2 * HALF, 2, START + 2 * 86_400)
    glance(store, range(150), START + 3 * 86_400)
    done = retrain(store, models)
    assert done.gate is not None and done.gate.passed and done.gate.people <= 60
    assert done.gate.personal is not None and done.gate.personal > 0  # looks at the other taste are no questions
    before = len(looked)
    happen(store, range(90, 150), 2 * HALF, 3, START + 4 * 86_400)
    glance(store, range(60), START + 5 * 86_400)
    retrain(store, models, positive=["look"], undecided="publish", activate=False)
    assert len(looked) == before + 1  # what was measured on other questions says nothing of these


def test_events_that_count_are_refused_where_there_are_none(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no events of this type"):
        retrain(store, tmp_path / "models", positive=["buy"])
    with pytest.raises(DataError, match="have no values"):
        retrain(store, tmp_path / "models", positive=["view:2"])
    with pytest.raises(ConfigError, match="an update keeps which events count"):
        retrain(store, tmp_path / "models", positive=["view"], incremental=True)


@pytest.mark.parametrize("told", [True, False])
def test_a_system_of_graphs_reads_the_categories_of_items(store: Store, tmp_path: Path, told: bool) -> None:
    pytest.importorskip("torch")
    quick = {"dim": 8, "epochs": 2, "batch_size": 256}
    if not told:
        with pytest.raises(DataError, match="no knowledge graph"):
            retrain(store, tmp_path / "models", "rgcn", quick, gate=False)
        return
    store.put_items([ItemRow(f"i{n:02}", categories=("even", "odd")[n % 2 :][:1]) for n in range(2 * HALF)])
    done = retrain(store, tmp_path / "models", "rgcn", quick, undecided="publish")
    steps = read_manifest(done.folder)["data"]["spec"]
    assert {"step": "attribute graph", "attributes": ["categories"], "triples": 2 * HALF} in steps
