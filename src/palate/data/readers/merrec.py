"""MerRec, the events of a marketplace between people: Parquet shards in a folder a month, one row an event.

============================  ==========================================================================================
``user_id``, ``sequence_id``  the person, and the run of events (its number is unique together with the person)
``session_id``                the session in the app
``stime``                     time of the event
``sequence_length``           events of the sequence
``event_id``                  one of :data:`EVENTS`, in the order of the funnel
``item_id``, ``product_id``   the listing, and the kind of product, which many listings share
``name`` … ``color``          :data:`ATTRIBUTES`: the listing at that moment; brand and lower categories may be missing
============================  ==========================================================================================

:func:`read_merrec` is what :func:`palate.data.readers.read` calls: items are listings (kinds of products with
``columns={"item": "product_id"}``), actions are the events, sessions are the sequences (those of the app with
``columns={"session": "session_id"}``). An item's attributes are those of its first event, so that none of them comes from later
than any event of the item.
:class:`SequenceBlocks` gives the events themselves, a block of whole sequences at a time.

Source: the MerRec paper (arXiv 2402.14230) and the card of the data set. The data are CC BY-NC 4.0 and never part of Palate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Dataset
from palate.data.readers.bad_rows import BadRows, OnBadRows, first_value
from palate.data.readers.parts import Options, Parts
from palate.data.readers.source import ArrowSource, ParquetSource, Source
from palate.errors import DataError, nearest

#: The six events, in the order of the funnel.
EVENTS = ("item_view", "item_like", "item_add_to_cart_tap", "offer_make", "buy_start", "buy_comp")
#: Columns that every file must have.
KEYS = ("user_id", "sequence_id", "session_id", "stime", "event_id", "item_id", "product_id")
#: Columns that say what is offered; those that exist are read.
ATTRIBUTES = (
    *("name", "price", "c0_id", "c0_name", "c1_id", "c1_name", "c2_id", "c2_name", "brand_id", "brand_name"),
    *("item_condition_id", "item_condition_name", "size_id", "size_name", "shipper_id", "shipper_name", "color"),
)
#: Roles of the columns.
ROLES = {"user": "user_id", "item": "item_id", "time": "stime", "action": "event_id", "session": "sequence_id"}
#: Rows of a block of sequences, about, and most files that are open while rows are laid apart.
BLOCK_ROWS, MOST_FILES = 2_000_000, 256


class Shard(ParquetSource):
    """One file; events that are none of the six are bad rows.

    Parameters
    ----------
    path
        The file.
    start
        Rows of the files before it.

    Raises
    ------
    DataError
        If it lacks a column.
    """

    def __init__(self, path: Path, start: int = 0) -> None:
        super().__init__(path)
        self.start = start
        _check_columns(self.columns, path)

    def batches(self, names: Sequence[str], bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield batches; an unknown event becomes a missing one, and is noted."""
        yield from _known_events(super().batches(names, bad), self.start, bad)


