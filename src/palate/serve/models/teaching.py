"""Teaching: a policy learns from every slate of the store with what came of it, and is published.

It begins anew on the catalogue, and takes the slates in the order of their times, a block at a time: what was shown, a reward
of 1 where an item was clicked (its feedback adds up to more than 0; to hide or dislike earns nothing), the context that came
with the request, and the history before it. Requests are made as for answers (:mod:`palate.serve.models.policies`). Attributes
of people are as they are now.

A bundle of a policy holds items, and no people. Slates go with the erasure of a person, so the next teaching is without them;
where somebody is erased while it goes on, it begins again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from palate.catalog.registry import create, get
from palate.contracts.policy import Feedback, Policy, Slate
from palate.errors import DataError, UnsupportedError
from palate.progress import Progress, ProgressEvent, silent
from palate.serve.errors import ConflictError, ErasedMeanwhile
from palate.serve.models.policies import check_served, context_of, requests_of
from palate.serve.models.production import publish
from palate.serve.models.retrain import discard, new_version
from palate.serve.rows.asked import Asker
from palate.serve.rows.clicks import Known
from palate.serve.store import Pulse, Store
from palate.serve.store.exchange import dataset

#: Slates learnt from at a time, rows of the log read at a time, and how often it begins again because of erasures, at most.
BLOCK, ROWS, TRIES = 1_000, 50_000, 5


@dataclass(frozen=True)
class Taught:
    """A policy that learnt from the log.

    Attributes
    ----------
    version
        Its name in the store.
    system
        What it is.
    folder
        Its bundle.
    seconds
        From reading the store to publishing.
    slates
        How many it learnt from.
    left_out
        Slates that it could not learn from, by the reason in words.
    """

    version: str
    system: str
    folder: Path
    seconds: float
    slates: int
    left_out: Mapping[str, int]

    @property
    def words(self) -> str:
        """What it learnt from, in a sentence."""
        left = "".join(f"; {number} left out: {reason}" for reason, number in self.left_out.items())
        return f"It learnt from {self.slates} slate{'' if self.slates == 1 else 's'}{left}."


@dataclass
class _Lessons:
    """What is gathered for the next update."""

    known: Known
    slates: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    askers: list[Asker] = field(default_factory=list)
    contexts: list[list[float]] = field(default_factory=list)
    shown: list[tuple[np.ndarray, Sequence[Mapping[str, Any]]]] = field(default_factory=list)


def teach(
    store: Store,
    models: str | Path,
    system: str,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Taught:
    """Have a policy learn from all slates of the store, and publish it; it is put to work by its version.

    Parameters
    ----------
    models
        Folder below which bundles stand.
    system, settings
        A system of the verb ``explore``.

    Raises
    ------
    UnsupportedError
        If the policy can't learn on, or can't serve.
    DataError
        If there are slates, and it can learn from none of them; the reasons are named.
    ConflictError
        If people are erased faster than it learns; nothing is published.
    """
    started = time.perf_counter()
    get(system, "explore")
    for _ in range(TRIES):
        since = store.pulse()
        policy = create(system, **(settings or {}))
        assert isinstance(policy, Policy)
        if not policy.can_update:
            remedy = "take one that does, such as linucb, lin_ts or thompson"
            raise UnsupportedError(f"{policy.name} doesn't learn slate by slate.", value=system, remedy=remedy)
        lessons = _learn(store, policy, seed, progress)
        version = new_version(policy.name)
        if _entered(store, policy, lessons, version, Path(models) / version, since):
            seconds = time.perf_counter() - started
            return Taught(version, policy.name, Path(models) / version, seconds, lessons.slates, dict(lessons.left_out))
    raise ConflictError(
        "people are erased faster than a policy can learn without them; nothing was published.",
        where="models",
        value=TRIES,
        remedy="retrain again",
    )


def _entered(store: Store, policy: Policy, lessons: _Lessons, version: str, folder: Path, since: Pulse) -> bool:
    """Save and publish a policy; ``False``, and nothing stays, where somebody was erased since it began to read."""
    told = {"slates": lessons.slates, "left_out": dict(lessons.left_out)}
    origin = {"store": {"id": store.identity, "position": since.events}}
    policy.record_ = replace(policy.record_, notes={**policy.record_.notes, **told, **origin})
    try:
        policy.save(folder)
        publish(store, version, folder, position=since.events, unless_after=since.erasures)
    except BaseException as error:
        discard(store, version, folder)
        if isinstance(error, ErasedMeanwhile):
            return False
        raise
    return True


def _learn(store: Store, policy: Policy, seed: int, progress: Progress) -> _Lessons:
    """Fit a policy to the catalogue, and have it learn from the log."""
    policy.fit(dataset(store, progress=progress), seed=seed, progress=progress)
    check_served(policy)
    lessons = _Lessons(Known.of(store, histories=policy.reads_histories))
    for slate in _slates(store):
        reason = _take(policy, slate, lessons)
        if reason is not None:
            lessons.left_out[reason] += 1
        if len(lessons.askers) == BLOCK:
            _update(policy, lessons, progress)
    _update(policy, lessons, progress)
    if lessons.left_out and not lessons.slates:
        reasons = "; ".join(f"{number}: {reason}" for reason, number in lessons.left_out.items())
        remedy = "name columns that requests carry (--set context=…), or none"
        raise DataError("the policy can learn from none of the slates.", where="slates", value=reasons, remedy=remedy)
    return lessons


def _slates(store: Store) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each slate, by time."""
    after: tuple[float, str] | None = None
    while True:
        rows = store.impressions_since(0.0, limit=ROWS, after=after).to_pylist()
        found: list[list[dict[str, Any]]] = []
        for row in rows:
            if found and found[-1][0]["slate"] == row["slate"]:
                found[-1].append(row)
            else:
                found.append([row])
        whole = found[:-1] if len(rows) == ROWS and len(found) > 1 else found  # the last may go on
        yield from whole
        if len(rows) < ROWS:
            return
        after = whole[-1][0]["time"], whole[-1][0]["slate"]


