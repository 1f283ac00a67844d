"""Drift: how far what happens now is from what the active model learnt from.

Two spans of equal length are compared, the last days and the days before, and the last days with the training data (by what
the active model would learn from, see :mod:`palate.data.positive`)::

    stability  Σ_b (p_b - q_b) ln(p_b / q_b)      over bins b of items by their popularity in training (ten equal shares, and
                                                  items unknown to the model); below .1 little, above .25 much has changed

The model's worth now is asked in the open: NDCG@10 on the first thing that people did in the last days and that the model has
not learnt from, given what they did before.

Its scores are asked for twice: for the people whom it met last in training, as its bundle remembers them, and for the people of
the last days, as they are now. A person's score is the mean of the model's own three best; the two distributions are compared
by their largest distance (Kolmogorov and Smirnov), and an alert is raised where the median now lies outside of nine tenths of
then. Scores of slates would tell less: they depend on filters, quotas and exploration of whatever pipeline was in place, and
keeping them would cost every answer a write. This costs a few hundred answers when somebody looks, and needs no note at
publication, because bundles carry histories.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import ks_2samp
from sqlalchemy import ColumnElement, distinct, func, select

from palate.serve.memory.people import Person
from palate.serve.models.loaded import Loaded
from palate.serve.models.seen import Seen
from palate.serve.service import Service
from palate.serve.store import Store
from palate.serve.store.positive import counts
from palate.serve.store.tables import events, impressions, slates

#: Bins of popularity; people asked, at most and at least; what counts as much.
BINS, PEOPLE, FEWEST, MUCH = 10, 300, 20, 0.25
#: Length of the lists that are judged; items whose scores make a person's score; quantiles that are told; and the chance below
#: which a distance is no accident.
DEPTH, TOP, QUANTILES, CHANCE = 10, 3, (0.05, 0.25, 0.5, 0.75, 0.95), 0.001


@dataclass(frozen=True)
class Scores:
    """The active model's scores in training and now (see the module's text).

    Attributes
    ----------
    levels
        Which quantiles are told.
    then, now
        Quantiles of people's scores.
    people_then, people_now
        How many were asked about.
    distance
        Largest distance of the two distributions, 0 to 1.
    chance
        How often a distance as large comes about where nothing has changed.
    """

    levels: tuple[float, ...]
    then: tuple[float, ...]
    now: tuple[float, ...]
    people_then: int
    people_now: int
    distance: float
    chance: float

    @property
    def moved(self) -> bool:
        """Whether the person in the middle scores now as fewer than one in twenty did, above or below, and not by accident."""
        middle = self.now[len(self.levels) // 2]
        return self.chance < CHANCE and not self.then[0] <= middle <= self.then[-1]


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
        Of the active model on the last days' events that it has not learnt from; ``None`` where nobody can be asked.
    asked
        On how many people.
    why_not
        Why nobody could be asked, in words; ``None`` otherwise.
    scores
        Of the active model, in training and now; ``None`` where fewer than 20 people can be asked about.
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
    why_not: str | None
    scores: Scores | None
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
    chosen = service.store.tally(start, end, positive=service.shelf.positive)
    total = sum(chosen.values())
    people = items = stability = ndcg = scores = None
    asked = 0
    why_not: str | None = "no model is active" if active is None else "nothing happened in these days"
    if active is not None and total:
        items = sum(n for item, n in chosen.items() if active.model.items_.ids.number(item) < 0) / total
        people = _unknown_people(service.store, active, start, end)
        stability = _stability(active, chosen)
        ndcg, asked, why_not = _worth(service, active, start, end)
        scores = _scores(service, active, start, end)
    found = Drift(
        days=days,
        now=now,
        before=before,
        unknown_people=people,
        unknown_items=items,
        stability=stability,
        coverage=min(1.0, now["offered"] / shown),
        ndcg=ndcg,
        asked=asked,
        why_not=why_not,
        scores=scores,
        alerts=(),
    )
    return replace(found, alerts=tuple(_alerts(found, model=active is not None)))


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


def _chosen(active: Loaded, low: float, high: float) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on events of a span that the active model would learn from."""
    return events.c.time >= low, events.c.time < high, counts(active.positive)


def _unknown_people(store: Store, active: Loaded, low: float, high: float) -> float:
    wanted = select(events.c.user, func.count()).where(*_chosen(active, low, high)).group_by(events.c.user)
    with store.database.read() as connection:
        found = [(user, number) for user, number in connection.execute(wanted)]
    unknown = sum(number for user, number in found if active.model.users_.ids.number(user) < 0)
    return float(unknown / sum(number for _, number in found))


