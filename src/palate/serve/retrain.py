"""Retrain from the store: fit on all events, hold the new model against the active one, publish it where it is no worse.

The gate is a fair re-run: the latest tenth of the events (by time) is held out, the candidate and the active model's system and
settings are both fitted on what lies before, and their NDCG@10 is compared person by person. A candidate whose interval of
the difference lies wholly below ``-tolerance`` times the active model's value is refused. What is published is fitted on
everything.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palate.catalog.registry import create
from palate.contracts.bundle import read_manifest
from palate.contracts.recommender import Recommender
from palate.data.dataset import Dataset
from palate.data.protocols import split as cut
from palate.errors import DataError
from palate.evaluation.bootstrap import bootstrap_ci
from palate.progress import Progress, ProgressEvent, silent
from palate.serve.errors import ConflictError
from palate.serve.production import publish
from palate.serve.store import Store
from palate.serve.store.exchange import dataset as read_dataset
from palate.study.evaluate import evaluate

METRIC = "ndcg@10"
#: Share of events held out for the gate, people below which it can't decide, and what it puts up with.
HELD_OUT, FEWEST, TOLERANCE = 0.1, 20, 0.02


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
    """

    version: str
    folder: Path
    gate: Gate | None
    seconds: float


def retrain(
    store: Store,
    models: str | Path,
    system: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    gate: bool = True,
    activate: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Retrained:
    """Fit a model on everything in the store and publish it.

    Parameters
    ----------
    models
        Folder below which bundles stand.
    system, settings
        What to fit; by default what the active model is.
    gate
        Hold the candidate against the active model first.

    Raises
    ------
    ConflictError
        If the gate refuses the candidate; nothing is published.
    DataError
        If the store holds no events, or there is no active model to take the system from.
    """
    started, active = time.perf_counter(), store.active_model()
    facts = None if active is None else read_manifest(active.path)
    system, settings = _what(facts, system, settings)
    position = store.position()
    data = read_dataset(store, progress=progress)
    if not len(data):
        raise DataError("the store holds no events to learn from.", where=store.url, remedy="send some to /v1/events first")
    found = hold_against(data, system, settings, facts, seed=seed, progress=progress) if gate and facts is not None else None
    if found is not None and not found.passed:
        raise ConflictError(
            "the new model is worse than the active one; nothing was published.",
            where="gate",
            value=found.reason,
            remedy="look into the data (palate data audit), change settings, or retrain with --no-gate",
        )
    model = create(system, **settings).fit(data, seed=seed, progress=progress)
    model.record_ = replace(model.record_, notes={**model.record_.notes, "store": {"id": store.identity, "position": position}})
    version = f"{system}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    folder = model.save(Path(models) / version, metrics={} if found is None else {METRIC: found.candidate})
    publish(store, version, folder, activate=activate, position=position)
    return Retrained(version, folder, found, time.perf_counter() - started)


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
    interval = bootstrap_ci(new - old, seed=seed)
    floor = -TOLERANCE * float(old.mean())
    value, low, high = float(interval.value), float(interval.low), float(interval.high)
    words = f"NDCG@10 {new.mean():.4f} against {old.mean():.4f}, difference {low:+.4f} to {high:+.4f}"
    return Gate(float(new.mean()), float(old.mean()), value, low, high, len(questions), high >= floor, words)


def _per_person(model: Recommender, train: Dataset, questions: Any, seed: int) -> Any:
    return evaluate(model.fit(train, seed=seed), questions, [METRIC], train=train).per_user[METRIC]


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
