"""Numbers of the overview, read from the store: what came in and went out by day, who is active, what was offered lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import distinct, func, select
from sqlalchemy.sql.elements import ColumnElement

from palate.console.format import ago, counted, day
from palate.errors import PalateError
from palate.serve.service import Service
from palate.serve.store import Store
from palate.serve.store.tables import events, feedback, impressions, items, slates

DAY = 86_400.0
#: Days looked at, and days of "lately".
DAYS, LATELY = 30, 7


@dataclass(frozen=True)
class Traffic:
    """What happened day by day, the last day last.

    Attributes
    ----------
    days
        Dates (UTC).
    events, slates, feedback
        How many there were on each.
    latest
        Time of the last event, or ``None``.
    offered, offerable
        Items that were in a slate lately, and items that may be shown.
    """

    days: list[str]
    events: list[int]
    slates: list[int]
    feedback: list[int]
    latest: float | None
    offered: int
    offerable: int


def traffic(service: Service) -> Traffic:
    """Count what came in and went out in the last days."""
    store, now = service.store, service.clock()
    first = int(now // DAY) - DAYS + 1
    with store.database.read() as connection:
        came, answered, said = (_by_day(connection, table.c.time, first) for table in (events, slates, feedback))
        latest = connection.scalar(select(func.max(events.c.time)))
        offered = connection.scalar(
            select(func.count(distinct(impressions.c.item)))
            .join_from(impressions, slates, impressions.c.slate == slates.c.id)
            .join(items, items.c.id == impressions.c.item)
            .where(slates.c.time >= now - LATELY * DAY, items.c.deleted.is_(None), items.c.available)
        )
    dates = [day((first + at) * DAY) for at in range(DAYS)]
    shown = int(service.catalogue.shown.sum())
    return Traffic(dates, came, answered, said, None if latest is None else float(latest), int(offered or 0), shown)


def _by_day(connection: Any, time: ColumnElement[Any], first: int) -> list[int]:
    borders = [(first + at) * DAY for at in range(DAYS)]
    counts = [func.count().filter(time >= border, time < border + DAY) for border in borders]
    row = connection.execute(select(*counts).where(time >= borders[0], time < borders[-1] + DAY)).one()
    return [int(count) for count in row]


def active_people(store: Store, since: float, limit: int) -> list[str]:
    """Return people with events since a time, those with the latest event first."""
    last = func.max(events.c.time)
    wanted = select(events.c.user).where(events.c.time >= since).group_by(events.c.user).order_by(last.desc(), events.c.user)
    with store.database.read() as connection:
        return list(connection.scalars(wanted.limit(limit)))


def latest_people(store: Store, limit: int) -> list[str]:
    """Return people of the latest events, whenever those were."""
    with store.database.read() as connection:
        latest = connection.scalar(select(func.max(events.c.time)))
    if latest is None:
        return []
    for days in (1, 30, 36_500):
        found = active_people(store, float(latest) - days * DAY, limit)
        if len(found) >= limit:
            break
    return found


def alerts(service: Service, seen: Traffic, refused: Sequence[str] = ()) -> list[str]:
    """Return what somebody should look at, in words.

    Parameters
    ----------
    refused
        What the gate said of candidates that it turned away.
    """
    now, found = service.clock(), []
    try:
        service.store.check()
    except PalateError as error:
        found.append(f"The store has trouble: {error.what}")
    if service.shelf.active is None:
        found.append("No model is active: answers come from what is popular only. Retrain, or activate one on the page Models.")
    if seen.latest is None:
        found.append("The store holds no events. Send some to /v1/events, or load a file on the page Data.")
    elif now - seen.latest > DAY:
        found.append(f"No event came in for a day; the last one was {ago(seen.latest, now)}.")
    if service.lost_slates:
        found.append(
            f"{counted(service.lost_slates, 'slate')} could not be logged since the start: off-policy estimates will miss them."
        )
    if not seen.offerable:
        found.append("No item may be shown.")
    found.extend(f"The gate refused a new model: {reason}" for reason in refused)
    return found
