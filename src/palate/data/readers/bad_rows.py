"""Bad rows: an error at the first one, or dropped and counted by reason when the caller says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from palate.errors import DataError

#: What to do with rows that can't be used.
OnBadRows = Literal["error", "drop"]

#: Remedy that ends most messages about rows.
DROP = 'correct the row, or drop such rows with on_bad_rows="drop" (--on-bad-rows drop)'


class BadRows:
    """Collects the unusable rows of one source.

    Parameters
    ----------
    policy
        ``"error"`` raises at the first bad row; ``"drop"`` keeps count.
    locate
        Turns a row number of the source (from 0) into words: file and line.
    """

    def __init__(self, policy: OnBadRows, locate: Callable[[int], str]) -> None:
        self.policy = policy
        self.locate = locate
        self.skipped: dict[str, int] = {}
        self._rows: dict[str, list[np.ndarray]] = {}

    def add(self, rows: np.ndarray, reason: str, value: Any, remedy: str = DROP) -> None:
        """Note rows that are in the table but can't be used; ``value`` is that of the first one."""
        if len(rows) == 0:
            return
        if self.policy == "error":
            raise DataError(f"{reason}.", where=self.locate(int(rows[0])), value=value, remedy=remedy)
        self._rows.setdefault(reason, []).append(np.asarray(rows, np.int64))

    def skip(self, reason: str, where: str, value: Any, remedy: str = DROP) -> None:
        """Note a line that never became a row of the table."""
        if self.policy == "error":
            raise DataError(f"{reason}.", where=where, value=value, remedy=remedy)
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def settle(self, n: int) -> tuple[np.ndarray | None, dict[str, int]]:
        """Return the ``bool[n]`` mask of good rows (``None`` when all are), and the counts by reason.

        A row that is bad for two reasons counts once, under the first.
        """
        counts = dict(self.skipped)
        if not self._rows:
            return None, counts
        good = np.ones(n, bool)
        for reason, pieces in self._rows.items():
            rows = np.unique(np.concatenate(pieces))
            fresh = rows[good[rows]]
            good[fresh] = False
            if len(fresh):
                counts[reason] = counts.get(reason, 0) + len(fresh)
        return good, counts


def first_value(values: Sequence[Any] | np.ndarray, at: np.ndarray) -> Any:
    """Return the value at the first of some positions, as a plain Python value (``None`` when there is none)."""
    if len(at) == 0:
        return None
    value = values[int(at[0])]
    if isinstance(value, np.generic):
        return value.item()
    return value.as_py() if hasattr(value, "as_py") else value
