"""Row split: rows for rankers as train, validation and test, in a folder of Parquet files that is read in blocks.

``train.parquet``, ``valid.parquet``, ``test.parquet``
    The rows, all columns.
``rows.json``
    Which columns are labels, group and weight, and whether the group is a field, too; how the rows were dealt; how many each
    part has.
``looks.jsonl``
    A line for each time the test part was opened.

Rows are dealt at random, by group at random (all rows of a person or request go to one part), or by time (the latest rows are
the test part, those before them validation; rows of one moment stay together, in the later part).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.fingerprint import file_sha256
from palate.data.row_columns import hashed_codes, numbers_of
from palate.data.row_tables import row_blocks
from palate.data.split_files import LOOKS, Ledger
from palate.data.whole import whole_folder
from palate.errors import ConfigError, DataError, nearest
from palate.runtime import generator

PARTS = ("train", "valid", "test")
ROWS, SCHEMA = "rows.json", 1
How = Literal["random", "group", "time"]
#: Columns that are taken for labels where none is named, in this order.
LABELS = ("label", "click", "clicked", "is_click", "target", "y")


@dataclass
class RowSplit:
    """Rows in parts.

    Attributes
    ----------
    folder
        Where they stand.
    labels
        Columns to predict.
    group, weight
        Columns that name the request (or person) and the weight of a row, or ``None``.
    fingerprint
        Hash of the parts' files.
    spec
        How the rows were dealt, and how many each part has.
    group_is_field
        Whether rankers may learn from the group's column, too, as from a person's id.
    """

    folder: Path
    labels: tuple[str, ...]
    group: str | None
    weight: str | None
    fingerprint: str
    spec: dict[str, Any] = field(default_factory=dict)
    group_is_field: bool = False

    def tables(self, part: str) -> Callable[[], Iterable[pa.Table]]:
        """Return a function that yields the rows of a part in blocks; that of the test part counts as a look.

        Raises
        ------
        DataError
            If there is no such part.
        """
        if part not in PARTS:
            raise ConfigError("there is no such part.", where="part", value=part, remedy=nearest(part, PARTS))
        if part == "test":
            self.ledger.record(self)
        return row_blocks(self.folder / f"{part}.parquet")

    @cached_property
    def ledger(self) -> Ledger:
        """The looks at the test part."""
        return Ledger(self.folder / LOOKS)

    def looking(self) -> AbstractContextManager[None]:
        """Look at the test part: if that ends in an error, no numbers came of it, and the look doesn't count."""
        return self.ledger.looking(self)

    @property
    def looks(self) -> int:
        """How often the test part was opened."""
        return self.ledger.count()


