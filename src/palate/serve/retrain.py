"""Retrain from the store: learn from all events, hold the new model against the active one, publish it where it is no worse.

The gate is a fair re-run: the latest tenth of the events (by time) is held out, the candidate and the active model's system and
settings are both fitted on what lies before, and their NDCG@10 is compared person by person. A candidate whose interval of
the difference lies wholly below ``-tolerance`` times the active model's value is refused. What is published is fitted on
everything.

An incremental retraining takes up the active model where it learnt from this store, and has it learn on from all events
(:meth:`palate.contracts.model.Model.update`). Its gate asks about events that the active model never saw: the later half of
those since its last one, a tenth of all at most. The active model is asked as it stands, the candidate after learning on from
what lies before. Whom an erasure has removed, a model must not carry on: it is fitted in full then.
"""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from palate.catalog.registry import create, get, load
from palate.contracts.bundle import read_manifest
from palate.contracts.growth import grown
from palate.contracts.recommender import Recommender
from palate.data.dataset import Dataset
from palate.data.protocols import split as cut
from palate.errors import ConfigError, DataError, UnsupportedError
from palate.evaluation.bootstrap import bootstrap_ci
from palate.progress import Progress, ProgressEvent, silent
from palate.serve.errors import ConflictError
from palate.serve.production import publish
from palate.serve.store import ModelRow, Store
from palate.serve.store.exchange import dataset as read_dataset
from palate.study.evaluate import evaluate
from palate.study.renumber import Renumbered

METRIC = "ndcg@10"
#: Share of events held out for the gate, people below which it can't decide, and what it puts up with.
HELD_OUT, FEWEST, TOLERANCE = 0.1, 20, 0.02
_IN_FULL = "retrain it in full (without --incremental)"


@dataclass(frozen=True)
class Gate:
    """How a candidate stood against the active model.

    Attributes
    ----------
    candidate, active
        NDCG@10 on the held-out events.
    difference, low, high
        Candidate minus active, person by person, with its 95% interval.
    people
        How many were asked about.
    passed
        Whether it may be published.
    reason
        Why, in words.
    """

    candidate: float
    active: float | None
    difference: float
    low: float
    high: float
    people: int
    passed: bool
    reason: str


@dataclass(frozen=True)
class Retrained:
    """A new model.

    Attributes
    ----------
    version
        Its name in the store.
    folder
        Its bundle.
    gate
        How it stood against the active one; ``None`` where there was none, or the gate was left out.
    seconds
        From reading the store to publishing.
    before, updates
        Version that it learnt on from, and how often that happened since the last full fit; ``None`` and 0 after a full fit.
    """

    version: str
    folder: Path
    gate: Gate | None
    seconds: float
    before: str | None = None
    updates: int = 0