class Events(ArrowSource):
    """The same of a table in memory."""

    def __init__(self, table: pa.Table, where: str = "table") -> None:
        super().__init__(table, where)
        _check_columns(self.columns, where)

    def batches(self, names: Sequence[str], bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield batches; an unknown event becomes a missing one, and is noted."""
        yield from _known_events(super().batches(names, bad), 0, bad)


def shards_of(path: Path) -> list[Path]:
    """Return the files of a path in order: itself, the files of a month, or those of all months (folders such as 20230501).

    Raises
    ------
    DataError
        If there is none.
    """
    if path.is_file():
        return [path]
    months = sorted(p for p in path.iterdir() if p.is_dir() and _is_month(p.name)) if path.is_dir() else []
    found = [file for folder in months or [path] for file in sorted(folder.glob("*.parquet"))]
    if not found:
        raise DataError(
            "there are no Parquet files of months here.", where=path, remedy="give the folder that holds 20230501 …"
        )
    return found


def looks_like(path: Path) -> bool:
    """Say whether a folder holds months with Parquet files, or is one of them."""
    if _is_month(path.name) and any(path.glob("*.parquet")):
        return True
    return any(p.is_dir() and _is_month(p.name) and any(p.glob("*.parquet")) for p in path.iterdir())


def open_shards(path: Path) -> list[Shard]:
    """Open all files of a path."""
    shards: list[Shard] = []
    start = 0
    for file in shards_of(path):
        shards.append(Shard(file, start))
        start += shards[-1].n_rows or 0
    return shards


def read_merrec(path: Path, options: Options) -> Parts:
    """Read a file, a month or all months (see the module's text)."""
    return merrec_parts(open_shards(path), options, path.name)


def merrec_parts(sources: Sequence[Source], options: Options, name: str) -> Parts:
    """Return what files or tables hold; items are listings or products, as ``options.columns`` says."""
    key = (options.columns or {}).get("item", ROLES["item"])
    roles = {role: column for role, column in ROLES.items() if column in sources[0].columns}
    return Parts(sources, items=first_snapshots(sources, key), columns=roles, name=name, notes={"snapshot": "first event"})


def first_snapshots(sources: Sequence[Source], key: str) -> pa.Table:
    """Return the attributes that each item had at its first event: ``id`` and those of :data:`ATTRIBUTES` that exist."""
    others = {"item_id", "product_id"} - {key}
    names = [*dict.fromkeys([key, "stime", *sorted(others)])]
    kept: list[pl.DataFrame] = []
    rows = known = 0
    for source in sources:
        present = [name for name in (*names, *ATTRIBUTES) if name in source.columns]
        for batch in source.batches(present, BadRows("drop", source.locate)):
            kept.append(_earliest(_frame(batch), key))
            rows += len(kept[-1])
            if rows > 2 * known + BLOCK_ROWS:
                kept = [_earliest(pl.concat(kept, how="diagonal_relaxed"), key)]
                rows = known = len(kept[0])
    whole = _earliest(pl.concat(kept, how="diagonal_relaxed"), key).rename({key: "id"}).drop("stime")
    if key == "product_id" and "item_id" in whole.columns:
        whole = whole.drop("item_id")
    table = whole.to_arrow()
    plain = [
        pa.string() if pa.types.is_large_string(f.type) or pa.types.is_string_view(f.type) else f.type for f in table.schema
    ]
    return table.cast(pa.schema([pa.field(f.name, kind) for f, kind in zip(table.schema, plain, strict=True)]))


def funnel(dataset: Dataset) -> dict[str, int]:
    """Return how many events there are of each of the six, in the order of the funnel.

    Raises
    ------
    DataError
        If the data have no actions.
    """
    if dataset.interactions.action is None or dataset.actions is None:
        raise DataError("these interactions have no actions.", where=dataset.name, remedy="read them with format='merrec'")
    counts = np.bincount(dataset.interactions.action, minlength=len(dataset.actions))
    found = dict(zip(dataset.actions.raw.to_pylist(), counts.tolist(), strict=True))
    return {name: found.get(name, 0) for name in EVENTS}


class SequenceBlocks:
    """The events of some files, a block of whole sequences at a time, sorted by person, sequence, time and file order.

    Each pass reads the files once. Where they hold more than one block, rows are first laid apart by person in files of a
    temporary folder, so that a block never takes more memory than its own rows, however the files were written.

    Parameters
    ----------
    source
        A file, a month, all months, or an Arrow table.
    columns
        What to read beside the keys; all attributes by default.
    block_rows
        Rows of a block, about.
    on_bad_rows
        ``"error"``, or ``"drop"``: then :attr:`dropped` holds counts by reason after a pass.
    scratch
        Where the temporary folder is made; ``None`` is the system's place.
    """

    def __init__(
        self,
        source: str | Path | pa.Table,
        *,
        columns: Sequence[str] = ATTRIBUTES,
        block_rows: int = BLOCK_ROWS,
        on_bad_rows: OnBadRows = "error",
        scratch: str | Path | None = None,
    ) -> None:
        self.sources: Sequence[Source] = [Events(source)] if isinstance(source, pa.Table) else open_shards(Path(source))
        present = set.intersection(*(set(s.columns) for s in self.sources))
        self.columns = [name for name in dict.fromkeys([*KEYS, *columns]) if name in present]
        self.block_rows, self.on_bad_rows, self.scratch = block_rows, on_bad_rows, scratch
        self.dropped: dict[str, int] = {}

    @property
    def n_rows(self) -> int:
        """Rows of all files."""
        return sum(s.n_rows or 0 for s in self.sources)

    def __iter__(self) -> Iterator[pa.Table]:
        self.dropped = {}
        parts = min(MOST_FILES, -(-self.n_rows // self.block_rows))
        if parts <= 1:
            found = list(self._clean())
            if found:
                yield in_order(pa.Table.from_batches(found))
            return
        with tempfile.TemporaryDirectory(dir=self.scratch) as work:
            for path in self._laid_apart(Path(work), parts):
                with pa.OSFile(str(path)) as stream:
                    table = pa.ipc.open_stream(stream).read_all()
                yield in_order(table)
                path.unlink()

    def _clean(self) -> Iterator[pa.RecordBatch]:
        """Yield batches without bad rows, all of one schema."""
        schema: pa.Schema | None = None
        for source in self.sources:
            start, first = 0, getattr(source, "start", 0)
            for batch in source.batches(self.columns, BadRows(self.on_bad_rows, _locator(source, -first))):
                bad = BadRows(self.on_bad_rows, _locator(source, start))
                for name in KEYS:
                    if name not in ("session_id", "product_id"):
                        at = np.flatnonzero(np.asarray(batch.column(name).is_null()))
                        bad.add(at, "unknown or missing event_id" if name == "event_id" else f"missing {name}", None)
                good, counts = bad.settle(batch.num_rows)
                for reason, count in counts.items():
                    self.dropped[reason] = self.dropped.get(reason, 0) + count
                start += batch.num_rows
                kept = batch if good is None else batch.filter(pa.array(good))
                schema = schema or kept.schema
                if kept.num_rows:
                    yield kept if kept.schema == schema else kept.cast(schema)

    def _laid_apart(self, work: Path, parts: int) -> list[Path]:
        writers: dict[int, pa.RecordBatchStreamWriter] = {}
        paths = {part: work / f"{part}.arrows" for part in range(parts)}
        try:
            for batch in self._clean():
                home = _hashed(batch.column("user_id")) % np.uint64(parts)
                for part in np.unique(home).tolist():
                    if part not in writers:
                        writers[part] = pa.ipc.new_stream(str(paths[part]), batch.schema)
                    writers[part].write_batch(batch.filter(pa.array(home == part)))
        finally:
            for writer in writers.values():
                writer.close()
        return [paths[part] for part in sorted(writers)]


def in_order(table: pa.Table) -> pa.Table:
    """Return events sorted by person, sequence and time; equal times keep their order."""
    keys = [(name, "ascending") for name in ("user_id", "sequence_id", "stime")]
    return table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()


def _locator(source: Source, start: int) -> Callable[[int], str]:
    return lambda row: source.locate(row + start)


def _hashed(users: pa.Array) -> np.ndarray:
    """Return ``uint64[n]``, spread evenly (a person's rows alike); ids are whole numbers."""
    try:
        numbers = np.asarray(users.cast(pa.int64())).astype(np.uint64)
    except pa.ArrowInvalid as error:
        raise DataError("user_id is not a whole number.", where="user_id", value=str(error)[:80]) from None
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    return np.asarray(mixed ^ (mixed >> np.uint64(32)))


def _is_month(name: str) -> bool:
    return len(name) == 8 and name.isdigit()


def _check_columns(columns: Sequence[str], where: Any) -> None:
    for name in KEYS:
        if name not in columns:
            raise DataError("a column of MerRec is missing.", where=where, value=name, remedy=nearest(name, columns))


def _known_events(batches: Iterator[pa.RecordBatch], start: int, bad: BadRows) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        at = batch.schema.get_field_index("event_id")
        if at >= 0:
            column = batch.column(at).cast(pa.string())
            known = pc.is_in(column, value_set=pa.array(EVENTS))
            wrong = np.flatnonzero(~np.asarray(known) & np.asarray(column.is_valid()))
            bad.add(start + wrong, "event_id is none of the six events", first_value(column, wrong))
            column = pc.if_else(known, column, pa.scalar(None, pa.string()))
            batch = batch.set_column(at, "event_id", column)
        yield batch
        start += batch.num_rows


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    found = pl.from_arrow(batch)
    assert isinstance(found, pl.DataFrame)
    return found


def _earliest(frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the first row in time of each item (the first in order, where times are equal)."""
    known = frame.filter(pl.col(key).is_not_null() & pl.col("stime").is_not_null())
    return known.sort("stime", maintain_order=True).unique(key, keep="first", maintain_order=True)
