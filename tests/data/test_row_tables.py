"""Tables of rows in blocks: files of one folder, pages of large files, and functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.row_tables import row_blocks
from palate.errors import DataError


def test_a_large_row_group_is_read_in_pieces(tmp_path: Path) -> None:
    """While the first block is looked at, little more than it is in memory, however the file was written."""
    n = 400_000
    words = pa.array(np.arange(n) % 1_000).cast(pa.string())
    whole = pa.table({f"c{at}": words for at in range(8)})
    pq.write_table(whole, tmp_path / "rows.parquet", row_group_size=n)
    size = whole.nbytes
    before = pa.total_allocated_bytes()
    blocks = iter(row_blocks(tmp_path / "rows.parquet", block=10_000)())
    first = next(blocks)
    assert first.num_rows == 10_000 and pa.total_allocated_bytes() - before < size / 4
    read = [first, *blocks]
    assert pa.concat_tables(read).equals(whole) and {len(table) for table in read} == {10_000}


def test_files_of_a_folder_have_the_columns_of_the_first(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x", "y"], "b": [1.0, 2.0], "c": [1, 2]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"b": pa.array([3], pa.int32()), "a": ["z"], "more": [True]}), tmp_path / "1.parquet")
    found = pa.concat_tables(row_blocks(tmp_path)())
    assert found.to_pydict() == {"a": ["x", "y", "z"], "b": [1.0, 2.0, 3.0], "c": [1, 2, None]}
    pq.write_table(pa.table({"a": ["z"], "b": ["no number"]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match="row can't be read"):
        list(row_blocks(tmp_path)())


def test_a_file_that_was_cut_short_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1_000))}), tmp_path / "0.parquet")
    content = (tmp_path / "0.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="row can't be read"):
        list(row_blocks(tmp_path)())


def test_a_function_is_called_at_each_pass() -> None:
    blocks = row_blocks(lambda: iter([pa.table({"a": [1]}), pa.table({"a": [2]})]))
    assert [len(list(blocks())) for _ in range(2)] == [2, 2]
    with pytest.raises(DataError, match="can't be read from this"):
        row_blocks(3)