def retrain(
    store: Store,
    models: str | Path,
    system: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    incremental: bool = False,
    gate: bool = True,
    activate: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Retrained:
    """Have a model learn from everything in the store, and publish it.

    Parameters
    ----------
    models
        Folder below which bundles stand.
    system, settings
        What to fit; by default what the active model is.
    incremental
        Have the active model learn on instead of fitting anew; ``update_epochs`` is then the only setting that may change.
    gate
        Hold the candidate against the active model first.

    Raises
    ------
    ConflictError
        If the gate refuses the candidate, or the active model can't be learnt on from; nothing is published.
    DataError
        If the store holds no events, or there is no active model to take the system from.
    UnsupportedError
        If the system can't learn on.
    """
    started, active = time.perf_counter(), store.active_model()
    facts = None if active is None else read_manifest(active.path)
    former = _former(store, active, system, settings) if incremental else None
    system, settings = _what(facts, system, settings)
    get(system, "recommend")
    position = store.position()
    data = read_dataset(store, progress=progress)
    if not len(data):
        raise DataError("the store holds no events to learn from.", where=store.url, remedy="send some to /v1/events first")
    found = None
    if former is not None:
        data = _grown(data, former)
        found = hold_update_against(data, former, seed=seed, progress=progress) if gate else None
    elif gate and facts is not None:
        found = hold_against(data, system, settings, facts, seed=seed, progress=progress)
    _check_passed(found)
    learn = create(system, **settings).fit if former is None else former.update
    model = learn(data, seed=seed, progress=progress)
    before = None if former is None or active is None else active.version
    return _publish(store, Path(models), model, position, found, started, before=before, activate=activate)


def _publish(
    store: Store,
    models: Path,
    model: Recommender,
    position: int,
    gate: Gate | None,
    started: float,
    *,
    before: str | None,
    activate: bool,
) -> Retrained:
    """Save a model with notes on where it comes from, and enter it into the store."""
    lineage = {} if before is None else {"learnt_on_from": before}
    origin = {"store": {"id": store.identity, "position": position}}
    model.record_ = replace(model.record_, notes={**model.record_.notes, **lineage, **origin})
    version = f"{model.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    folder = model.save(models / version, metrics={} if gate is None else {METRIC: gate.candidate})
    publish(store, version, folder, activate=activate, position=position)
    updates = int(model.record_.notes.get("updates", 0))
    return Retrained(version, folder, gate, time.perf_counter() - started, before, updates)


def _check_passed(gate: Gate | None) -> None:
    if gate is not None and not gate.passed:
        raise ConflictError(
            "the new model is worse than the active one; nothing was published.",
            where="gate",
            value=gate.reason,
            remedy="look into the data (palate data audit), change settings, or retrain with --no-gate",
        )


def hold_against(
    data: Dataset,
    system: str,
    settings: Mapping[str, Any],
    active: Mapping[str, Any] | None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Gate | None:
    """Compare a candidate with the active model's system and settings on the latest events (see the module's text)."""
    if data.interactions.time is None:
        return None
    split = cut(data, "global_time", test=HELD_OUT, valid=0.0, seed=seed)
    questions = split.held_out("test")
    if len(questions) < FEWEST:
        return None
    progress(ProgressEvent("Gate", 0, 2))
    new = _per_person(create(system, **settings), split.train, questions, seed)
    progress(ProgressEvent("Gate", 1, 2))
    if active is None or (active["system"] == system and dict(active["settings"]) == _full(system, settings)):
        progress(ProgressEvent("Gate", 2, 2))
        value = float(new.mean())
        return Gate(value, value, 0.0, 0.0, 0.0, len(questions), True, "the same system and settings as the active model")
    old = _per_person(create(active["system"], **active["settings"]), split.train, questions, seed)
    progress(ProgressEvent("Gate", 2, 2))
    return _gate(new, old, seed)


def hold_update_against(data: Dataset, active: Recommender, *, seed: int = 0, progress: Progress = silent) -> Gate | None:
    """Compare the active model, learnt on, with itself as it stands, on later events (see the module's text).

    Parameters
    ----------
    data
        Everything, numbered as the active model numbers it.
    active
        As it stands; it isn't changed.
    """
    times, seen = data.interactions.time, active.histories_.times
    if times is None or seen is None:
        return None
    fresh = np.sort(times[times > seen.max(initial=0)])
    held = min(len(fresh) // 2, int(HELD_OUT * len(times)))
    if not held:
        return None
    split = cut(data, "global_time", test_at=int(fresh[-held]), seed=seed)
    questions = split.held_out("test")
    if len(questions) < FEWEST:
        return None
    progress(ProgressEvent("Gate", 0, 2))
    candidate = copy.copy(active).update(split.train, seed=seed)
    new = evaluate(candidate, questions, [METRIC], train=split.train).per_user[METRIC]
    progress(ProgressEvent("Gate", 1, 2))
    as_it_stands: Any = Renumbered(active, split.train)
    old = evaluate(as_it_stands, questions, [METRIC], train=split.train).per_user[METRIC]
    progress(ProgressEvent("Gate", 2, 2))
    return _gate(new, old, seed)


def _gate(new: np.ndarray, old: np.ndarray, seed: int) -> Gate:
    """Compare two models' values person by person."""
    interval = bootstrap_ci(new - old, seed=seed)
    floor = -TOLERANCE * float(old.mean())
    value, low, high = float(interval.value), float(interval.low), float(interval.high)
    words = f"NDCG@10 {new.mean():.4f} against {old.mean():.4f}, difference {low:+.4f} to {high:+.4f}"
    return Gate(float(new.mean()), float(old.mean()), value, low, high, len(new), high >= floor, words)


def _per_person(model: Recommender, train: Dataset, questions: Any, seed: int) -> np.ndarray:
    return evaluate(model.fit(train, seed=seed), questions, [METRIC], train=train).per_user[METRIC]


def _former(store: Store, active: ModelRow | None, system: str | None, settings: Mapping[str, Any] | None) -> Recommender:
    """Return the active model, ready to learn on; refuse where it can't.

    What it learnt must come from this very store, and neither system nor settings may be others (but for ``update_epochs``).
    """
    if active is None:
        raise DataError("no model is active that could learn on.", remedy="fit one first: palate retrain SYSTEM")
    model: Recommender = load(active.path)
    if system not in (None, model.name):
        raise ConfigError(
            "the active model is of another system.", where="system", value=system, remedy="retrain it in full, or name none"
        )
    if not model.can_update:
        raise UnsupportedError(f"{model.name} can't learn on from what it learnt before.", remedy="retrain it in full")
    if model.record_.notes.get("store", {}).get("id") != store.identity:
        raise ConflictError("the active model learnt from other data than this store's.", value=active.version, remedy=_IN_FULL)
    config = model.config.replace(**(settings or {}))
    changed = sorted(k for k, v in config.model_dump().items() if k != "update_epochs" and v != getattr(model.config, k))
    if changed:
        raise ConfigError("an update keeps the settings.", where="settings", value=changed, remedy=_IN_FULL)
    model.config = config
    return model


def _grown(data: Dataset, former: Recommender) -> Dataset:
    """Number the data as the model does; refuse a model that learnt from people who were erased since."""
    gone = int((data.users.ids.encode(former.users_.ids.raw) < 0).sum())
    if gone:
        raise ConflictError(
            "the active model learnt from people who were erased since; learning on would carry them on.",
            where="users",
            value=gone,
            remedy=_IN_FULL,
        )
    return grown(data, former)


def _what(
    facts: Mapping[str, Any] | None, system: str | None, settings: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Return what to fit: as named, else as the active model is."""
    if system is not None:
        same = facts is not None and facts["system"] == system and settings is None
        return system, dict(facts["settings"]) if same and facts is not None else dict(settings or {})
    if facts is None:
        raise DataError("no model is active, so the system must be named.", remedy="for example: palate retrain ease")
    return str(facts["system"]), {**facts["settings"], **(settings or {})}


def _full(system: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return create(system, **settings).config.model_dump(mode="json")
