"""Drift: how far what happens now is from what the active model learnt from.

Two spans of equal length are compared, the last days and the days before, and the last days with the training data::

    stability  Σ_b (p_b - q_b) ln(p_b / q_b)      over bins b of items by their popularity in training (ten equal shares, and
                                                  items unknown to the model); below .1 little, above .25 much has changed

The model's worth now is asked in the open: NDCG@10 on what people did in the last days, given what they did before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sqlalchemy import distinct, func, select

from palate.serve.people import Person
from palate.serve.service import Service
from palate.serve.shelf import Loaded
from palate.serve.store import Store
from palate.serve.store.tables import events, impressions, slates

#: Bins of popularity; people asked; what counts as much.
BINS, PEOPLE, MUCH = 10, 300, 0.25


@dataclass(frozen=True)
class Drift:
    """What changed.

    Attributes
    ----------
    days
        Length of each span.
    now, before
        Events, people, items touched, and items offered in the last days and in the days before.
    unknown_people, unknown_items
        Shares of the last days' events by people, and on items, that the model never saw.
    stability
        See the module's text; ``None`` without events or a model.
    coverage
        Share of the catalogue that was offered in the last days.
    ndcg
        Of the active model on the last days' events, and on how many people; ``None`` where nobody can be asked.
    asked
        Those people.
    alerts
        What deserves a look, in words.
    """

    days: float
    now: Mapping[str, int]
    before: Mapping[str, int]
    unknown_people: float | None
    unknown_items: float | None
    stability: float | None
    coverage: float
    ndcg: float | None
    asked: int
    alerts: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def drift(service: Service, days: float = 7.0) -> Drift:
    """Compare the last days with the days before, and with what the active model learnt from."""
    service.pulse()
    end = service.clock() + 1.0  # what happens right now counts
    start = end - 86_400 * days
    now, before = (_activity(service.store, low, low + 86_400 * days) for low in (start, start - 86_400 * days))
    active, shown = service.shelf.active, max(1, int(service.catalogue.shown.sum()))
    counts = service.store.tally(start, end)
    total = sum(counts.values())
    people = items = stability = ndcg = None
    asked = 0
    if active is not None and total:
        items = sum(n for item, n in counts.items() if active.model.items_.ids.number(item) < 0) / total
        people = _unknown_people(service.store, active, start, end)
        stability = _stability(active, counts)
        ndcg, asked = _worth(service, active, start, end)
    found = Drift(days, now, before, people, items, stability, min(1.0, now["offered"] / shown), ndcg, asked, ())
    return Drift(**{**found.__dict__, "alerts": tuple(_alerts(found, model=active is not None))})


def _activity(store: Store, low: float, high: float) -> dict[str, int]:
    inside = (events.c.time >= low) & (events.c.time < high)
    offered = (
        select(func.count(distinct(impressions.c.item)))
        .join_from(impressions, slates, impressions.c.slate == slates.c.id)
        .where(slates.c.time >= low, slates.c.time < high)
    )
    with store.database.read() as connection:
        wanted = select(func.count(), func.count(distinct(events.c.user)), func.count(distinct(events.c.item))).where(inside)
        number, people, items = connection.execute(wanted).one()
        return {"events": number, "people": people, "items": items, "offered": int(connection.scalar(offered) or 0)}


def _unknown_people(store: Store, active: Loaded, low: float, high: float) -> float:
    wanted = select(events.c.user, func.count()).where(events.c.time >= low, events.c.time < high).group_by(events.c.user)
    with store.database.read() as connection:
        found = [(user, number) for user, number in connection.execute(wanted)]
    unknown = sum(number for user, number in found if active.model.users_.ids.number(user) < 0)
    return float(unknown / sum(number for _, number in found))


def _stability(active: Loaded, counts: Mapping[str, int]) -> float:
    """Return the population stability index of popularity (see the module's text)."""
    trained = active.model.item_counts_.astype(np.float64)
    order = np.argsort(-trained, kind="stable")
    share = np.cumsum(trained[order]) / max(1.0, trained.sum())
    bin_of = np.empty(len(trained), np.int64)
    bin_of[order] = np.minimum((share * BINS - 1e-9).astype(np.int64), BINS - 1)
    was = np.append(np.bincount(bin_of, trained, BINS), 0.0)
    is_now = np.zeros(BINS + 1)
    for item, number in counts.items():
        at = active.model.items_.ids.number(item)
        is_now[BINS if at < 0 else bin_of[at]] += number
    p, q = ((part + 0.5) / (part.sum() + 0.5 * len(part)) for part in (is_now, was))
    return float(((p - q) * np.log(p / q)).sum())


def _worth(service: Service, active: Loaded, low: float, high: float) -> tuple[float | None, int]:
    """Return NDCG@10 on the next thing that people did in the span, given what they did before it, and how many were asked."""
    first = (
        select(events.c.user, func.min(events.c.time))
        .where(events.c.time >= low, events.c.time < high)
        .group_by(events.c.user)
        .order_by(func.max(events.c.n).desc())
        .limit(PEOPLE)
    )
    with service.store.database.read() as connection:
        asked = [(user, time) for user, time in connection.execute(first)]
    gains = []
    for user, time in asked:
        person = service.person(user)
        later = person.times >= int(time)
        known = Person(user, person.rows[~later], person.times[~later])
        wanted = [row for row in person.rows[later].tolist() if row not in known.seen][:1]
        if not wanted or not len(active.numbers(np.array(wanted))) or not len(known.rows):
            continue
        rows, _, _ = active.best(known, 10, known.seen)
        place = np.flatnonzero(rows == wanted[0])
        gains.append(1 / np.log2(place[0] + 2) if len(place) else 0.0)
    return (float(np.mean(gains)) if gains else None), len(gains)


def _alerts(found: Drift, *, model: bool) -> list[str]:
    said = []
    if not model:
        said.append("no model is active")
    if not found.now["events"]:
        said.append(f"no event came in the last {found.days:g} days")
    elif found.before["events"] and found.now["events"] < found.before["events"] / 2:
        said.append(f"events fell from {found.before['events']:,} to {found.now['events']:,} in {found.days:g} days")
    if found.unknown_items is not None and found.unknown_items > MUCH:
        said.append(f"{found.unknown_items:.0%} of events are on items that the model never saw: retrain")
    if found.unknown_people is not None and found.unknown_people > 2 * MUCH:
        said.append(f"{found.unknown_people:.0%} of events are by people whom the model never saw: retrain")
    if found.stability is not None and found.stability > MUCH:
        said.append(f"what is chosen has moved away from the training data (stability {found.stability:.2f}): retrain")
    return said
