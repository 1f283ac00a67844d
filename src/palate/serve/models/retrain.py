"""Retrain from the store: learn from all events, hold the new model against the active one, publish it where it is no worse.

The gate (:mod:`palate.serve.models.gate`) asks the active bundle and a candidate about the newest events that the active one
has not seen. What passes is fitted on everything, and published; what is worse, what learns from events that look spoiled, and
what the gate can't decide about is refused, the last unless the caller says otherwise.

What counts as a choice (:mod:`palate.data.positive`) is said once: the bundle remembers it, the next retraining keeps to it,
and answers start from the same events.

An incremental retraining takes up the active model where it learnt from this store, and has it learn on from all events
(:meth:`palate.contracts.model.Model.update`); its candidate learns on from what lies before the questions. Whom an erasure has
removed, a model must not carry on: it is fitted in full then.

Whoever is erased while a model learns is taken out of it before its bundle is entered. Entering and activating are one
transaction, which refuses where an erasure came before it; one that comes after it finds the bundle among the published ones.
"""

from __future__ import annotations

import copy
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from palate.catalog.registry import create, get, load
from palate.contracts.bundle import read_manifest
from palate.contracts.growth import grown
from palate.contracts.recommender import Recommender
from palate.data.attribute_graph import category_names, with_attribute_graph
from palate.data.dataset import Dataset
from palate.data.positive import Positive
from palate.errors import BundleError, ConfigError, DataError, UnsupportedError
from palate.progress import Progress, silent
from palate.serve.errors import ConflictError, ErasedMeanwhile, StoreError
from palate.serve.models.gate import Gate, hold
from palate.serve.models.production import publish
from palate.serve.models.seen import Seen, positive_of
from palate.serve.store import ModelRow, Pulse, Store
from palate.serve.store.exchange import numbered_dataset

log = logging.getLogger("palate.serve")
#: How often a bundle is cleaned of those who were erased in the very moment of its publishing, at most.
TRIES = 10
_IN_FULL = "retrain it in full (without --incremental)"
#: What becomes of a candidate that the gate can't decide about.
Undecided = Literal["refuse", "publish"]


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
        How it stood against the active one; ``None`` where no model was active, or the gate was left out.
    seconds
        From reading the store to publishing.
    before, updates
        Version that it learnt on from, and how often that happened since the last full fit; ``None`` and 0 after a full fit.
    forgotten
        People who were erased while it learnt: its bundle doesn't hold them, but what it knows of items comes from them, too,
        until the next full fit.
    positive
        Which events it learnt from; ``None`` where all count.
    """

    version: str
    folder: Path
    gate: Gate | None
    seconds: float
    before: str | None = None
    updates: int = 0
    forgotten: int = 0
    positive: Positive | None = None


def retrain(
    store: Store,
    models: str | Path,
    system: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    positive: Sequence[str] | None = None,
    incremental: bool = False,
    gate: bool = True,
    undecided: Undecided = "refuse",
    activate: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Retrained:
    """Have a model learn from everything in the store, and publish it.

    A system of search reads the log of searches too, one of social graphs the ties between people, and one of knowledge graphs
    a graph of the items' categories (:func:`palate.data.attribute_graph.with_attribute_graph`).

    Parameters
    ----------
    models
        Folder below which bundles stand.
    system, settings
        What to fit; by default what the active model is.
    positive
        Events that count as choices, such as ``["purchase", "rating:4"]``; ``[]`` lets all count. By default what the active
        model learnt from.
    incremental
        Have the active model learn on instead of fitting anew; ``update_epochs`` is then the only setting that may change.
    gate
        Hold the candidate against the active model first.
    undecided
        What becomes of a candidate that the gate can't decide about: too little came since the active model learnt, or its
        bundle can't be read.

    Raises
    ------
    ConflictError
        If the gate refuses the candidate or can't decide, the active model can't be learnt on from, it isn't known which events
        count, or people are erased faster than a bundle can be saved without them; nothing is published.
    DataError
        If the store holds no events, none of them is positive, or there is no active model to take the system from.
    UnsupportedError
        If the system can't learn on.
    """
    started, active = time.perf_counter(), store.active_model()
    former = _former(store, active, system, settings, positive) if incremental else None
    system, settings = _what(active, system, settings)
    needs = get(system, "recommend").needs
    since = store.pulse()
    data, numbers = numbered_dataset(store, searched="searches" in needs, tied="social" in needs, progress=progress)
    if "graph" in needs and category_names(data):
        data = with_attribute_graph(data)
    if not len(data):
        raise DataError("the store holds no events to learn from.", where=store.url, remedy="send some to /v1/events first")
    data = _choices(data, active, positive)
    if former is not None:
        data = _grown(data, former)
    make = partial(create, system, **settings)
    found = None
    if gate and active is not None:
        found = _hold(store, active, data, numbers, make, former, seed=seed, progress=progress)
        _check(found, undecided)
    learn = make().fit if former is None else former.update
    model = learn(data, seed=seed, progress=progress)
    before = None if former is None or active is None else active.version
    return _publish(store, Path(models), model, since, found, started, before=before, activate=activate)


def _choices(data: Dataset, active: ModelRow | None, texts: Sequence[str] | None) -> Dataset:
    """Return the data with the events that count: as they are named, else as for the active model."""
    if texts is None:
        positive = None if active is None else _learnt_from(active)
    else:
        positive = Positive.parse(texts)
        if positive is not None:
            positive.check(data)
    return data if positive is None else positive.select(data)


def _learnt_from(active: ModelRow) -> Positive | None:
    """Return which events the active model learnt from.

    Raises
    ------
    ConflictError
        If its bundle can't be read: all events would count unasked.
    """
    try:
        return positive_of(read_manifest(active.path))
    except BundleError as error:
        raise ConflictError(
            f"the active bundle can't be read, so it isn't known which events count: {error.what}",
            where="positive",
            value=active.version,
            remedy="say which do: --positive TYPE, or --all-events",
        ) from None


def _publish(
    store: Store,
    models: Path,
    model: Recommender,
    since: Pulse,
    gate: Gate | None,
    started: float,
    *,
    before: str | None,
    activate: bool,
) -> Retrained:
    """Save a model with notes on where it comes from, and enter it into the store, without those who were erased ``since``."""
    lineage = {} if before is None else {"learnt_on_from": before}
    origin = {"store": {"id": store.identity, "position": since.events}}
    model.record_ = replace(model.record_, notes={**model.record_.notes, **lineage, **origin})
    version = new_version(model.name)
    folder, metrics = models / version, {} if gate is None else gate.metrics
    try:
        _enter(store, model, folder, since, metrics, activate=activate)
    except BaseException:
        discard(store, version, folder)
        raise
    notes = model.record_.notes
    counted = int(notes.get("updates", 0)), int(notes.get("forgotten", 0))
    positive = Positive.of_spec(model.record_.data["spec"])
    return Retrained(version, folder, gate, time.perf_counter() - started, before, *counted, positive)


def _enter(
    store: Store, model: Recommender, folder: Path, since: Pulse, metrics: Mapping[str, float], *, activate: bool
) -> None:
    """Save a bundle and publish it under its folder's name; whoever was erased before that moment is forgotten first."""
    clean = since.erasures
    for _ in range(TRIES):
        gone = store.erasures_since(clean)
        clean = gone.last
        forgotten = model.forget([user for user in model.users_.ids.raw.to_pylist() if user in gone]) if gone.marks else 0
        if forgotten:
            total = int(model.record_.notes.get("forgotten", 0)) + forgotten
            model.record_ = replace(model.record_, notes={**model.record_.notes, "forgotten": total})
        model.save(folder, metrics=metrics)
        try:
            publish(store, folder.name, folder, activate=activate, position=since.events, unless_after=clean)
            return
        except ErasedMeanwhile:
            continue
    raise ConflictError(
        "people are erased faster than a bundle can be saved without them; nothing was published.",
        where="models",
        value=TRIES,
        remedy="retrain again",
    )


