"""The made-up marketplace: its schema, folders, funnel, sales, single use, and what titles tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.readers import read
from palate.data.readers.merrec import ATTRIBUTES, EVENTS, KEYS, funnel
from palate.errors import ConfigError, DataError
from palate.simulate.merrec import Marketplace

SMALL = {"users": 300, "seed": 2, "block": 128}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return Marketplace(**SMALL, single_use=0.5).table()


def column(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table.column(name).to_pylist(), dtype=object)


def test_the_schema_is_that_of_merrec(table: pa.Table) -> None:
    assert set(KEYS) | set(ATTRIBUTES) | {"sequence_length"} == set(table.column_names)
    assert set(column(table, "event_id")) == set(EVENTS)
    assert table.schema.field("stime").type == pa.timestamp("us")
    for name in KEYS:
        assert table.column(name).null_count == 0
    for name in ("brand_name", "c2_id", "c1_name", "size_id"):
        assert 0 < table.column(name).null_count < len(table)
    fine, middle = (np.asarray(table.column(n).is_null()) for n in ("c2_id", "c1_id"))
    assert (fine | ~middle).all(), "a finest category without a middle one"


def test_sequences_are_sorted_and_as_long_as_they_say(table: pa.Table) -> None:
    keys = list(zip(column(table, "user_id"), column(table, "sequence_id"), strict=True))
    begins = [at for at in range(len(keys)) if at == 0 or keys[at] != keys[at - 1]]
    assert len(set(keys)) == len(begins), "a sequence is torn apart"
    time, told = table.column("stime").to_numpy(), table.column("sequence_length").to_numpy()
    for start, stop in zip(begins, [*begins[1:], len(keys)], strict=True):
        assert (np.diff(time[start:stop]).astype(np.int64) >= 0).all()
        assert (told[start:stop] == stop - start).all()


def test_the_funnel_narrows_and_what_is_bought_is_gone(table: pa.Table) -> None:
    kind, item, user = (column(table, n) for n in ("event_id", "item_id", "user_id"))
    counts = [int((kind == name).sum()) for name in EVENTS]
    assert counts == sorted(counts, reverse=True) and counts[-1] > 0
    time = table.column("stime").to_numpy()
    sold = np.flatnonzero(kind == "buy_comp")
    assert len(set(item[sold])) == len(sold), "a listing is sold twice"
    for at in sold:
        own = item == item[at]
        assert time[own].max() == time[at] and user[own][time[own] == time[at]][0] == user[at]


@pytest.mark.parametrize(("share", "most"), [(1.0, 1), (0.0, 300)])
def test_single_use_says_how_many_see_a_listing(share: float, most: int) -> None:
    made = Marketplace(**SMALL, single_use=share).table()
    seen: dict[int, set[int]] = {}
    for user, item in zip(column(made, "user_id"), column(made, "item_id"), strict=True):
        seen.setdefault(item, set()).add(user)
    audience = max(len(people) for people in seen.values())
    assert audience <= most
    if share == 0:
        assert audience > 1
        assert len(set(column(made, "product_id"))) < len(seen) < len(made)
    else:
        assert len(set(column(made, "product_id"))) < 0.6 * len(seen), "products don't come back"


def test_a_listing_looks_the_same_wherever_it_is_met_and_its_title_tells_more_than_brand_and_category(table: pa.Table) -> None:
    looks: dict[int, tuple] = {}
    for row in table.select(["item_id", "product_id", *ATTRIBUTES]).to_pylist():
        known = tuple(row.values())
        assert looks.setdefault(row["item_id"], known) == known
    rows = table.select(["name", "brand_name", "c2_name"]).to_pylist()
    known = [(r["name"].lower().split(), r["brand_name"], r["c2_name"]) for r in rows if r["brand_name"] and r["c2_name"]]
    assert all(2 <= len(words) <= 7 for words, _, _ in known)
    for share in (
        np.mean([words[0] == brand for words, brand, _ in known]),
        np.mean([fine in words for words, _, fine in known]),
    ):
        assert 0.7 < share < 0.9
    whole = Marketplace(**SMALL, terse=0.0).table().select(["name", "brand_name"]).to_pylist()
    assert all(r["brand_name"] in (None, r["name"].lower().split()[0]) for r in whole)


def test_people_keep_to_their_tastes() -> None:
    loyal, fickle = (Marketplace(**SMALL, loyalty=share, missing=0.0).table() for share in (0.9, 0.0))

    def most(table: pa.Table) -> float:
        user, brand = column(table, "user_id"), column(table, "brand_id")
        return float(np.mean([np.unique(brand[user == u], return_counts=True)[1].max() / (user == u).sum() for u in range(60)]))

    assert most(loyal) > most(fickle) + 0.1


def test_written_in_a_folder_a_month_and_read_back(tmp_path: Path) -> None:
    market = Marketplace(**SMALL, days=70.0)
    folder = market.write(tmp_path / "merrec")
    months = sorted(p.name for p in folder.iterdir() if p.is_dir())
    assert months == ["20230501", "20230601", "20230701"]
    assert sorted(p.name for p in (folder / "20230501").iterdir()) == [f"{b:012d}.parquet" for b in range(3)]
    files = [pq.read_table(p) for p in sorted(folder.glob("*/*.parquet"))]
    assert sum(len(f) for f in files) == len(market.table())
    data = read(folder)
    assert data.spec[0]["snapshot"] == "first event" and len(data) == len(market.table())
    assert funnel(data) == funnel(market.dataset())
    with pytest.raises(DataError, match="exists already"):
        market.write(folder)


def test_a_sequence_lies_in_one_month_whole(tmp_path: Path) -> None:
    folder = Marketplace(users=400, seed=1, days=70.0).write(tmp_path / "merrec")
    homes: dict[tuple, set[str]] = {}
    for path in folder.glob("*/*.parquet"):
        for row in pq.read_table(path, columns=["user_id", "sequence_id"]).to_pylist():
            homes.setdefault(tuple(row.values()), set()).add(path.parent.name)
    assert all(len(months) == 1 for months in homes.values())


def test_same_settings_same_marketplace_and_a_block_alone_is_the_same() -> None:
    first, second = Marketplace(**SMALL), Marketplace(**SMALL)
    assert first.table().equals(second.table())
    assert first.block(1).equals(second.table().filter(pa.array(np.isin(second.table().column("user_id"), range(128, 256)))))
    assert not Marketplace(**{**SMALL, "seed": 3}).block(0).equals(first.block(0))
    items = [set(column(first.block(b), "item_id")) for b in range(3)]
    assert not items[0] & items[1] and not items[1] & items[2]


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match="single_use"):
        Marketplace(single_use=1.5)
    with pytest.raises(DataError, match="no such block"):
        Marketplace(users=10).block(1)
