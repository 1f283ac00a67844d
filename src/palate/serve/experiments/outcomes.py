"""What people did after they met an experiment: totals for each unit, summed in the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from palate.serve.store import Store
from palate.serve.store.slates import AGAINST
from palate.serve.store.tables import events, exposures, feedback, impressions, slates

#: A unit of a slate: the user, else the anonymous key.
_UNIT = func.coalesce(slates.c.user, slates.c.anonymous)


def units(store: Store, experiment: str) -> tuple[list[str], list[str]]:
    """Return the units that met an experiment, and the variant of each."""
    found: tuple[list[str], list[str]] = ([], [])
    after: str | None = None
    while True:
        page = store.exposures(experiment, after=after)
        if not page.num_rows:
            return found
        found[0].extend(page.column("unit").to_pylist())
        found[1].extend(page.column("variant").to_pylist())
        after = found[0][-1]


def visitors(store: Store, experiment: str) -> tuple[int, int]:
    """Return how many units are visitors (met by their ``anonymous`` key), and of how many of them any event is kept.

    An event names a user; a visitor's are those whose user is the visitor's key.
    """
    met = (
        select(exposures.c.unit)
        .join_from(
            exposures, slates, (slates.c.anonymous == exposures.c.unit) & (slates.c.experiment == exposures.c.experiment)
        )
        .where(exposures.c.experiment == experiment, slates.c.user.is_(None))
        .distinct()
        .subquery()
    )
    told = select(events.c.n).where(events.c.user == met.c.unit).exists()
    with store.database.read() as connection:
        number = int(connection.scalar(select(func.count()).select_from(met)) or 0)
        return number, int(connection.scalar(select(func.count()).select_from(met).where(told)) or 0)


def event_totals(store: Store, experiment: str, kind: str | None, *, values: bool = False) -> dict[str, float]:
    """Return events of each unit since its exposure (of a type, or all): how many, or the sum of their values.

    Those of a visitor are the events whose user is the visitor's key (see :func:`visitors`).
    """
    total = func.sum(func.coalesce(events.c.value, 0.0)) if values else func.count()
    wanted = (
        select(exposures.c.unit, total)
        .join_from(exposures, events, (events.c.user == exposures.c.unit) & (events.c.time >= exposures.c.time))
        .where(exposures.c.experiment == experiment)
        .group_by(exposures.c.unit)
    )
    return _read(store, wanted if kind is None else wanted.where(events.c.type == kind))


def events_before(store: Store, experiment: str, days: float) -> dict[str, float]:
    """Return how many events each unit had in the days before its exposure."""
    inside = (events.c.time < exposures.c.time) & (events.c.time >= exposures.c.time - 86_400 * days)
    wanted = (
        select(exposures.c.unit, func.count())
        .join_from(exposures, events, (events.c.user == exposures.c.unit) & inside)
        .where(exposures.c.experiment == experiment)
        .group_by(exposures.c.unit)
    )
    return _read(store, wanted)


def slate_totals(store: Store, experiment: str) -> dict[str, float]:
    """Return how many slates of the experiment each unit was given."""
    return _read(store, select(_UNIT, func.count()).where(slates.c.experiment == experiment).group_by(_UNIT))


def feedback_totals(store: Store, experiment: str, kind: str | None) -> dict[str, float]:
    """Return the summed values of each unit's feedback on slates of the experiment (of a kind, or all)."""
    wanted = (
        select(_UNIT, func.sum(feedback.c.value))
        .join_from(slates, feedback, feedback.c.slate == slates.c.id)
        .where(slates.c.experiment == experiment)
        .group_by(_UNIT)
    )
    return _read(store, wanted if kind is None else wanted.where(feedback.c.kind == kind))


def team_credits(store: Store, experiment: str, kind: str | None) -> list[tuple[str, str, float]]:
    """Return the summed values of each unit's feedback on items of each team (of a kind, or all that speak for an item)."""
    on_item = (feedback.c.slate == impressions.c.slate) & (feedback.c.item == impressions.c.item)
    wanted = (
        select(_UNIT, impressions.c.team, func.sum(feedback.c.value))
        .join_from(slates, impressions, impressions.c.slate == slates.c.id)
        .join(feedback, on_item)
        .where(slates.c.experiment == experiment, _UNIT.is_not(None))
        .group_by(_UNIT, impressions.c.team)
    )
    wanted = wanted.where(feedback.c.kind.not_in(AGAINST) if kind is None else feedback.c.kind == kind)
    with store.database.read() as connection:
        return [(str(unit), str(team), float(total)) for unit, team, total in connection.execute(wanted)]


def team_items(store: Store, experiment: str) -> dict[str, int]:
    """Return how many items each team supplied to slates of the experiment; ``"none"`` where no team is on record."""
    team = func.coalesce(impressions.c.team, "none")
    wanted = (
        select(team, func.count())
        .join_from(slates, impressions, impressions.c.slate == slates.c.id)
        .where(slates.c.experiment == experiment)
        .group_by(team)
    )
    with store.database.read() as connection:
        return {str(name): int(number) for name, number in connection.execute(wanted)}


def _read(store: Store, wanted: Any) -> dict[str, float]:
    with store.database.read() as connection:
        return {str(unit): float(total or 0.0) for unit, total in connection.execute(wanted)}
