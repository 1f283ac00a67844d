"""Models: published bundles, of which at most one is active; every activation is remembered, so that it can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from palate.serve.errors import ConflictError, ErasedMeanwhile, NotFound
from palate.serve.store.checks import check_id, check_new_id, check_text, from_json, object_to_json
from palate.serve.store.part import Part
from palate.serve.store.rows import ModelRow
from palate.serve.store.tables import activations, erasures, models


class Models(Part):
    """The store's part for models."""

    def add_model(self, model: ModelRow, *, activate: bool = False, unless_after: int | None = None) -> ModelRow:
        """Publish a bundle under a version, and make it the active one where asked, in one step.

        Parameters
        ----------
        unless_after
            Number of the last erasure (:attr:`Pulse.erasures`) of which the bundle is known to be clean.

        Raises
        ------
        ConflictError
            If there is a model of that version, unless it is of the same system and path (then it is returned).
        ErasedMeanwhile
            If somebody was erased after ``unless_after``.
        """
        row = {
            "version": check_new_id(model.version, "version"),
            "system": check_id(model.system, "system"),
            "path": check_text(model.path, "path"),
            "metrics": object_to_json(model.metrics, "metrics"),
            "state": "published",
            "position": model.position,
            "created": self.clock(),
        }
        with self.database.write() as connection:
            _check_erasures(connection, unless_after)
            known = find_model(connection, model.version)
            if known is not None and (known.system, known.path) != (model.system, model.path):
                raise ConflictError("there is another model of that version.", where="version", value=model.version)
            if known is None:
                connection.execute(insert(models), row)
            return _activate(connection, model.version, self.clock()) if activate else _there(connection, model.version)

    def model(self, version: str) -> ModelRow | None:
        """Return a model, or ``None``."""
        with self.database.read() as connection:
            return find_model(connection, version)

    def models(self) -> list[ModelRow]:
        """Return all models, newest first."""
        with self.database.read() as connection:
            wanted = select(models).order_by(models.c.created.desc(), models.c.version.desc())
            return [_model(row) for row in connection.execute(wanted)]

    def active_model(self) -> ModelRow | None:
        """Return the active model, or ``None``."""
        with self.database.read() as connection:
            row = connection.execute(select(models).where(models.c.state == "active")).first()
        return None if row is None else _model(row)

    def activate(self, version: str) -> ModelRow:
        """Make a model the active one, in one step; the one before is retired and remembered.

        Raises
        ------
        NotFound
            If there is no such model.
        """
        with self.database.write() as connection:
            return _activate(connection, version, self.clock())

    def model_before(self) -> ModelRow | None:
        """Return the model that :meth:`roll_back` would return to, or ``None``."""
        with self.database.read() as connection:
            last = _last_two(connection)
            return find_model(connection, last[1].version) if len(last) == 2 else None

    def roll_back(self) -> ModelRow:
        """Undo the last activation: the model that was active before it is active again (further back, when repeated).

        Raises
        ------
        ConflictError
            If no model was active before.
        """
        with self.database.write() as connection:
            last = _last_two(connection)
            if len(last) < 2:
                raise ConflictError("no model was active before.", where="models", remedy="publish and activate one")
            connection.execute(update(activations).where(activations.c.n == last[0].n).values(undone=True))
            _turn_to(connection, last[1].version, self.clock())
            return _there(connection, last[1].version)


def find_model(connection: Connection, version: str) -> ModelRow | None:
    """Return a model, or ``None``."""
    row = connection.execute(select(models).where(models.c.version == check_id(version, "version"))).first()
    return None if row is None else _model(row)


def _last_two(connection: Connection) -> Sequence[Any]:
    """Return the last two activations that were not undone, the later first."""
    wanted = select(activations).where(activations.c.undone.is_(False)).order_by(activations.c.n.desc()).limit(2)
    return connection.execute(wanted).all()


def _there(connection: Connection, version: str) -> ModelRow:
    found = find_model(connection, version)
    if found is None:
        raise NotFound("no such model.", where="models", value=version)
    return found


def _check_erasures(connection: Connection, number: int | None) -> None:
    """Refuse where somebody was erased after an erasure; a later one waits until this transaction has ended."""
    last = connection.scalar(select(func.max(erasures.c.n))) or 0
    if number is not None and last > number:
        raise ErasedMeanwhile(
            "somebody was erased who may be in the bundle.", where="models", remedy="forget them, and try again"
        )


def _activate(connection: Connection, version: str, now: float) -> ModelRow:
    if _there(connection, version).state != "active":
        _turn_to(connection, version, now)
        connection.execute(insert(activations), {"version": version, "time": now, "undone": False})
    return _there(connection, version)


def _turn_to(connection: Connection, version: str, now: float) -> None:
    connection.execute(update(models).where(models.c.state == "active").values(state="retired"))
    connection.execute(update(models).where(models.c.version == version).values(state="active", activated=now))


def _model(row: Any) -> ModelRow:
    version, system, path, metrics, state, position, created, activated = row
    return ModelRow(version, system, path, from_json(metrics), state, position, created, activated)
