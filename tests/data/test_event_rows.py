"""Rows of events by hand, id maps that are filled, splits and their leaks, streams."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.ranker import Rows
from palate.data.protocols.event_rows import IdMaps, RowStream, event_rows, part_of, split_rows
from palate.data.readers.merrec import EVENTS, SequenceBlocks
from palate.errors import ConfigError, DataError, LeakError
from palate.simulate.merrec import Marketplace


def events(*sequences: tuple[int, str, str]) -> pa.Table:
    """Sequences as (user, number, products); a capital letter is a like, else a view; a second an event."""
    rows = [(u, s, at, p) for u, s, products in sequences for at, p in enumerate(products)]
    return pa.table(
        {
            "user_id": [r[0] for r in rows],
            "sequence_id": [r[1] for r in rows],
            "session_id": ["x"] * len(rows),
            "stime": pa.array([1000 * r[0] + r[2] for r in rows], pa.int64()),
            "event_id": ["item_like" if r[3].isupper() else "item_view" for r in rows],
            "product_id": [r[3].lower() for r in rows],
            "color": ["red" if r[2] % 2 else None for r in rows],
        }
    )


@pytest.fixture(scope="module")
def market() -> pa.Table:
    return next(iter(SequenceBlocks(Marketplace(users=150, seed=4).table())))


def test_rows_by_hand() -> None:
    rows = event_rows(events((1, "1", "abcdefgHi"), (1, "2", "abc"), (2, "1", "abcdefga")))
    assert rows.features.column_names == ["user_id", "product_id", "color", *(f"hist_{k}" for k in range(1, 8))]
    assert rows.features["product_id"].to_pylist() == ["h", "i", "a"]
    history = [[rows.features[f"hist_{k}"][r].as_py() for k in range(1, 8)] for r in range(3)]
    assert ["".join(h) for h in history] == ["abcdefg", "bcdefgh", "abcdefg"]
    assert {task: v.tolist() for task, v in rows.labels.items()} == {"item_view": [0, 1, 1], "item_like": [1, 0, 0]}
    assert rows.groups.tolist() == [0, 0, 2] and rows.places.tolist() == [7, 8, 7]
    assert rows.times.tolist() == [1007, 1008, 2007]
    listed = event_rows(events((1, "1", "abcdefgHi")), as_list=True, tasks=("item_view",))
    assert listed.features["history"].to_pylist() == [list("abcdefg"), list("bcdefgh")]


def test_rows_are_those_of_a_ranker(market: pa.Table) -> None:
    rows = event_rows(market, tasks=EVENTS)
    made = Rows(rows.features, rows.labels, groups=rows.groups)
    assert len(made) == len(rows) > 500
    assert (sum(rows.labels.values()) == 1).all(), "every row is exactly one event type"


def published(table: pa.Table) -> dict[str, list[int]]:
    """The published numbering: looks a value up in a map to which nothing is ever added."""
    maps: dict[str, dict[str, int]] = {"product_id": {}, "color": {}}
    return {name: [known.get(v, len(known)) for v in table[name].to_pylist()] for name, known in maps.items()}


def test_maps_that_are_never_filled_make_products_and_histories_constant_and_filled_ones_do_not(market: pa.Table) -> None:
    lost = published(market)
    flat = market.set_column(market.column_names.index("product_id"), "product_id", pa.array(lost["product_id"]))
    flat = flat.set_column(market.column_names.index("color"), "color", pa.array(lost["color"]))
    names = ["product_id", "color", *(f"hist_{k}" for k in range(1, 8))]
    constant = event_rows(flat).features
    assert [len(set(constant[name].to_pylist())) for name in names] == [1] * 9
    rows = event_rows(market)
    maps = IdMaps.learn([rows.features])
    found = maps.encode(rows.features)
    distinct = len(set(market["product_id"].to_pylist()))
    assert len(set(found["product_id"].to_pylist())) > 0.5 * distinct
    for k in range(1, 8):
        raw, number = rows.features[f"hist_{k}"].to_pylist(), found[f"hist_{k}"].to_numpy()
        assert len(set(number.tolist())) == len(set(raw)), "two products share a number"
    same = np.asarray(rows.features["hist_7"]) == np.asarray(rows.features["product_id"])
    assert 0 < same.mean() < 1
    np.testing.assert_array_equal(found["hist_7"].to_numpy() == found["product_id"].to_numpy(), same)


def test_id_maps_by_hand() -> None:
    train, later = event_rows(events((1, "1", "abcdefghi"))), event_rows(events((2, "1", "zbcdefgy")))
    maps = IdMaps.learn([train.features])
    first, second = maps.encode(train.features), maps.encode(later.features)
    assert first["hist_1"].to_pylist() == [maps.maps["product_id"].number("a") + 2, maps.maps["product_id"].number("b") + 2]
    assert (
        second["hist_1"].to_pylist() == [1] and second["product_id"].to_pylist() == [1] and second["user_id"].to_pylist() == [1]
    )
    assert first["color"].to_pylist() == [2, 0]
    assert maps.size("product_id") == maps.size("hist_3") == 9 + 2
    listed = event_rows(events((1, "1", "abcdefghi")), as_list=True)
    together = IdMaps.learn([listed.features]).encode(listed.features)["history"].to_pylist()
    assert len(together) == 2 and together[0][1:] == together[1][:-1]
    with pytest.raises(DataError, match="not learnt"):
        maps.encode(pa.table({"size_id": [1]}))


def test_a_cut_in_time_has_no_leak_and_random_rows_have_one(market: pa.Table) -> None:
    rows = event_rows(market)
    split = split_rows(rows)
    assert split.train.times.max() < split.valid.times.min() <= split.valid.times.max() < split.test.times.min()
    assert len(split.train) + len(split.valid) + len(split.test) == len(rows)
    assert split.audit().findings == ()
    drawn = split_rows(rows, order="random", seed=3)
    assert len(drawn.test) == round(len(rows) * 0.1)
    with pytest.raises(LeakError, match="history of a training row"):
        drawn.audit()
    codes = ("window-in-train", "future-in-train")
    found = drawn.audit(accept=codes)
    assert {f.code for f in found.findings} == set(codes)
    share = next(f for f in found.findings if f.code == "window-in-train").count / (len(drawn.valid) + len(drawn.test))
    assert share > 0.5
    again = split_rows(rows, order="random", seed=3)
    np.testing.assert_array_equal(again.test.places, drawn.test.places)


def test_a_leak_by_hand() -> None:
    rows = event_rows(events((1, "1", "abcdefghi"), (2, "1", "abcdefgh")), tasks=("item_view",))
    from palate.data.protocols.event_rows import RowSplit

    mask = np.array([False, True, True])
    leak = RowSplit(rows.take(mask), rows.take(np.zeros(3, bool)), rows.take(~mask), {})
    assert leak._windows().count == 1, "event 7 stands in the history of event 8"
    fine = RowSplit(rows.take(~mask), rows.take(np.zeros(3, bool)), rows.take(mask), {})
    assert fine._windows() is None and fine._future() is None


def test_a_session_as_a_feature_is_warned_of(market: pa.Table) -> None:
    rows = event_rows(market, features=("product_id", "session_id"))
    found = split_rows(rows, order="random").audit(accept=("window-in-train", "future-in-train"))
    assert "session-feature" in {f.code for f in found.findings}
    assert "session_id" not in event_rows(market).features.column_names


def test_a_stream_gives_the_rows_of_the_whole(market: pa.Table) -> None:
    rows = event_rows(market)
    split = split_rows(rows)
    blocks = SequenceBlocks(market, block_rows=1_500)
    assert sum(1 for _ in blocks) > 2
    stream = RowStream(blocks)
    assert stream.borders == (split.spec["valid_at"], split.spec["test_at"])
    for name in ("train", "valid", "test"):
        whole = getattr(split, name)
        parts = list(stream.part(name))
        assert sum(len(p) for p in parts) == len(whole)
        assert sorted(np.concatenate([p.times for p in parts]).tolist()) == sorted(whole.times.tolist())
        for part in parts:
            Rows(part.features, part.labels, groups=part.groups)


def test_wrong_input(market: pa.Table) -> None:
    with pytest.raises(ConfigError, match="no event type"):
        event_rows(market, tasks=("item_click",))
    with pytest.raises(ConfigError, match="min_events"):
        event_rows(market, min_events=7)
    with pytest.raises(DataError, match="don't stand together"):
        event_rows(market.take(pa.array(np.arange(len(market))[::-1])))
    with pytest.raises(DataError, match="don't stand together"):
        event_rows(pa.concat_tables([events((1, "1", "abc")), events((2, "1", "abc")), events((1, "1", "abc"))]))
    with pytest.raises(DataError, match="no rows"):
        split_rows(event_rows(events((1, "1", "abc"))))
    with pytest.raises(ConfigError, match="order"):
        split_rows(event_rows(market), order="rows")  # type: ignore[arg-type]
    assert part_of(np.array([1, 5, 9]), 5, 9).tolist() == [0, 1, 2]
