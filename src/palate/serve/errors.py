"""Errors of the service's store: what can't be reached, what contradicts, what isn't there, what is too much at once."""

from __future__ import annotations

from typing import Any

from palate.errors import PalateError


class StoreError(PalateError):
    """The store can't do what was asked."""


class SchemaError(StoreError):
    """The store was made by another version of Palate."""


class ConflictError(StoreError):
    """What was asked contradicts what is kept."""


class ErasedMeanwhile(ConflictError):
    """Somebody was erased who may be in what was to be entered; nothing was written."""


class NotFound(StoreError):
    """There is nothing of that name."""


class Unavailable(StoreError):
    """The store can't be reached at the moment: locked, full, or the connection is lost. Nothing was written.

    Parameters
    ----------
    what, where, value, remedy
        As for every error of Palate.
    retry_after
        Seconds after which trying again makes sense.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        value: Any = None,
        remedy: str | None = None,
        retry_after: float = 1.0,
    ) -> None:
        super().__init__(what, where=where, value=value, remedy=remedy)
        self.retry_after = retry_after


class BusyError(Unavailable):
    """More waits to be written, or to be read, than the store takes at once."""
