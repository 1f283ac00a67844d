"""Fields of training rows: those that are given, and guesses for the other columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pyarrow as pa

from palate.contracts.ranker import Rows
from palate.data.row_fields import RowField, infer_fields

#: Rows from which fields are guessed.
GUESS = 100_000


def guess_fields(
    blocks: Callable[[], Iterable[Rows]], known: Sequence[RowField], leave_out: Sequence[str], min_count: int
) -> tuple[RowField, ...]:
    """Return the fields of training rows, the guessed ones from the first :data:`GUESS` rows.

    Parameters
    ----------
    known, leave_out
        As of :func:`palate.data.row_fields.infer_fields`.
    min_count
        Of guessed fields.
    """
    tables, n = [], 0
    for block in blocks():
        tables.append(block.features)
        n += len(block)
        if n >= GUESS:
            break
    table = pa.concat_tables(tables, promote_options="permissive")
    given = {field.name for field in known}
    found = infer_fields(table, leave_out=leave_out, known=known)
    return tuple(f if f.name in given else replace(f, min_count=min_count) for f in found)
