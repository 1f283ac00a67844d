"""Tables of rows, read in blocks: Parquet (a file or a folder of files), Arrow, CSV, TSV and JSONL files, and frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from palate.errors import DataError

#: Rows of a block, and bytes of a column that are read at a time.
BLOCK, BUFFER = 65_536, 2**20
FORMATS = {
    ".parquet": "parquet",
    ".arrow": "ipc",
    ".feather": "ipc",
    ".ipc": "ipc",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "json",
}


def row_blocks(source: Any, *, block: int = BLOCK) -> Callable[[], Iterable[pa.Table]]:
    """Return a function that yields the rows of a source, in order, in blocks.

    Parameters
    ----------
    source
        A path, an Arrow table, a frame of pandas or Polars, or a function that yields tables and may be called again.
    block
        Most rows of a block.

    Raises
    ------
    DataError
        If there is no such file, its kind is not known, or it can't be read.
    """
    if isinstance(source, str | Path):
        found = _dataset(Path(source))
        return lambda: _read(found, Path(source), block)
    if callable(source):
        yielding: Callable[[], Iterable[pa.Table]] = source
        return yielding
    table = _table(source)
    return lambda: [table.slice(at, block) for at in range(0, table.num_rows, block)]


def _table(source: Any) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    if hasattr(source, "to_arrow"):
        table: pa.Table = source.to_arrow()
        return table
    if type(source).__module__.startswith("pandas"):
        return pa.Table.from_pandas(source, preserve_index=False)
    raise DataError("rows can't be read from this.", value=type(source).__name__, remedy="a path, an Arrow table or a frame")


def _dataset(path: Path) -> ds.Dataset:
    if not path.exists():
        raise DataError("there is no such file.", where=path.resolve())
    files = (
        sorted(p for p in path.rglob("*") if p.suffix in FORMATS and not p.name.startswith((".", "_")))
        if path.is_dir()
        else [path]
    )
    kinds = {p.suffix for p in files}
    if len(kinds) != 1 or not kinds <= FORMATS.keys():
        raise DataError(
            "files of rows must be of one kind that is known.",
            where=path,
            value=sorted(kinds),
            remedy=", ".join(sorted(FORMATS)),
        )
    kind: Any = FORMATS[kinds.pop()]
    if kind == "tsv":
        import pyarrow.csv as csv

        kind = ds.CsvFileFormat(csv.ParseOptions(delimiter="\t"))
    try:
        return ds.dataset([str(p) for p in files], format=kind)
    except (pa.ArrowException, OSError) as error:
        raise DataError("the file can't be read.", where=path, value=str(error)[:200]) from None


def _read(found: ds.Dataset, path: Path, block: int) -> Iterator[pa.Table]:
    try:
        batches = _parquet(found, block) if found.format.default_extname == "parquet" else _others(found, block)
        for batch in batches:
            if batch.num_rows:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise DataError("a row can't be read.", where=path, value=str(error)[:200]) from None


def _others(found: ds.Dataset, block: int) -> Iterator[pa.RecordBatch]:
    yield from found.to_batches(batch_size=block, use_threads=False)


def _parquet(found: ds.Dataset, block: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of Parquet files page by page: a scanner of data sets holds whole row groups, several at a time."""
    for name in found.files:
        with pq.ParquetFile(name, pre_buffer=False, buffer_size=BUFFER) as file:
            for batch in file.iter_batches(block, use_threads=False):
                yield batch if batch.schema.equals(found.schema) else _fitted(batch, found.schema)


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch in the columns of the first file: those that it lacks are missing, others are left out."""
    columns = [
        batch.column(field.name).cast(field.type) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
