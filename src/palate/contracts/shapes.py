"""Checks that answers of all contracts share; a fault is named with its row."""

from __future__ import annotations

import numpy as np

from palate.errors import DataError


def check_shape(array: np.ndarray, shape: tuple[int | None, ...], where: str) -> None:
    """Refuse an array of another shape (``None`` is any length)."""
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise DataError(f"the shape must be [{wanted}].", where=where, value=list(array.shape))


def check_rows(
    good: np.ndarray, array: np.ndarray, what: str, where: str, remedy: str | None = None, *, rows: np.ndarray | None = None
) -> None:
    """Refuse values of which some are not good, and name the first row (``rows``: by what number each is known)."""
    if not good.all():
        at = tuple(int(n) for n in np.argwhere(~good)[0])
        told = at[0] if rows is None else int(rows[at[0]])
        raise DataError(what, where=f"{where}, row {told}", value=array[at].item(), remedy=remedy)


def check_distinct(items: np.ndarray, where: str) -> None:
    """Refuse rows of item numbers (-1 is padding, and ends a row) that hold an item twice or go on after padding."""
    check_rows(items >= -1, items, "an item number is below -1.", where)
    gone_on = (items[:, 1:] >= 0) & (items[:, :-1] < 0)
    check_rows(~gone_on, items[:, 1:], "an item stands after the end of a row.", where, "put -1 last")
    ordered = np.sort(items, axis=1)
    check_rows(
        (ordered[:, 1:] != ordered[:, :-1]) | (ordered[:, 1:] < 0), ordered[:, 1:], "an item stands twice in a row.", where
    )
