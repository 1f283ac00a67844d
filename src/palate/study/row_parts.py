"""Parts of a split of rows, as rankers read them: labels apart, requests whole, what is no feature left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.contracts.ranker import Rows
from palate.data.row_split import RowSplit
from palate.data.row_tables import row_blocks
from palate.errors import ConfigError


def part_of(split: RowSplit, part: str, *, groups: bool = False) -> Callable[[], Iterable[Rows]]:
    """Return the rows of a part of a split, in blocks; that of the test part counts as a look.

    Parameters
    ----------
    groups
        Whether rows tell their request; then no request is cut by a block, and rows of a request must stand together.

    Raises
    ------
    ConfigError
        If groups are wanted of a split without any.
    """
    if groups and split.group is None:
        raise ConfigError("this ranker learns from requests.", where="group", remedy="palate split … --group COLUMN --by group")
    blocks = split.tables(part)

    def rows() -> Iterable[Rows]:
        before = 0
        for table in whole_groups(blocks(), str(split.group)) if groups else blocks():
            told = None if not groups else split.group
            kept, at = without(table, split, but=told), np.arange(before, before + table.num_rows)
            before += table.num_rows
            apart: dict[str, Any] = {"group": told, "group_is_field": split.group_is_field, "weight": split.weight}
            yield Rows.of_table(kept, split.labels, **apart, source_rows=at)

    return rows


def whole_groups(blocks: Iterable[pa.Table], group: str) -> Iterator[pa.Table]:
    """Yield blocks that end where a group ends."""
    left: pa.Table | None = None
    for table in blocks:
        whole = table if left is None else pa.concat_tables([left, table]).combine_chunks()
        values = whole.column(group).combine_chunks()
        same = pc.equal(values, values[len(values) - 1]).fill_null(True).to_numpy(zero_copy_only=False)
        begin = len(same) - int(np.argmin(same[::-1])) if not same.all() else 0
        left = whole.slice(begin)
        if begin:
            yield whole.slice(0, begin)
    if left is not None and left.num_rows:
        yield left


def without(table: pa.Table, split: RowSplit, but: str | None = None) -> pa.Table:
    """Return the table without the time by which rows were dealt, and without the group unless it is a field."""
    apart = {split.spec.get("time"), None if split.group_is_field else split.group}
    return table.drop_columns([name for name in apart if name not in (None, but)])


def groups_of(split: RowSplit, part: str) -> np.ndarray | None:
    """Return ``int32[n]``: the group of each row of a part, or ``None``; for the test part this is no look of its own."""
    if split.group is None:
        return None
    values = [table.column(split.group).combine_chunks() for table in row_blocks(split.folder / f"{part}.parquet")()]
    whole = pa.chunked_array(values).dictionary_encode(null_encoding="encode").combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    groups: np.ndarray = whole.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return groups
