"""Sources of rows: anything that gives named columns in Arrow batches, in file order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.readers.bad_rows import BadRows
from palate.errors import DataError

#: Rows of a batch: what a reader holds at once beside its result.
BATCH_ROWS = 1 << 17


class Source(ABC):
    """A table that can be read batch by batch.

    Attributes
    ----------
    where
        The file or object, for messages.
    columns
        Column names, in order.
    n_rows
        Number of rows where it is known beforehand.
    columnar
        Whether one column can be read without the others at no extra cost.
    typed
        Whether the columns have types of their own (text files have not: ids that look like integers become integers).
    """

    where: str
    columns: Sequence[str]
    n_rows: int | None = None
    columnar = False
    typed = True

    @abstractmethod
    def batches(self, names: Sequence[str], bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield batches of the columns named, in file order."""

    def locate(self, row: int) -> str:
        """Return file and place of a row (from 0)."""
        return f"{self.where}, row {row + 1}"

    def table(self, names: Sequence[str] | None = None, bad: BadRows | None = None) -> pa.Table:
        """Return columns as one table (for small tables: attributes, links, logs)."""
        names = list(self.columns if names is None else names)
        batches = list(self.batches(names, bad or BadRows("error", self.locate)))
        if not batches:
            return pa.table({name: pa.array([], pa.string()) for name in names})
        return pa.Table.from_batches(batches)


class ArrowSource(Source):
    """A table in memory (or mapped from an Arrow file)."""

    columnar = True

    def __init__(self, table: pa.Table, where: str, *, typed: bool = True) -> None:
        self.where, self.columns, self.n_rows, self.typed = where, table.column_names, table.num_rows, typed
        self._table = table

    def batches(self, names: Sequence[str], bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield slices of the table."""
        yield from self._table.select(list(names)).to_batches(max_chunksize=BATCH_ROWS)


class ParquetSource(Source):
    """A Parquet file, read one row group and one column at a time."""

    columnar = True

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(path, "Parquet", error) from error
        self.columns = self._file.schema_arrow.names
        self.n_rows = self._file.metadata.num_rows

    def batches(self, names: Sequence[str], bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield batches decoded on the way."""
        try:
            yield from self._file.iter_batches(batch_size=BATCH_ROWS, columns=list(names), use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(Path(self.where), "Parquet", error) from error


def open_arrow(path: Path) -> ArrowSource:
    """Open an Arrow IPC file (Feather 2) or stream."""
    try:
        with pa.memory_map(str(path)) as stream:
            try:
                table = pa.ipc.open_file(stream).read_all()
            except pa.ArrowInvalid:
                stream.seek(0)
                table = pa.ipc.open_stream(stream).read_all()
        table.validate(full=True)  # offsets of a damaged file may point anywhere
        return ArrowSource(table, str(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, "Arrow", error) from error


def _unreadable(path: Path, kind: str, error: Exception) -> DataError:
    return DataError(
        f"this is not a whole {kind} file.",
        where=path,
        value=str(error).splitlines()[0],
        remedy="write or fetch the file again, or name its true format with format= (--format)",
    )
