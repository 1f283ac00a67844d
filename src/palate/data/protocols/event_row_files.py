"""Rows of events as a split of rows on disk: the click-through and multi-task studies of MerRec, ready for rankers.

Each row of :func:`palate.data.protocols.event_rows.event_rows` goes by its time into training, validation or test, cut at two
moments that are the same for everybody, so no held-out event stands in the history of a training row. Beside features and
labels (one an event type) a row has ``sequence``, the number of its run of events, which is the group, and ``time``; neither is
a feature. Files larger than memory are read in blocks of whole sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from palate.data.protocols.event_rows import FEATURES, event_rows
from palate.data.readers.bad_rows import OnBadRows
from palate.data.readers.merrec import BLOCK_ROWS, SequenceBlocks
from palate.data.row_split import RowSplit, split_rows
from palate.errors import ConfigError

TASKS = ("item_view", "item_like")
#: Columns of a row that are no features.
SEQUENCE, TIME = "sequence", "time"


def split_event_rows(
    source: str | Path | pa.Table,
    out: str | Path,
    *,
    tasks: Sequence[str] = TASKS,
    features: Sequence[str] = FEATURES,
    history: int = 7,
    history_of: str = "product_id",
    min_events: int = 8,
    as_list: bool = False,
    valid: float = 0.1,
    test: float = 0.1,
    on_bad_rows: OnBadRows = "error",
    block_rows: int = BLOCK_ROWS,
) -> RowSplit:
    """Make rows of a marketplace's events, cut them at two moments, and write them whole or not at all.

    Parameters
    ----------
    source
        A file, a month, all months, or an Arrow table, in the schema of MerRec.
    out
        Folder of the split (:mod:`palate.data.row_split`).
    tasks
        Event types that become labels; ``("item_view",)`` is the click-through task.
    features, history, history_of, min_events, as_list
        Those of :func:`palate.data.protocols.event_rows.event_rows`.
    valid, test
        Shares of the rows.
    on_bad_rows
        ``"error"``, or ``"drop"``.
    block_rows
        Rows of a block, about.

    Raises
    ------
    ConfigError
        If a task is no event type or is named twice, a feature is called as a column of its own kind, or a sequence may be
        too short for its history.
    DataError
        If a row is bad, or a part would be empty.
    """
    names = (*tasks, SEQUENCE, TIME)
    twice = next((name for name in names if names.count(name) > 1 or name in features), None)
    if twice is not None or not tasks:
        raise ConfigError("tasks are different event types, and no features.", where="tasks", value=twice or list(tasks))
    how: dict[str, Any] = {"tasks": tuple(tasks), "features": tuple(features), "history": history}
    how |= {"history_of": history_of, "min_events": min_events, "as_list": as_list}
    blocks = SequenceBlocks(source, on_bad_rows=on_bad_rows, block_rows=block_rows)

    def tables() -> Iterator[pa.Table]:
        before = 0
        for block in blocks:
            rows = event_rows(block, **how)
            if not len(rows):
                continue
            columns = {name: pa.array(values) for name, values in rows.labels.items()}
            columns |= {SEQUENCE: pa.array(rows.groups.astype(np.int64) + before), TIME: pa.array(rows.times)}
            before += int(rows.groups[-1]) + 1
            table = rows.features
            for name, column in columns.items():
                table = table.append_column(name, column)
            yield table

    told = {"protocol": "event_rows", **{name: list(v) if isinstance(v, tuple) else v for name, v in how.items()}}
    shares: dict[str, Any] = {"valid": valid, "test": test}
    return split_rows(tables, out, labels=tasks, group=SEQUENCE, how="time", time=TIME, told=told, **shares)