def _stability(active: Loaded, chosen: Mapping[str, int]) -> float:
    """Return the population stability index of popularity (see the module's text)."""
    trained = active.model.item_counts_.astype(np.float64)
    order = np.argsort(-trained, kind="stable")
    share = np.cumsum(trained[order]) / max(1.0, trained.sum())
    bin_of = np.empty(len(trained), np.int64)
    bin_of[order] = np.minimum((share * BINS - 1e-9).astype(np.int64), BINS - 1)
    was = np.append(np.bincount(bin_of, trained, BINS), 0.0)
    is_now = np.zeros(BINS + 1)
    for item, number in chosen.items():
        at = active.model.items_.ids.number(item)
        is_now[BINS if at < 0 else bin_of[at]] += number
    p, q = ((part + 0.5) / (part.sum() + 0.5 * len(part)) for part in (is_now, was))
    return float(((p - q) * np.log(p / q)).sum())


def _worth(service: Service, active: Loaded, low: float, high: float) -> tuple[float | None, int, str | None]:
    """Return NDCG@10 on the first thing that each person did in the span and that the model has not learnt from, given what
    they did before; how many were asked; and why nobody was.
    """
    seen = Seen.of(service.store, active.facts, active.model)
    if seen.later is None:
        return None, 0, seen.words
    first = (
        select(func.min(events.c.n))
        .where(*_chosen(active, low, high), seen.later)
        .group_by(events.c.user)
        .order_by(func.max(events.c.n).desc())
        .limit(PEOPLE)
    )
    with service.store.database.read() as connection:
        numbers = list(connection.scalars(first))
        told = select(events.c.user, events.c.item, events.c.time).where(events.c.n.in_(numbers))
        asked = [(user, item, time) for user, item, time in connection.execute(told)]
    if not asked:
        return None, 0, "nothing happened in these days that the active model has not learnt from"
    gains = []
    for user, item, time in asked:
        person, row = service.person(user).acts(), service.catalogue.row.get(item)
        earlier = person.times < int(time)
        known = Person(user, person.rows[earlier], person.times[earlier])
        if row is None or row in known.seen or not len(known.rows) or not len(active.numbers(np.array([row]))):
            continue
        rows, _, _ = active.best(known, DEPTH, known.seen)
        place = np.flatnonzero(rows == row)
        gains.append(1 / np.log2(place[0] + 2) if len(place) else 0.0)
    if not gains:
        return None, 0, "what is new is by people without a history, or on items that the active model doesn't know"
    return float(np.mean(gains)), len(gains), None


def _scores(service: Service, active: Loaded, low: float, high: float) -> Scores | None:
    """Compare the active model's scores in training and now (see the module's text)."""
    lately = (
        select(events.c.user)
        .where(*_chosen(active, low, high))
        .group_by(events.c.user)
        .order_by(func.max(events.c.n).desc())
        .limit(PEOPLE)
    )
    with service.store.database.read() as connection:
        users = list(connection.scalars(lately))
    now = _asked(active, (service.person(user).acts() for user in users))
    then = _asked(active, (active.base(user) for user in _met_last(active)))
    if min(len(then), len(now)) < FEWEST:
        return None
    found = ks_2samp(then, now)
    levels = [tuple(float(q) for q in np.quantile(values, QUANTILES)) for values in (then, now)]
    return Scores(QUANTILES, levels[0], levels[1], len(then), len(now), float(found.statistic), float(found.pvalue))


def _asked(active: Loaded, people: Iterable[Person]) -> np.ndarray:
    """Return ``float64[n]``: the mean of the three best scores of each person of whom the model knows anything."""
    found = [active.best(person, TOP, person.seen) for person in people]
    return np.array([scores.mean() for _, scores, cold in found if len(scores) and not cold], np.float64)


def _met_last(active: Loaded) -> list[str]:
    """Return the people whose last event in training was latest."""
    histories = active.model.histories_
    known = np.flatnonzero(histories.lengths > 0)
    if histories.times is not None and len(known):
        ends = histories.times[histories.offsets[known + 1] - 1]
        known = known[np.argsort(-ends, kind="stable")]
    ids: list[str] = active.model.users_.ids.decode(known[:PEOPLE].astype(np.int32)).to_pylist()
    return ids


def _alerts(found: Drift, *, model: bool) -> list[str]:
    said = []
    if not model:
        said.append("no model is active")
    if not found.now["events"]:
        said.append(f"no event came in the last {found.days:g} day{'' if found.days == 1 else 's'}")
    elif found.before["events"] and found.now["events"] < found.before["events"] / 2:
        said.append(f"events fell from {found.before['events']:,} to {found.now['events']:,} in {found.days:g} days")
    if found.unknown_items is not None and found.unknown_items > MUCH:
        said.append(f"{found.unknown_items:.0%} of events are on items that the model never saw: retrain")
    if found.unknown_people is not None and found.unknown_people > 2 * MUCH:
        said.append(f"{found.unknown_people:.0%} of events are by people whom the model never saw: retrain")
    if found.stability is not None and found.stability > MUCH:
        said.append(f"what is chosen has moved away from the training data (stability {found.stability:.2f}): retrain")
    if found.scores is not None and found.scores.moved:
        then, now = (part[len(QUANTILES) // 2] for part in (found.scores.then, found.scores.now))
        said.append(f"the model's scores have moved (median {then:.3g} in training, {now:.3g} now): retrain")
    return said
