"""Tables in memory: pandas and Polars frames, Arrow tables, SciPy matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from palate.data.readers.ids import AS_TEXT
from palate.data.readers.parts import Options, Parts
from palate.data.readers.roles import check_double, resolve
from palate.data.readers.source import ArrowSource
from palate.errors import DataError


def read_object(source: Any, options: Options) -> Parts:
    """Read a table or matrix.

    Raises
    ------
    DataError
        If the object is none of those named above.
    """
    if sparse.issparse(source):
        return _matrix(source)
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if isinstance(source, pa.Table):
        return Parts([ArrowSource(source, "Arrow table")], name="data")
    kind = f"{type(source).__module__.split('.')[0]}.{type(source).__name__}"
    if kind in ("polars.DataFrame", "polars.LazyFrame"):
        frame = source.collect() if kind.endswith("LazyFrame") else source
        return Parts([ArrowSource(frame.to_arrow(), "Polars frame")], name="data")
    if kind == "pandas.DataFrame":
        return Parts([ArrowSource(_pandas(source, options), "pandas frame")], name="data")
    raise DataError(
        "this can't be read as interactions.",
        value=kind,
        remedy="give a path, the name of a public data set, a pandas or Polars frame, an Arrow table or a SciPy matrix",
    )


def _matrix(matrix: Any) -> Parts:
    table = matrix.tocoo()
    columns = {"user": table.row.astype(np.int64), "item": table.col.astype(np.int64), "value": table.data}
    users, items = (pa.table({"id": np.arange(n, dtype=np.int64)}) for n in matrix.shape)
    notes = {"shape": list(matrix.shape), "order": "unknown"}
    # A matrix numbers its rows and columns itself: empty ones stay.
    return Parts(
        [ArrowSource(pa.table(columns), "SciPy matrix")],
        users=users,
        items=items,
        keep_unseen=True,
        entity_order=True,
        name="data",
        notes=notes,
    )


def _pandas(frame: Any, options: Options) -> pa.Table:
    names = [str(c) for c in frame.columns]
    check_double(names, "pandas frame")
    roles = resolve(names, options.columns, "pandas frame")
    arrays = {}
    for name, label in zip(names, frame.columns, strict=True):
        if name in roles.values():
            arrays[name] = _series(frame[label], name, options)
    return pa.table(arrays)


def _series(series: Any, name: str, options: Options) -> pa.Array:
    try:
        return pa.Array.from_pandas(series)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    values = list(series)
    known = [v for v in values if v is not None and v == v]
    kinds = [type(v) for v in known]
    main = max(set(kinds), key=kinds.count)
    odd = next(((at, v) for at, v in enumerate(values) if v is not None and v == v and type(v) is not main), None)
    if odd is None:
        odd = next(((at, v) for at, v in enumerate(values) if isinstance(v, int) and abs(v) >= 2**63), (0, values[0]))
    if options.ids == "text" and all(isinstance(v, (str, int, np.integer)) for v in known):
        return pa.array([None if v is None or v != v else str(v) for v in values])
    if options.on_bad_rows == "drop":
        return pa.array([v if type(v) is main and not (main is int and abs(v) >= 2**63) else None for v in values])
    what = f"mixed id types in column {name!r}: mostly {main.__name__}, here {type(odd[1]).__name__}."
    if type(odd[1]) is main:
        what = f"the number in column {name!r} is beyond 64 bits."
    raise DataError(what, where=f"pandas frame, row {odd[0] + 1}", value=odd[1], remedy=AS_TEXT)
