"""Accuracy, diversity and latency of loaded models, on the latest event of a sample of the store's people.

Each person's last event is hidden, every model answers the history before it as it would answer a request, and the judge of
:mod:`palate.evaluation.judge` sees the lists. Models fitted on this very store have learnt from the hidden events, unless these
came in later; how many did is told beside the figures, and where it is few, the accuracies compare fits, not forecasts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palate.console.charts import Estimate
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import DataError
from palate.evaluation.bootstrap import bootstrap_ci
from palate.evaluation.facts import Facts
from palate.evaluation.judge import judge
from palate.progress import Progress, ProgressEvent, silent
from palate.serve.memory.people import Person
from palate.serve.models.loaded import Loaded
from palate.serve.service import Service

ACCURACY, DIVERSITY, K = "ndcg@10", "diversity@10[by=categories]", 10
#: People below which nothing is said.
FEWEST = 10


@dataclass(frozen=True)
class Measured:
    """One model's figures.

    Attributes
    ----------
    version
        Of the model.
    accuracy
        NDCG@10 of the hidden event.
    diversity
        1 minus the likeness of categories within a list; ``None`` where items have none.
    milliseconds
        Of one answer: the median over people.
    unseen
        Share of hidden events that the model can't have learnt from.
    """

    version: str
    accuracy: Estimate
    diversity: Estimate | None
    milliseconds: Estimate
    unseen: float


def measure(service: Service, versions: Sequence[str], people: Sequence[str], progress: Progress = silent) -> list[Measured]:
    """Measure models one after the other.

    Raises
    ------
    DataError
        If too few people have two events or more.
    """
    questions = [found for user in people if (found := _question(service, user)) is not None]
    if len(questions) < FEWEST:
        raise DataError(
            "too few people have two events or more.",
            where="sample",
            value=len(questions),
            remedy=f"at least {FEWEST} are needed",
        )
    held, facts = _held_out(service, questions), _facts(service)
    out = []
    for at, version in enumerate(versions):
        progress(ProgressEvent(f"Measure {version}", at, len(versions)))
        out.append(_one(service.model(version), questions, held, facts, service.store.identity))
    progress(ProgressEvent("Measure", len(versions), len(versions)))
    return out


def _question(service: Service, user: str) -> tuple[Person, int, int] | None:
    """Return a person before their last event, the row of that event, and its number in the store."""
    events = service.store.events_of(user, 500, positive=service.shelf.positive)
    kept = [event for event in events if event.item in service.catalogue.row]
    if len(kept) < 2 or not service.catalogue.shown[service.catalogue.row[kept[-1].item]]:
        return None
    before = [event for event in kept[:-1] if event.item != kept[-1].item]
    person = Person.of(None, [e.item for e in before], [e.time or 0.0 for e in before], service.catalogue)
    return person, service.catalogue.row[kept[-1].item], kept[-1].n or 0


def _held_out(service: Service, questions: Sequence[tuple[Person, int, int]]) -> HeldOut:
    n = len(questions)
    return HeldOut(
        users=np.arange(n, dtype=np.int32),
        histories=Histories.from_rows([person.seen for person, _, _ in questions]),
        truth=Ragged.from_rows([[row] for _, row, _ in questions]),
        part="test",
    )


def _facts(service: Service) -> Facts:
    """Return what the judge needs to know of the catalogue: the categories of each row."""
    things = service.catalogue.items
    number: dict[str, int] = {}
    rows = [sorted({number.setdefault(name, len(number)) for name in item.categories}) for item in things]
    return Facts(np.ones(len(things), np.int64), 1, categories=Ragged.from_rows(rows) if number else None)


def _one(model: Loaded, questions: Sequence[tuple[Person, int, int]], held: HeldOut, facts: Facts, store: str) -> Measured:
    lists, times = np.full((len(questions), K), -1, np.int32), np.empty(len(questions))
    for at, (person, _, _) in enumerate(questions):
        started = time.perf_counter()
        rows, _, _ = model.best(person, K, person.seen)
        times[at] = 1_000 * (time.perf_counter() - started)
        lists[at, : len(rows)] = rows
    names = [ACCURACY] + ([DIVERSITY] if facts.categories is not None else [])
    found = judge(lists, held, names, facts)
    diversity = found.per_user.get(DIVERSITY)
    position = model.store_position
    known = position[1] if position is not None and position[0] == store else None
    unseen = 1.0 if known is None else float(np.mean([n > known for _, _, n in questions]))
    return Measured(
        model.version,
        _estimate(model.version, found.per_user[ACCURACY]),
        None if diversity is None or np.isnan(diversity).all() else _estimate(model.version, diversity),
        _estimate(model.version, times, median=True),
        unseen,
    )


def _estimate(name: str, values: np.ndarray, *, median: bool = False) -> Estimate:
    found = bootstrap_ci(values, statistic="median" if median else "mean")
    return Estimate(name, float(found.value), float(found.low), float(found.high))
