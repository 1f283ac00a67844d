"""Events of the store: all or nothing, harmless when repeated, read by person, by number and as counts."""

from __future__ import annotations

import threading

import pytest

from palate.errors import DataError
from palate.serve.errors import ConflictError
from palate.serve.store import Event, Store
from palate.serve.store.past import Past


def test_events_come_back_as_they_were(store):
    given = [
        Event("u", "i", "buy", 2.5, 100.25, "s", {"page": {"deep": [1, 2.5, None, "é"]}}, "e1"),
        Event("u", "j", time=50.0),
        Event("v", "i", value=-1.0),
    ]
    assert store.add_events(given).stored == 3
    found = store.events_of("u")
    assert [(e.item, e.type, e.value, e.time, e.session, e.context, e.id) for e in found] == [
        ("j", "view", None, 50.0, None, {}, None),
        ("i", "buy", 2.5, 100.25, "s", {"page": {"deep": [1, 2.5, None, "é"]}}, "e1"),
    ]
    assert store.events_of("v")[0].time > 1_700_000_000, "without a time it happened now"
    assert store.user("v") is not None and store.item("j").title == ""


def test_the_latest_come_oldest_first(store):
    store.add_events([Event("u", f"i{at}", time=float(at % 5)) for at in range(10)])
    assert [e.item for e in store.events_of("u", 4)] == ["i3", "i8", "i4", "i9"]
    assert [e.n for e in store.events_of("u", after=8)] == [9, 10]
    assert store.count_of("u") == 10 and store.events_of("nobody") == []


def test_repeating_is_harmless(store):
    first = [Event("u", "i", time=1.0, id="a"), Event("u", "j", id="b")]
    assert store.add_events(first).stored == 2
    again = store.add_events([*first, Event("u", "k", id="c"), Event("u", "i", id="a")])
    assert (again.stored, again.repeated, again.position) == (1, 3, 3)
    assert store.count_of("u") == 3


def test_another_content_under_an_id_is_a_conflict(store):
    store.add_events([Event("u", "i", time=1.0, id="a", context={"x": 1})])
    for other in (
        Event("v", "i", time=1.0, id="a", context={"x": 1}),
        Event("u", "i", time=2.0, id="a", context={"x": 1}),
        Event("u", "i", time=1.0, id="a"),
        Event("u", "i", time=1.0, id="a", context={"x": 1}, value=0.0),
    ):
        with pytest.raises(ConflictError) as told:
            store.add_events([Event("w", "i"), other])
        assert told.value.where == "events[1].id" and told.value.value == "a"
    with pytest.raises(ConflictError):
        store.add_events([Event("w", "i", id="b"), Event("w", "j", id="b")])
    assert store.position() == 1 and store.user("w") is None, "nothing of a refused batch stays"


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("value", float("nan")),
        ("value", 10**400),
        ("value", True),
        ("time", 1.7e12),
        ("time", "now"),
        ("type", ""),
        ("session", "\x00"),
        ("id", 7),
        ("context", [1]),
        ("context", {"x": float("inf")}),
        ("context", {"x": "\ud800"}),
        ("context", {"x": object()}),
    ],
)
def test_a_bad_row_is_named_and_nothing_written(tmp_path_factory, field, bad):
    with Store.open(f"sqlite:///{tmp_path_factory.mktemp('bad') / 'p.db'}", synchronous="NORMAL") as store:
        with pytest.raises(DataError) as told:
            store.add_events([Event("u", "i"), Event("u", "i", **{field: bad})])
        assert told.value.where.startswith(f"events[1].{field}")
        assert store.position() == 0 and store.users() == []


def test_deep_contexts_do_not_break_it(store):
    deep: dict = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(DataError):
        store.add_events([Event("u", "i", context=deep)])


def test_events_after_a_number_are_columns(store):
    store.add_events([Event("u", f"i{at}", value=1.0 if at else None) for at in range(5)])
    first = store.events_after(0, 3)
    assert first["n"].to_pylist() == [1, 2, 3] and first["value"].to_pylist() == [None, 1.0, 1.0]
    assert store.events_after(3, 3)["item"].to_pylist() == ["i3", "i4"]
    assert store.events_after(5, 3).num_rows == 0 and store.events_after(5, 3).schema == first.schema


def test_a_tally_is_of_a_window_of_numbers_and_of_types(store):
    store.add_events(
        [
            Event("u", "old", time=10.0),
            *(Event(f"u{at}", "a", time=100.0 + at) for at in range(3)),
            *(Event(f"u{at}", "b", "buy", time=100.0 + at) for at in range(2)),
            *(Event(f"u{at}", "c", time=105.0) for at in range(2)),
        ]
    )
    assert store.tally(100.0) == {"a": 3, "b": 2, "c": 2}
    assert store.tally(100.0, types=("buy",)) == {"b": 2}
    assert store.tally(100.0, 102.0) == {"a": 2, "b": 2}
    assert store.tally(0.0, types=("buy", "view")) == {"old": 1, "a": 3, "b": 2, "c": 2}
    assert store.tally(0.0, after=1, upto=5) == {"a": 3, "b": 1}
    assert store.tally(101.0, after=1, upto=5) == {"a": 2}
    assert store.tally(0.0, 101.0, upto=3) == {"old": 1, "a": 1}
    assert store.tally(1_000.0) == {}


