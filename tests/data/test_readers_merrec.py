"""MerRec's reader: roles, snapshots, the six events, bad rows by name, blocks of whole sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from palate.data import public
from palate.data.protocols.event_rows import event_rows
from palate.data.readers import read, rows_dropped
from palate.data.readers.merrec import EVENTS, SequenceBlocks, funnel, shards_of
from palate.errors import DataError
from palate.simulate.merrec import Marketplace

T = 1_682_899_200


def rows(*events: tuple[Any, ...]) -> pa.Table:
    """Events as (user, sequence, second, event, item, product, name, brand)."""
    user, sequence, second, kind, item, product, name, brand = zip(*events, strict=True)
    return pa.table(
        {
            "user_id": pa.array(user, pa.int64()),
            "sequence_id": pa.array(sequence, pa.string()),
            "session_id": pa.array([f"s{s}" for s in sequence], pa.string()),
            "stime": pa.array([None if s is None else (T + s) * 10**6 for s in second], pa.timestamp("us")),
            "event_id": pa.array(kind, pa.string()),
            "item_id": pa.array(item, pa.int64()),
            "product_id": pa.array(product, pa.string()),
            "name": pa.array(name, pa.string()),
            "price": pa.array([1.0 + s if s is not None else 0.0 for s in second]),
            "brand_name": pa.array(brand, pa.string()),
        }
    )


GOOD = [
    (1, "a", 5, "item_like", 10, "p", "old title", None),
    (1, "a", 3, "item_view", 10, "p", "first title", "acme"),
    (2, "a", 4, "item_view", 11, "p", "another", None),
    (1, "b", 9, "buy_comp", 11, "p", "another", None),
]


def written(folder: Path, *tables: pa.Table) -> Path:
    for number, table in enumerate(tables):
        (folder / "20230501").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "20230501" / f"{number:012d}.parquet")
    return folder


def test_roles_and_first_snapshots(tmp_path: Path) -> None:
    data = read(written(tmp_path / "m", rows(*GOOD[:2]), rows(*GOOD[2:])))
    events = data.interactions
    assert data.users.ids.decode(events.user).to_pylist() == [1, 1, 1, 2]
    assert data.items.ids.decode(events.item).to_pylist() == [10, 10, 11, 11]
    assert events.time.tolist() == [T + 3, T + 5, T + 9, T + 4]
    assert data.actions.decode(events.action).to_pylist() == ["item_view", "item_like", "buy_comp", "item_view"]
    assert data.sessions.decode(events.session).to_pylist() == ["a", "a", "b", "a"]
    assert data.items.column("name").to_pylist() == ["first title", "another"]
    assert data.items.column("brand_name").to_pylist() == ["acme", None]
    assert data.items.column("product_id").to_pylist() == ["p", "p"]
    assert data.items.labels(np.array([0])) == ["first title"]
    assert funnel(data) == dict(zip(EVENTS, [2, 1, 0, 0, 0, 1], strict=True))


@pytest.mark.parametrize("of", ["", "20230501", "20230501/000000000000.parquet"])
def test_all_months_one_month_or_one_file(tmp_path: Path, of: str) -> None:
    whole = written(tmp_path / "m", rows(*GOOD))
    data = read(whole / of, format="merrec")
    assert len(data) == 4 and data.actions is not None
    if not of.endswith("parquet"):
        assert read(whole / of).fingerprint == data.fingerprint, "the layout isn't detected"


def test_products_as_items_and_app_sessions(tmp_path: Path) -> None:
    data = read(written(tmp_path / "m", rows(*GOOD)), columns={"item": "product_id", "session": "session_id"})
    assert data.items.ids.raw.to_pylist() == ["p"] and set(data.sessions.raw.to_pylist()) == {"sa", "sb"}
    assert data.items.column("name").to_pylist() == ["first title"] and data.items.column("item_id") is None


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [(3, "item_click", "none of the six"), (0, None, "missing id of the user"), (4, None, "item"), (2, None, "time"),
     (3, None, "action")],
)  # fmt: skip
def test_bad_rows_are_named_or_dropped(tmp_path: Path, at: int, value: Any, reason: str) -> None:
    wrong = list(GOOD[0])
    wrong[at] = value
    folder = written(tmp_path / "m", rows(*GOOD), rows(GOOD[1], tuple(wrong)))
    with pytest.raises(DataError, match=reason) as caught:
        read(folder)
    assert caught.value.where.endswith("000000000001.parquet, row 2")
    data = read(folder, on_bad_rows="drop")
    assert len(data) == 5 and sum(rows_dropped(data).values()) == 1
    with pytest.raises(DataError) as caught:
        list(SequenceBlocks(folder))
    assert caught.value.where.endswith("000000000001.parquet, row 2")
    blocks = SequenceBlocks(folder, on_bad_rows="drop")
    assert sum(len(b) for b in blocks) == 5 and sum(blocks.dropped.values()) == 1


def test_a_missing_column_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column of MerRec is missing"):
        read(written(tmp_path / "m", rows(*GOOD).drop_columns(["product_id"])))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no Parquet files"):
        read(tmp_path / "empty", format="merrec") if any((tmp_path / "empty").iterdir()) else SequenceBlocks(tmp_path / "empty")


def test_registered_sets_are_found_and_their_counts_asserted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    Marketplace(users=60, seed=1).write(tmp_path / "merrec")
    month = public.load("merrec-2023-05")
    assert month.name == "merrec-2023-05" and set(month.actions.raw.to_pylist()) <= set(EVENTS)
    with pytest.raises(DataError, match="counts that its owner published"):
        public.load("merrec")
    assert "CC BY-NC" in public.info("merrec").licence


def test_blocks_hold_whole_sequences_in_order_whatever_the_files(tmp_path: Path) -> None:
    market = Marketplace(users=200, seed=1, block=64)
    table = market.table()
    mixed = table.take(pa.array(np.random.default_rng(0).permutation(len(table))))
    folder = written(tmp_path / "m", *(mixed.slice(at, 1500) for at in range(0, len(mixed), 1500)))
    found = list(SequenceBlocks(folder, block_rows=2_000))
    assert len(found) > 3 and max(len(b) for b in found) < 5_000
    seen = set()
    for block in found:
        keys = list(zip(block["user_id"].to_pylist(), block["sequence_id"].to_pylist(), strict=True))
        assert keys == sorted(keys)
        own = set(keys)
        assert not own & seen, "a sequence is in two blocks"
        seen |= own
    whole = SequenceBlocks(table, block_rows=10**9)
    one = next(iter(whole))
    assert sum(len(b) for b in found) == len(one) == whole.n_rows
    joined = pa.concat_tables(found).select(one.column_names)
    key = [("user_id", "ascending"), ("sequence_id", "ascending"), ("stime", "ascending")]
    assert joined.sort_by(key)["item_id"].to_pylist() == one["item_id"].to_pylist()


def test_blocks_can_be_gone_through_again_and_leave_nothing_behind(tmp_path: Path) -> None:
    folder = Marketplace(users=60, seed=1).write(tmp_path / "m")
    (tmp_path / "scratch").mkdir()
    blocks = SequenceBlocks(folder, block_rows=500, columns=("price",), scratch=tmp_path / "scratch")
    first, second = list(blocks), list(blocks)
    assert [b.equals(c) for b, c in zip(first, second, strict=True)] == [True] * len(first)
    assert "price" in first[0].column_names and "name" not in first[0].column_names
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.data
def test_a_real_shard_is_as_the_reader_has_it(palate_data: Path) -> None:
    """The six events and no other, sorted blocks, a funnel that narrows, and rows for rankers of it."""
    folder = palate_data / "merrec"
    if not folder.is_dir():
        pytest.skip("no MerRec in PALATE_DATA/merrec: it is public, but never part of Palate")
    blocks = SequenceBlocks(shards_of(folder)[0])
    seen: set[str] = set()
    for block in blocks:
        seen |= set(pc.unique(block.column("event_id")).to_pylist())
        keys = [("user_id", "ascending"), ("sequence_id", "ascending"), ("stime", "ascending")]
        order = pc.sort_indices(block.select([name for name, _ in keys]), sort_keys=keys)
        for name, _ in keys:
            assert block.column(name).take(order).equals(block.column(name)), "a block is sorted"
        assert len(event_rows(block)), "a block has rows for rankers"
    assert seen == set(EVENTS) and not blocks.dropped
    counts = list(funnel(read(shards_of(folder)[0], format="merrec")).values())
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == blocks.n_rows