def _take(policy: Policy, slate: Sequence[Mapping[str, Any]], lessons: _Lessons) -> str | None:
    """Gather a slate, or return why it can't be learnt from."""
    head = slate[0]
    items = policy.items_.ids.encode([row["item"] for row in slate])
    if (items < 0).any() or len(np.unique(items)) < len(items):
        return "an item is gone, or stands there twice"
    asker = lessons.known.asker(head["user"], head["time"], json.loads(head["context"] or "{}"))
    context, lacking = context_of(policy, asker)
    if lacking is not None:
        return f"the request lacked {lacking!r}"
    lessons.askers.append(asker)
    lessons.contexts.append(context)
    lessons.shown.append((items, slate))
    return None


def _update(policy: Policy, lessons: _Lessons, progress: Progress) -> None:
    """Have the policy learn from what was gathered."""
    n, width = len(lessons.askers), max((len(items) for items, _ in lessons.shown), default=0)
    if not n:
        return
    shown, chances, clicks = np.full((n, width), -1, np.int32), np.ones((n, width)), np.zeros((n, width))
    for at, (items, rows) in enumerate(lessons.shown):
        own = slice(0, len(items))
        shown[at, own] = items
        chances[at, own] = [1.0 if row["propensity"] is None else row["propensity"] for row in rows]
        clicks[at, own] = [float(row["reward"] > 0) for row in rows]
    policy.update(requests_of(policy, lessons.askers, lessons.contexts), Feedback(Slate(shown, chances), clicks))
    lessons.slates += n
    lessons.askers, lessons.contexts, lessons.shown = [], [], []
    progress(ProgressEvent("Slates", lessons.slates, None))
