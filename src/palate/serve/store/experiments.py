"""Experiments, and who met which variant when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, insert, select, tuple_, update

from palate.errors import DataError, PalateError
from palate.serve.errors import ConflictError, NotFound
from palate.serve.store.checks import check_id, check_new_id, check_time, from_json, object_to_json
from palate.serve.store.part import Part, chunks, raised, sort_out
from palate.serve.store.rows import Added, ExperimentRow, Exposure
from palate.serve.store.tables import experiments, exposures

#: To which states an experiment may go from each.
NEXT: Mapping[str, tuple[str, ...]] = {"draft": ("running", "stopped"), "running": ("stopped",), "stopped": ()}


class Experiments(Part):
    """The store's part for experiments."""

    def add_experiment(self, name: str, spec: Mapping[str, Any]) -> ExperimentRow:
        """Make an experiment in the state ``draft``.

        Raises
        ------
        ConflictError
            If there is one of that name.
        """
        row = {
            "name": check_new_id(name, "name"),
            "spec": object_to_json(spec, "spec"),
            "state": "draft",
            "created": self.clock(),
        }
        with self.database.write() as connection:
            if _find(connection, name) is not None:
                raise ConflictError("there is an experiment of that name.", where="name", value=name, remedy="choose another")
            connection.execute(insert(experiments), row)
            return _there(connection, name)

    def change_experiment(self, name: str, spec: Mapping[str, Any]) -> ExperimentRow:
        """Replace the spec of an experiment that is a draft still."""
        words = object_to_json(spec, "spec")
        with self.database.write() as connection:
            if _there(connection, name).state != "draft":
                raise ConflictError("only a draft can be changed.", where="experiment", value=name, remedy="make a new one")
            connection.execute(update(experiments).where(experiments.c.name == name).values(spec=words))
            return _there(connection, name)

    def move_experiment(self, name: str, state: str) -> ExperimentRow:
        """Start or stop an experiment (draft → running → stopped); the same state again is harmless."""
        if state not in NEXT:
            raise DataError("there is no such state.", where="state", value=state, remedy=f"choose one of: {', '.join(NEXT)}")
        with self.database.write() as connection:
            found = _there(connection, name)
            if found.state == state:
                return found
            if state not in NEXT[found.state]:
                raise ConflictError(
                    f"an experiment that is {found.state} can't become {state}.", where="experiment", value=name
                )
            stamp = {"running": "started", "stopped": "stopped"}[state]
            change = update(experiments).where(experiments.c.name == name)
            connection.execute(change.values({"state": state, stamp: self.clock()}))
            return _there(connection, name)

    def experiment(self, name: str) -> ExperimentRow | None:
        """Return an experiment, or ``None``."""
        with self.database.read() as connection:
            return _find(connection, name)

    def experiments(self, state: str | None = None) -> list[ExperimentRow]:
        """Return experiments (in a state), newest first."""
        wanted = select(experiments).order_by(experiments.c.created.desc(), experiments.c.name)
        if state is not None:
            wanted = wanted.where(experiments.c.state == state)
        with self.database.read() as connection:
            return [_experiment(row) for row in connection.execute(wanted)]

    def add_exposures(self, batch: Sequence[Exposure]) -> Added:
        """Write who met which variant; only the first time counts.

        Raises
        ------
        NotFound
            If there is no such experiment.
        ConflictError
            If a unit is known with another variant.
        """
        with self.database.write() as connection:
            return raised(write_exposures(connection, [batch], self.clock())[0])

    def exposures(self, experiment: str, after: str | None = None, limit: int = 100_000) -> pa.Table:
        """Return a page of exposures as columns ``unit``, ``variant``, ``time``, by unit, after a unit."""
        wanted = select(exposures.c.unit, exposures.c.variant, exposures.c.time)
        wanted = wanted.where(exposures.c.experiment == check_id(experiment, "experiment"))
        if after is not None:
            wanted = wanted.where(exposures.c.unit > check_id(after, "after"))
        with self.database.read() as connection:
            rows = connection.execute(wanted.order_by(exposures.c.unit).limit(limit)).all()
        units, variants, times = zip(*rows, strict=True) if rows else ((), (), ())
        columns = [pa.array(units, pa.string()), pa.array(variants, pa.string()), pa.array(times, pa.float64())]
        return pa.table(columns, names=["unit", "variant", "time"])


def write_exposures(connection: Connection, batches: Sequence[Sequence[Exposure]], now: float) -> list[Added | PalateError]:
    """Write batches of exposures in one transaction; a bad batch gives its error, and leaves the others alone."""
    ready = [_checked(batch, now) for batch in batches]
    rows = [row for batch in ready if not isinstance(batch, PalateError) for row in batch]
    names = {row["experiment"] for row in rows}
    there = set(connection.scalars(select(experiments.c.name).where(experiments.c.name.in_(names)))) if names else set()
    kept: dict[tuple[str, str], str] = {}
    for pairs in chunks(sorted({(row["experiment"], row["unit"]) for row in rows})):
        met = tuple_(exposures.c.experiment, exposures.c.unit).in_(pairs)
        found = connection.execute(select(exposures.c.experiment, exposures.c.unit, exposures.c.variant).where(met))
        kept.update(((e, u), v) for e, u, v in found)
    fresh, outcomes = sort_out(ready, lambda batch: _new(batch, there, kept))
    if fresh:
        connection.execute(insert(exposures), fresh)
    return outcomes


def _checked(batch: Sequence[Exposure], now: float) -> list[dict[str, Any]] | PalateError:
    try:
        return [
            {
                "experiment": check_id(given.experiment, f"exposures[{at}].experiment"),
                "unit": check_id(given.unit, f"exposures[{at}].unit"),
                "variant": check_id(given.variant, f"exposures[{at}].variant"),
                "time": now if given.time is None else check_time(given.time, f"exposures[{at}].time"),
            }
            for at, given in enumerate(batch)
        ]
    except PalateError as error:
        return error


def _new(batch: Sequence[dict[str, Any]], there: set[str], kept: dict[tuple[str, str], str]) -> list[dict[str, Any]]:
    own: dict[tuple[str, str], str] = {}
    new = []
    for at, row in enumerate(batch):
        if row["experiment"] not in there:
            raise NotFound("no such experiment.", where=f"exposures[{at}].experiment", value=row["experiment"])
        pair = (row["experiment"], row["unit"])
        known = own.get(pair) or kept.get(pair)
        if known is None:
            own[pair] = row["variant"]
            new.append(row)
        elif known != row["variant"]:
            raise ConflictError(
                f"this unit met another variant before: {known}.", where=f"exposures[{at}]", value=row["variant"]
            )
    kept.update(own)
    return new


def _find(connection: Connection, name: str) -> ExperimentRow | None:
    row = connection.execute(select(experiments).where(experiments.c.name == check_id(name, "experiment"))).first()
    return None if row is None else _experiment(row)


def _there(connection: Connection, name: str) -> ExperimentRow:
    found = _find(connection, name)
    if found is None:
        raise NotFound("no such experiment.", where="experiment", value=name)
    return found


def _experiment(row: Any) -> ExperimentRow:
    name, spec, state, created, started, stopped = row
    return ExperimentRow(name, from_json(spec), state, created, started, stopped)
