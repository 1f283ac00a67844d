"""Slates with their impressions and propensities, and the feedback on them: what off-policy estimates are made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import ColumnElement, Connection, distinct, func, insert, select, tuple_

from palate.errors import DataError, PalateError
from palate.serve.errors import ConflictError, NotFound
from palate.serve.store.bulk import put_block, rows_named
from palate.serve.store.checks import (
    check_chance,
    check_id,
    check_number,
    check_optional_id,
    check_time,
    from_json,
    is_clean,
    object_to_json,
    to_json,
)
from palate.serve.store.part import Part, chunks, raised, sort_out
from palate.serve.store.rows import Added, Feedback, Shown, Slate
from palate.serve.store.tables import feedback, impressions, slates

#: Kinds of feedback that speak against an item; all others count as a click.
AGAINST = ("skip", "hide", "dislike")
_CONTENT = ("slate", "item", "kind", "value")


class Slates(Part):
    """The store's part for slates and feedback."""

    def add_slate(self, slate: Slate) -> Added:
        """Write a slate with its impressions; the same slate again is harmless."""
        return self.add_slates([slate])

    def add_slates(self, batch: Sequence[Slate]) -> Added:
        """Write slates with their impressions, all or none.

        Raises
        ------
        DataError
            If a propensity is 0, above 1, or missing under a stochastic policy, or a position comes twice; the row is named.
        ConflictError
            If a slate of that id was kept before, and was another.
        """
        with self.database.write() as connection:
            return raised(write_slates(connection, [batch], self.clock())[0])

    def add_feedback(self, batch: Sequence[Feedback]) -> Added:
        """Write feedback, all or nothing.

        Raises
        ------
        NotFound
            If a slate is not kept, or did not show that item.
        ConflictError
            If an id is known with another content.
        """
        with self.database.write() as connection:
            return raised(write_feedback(connection, [batch], self.clock())[0])

    def slate(self, slate: str) -> Slate | None:
        """Return a slate with its items, or ``None``."""
        wanted = check_id(slate, "slate")
        with self.database.read() as connection:
            found = read_slates(connection, slates.c.id == wanted)
        return found[0] if found else None

    def slates_of(self, user: str, limit: int = 100) -> list[Slate]:
        """Return a person's latest slates, oldest first."""
        with self.database.read() as connection:
            return read_slates(connection, slates.c.user == check_id(user, "user"), limit)

    def first_slate_of(self, user: str) -> float | None:
        """Return when a person (or a visitor) was first shown a slate that is kept, or ``None``."""
        theirs = (slates.c.user == check_id(user, "user")) | (slates.c.anonymous == user)
        with self.database.read() as connection:
            found = connection.scalar(select(func.min(slates.c.time)).where(theirs))
        return None if found is None else float(found)

    def feedback_of(self, slate: str) -> list[Feedback]:
        """Return the feedback on a slate, oldest first."""
        with self.database.read() as connection:
            return read_feedback(connection, [check_id(slate, "slate")])

    def rates(self, since: float) -> dict[str, tuple[int, int]]:
        """Return for each item of slates since a time: slates in which it was clicked, and slates that showed it."""
        fits = slates.c.time >= since
        shown = (
            select(impressions.c.item, func.count())
            .join_from(impressions, slates, impressions.c.slate == slates.c.id)
            .where(fits)
            .group_by(impressions.c.item)
        )
        clicked = (
            select(feedback.c.item, func.count(distinct(feedback.c.slate)))
            .join_from(feedback, slates, feedback.c.slate == slates.c.id)
            .where(fits, feedback.c.kind.not_in(AGAINST))
            .group_by(feedback.c.item)
        )
        with self.database.read() as connection:
            clicks = {item: int(number) for item, number in connection.execute(clicked)}
            return {item: (clicks.get(item, 0), int(number)) for item, number in connection.execute(shown)}

    def impressions_since(
        self,
        since: float,
        *,
        until: float | None = None,
        experiment: str | None = None,
        limit: int = 1_000_000,
        latest: bool = False,
        after: tuple[float, str] | None = None,
    ) -> pa.Table:
        """Return the log that off-policy estimates need, by time, slate and position; the first rows, or the ``latest``.

        Columns: slate, user, anonymous, time, policy, stochastic, model, experiment, variant, context (JSON text), position,
        item, propensity, reward (sum of the values of its feedback; 0 where there is none). To hide or dislike an item earns
        nothing. ``after`` is the time and id of a slate: only those that come after it.
        """
        rewards = (
            select(feedback.c.slate, feedback.c.item, func.sum(feedback.c.value).label("reward"))
            .where(feedback.c.kind.not_in(AGAINST))
            .group_by(feedback.c.slate, feedback.c.item)
            .subquery()
        )
        of_slate = [slates.c[name] for name in _LOG if name in slates.c]
        of_item = [impressions.c[name] for name in ("position", "item", "propensity")]
        met = (rewards.c.slate == impressions.c.slate) & (rewards.c.item == impressions.c.item)
        wanted = (
            select(slates.c.id.label("slate"), *of_slate, *of_item, func.coalesce(rewards.c.reward, 0.0).label("reward"))
            .join_from(slates, impressions, impressions.c.slate == slates.c.id)
            .outerjoin(rewards, met)
            .where(slates.c.time >= since)
            .order_by(*(column.desc() if latest else column for column in _BY_TIME))
            .limit(limit)
        )
        if until is not None:
            wanted = wanted.where(slates.c.time < until)
        if after is not None:
            wanted = wanted.where(tuple_(slates.c.time, slates.c.id) > after)
        if experiment is not None:
            wanted = wanted.where(slates.c.experiment == check_id(experiment, "experiment"))
        with self.database.read() as connection:
            rows = connection.execute(wanted).all()
        rows = rows[::-1] if latest else rows
        columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [[] for _ in _LOG]
        return pa.table({name: pa.array(c, _LOG[name]) for name, c in zip(_LOG, columns, strict=True)})

    def asked_of(self, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Return what was asked for slates (see :class:`Slate`), by their ids; where it was not noted there is no key."""
        columns = [slates.c.id, slates.c.asked]
        with self.database.read() as connection:
            found = rows_named(connection, columns, slates.c.id, {check_id(slate, "slate") for slate in ids})
        return {slate: from_json(asked) for slate, asked in found if asked is not None}


_BY_TIME = (slates.c.time, slates.c.id, impressions.c.position)
_LOG = {
    "slate": pa.string(),
    "user": pa.string(),
    "anonymous": pa.string(),
    "time": pa.float64(),
    "policy": pa.string(),
    "stochastic": pa.bool_(),
    "model": pa.string(),
    "experiment": pa.string(),
    "variant": pa.string(),
    "context": pa.string(),
    "position": pa.int64(),
    "item": pa.string(),
    "propensity": pa.float64(),
    "reward": pa.float64(),
}


def write_slates(connection: Connection, batches: Sequence[Sequence[Slate]], now: float) -> list[Added | PalateError]:
    """Write batches of slates in one transaction; a bad batch gives its error, and leaves the others alone."""
    ids = {s.id for batch in batches for s in batch if isinstance(s.id, str) and is_clean(s.id)}
    kept: dict[str, Slate] = {}
    for some in chunks(row[0] for row in rows_named(connection, [slates.c.id], slates.c.id, ids)):
        kept.update((s.id, s) for s in read_slates(connection, slates.c.id.in_(some)))
    fresh, outcomes = sort_out(batches, lambda batch: _new_slates(batch, kept, now))
    heads = [head for head, _ in fresh]
    bodies = [shown for _, body in fresh for shown in body]
    if heads:
        put_block(connection, slates, list(heads[0]), (head.values() for head in heads))
    if bodies:
        put_block(connection, impressions, list(bodies[0]), (body.values() for body in bodies))
    return outcomes


def write_feedback(connection: Connection, batches: Sequence[Sequence[Feedback]], now: float) -> list[Added | PalateError]:
    """Write batches of feedback in one transaction; a bad batch gives its error, and leaves the others alone."""
    ready = [_checked_feedback(batch, now) for batch in batches]
    rows = [row for batch in ready if not isinstance(batch, PalateError) for row in batch]
    shown: dict[tuple[str, str], str | None] = {}
    kept: dict[str, Mapping[str, Any]] = {}
    for pairs in chunks(sorted({(row["slate"], row["item"]) for row in rows})):
        met = tuple_(impressions.c.slate, impressions.c.item).in_(pairs)
        unit = func.coalesce(slates.c.user, slates.c.anonymous)
        whose = select(impressions.c.slate, impressions.c.item, unit).join_from(impressions, slates).where(met)
        shown.update(((slate, item), unit) for slate, item, unit in connection.execute(whose))
    for some in chunks(sorted({row["key"] for row in rows})):
        for row in connection.execute(select(feedback).where(feedback.c.key.in_(some))).mappings():
            kept[row["key"]] = dict(row)
    fresh, outcomes = sort_out(ready, lambda batch: _new_feedback(batch, shown, kept))
    if fresh:
        last = connection.scalar(select(func.max(feedback.c.n))) or 0
        connection.execute(insert(feedback), [{**row, "n": n} for n, row in enumerate(fresh, last + 1)])
    return outcomes


def read_slates(connection: Connection, fits: ColumnElement[bool], limit: int | None = None) -> list[Slate]:
    """Return slates with their items, oldest first (the latest ``limit``)."""
    wanted = select(slates).where(fits).order_by(slates.c.time.desc(), slates.c.id.desc()).limit(limit)
    heads = list(reversed(connection.execute(wanted).mappings().all()))
    bodies: dict[str, list[Shown]] = {head["id"]: [] for head in heads}
    for some in chunks(bodies):
        body = select(impressions).where(impressions.c.slate.in_(some)).order_by(impressions.c.slate, impressions.c.position)
        for slate, position, item, propensity, source, team in connection.execute(body):
            bodies[slate].append(Shown(item, position, propensity, source, team))
    return [
        Slate(
            **{**head, **_plain(head)},
            items=tuple(bodies[head["id"]]),
        )
        for head in heads
    ]


def _plain(head: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what stands in a row in another form than in a slate."""
    asked = None if head["asked"] is None else from_json(head["asked"])
    return {"stochastic": bool(head["stochastic"]), "context": from_json(head["context"]), "asked": asked}


def read_feedback(connection: Connection, ids: Iterable[str]) -> list[Feedback]:
    """Return the feedback on slates, oldest first."""
    found: list[Feedback] = []
    for some in chunks(ids):
        for row in connection.execute(select(feedback).where(feedback.c.slate.in_(some))):
            id_ = row.key.removeprefix("id:") if row.key.startswith("id:") else None
            found.append(Feedback(row.slate, row.item, row.kind, row.value, row.time, id_))
    return sorted(found, key=lambda given: given.time or 0.0)


def _new_slates(
    batch: Sequence[Slate], kept: dict[str, Slate], now: float
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    own: dict[str, Slate] = {}
    new: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for at, slate in enumerate(batch):
        head, body = _checked_slate(slate, f"slates[{at}]", now)
        known = own.get(slate.id) or kept.get(slate.id)
        if known is None:
            own[slate.id] = slate
            new.append((head, body))
        elif known.user != slate.user or [s.item for s in known.items] != [s.item for s in slate.items]:
            raise ConflictError("a slate of this id is kept, and is another.", where=f"slates[{at}].id", value=slate.id)
    kept.update(own)
    return new


def _checked_slate(slate: Slate, where: str, now: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    optional = {
        name: check_optional_id(getattr(slate, name), f"{where}.{name}")
        for name in ("user", "anonymous", "model", "experiment", "variant")
    }
    head = {
        "id": check_id(slate.id, f"{where}.id"),
        "time": now if slate.time is None else check_time(slate.time, f"{where}.time"),
        "policy": check_id(slate.policy, f"{where}.policy") if slate.policy else "",
        "stochastic": bool(slate.stochastic),
        "context": object_to_json(slate.context, f"{where}.context"),
        "asked": None if slate.asked is None else to_json(dict(slate.asked), f"{where}.asked"),
        **optional,
    }
    body = [_checked_shown(slate, at, shown, f"{where}.items[{at}]") for at, shown in enumerate(slate.items)]
    if len({row["position"] for row in body}) < len(body):
        raise DataError("two items stand at one position.", where=f"{where}.items", value=slate.id)
    return head, body


def _checked_shown(slate: Slate, at: int, shown: Shown, where: str) -> dict[str, Any]:
    chance = None if shown.propensity is None else check_chance(shown.propensity, f"{where}.propensity")
    if chance is None and slate.stochastic:
        remedy = "log the chance of each item, or say stochastic=False"
        raise DataError("the policy draws, but the propensity is missing.", where=f"{where}.propensity", remedy=remedy)
    if not isinstance(shown.position, int) or isinstance(shown.position, bool) or not 0 < shown.position <= 1_000_000:
        raise DataError("a position is a number from 1.", where=f"{where}.position", value=shown.position)
    return {
        "slate": slate.id,
        "position": shown.position,
        "item": check_id(shown.item, f"{where}.item"),
        "propensity": chance,
        "source": check_optional_id(shown.source, f"{where}.source"),
        "team": check_optional_id(shown.team, f"{where}.team"),
    }


def _checked_feedback(batch: Sequence[Feedback], now: float) -> list[dict[str, Any]] | PalateError:
    try:
        return [_feedback_row(given, f"feedback[{at}]", now) for at, given in enumerate(batch)]
    except PalateError as error:
        return error


def _feedback_row(given: Feedback, where: str, now: float) -> dict[str, Any]:
    row = {
        "slate": check_id(given.slate, f"{where}.slate"),
        "item": check_id(given.item, f"{where}.item"),
        "kind": check_id(given.kind, f"{where}.kind"),
        "value": check_number(given.value, f"{where}.value"),
        "time": now if given.time is None else check_time(given.time, f"{where}.time"),
    }
    if given.id is not None:
        return {"key": "id:" + check_id(given.id, f"{where}.id"), **row}
    words = "\x00".join(str(row[name]) for name in _CONTENT)
    return {"key": "of:" + hashlib.blake2b(words.encode(), digest_size=20).hexdigest(), **row}


def _new_feedback(
    batch: Sequence[dict[str, Any]], shown: Mapping[tuple[str, str], str | None], kept: dict[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    own: dict[str, Mapping[str, Any]] = {}
    new: list[dict[str, Any]] = []
    for at, row in enumerate(batch):
        if (row["slate"], row["item"]) not in shown:
            remedy = "give the slate id of the answer, and an item of it"
            raise NotFound(
                "no such slate is kept with this item.",
                where=f"feedback[{at}]",
                value=(row["slate"], row["item"]),
                remedy=remedy,
            )
        known = own.get(row["key"]) or kept.get(row["key"])
        if known is None:
            own[row["key"]] = row
            new.append({**row, "unit": shown[row["slate"], row["item"]]})
        elif any(row[name] != known[name] for name in _CONTENT):
            raise ConflictError(
                "feedback of this id is kept with another content.", where=f"feedback[{at}].id", value=row["key"][3:]
            )
    kept.update(own)
    return new
