"""Open Bandit: impressions of single items with clicks, positions and the chances with which they were chosen.

A folder holds one campaign under one policy: ``CAMPAIGN.csv`` (``timestamp``, ``item_id``, ``position``, ``click``,
``propensity_score``, ``user_feature_0`` …, ``user-item_affinity_0`` …) and ``item_context.csv`` (``item_id``,
``item_feature_0`` …). Nobody is told apart: there are no users and no interactions, only items and impressions.

Source: Y. Saito, S. Aihara, M. Matsutani and Y. Narita, "Open Bandit Dataset and Pipeline", NeurIPS 2021 (data and benchmarks),
arXiv 2008.07146; CC BY 4.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.readers.delimited import DelimitedSource
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError

#: Columns that must be there.
NEEDED = ("timestamp", "item_id", "position", "click", "propensity_score")
ITEMS = "item_context.csv"


def read_open_bandit(folder: str | Path) -> Dataset:
    """Read one campaign under one policy; rows stand in order of time.

    Returns
    -------
    Dataset
        Items with their features, and ``impressions``: ``time`` (``int64``, microseconds since 1970), ``item`` (``int32``
        numbers), ``position`` (from 1), ``click``, ``propensity``, the user features as text, and ``affinity`` (a list with
        one number an item).

    Raises
    ------
    DataError
        If a file or a column is missing, or a value can't be read; the row is named.
    """
    base = Path(folder)
    logs = [p for p in sorted(base.glob("*.csv*")) if not p.name.startswith(ITEMS)]
    contexts = sorted(base.glob(f"{ITEMS}*"))
    if len(logs) != 1 or not contexts:
        what = "a folder of Open Bandit holds one log and item_context.csv."
        raise DataError(what, where=base, value=sorted(p.name for p in base.glob("*")), remedy="such as obd/random/men")
    items = _items(contexts[0])
    table = DelimitedSource(logs[0]).table()
    for name in NEEDED:
        if name not in table.column_names:
            raise DataError("a column is missing.", where=logs[0], value=name)
    time = pc.cast(_parsed(table, "timestamp", pa.timestamp("us", "UTC"), logs[0]), pa.int64())
    numbers = items.ids.encode(_parsed(table, "item_id", pa.int64(), logs[0]))
    if (numbers < 0).any():
        raise DataError("an item is not in item_context.csv.", where=f"{logs[0]}, row {int(np.argmin(numbers)) + 1}")
    columns = {
        "time": time,
        "item": pa.array(numbers),
        "position": _parsed(table, "position", pa.int32(), logs[0]),
        "click": _parsed(table, "click", pa.int8(), logs[0]),
        "propensity": _parsed(table, "propensity_score", pa.float64(), logs[0]),
        **{name: table.column(name) for name in table.column_names if name.startswith("user_feature_")},
        "affinity": _affinity(table, len(items), logs[0]),
    }
    made = pa.table(columns)
    order = np.argsort(made.column("time").to_numpy(), kind="stable")
    nothing = np.empty(0, np.int32)
    step = {"step": "read", "format": "open bandit", "file": logs[0].name, "rows": made.num_rows}
    return Dataset(
        Interactions.sorted(nothing, nothing),
        Entities(Vocabulary.range(0)),
        items,
        impressions=made.take(pa.array(order)),
        name=f"open bandit {base.name}",
        spec=(step,),
    )


def _items(path: Path) -> Entities:
    table = DelimitedSource(path).table()
    if "item_id" not in table.column_names:
        raise DataError("a column is missing.", where=path, value="item_id")
    ids = _parsed(table, "item_id", pa.int64(), path)
    columns = {name: table.column(name) for name in table.column_names if name.startswith("item_feature_")}
    for name, column in columns.items():
        try:
            columns[name] = column.cast(pa.float64())
        except pa.ArrowInvalid:
            continue  # a hashed category
    return Entities(Vocabulary(ids.combine_chunks()), pa.table(columns) if columns else None)


def _parsed(table: pa.Table, name: str, kind: pa.DataType, path: Path) -> pa.ChunkedArray:
    """Return a text column as another type; a cell that can't be read is named by its row."""
    column = table.column(name)
    try:
        found: pa.ChunkedArray = column.cast(kind)
    except pa.ArrowInvalid:
        for row, value in enumerate(column.to_pylist(), 1):
            try:
                pa.scalar(value).cast(kind)
            except pa.ArrowInvalid:
                raise DataError(f"column {name!r} holds no {kind} here.", where=f"{path}, row {row}", value=value) from None
        raise
    if found.null_count:
        row = found.is_null().to_pylist().index(True) + 1
        raise DataError(f"column {name!r} is empty here.", where=f"{path}, row {row}")
    return found


def _affinity(table: pa.Table, n_items: int, path: Path) -> pa.Array:
    names = [f"user-item_affinity_{number}" for number in range(n_items)]
    if not set(names) <= set(table.column_names):
        return pa.nulls(table.num_rows, pa.list_(pa.float32()))
    rows = np.stack([_parsed(table, name, pa.float32(), path).to_numpy() for name in names], axis=1)
    offsets = pa.array(np.arange(0, rows.size + 1, n_items, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(rows.ravel()))
