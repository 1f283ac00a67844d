"""Positive events as a condition on rows of the store (see :mod:`palate.data.positive`)."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, or_, true

from palate.data.positive import Positive
from palate.serve.store.tables import events


def counts(positive: Positive | None) -> ColumnElement[bool]:
    """Return the condition that an event counts; ``None`` lets all of them count."""
    if positive is None:
        return true()
    value = func.coalesce(events.c.value, 1.0)
    return or_(
        *(
            and_(
                true() if term.type is None else events.c.type == term.type,
                true() if term.least is None else value >= term.least,
            )
            for term in positive.terms
        )
    )
