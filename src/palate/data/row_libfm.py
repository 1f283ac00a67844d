"""Rows in the form of libFM where each field has one value: a label, then ``feature:1`` once a field, fields in one order.

Such files (Frappe, MovieLens tags) number the values of all fields in one range; the place of a feature in the line tells its
field. Labels of -1 and 1 become 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from palate.errors import DataError


def read_libfm(path: str | Path, fields: Sequence[str], *, label: str = "label") -> pa.Table:
    """Return rows in file order: a text column a field (the numbers of features), and the label (``float64``).

    Parameters
    ----------
    path
        Plain or gzip.
    fields
        Names of the fields, in the order of the file.
    label
        Name of the label's column.

    Raises
    ------
    DataError
        If the file can't be read, a line has another number of fields, a feature's value is not 1, or a label is no number;
        the row is named, counted from 1.
    """
    where, names = Path(path), [label, *fields]
    if not where.exists():
        raise DataError("there is no such file.", where=where.resolve())
    bad: list[Any] = []

    def note(row: Any) -> str:
        bad.append(row)
        return "error"

    try:
        table = csv.read_csv(
            where,
            read_options=csv.ReadOptions(column_names=names, use_threads=False),
            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False, invalid_row_handler=note),
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except (pa.ArrowException, OSError) as error:
        if bad:
            what, at = "a line has another number of fields.", f"{where}, row {bad[0].number}"
            raise DataError(what, where=at, value=bad[0].actual_columns - 1, remedy=f"expected {len(fields)}") from None
        raise DataError("the file can't be read.", where=where, value=str(error)[:200]) from None
    columns = {name: _features(table.column(name), f"{where}, field {name!r}") for name in fields}
    return pa.table({**columns, label: _labels(table.column(label), where)})


def _features(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    parts = pc.extract_regex(column, r"^(?P<feature>\d+):1(?:\.0*)?$")
    if parts.null_count:
        at = int(np.flatnonzero(parts.is_null().to_numpy())[0])
        raise DataError("a feature is not of the form number:1.", where=f"{where}, row {at + 1}", value=column[at].as_py())
    return pc.struct_field(parts, "feature")


def _labels(column: pa.ChunkedArray, where: Path) -> np.ndarray:
    try:
        labels: np.ndarray = np.asarray(column.to_pylist(), np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("a label is no number.", where=where, value=str(error)[:80]) from None
    return np.where(labels < 0, 0.0, labels) if np.isin(labels, (-1.0, 1.0)).all() else labels
