"""Rows of a marketplace's events as a split on disk: the rows of the library, cut in time, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.protocols.event_row_files import split_event_rows
from palate.data.protocols.event_rows import event_rows
from palate.data.row_split import PARTS, read_row_split
from palate.errors import ConfigError, DataError
from palate.simulate.merrec import Marketplace


@pytest.fixture(scope="module")
def market() -> pa.Table:
    return Marketplace(users=200, seed=2).table()


def test_the_rows_are_those_of_the_library_cut_at_two_moments(market: pa.Table, tmp_path: Path) -> None:
    split = split_event_rows(market, tmp_path / "rows", valid=0.1, test=0.2)
    assert split.labels == ("item_view", "item_like") and split.group == "sequence" and split.spec["time"] == "time"
    assert split.spec["protocol"] == "event_rows" and split.spec["history"] == 7
    parts = [pq.read_table(split.folder / f"{part}.parquet") for part in PARTS]
    times = [np.asarray(part.column("time")) for part in parts]
    assert times[0].max() < times[1].min() and times[1].max() < times[2].min()
    whole = pa.concat_tables(parts)
    rows = event_rows(market)
    assert len(whole) == len(rows) and 0.18 < len(parts[2]) / len(whole) < 0.22
    wanted = rows.features.append_column("item_like", pa.array(rows.labels["item_like"]))
    order = [("user_id", "ascending"), ("time", "ascending"), *((f"hist_{n}", "ascending") for n in range(7, 0, -1))]
    wanted = wanted.append_column("time", pa.array(rows.times)).sort_by(order)
    assert whole.select(wanted.column_names).sort_by(order).equals(wanted)


def test_blocks_give_the_rows_of_one_block_and_numbers_of_their_own_to_sequences(market: pa.Table, tmp_path: Path) -> None:
    folder = tmp_path / "20230501"
    folder.mkdir()
    pq.write_table(market, folder / "000000000000.parquet")
    whole = split_event_rows(folder, tmp_path / "whole")
    small = split_event_rows(folder, tmp_path / "small", block_rows=market.num_rows // 4)
    names = [name for name in pq.read_schema(whole.folder / "train.parquet").names if name != "sequence"]
    order = [(name, "ascending") for name in names if name not in ("price", "color")]
    tables = [pq.read_table(split.folder / "train.parquet") for split in (whole, small)]
    assert tables[0].select(names).sort_by(order).equals(tables[1].select(names).sort_by(order))
    kinds = [len(set(zip(*(t.column(n).to_pylist() for n in ("user_id", "sequence")), strict=True))) for t in tables]
    assert kinds[0] == kinds[1] == len(set(tables[1].column("sequence").to_pylist()))


def test_the_click_through_task_and_histories_as_lists(market: pa.Table, tmp_path: Path) -> None:
    split = split_event_rows(market, tmp_path / "rows", tasks=("item_view",), as_list=True)
    table = next(iter(split.tables("train")()))
    assert split.labels == ("item_view",) and "item_like" not in table.column_names
    assert set(map(len, table.column("history").to_pylist())) == {7} and "hist_1" not in table.column_names


def test_what_is_wrong_is_told_and_nothing_is_written(market: pa.Table, tmp_path: Path) -> None:
    for tasks in ((), ("item_view", "item_view"), ("time",)):
        with pytest.raises(ConfigError, match="different event types"):
            split_event_rows(market, tmp_path / "rows", tasks=tasks)
    with pytest.raises(ConfigError, match="item_click"):
        split_event_rows(market, tmp_path / "rows", tasks=("item_click",))
    with pytest.raises(DataError):
        split_event_rows(market.drop_columns(["event_id"]), tmp_path / "rows")
    with pytest.raises(DataError):
        split_event_rows(market, tmp_path / "rows", min_events=100_000)
    assert not list(tmp_path.iterdir())


def test_a_ranker_reads_it(market: pa.Table, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from palate.rank.mmoe import MMoE
    from palate.study.row_parts import part_of

    split = read_row_split(split_event_rows(market, tmp_path / "rows").folder)
    model = MMoE(dim=4, hidden=(8,), tower=(), epochs=1).fit(part_of(split, "train"), part_of(split, "valid"))
    rows = next(iter(part_of(split, "test")()))
    assert model.predict(rows).values.shape == (len(rows), 2)
    assert {"time", "sequence"}.isdisjoint(f.name for f in model.encoder_.fields)