def new_version(system: str) -> str:
    """Return a name for what is fitted now."""
    return f"{system}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def discard(store: Store, version: str, folder: Path) -> None:
    """Remove a bundle that was not entered: no erasure would ever look into it."""
    try:
        entered = store.model(version) is not None
    except StoreError as error:
        log.warning("the bundle %s stays, because the store can't say whether it was entered: %s", folder, error.what)
        return
    if not entered:
        shutil.rmtree(folder, ignore_errors=True)


def _check(gate: Gate, undecided: Undecided) -> None:
    if gate.passed or (not gate.decided and undecided == "publish"):
        return
    if not gate.decided:
        raise ConflictError(
            "the gate could not decide; nothing was published.",
            where="gate",
            value=gate.reason,
            remedy="wait for more events, or publish it all the same: --publish-undecided",
        )
    raise ConflictError(
        "the new model is worse than the active one, or learns from spoiled events; nothing was published.",
        where="gate",
        value=gate.reason,
        remedy="look into the data (palate data audit), change settings, or retrain with --no-gate",
    )


def _hold(
    store: Store,
    active: ModelRow,
    data: Dataset,
    numbers: np.ndarray,
    make: Callable[[], Recommender],
    former: Recommender | None,
    *,
    seed: int,
    progress: Progress,
) -> Gate:
    """Hold a candidate against the active bundle; one that can't be asked leaves the gate undecided."""
    try:
        facts = read_manifest(active.path)
        asked: Recommender = load(active.path)
    except BundleError as error:
        return Gate.undecided(f"the bundle of the active model {active.version} can't be read: {error.what}")
    seen = Seen.of(store, facts, asked)
    unseen = seen.after(data.interactions, numbers)
    if unseen is None:
        return Gate.undecided(seen.words)
    candidate = make()
    learn = candidate.fit if former is None else copy.copy(former).update
    again = None if asked.name == candidate.name and _settings(asked) == _settings(candidate) else make
    same = positive_of(facts) == Positive.of_spec(data.spec)
    metrics = facts.get("metrics", {}) if same else {}  # measured on other questions
    return hold(data, unseen, asked, metrics, partial(learn, seed=seed), again, seed=seed, progress=progress)


def _settings(model: Recommender) -> dict[str, Any]:
    return model.config.model_dump(mode="json", exclude={"update_epochs"})


def _former(
    store: Store,
    active: ModelRow | None,
    system: str | None,
    settings: Mapping[str, Any] | None,
    positive: Sequence[str] | None,
) -> Recommender:
    """Return the active model, ready to learn on; refuse where it can't.

    What it learnt must come from this very store, and neither system, settings (but for ``update_epochs``) nor the events that
    count may be others.
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
    if positive is not None and Positive.parse(positive) != Positive.of_spec(model.record_.data["spec"]):
        raise ConfigError("an update keeps which events count.", where="positive", value=list(positive), remedy=_IN_FULL)
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


def _what(active: ModelRow | None, system: str | None, settings: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Return what to fit: as named, else as the active model is."""
    if system is not None and (settings is not None or active is None or active.system != system):
        return system, dict(settings or {})
    if active is None:
        raise DataError("no model is active, so the system must be named.", remedy="for example: palate retrain ease")
    return active.system, {**read_manifest(active.path)["settings"], **(settings or {})}
