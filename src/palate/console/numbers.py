"""Numbers of the overview, read from the store: what came in and went out by day, who is active, what was offered lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.sql.elements import ColumnElement

from palate.console.format import ago, counted, day
from palate.errors import PalateError
from palate.serve.service import Service
from palate.serve.store import Store
from palate.serve.store.tables import events, feedback, impressions, items, slates

DAY = 86_400.0
#: Kinds of what may not be logged (:attr:`~palate.serve.service.Service.lost`): the name of one, and what follows from a loss.
LOST = {
    "slates": ("slate", "off-policy estimates and click rates will miss them."),
    "exposures": (
        "exposure",
        "their people may be missing from an experiment, which can bias a split and keeps an interleaving from being read; "
        "where there were many, make a new one.",
    ),
    "searches": ("search", "what people look for is not all on record."),
}
#: What follows while an experiment rests.
RESTING = "Its people get the control's answer, and nobody is counted meanwhile. Restore the bundle, or stop the experiment."
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


def traffic(service: Service, offered: int | None = None) -> Traffic:
    """Count what came in and went out in the last days.

    Parameters
    ----------
    offered
        What :func:`offered_lately` found a moment ago; ``None`` counts it now.
    """
    store, now = service.store, service.clock()
    first = int(now // DAY) - DAYS + 1
    with store.database.read() as connection:
        came, answered = (_by_day(connection, table.c.time, first) for table in (events, slates))
        said = _in_one_pass(connection, feedback.c.time, first)
        latest = connection.scalar(select(func.max(events.c.time)))
    dates = [day((first + at) * DAY) for at in range(DAYS)]
    lately, shown = offered_lately(service) if offered is None else offered, int(service.catalogue.shown.sum())
    return Traffic(dates, came, answered, said, None if latest is None else float(latest), lately, shown)


def offered_lately(service: Service) -> int:
    """Count the items that were in a slate lately and may be shown; this reads every impression of those days."""
    lately = (
        select(impressions.c.item)
        .join_from(impressions, slates, impressions.c.slate == slates.c.id)
        .where(slates.c.time >= service.clock() - LATELY * DAY)
    )
    wanted = select(func.count()).where(items.c.id.in_(lately), items.c.deleted.is_(None), items.c.available)
    with service.store.database.read() as connection:
        return int(connection.scalar(wanted) or 0)


def _by_day(connection: Any, time: ColumnElement[Any], first: int) -> list[int]:
    """Count by day, each day by its own stretch of an index on time."""
    counts = [select(func.count()).where(*within).scalar_subquery() for within in _days(time, first)]
    return [int(count) for count in connection.execute(select(*counts)).one()]


def _in_one_pass(connection: Any, time: ColumnElement[Any], first: int) -> list[int]:
    """Count by day where no index leads to a day."""
    counts = [func.count().filter(*within) for within in _days(time, first)]
    row = connection.execute(select(*counts).where(time >= first * DAY, time < (first + DAYS) * DAY)).one()
    return [int(count) for count in row]


def _days(time: ColumnElement[Any], first: int) -> list[tuple[ColumnElement[bool], ColumnElement[bool]]]:
    borders = [(first + at) * DAY for at in range(DAYS)]
    return [(time >= border, time < border + DAY) for border in borders]


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
    late = service.succession.trouble
    if late is not None:
        found.append(
            f"The active model {late.version} can't be loaded: {late.words} {_in_its_place(service)} "
            "Restore its bundle, or roll back on the page Models."
        )
    behind = service.forgetting.trouble
    if behind is not None:
        found.append(f"Forgetting is behind: {behind} Restore the bundle, or erase the person again.")
    if seen.latest is None:
        found.append("The store holds no events. Send some to /v1/events, or load a file on the page Data.")
    elif now - seen.latest > DAY:
        found.append(f"No event came in for a day; the last one was {ago(seen.latest, now)}.")
    for kind, (one, harm) in LOST.items():
        if service.lost[kind]:
            found.append(f"{counted(service.lost[kind], one, kind)} could not be logged since the start: {harm}")
    found.extend(
        f"The experiment {rest.experiment} rests: {rest.words} {RESTING}" for rest in service.arms.resting() if rest.lost
    )
    if service.arms.trouble is not None:
        found.append(f"In the settings, {service.arms.trouble} Restore its bundle, or name another version.")
    if not seen.offerable:
        found.append("No item may be shown.")
    found.extend(f"The gate refused a new model: {reason}" for reason in refused)
    return found


def _in_its_place(service: Service) -> str:
    active = service.shelf.active
    return "No model answers in its place." if active is None else f"{active.version} answers in its place."