def test_counts_and_histories_use_an_index(store, kind):
    if kind == "sqlite":
        queries = (
            'SELECT item, count(*) FROM events WHERE "time" >= 5 GROUP BY item',
            """SELECT * FROM events WHERE "user" = 'u' ORDER BY "time" DESC, n DESC LIMIT 10""",
        )
        with store.database.read() as connection:
            found = [connection.exec_driver_sql("EXPLAIN QUERY PLAN " + query).all() for query in queries]
        plans = [" ".join(row[3] for row in rows) for rows in found]
        assert "COVERING INDEX events_by_time" in plans[0]
        assert "INDEX events_by_user" in plans[1] and "TEMP" not in plans[1]
    else:
        with store.database.read() as connection:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
            rows = connection.exec_driver_sql(
                """EXPLAIN SELECT * FROM events WHERE "user" = 'u' ORDER BY "time" DESC, n DESC LIMIT 10"""
            )
            plan = " ".join(row[0] for row in rows)
        assert "events_by_user" in plan and "Sort" not in plan


def test_many_ids_are_looked_up_by_index(store, kind):
    if kind == "sqlite":
        with store.database.read() as connection:
            rows = connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN SELECT * FROM events WHERE id IN ({','.join(['?'] * 500)})", ("x",) * 500
            )
            assert "INDEX events_by_id" in rows.one()[3]
        return
    with store.database.write() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        words = ",".join(f"'x{at}'" for at in range(500))
        rows = connection.exec_driver_sql(f"EXPLAIN SELECT * FROM events WHERE id IN ({words})")
        assert "events_by_id" in " ".join(row[0] for row in rows)


def test_numbers_are_never_given_twice(store):
    store.add_events([Event("u", "i"), Event("v", "i")])
    store.erase_user("v", scrub=False)
    assert store.add_events([Event("w", "i")]).position == 3


def test_a_reader_never_misses_a_number(store, store_url):
    """Whoever follows by position sees every event once, though several processes write at once."""
    done = threading.Event()
    seen: list[int] = []

    def follow() -> None:
        at = 0
        while True:
            last = done.is_set()
            block = store.events_after(at, 50)
            seen.extend(block["n"].to_pylist())
            at = seen[-1] if seen else 0
            if last and not block.num_rows:
                return

    def write(name: str) -> None:
        with Store.open(store_url, wait=30) as own:  # its own connections and locks, as in a process of its own
            for at in range(15):
                own.add_events([Event(name, f"i{at}-{j}") for j in range(3)])

    reader = threading.Thread(target=follow)
    writers = [threading.Thread(target=write, args=(f"u{at}",)) for at in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert seen == list(range(1, 181))
    assert [revision for revision, _ in store.items_after(0)] == list(range(1, 46))


def test_a_history_is_that_of_the_events_to_the_last_bit(store):
    times = [1.0, 1_764_000_000.123456789, 0.1 + 0.2, 1e-9, 1_764_000_000.1234568]
    items = ["plain", 'quo"te', "com,ma", "é\u2028😀", "back\\slash"]
    store.add_events([Event("u", item, time=time) for item, time in zip(items, times, strict=True)])
    expected = [(e.item, e.time) for e in store.events_of("u")]
    found = store.past_of("u")
    assert list(zip(*found[:2], strict=True)) == expected
    assert found.times == sorted(times)
    latest = store.past_of("u", limit=2)
    assert list(zip(*latest[:2], strict=True)) == expected[-2:]
    assert store.past_of("nobody") == Past([], [], []) == store.past_of(None)
    assert list(zip(*store.past_of("u", before=expected[-1][1])[:2], strict=True)) == expected[:-2]  # two are of one moment
    assert store.past_of("u", limit=1, before=expected[2][1]) == Past([expected[1][0]], [expected[1][1]], [])


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 700])
def test_batches_of_any_length_are_written_whole(store, count):
    batch = [Event(f"u{n % 7}", f"i{n}", value=float(n), id=f"e{n}") for n in range(count)]
    assert store.add_events(batch).stored == count
    assert store.add_events(batch).repeated == count
    table = store.events_after(0, 10_000)
    assert table.column("item").to_pylist() == [event.item for event in batch]
    assert table.column("value").to_pylist() == [event.value for event in batch]
    assert sum(store.count_of(f"u{n}") for n in range(7)) == count