def split_rows(
    source: Any,
    out: str | Path,
    *,
    labels: Sequence[str] = (),
    group: str | None = None,
    group_is_field: bool = False,
    weight: str | None = None,
    how: How = "random",
    time: str | None = None,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    told: Mapping[str, Any] = MappingProxyType({}),
) -> RowSplit:
    """Deal rows into three parts, and write them whole or not at all.

    A split of rows in the folder is replaced; looks at an equal one are kept.

    Parameters
    ----------
    source
        A path, an Arrow table, a frame, or what yields tables (:func:`palate.data.row_tables.row_blocks`).
    labels
        Columns to predict; one of :data:`LABELS` by default.
    group, group_is_field
        The column that says which rows go together, and whether rankers learn from it, too: a person's id is worth learning
        from where the same people come again, a request's number never is.
    how
        See the module's text; ``group`` needs a group, ``time`` a column of times.
    valid, test
        Shares of the rows (of the groups, by ``group``).
    told
        What else the spec is to say of how the rows came about.

    Raises
    ------
    ConfigError
        If the shares don't fit, or what ``how`` needs is missing.
    DataError
        If a column is missing, a part would be empty, or the folder holds something that is no split of rows.
    """
    if not (0 < test < 1 and 0 < valid < 1 and valid + test < 1):
        raise ConfigError("valid and test are shares that leave something to learn from.", value=[valid, test])
    for option, column in (("group", group), ("time", time)):
        if how == option and column is None:
            raise ConfigError(f"rows dealt by {how} need a column.", where=option, remedy=f"name it: --{option} COLUMN")
    if group_is_field and group is None:
        raise ConfigError("which column is the group?", where="group_is_field", remedy="name it: --group COLUMN")
    blocks = row_blocks(source)
    names: list[str] = next((table.column_names for table in blocks()), [])
    chosen = label_columns(names, labels)
    for name in (n for n in (group, weight, time) if n is not None):
        if name not in names:
            raise DataError(
                "there is no such column.", where="rows", value=name, remedy=nearest(name, names) if names else None
            )
    deal = _dealer(blocks, how, group, time, valid, test, seed)
    spec = {**told, "how": how, "time": time, "valid": valid, "test": test, "seed": seed}
    target = Path(out)
    with whole_folder(target, ROWS, [LOOKS]) as work:
        counts = _write(work, blocks, deal)
        empty = [part for part in PARTS if not counts[part]]
        if empty:
            raise DataError("a part has no rows.", where=empty[0], value=counts, remedy="give more rows, or larger shares")
        facts = {
            "schema": SCHEMA,
            "labels": list(chosen),
            "group": group,
            "group_is_field": group_is_field,
            "weight": weight,
            "spec": {**spec, "rows": counts},
            "files": {part: file_sha256(work / f"{part}.parquet") for part in PARTS},
        }
        (work / ROWS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        _keep_looks(target, work)
    return read_row_split(target)


def _keep_looks(old: Path, new: Path) -> None:
    """Take over the looks at a split that is replaced by an equal one."""
    try:
        before = read_row_split(old)
    except DataError:
        return
    if before.looks and before.fingerprint == read_row_split(new).fingerprint:
        Ledger(new / LOOKS).append(before.ledger.lines())


def label_columns(names: Sequence[str], labels: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the columns of labels: those named, or the first of :data:`LABELS` that is there.

    Raises
    ------
    DataError
        If none is named and none is found, or one is not there.
    """
    chosen = tuple(labels) or next(((name,) for name in LABELS if name in names), ())
    if not chosen:
        raise DataError("which column is the label?", where="rows", value=list(names[:12]), remedy="name it: --label COLUMN")
    for name in chosen:
        if name not in names:
            raise DataError(
                "there is no such column.", where="rows", value=name, remedy=nearest(name, names) if names else None
            )
    return chosen


def is_row_split(folder: str | Path) -> bool:
    """Say whether a folder holds a split of rows."""
    return (Path(folder) / ROWS).is_file()


def read_row_split(folder: str | Path) -> RowSplit:
    """Read what :func:`split_rows` wrote.

    Raises
    ------
    DataError
        If the folder holds no split of rows, or a part is missing.
    """
    home = Path(folder)
    try:
        facts = json.loads((home / ROWS).read_text(encoding="utf-8"))
        files, labels = facts["files"], tuple(facts["labels"])
    except (OSError, ValueError, KeyError):
        raise DataError(
            "no split of rows here.", where=home, remedy="make one with: palate split FILE --label COLUMN --out DIR"
        ) from None
    absent = [part for part in PARTS if not (home / f"{part}.parquet").is_file()]
    if absent:
        raise DataError("a part of the split is missing.", where=home / f"{absent[0]}.parquet", remedy="split again")
    name = "-".join(files[part][:8] for part in PARTS)
    group, weight, also = facts.get("group"), facts.get("weight"), facts.get("group_is_field", False)
    return RowSplit(home, labels, group, weight, name, facts.get("spec", {}), also)


def _dealer(
    blocks: Callable[[], Iterable[pa.Table]],
    how: How,
    group: str | None,
    time: str | None,
    valid: float,
    test: float,
    seed: int,
) -> Callable[[pa.Table, int], np.ndarray]:
    """Return what gives each row of a block (with its number) its part: 0 train, 1 valid, 2 test."""
    if how == "random":
        return lambda table, at: _parts(generator(seed, "rows", at).random(table.num_rows), valid, test)
    if how == "group":
        assert group is not None
        shares = generator(seed, "groups").random(2**16)
        return lambda table, at: _parts(shares[hashed_codes(table.column(group), 2**16 - 2) % 2**16], valid, test)
    assert time is not None
    moments = _moments(blocks, time)
    if np.isnan(moments).any():
        raise DataError("a row has no time.", where=f"column {time!r}, row {int(np.flatnonzero(np.isnan(moments))[0])}")
    ordered = np.sort(moments)
    first, second = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (1 - valid - test, 1 - test))

    def by_time(table: pa.Table, at: int) -> np.ndarray:
        own = numbers_of(table.column(time), time, 0)
        return (own >= first).astype(np.int8) + (own >= second)

    return by_time


def _moments(blocks: Callable[[], Iterable[pa.Table]], time: str) -> np.ndarray:
    found, n = [], 0
    for table in blocks():
        found.append(numbers_of(table.column(time), time, n))
        n += table.num_rows
    return np.concatenate(found)


def _parts(draws: np.ndarray, valid: float, test: float) -> np.ndarray:
    return np.asarray((draws < valid + test).astype(np.int8) + (draws < test), np.int8)


def _write(work: Path, blocks: Callable[[], Iterable[pa.Table]], deal: Callable[[pa.Table, int], np.ndarray]) -> dict[str, int]:
    counts, writers = dict.fromkeys(PARTS, 0), dict[str, Any]()
    try:
        for at, table in enumerate(blocks()):
            part = deal(table, at)
            for number, name in enumerate(PARTS):
                own = table.filter(pa.array(part == number))
                if name not in writers:
                    writers[name] = pq.ParquetWriter(work / f"{name}.parquet", table.schema)
                writers[name].write_table(own)
                counts[name] += own.num_rows
    except pa.ArrowException as error:
        raise DataError("rows of two blocks have columns of different types.", where="rows", value=str(error)[:200]) from None
    finally:
        for writer in writers.values():
            writer.close()
    return counts
