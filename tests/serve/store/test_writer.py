"""GroupWriter: many at once in one transaction, each batch for itself."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from palate.errors import DataError
from palate.serve.errors import BusyError, ConflictError, NotFound, Unavailable
from palate.serve.store import Event, Exposure, Feedback, GroupWriter, Search, Shown, Slate, Store


@pytest.fixture
def writer(store):
    with GroupWriter(store) as made:
        yield made


def _hold(store: Store) -> threading.Event:
    """Keep others from writing until the event is set."""
    free, held = threading.Event(), threading.Event()

    def wait() -> None:
        with store.database.write():
            held.set()
            free.wait(10)

    threading.Thread(target=wait).start()
    assert held.wait(5)
    return free


def test_a_bad_batch_harms_nobody(store, writer):
    store.add_events([Event("u", "i", id="known")])
    free = _hold(store)
    good = [writer.add_events([Event("a", f"i{at}", id=f"a{at}")]) for at in range(3)]
    bad = writer.add_events([Event("b", "i"), Event("b", "")])
    clash = writer.add_events([Event("b", "i"), Event("b", "j", id="known")])
    same = writer.add_events([Event("a", "i0", id="a0"), Event("c", "i")])
    other = writer.add_events([Event("d", "i"), Event("z", "i0", id="a0")])
    free.set()
    assert [f.result(5).stored for f in good] == [1, 1, 1]
    with pytest.raises(DataError) as told:
        bad.result(5)
    assert told.value.where == "events[1].item"
    for future in (clash, other):
        with pytest.raises(ConflictError):
            future.result(5)
    done = same.result(5)
    assert (done.stored, done.repeated) == (1, 1)
    assert [store.count_of(u) for u in "abcdz"] == [3, 0, 1, 0, 0]


def test_all_kinds_go_together(store, writer):
    store.add_experiment("e", {})
    free = _hold(store)
    futures = [
        writer.add_feedback([Feedback("s", "a")]),
        writer.add_slate(Slate("s", (Shown("a", 1, 1.0),))),
        writer.add_events([Event("u", "a")]),
        writer.add_searches([Search("x")]),
        writer.add_exposures([Exposure("e", "u", "v")]),
    ]
    lost = writer.add_feedback([Feedback("none", "a")])
    free.set()
    assert [f.result(5).stored for f in futures] == [1] * 5
    with pytest.raises(NotFound):
        lost.result(5)


def test_an_acknowledged_event_is_there(store, writer):
    async def send() -> None:
        for at in range(20):
            added = await asyncio.wrap_future(writer.add_events([Event("u", f"i{at}")]))
            assert store.events_of("u")[-1].item == f"i{at}" and added.position == at + 1

    asyncio.run(send())


def test_too_much_at_once_is_refused(store):
    with GroupWriter(store, waiting=3) as writer:
        free = _hold(store)
        taken = []
        with pytest.raises(BusyError) as told:
            taken.extend(writer.add_events([Event("u", f"i{at}")]) for at in range(10))
        assert told.value.retry_after > 0 and len(taken) >= 3
        free.set()
        assert all(f.result(5).stored == 1 for f in taken)
    assert store.count_of("u") == len(taken)


def test_closing_writes_what_waits(store):
    writer = GroupWriter(store, rows=7)
    free = _hold(store)
    futures = [writer.add_events([Event("u", f"i{at}-{j}") for j in range(3)]) for at in range(20)]
    threading.Timer(0.2, free.set).start()
    writer.close()
    assert all(f.done() and f.result().stored == 3 for f in futures) and store.count_of("u") == 60
    with pytest.raises(BusyError):
        writer.add_events([Event("u", "i")])
    writer.close()


def test_a_lock_fails_what_waits_and_the_next_goes_through(store):
    other = Store.open(store.database.engine.url.render_as_string(hide_password=False), wait=0.3)
    with other, GroupWriter(other) as writer:
        free = _hold(store)
        with pytest.raises(Unavailable):
            writer.add_events([Event("u", "i", id="x")]).result(5)
        free.set()
        assert writer.add_events([Event("u", "i", id="x")]).result(5).stored == 1


def test_a_future_that_was_given_up_is_not_written(store, writer):
    free = _hold(store)
    first = writer.add_events([Event("u", "i")])
    while writer.depth:
        pass
    second = writer.add_events([Event("v", "i")])
    assert second.cancel()
    free.set()
    assert first.result(5).stored == 1 and writer.add_events([Event("w", "i")]).result(5).stored == 1
    assert store.count_of("v") == 0


def test_slates_wait_for_company_but_hold_up_nobody(store: Any) -> None:
    with GroupWriter(store) as writer:
        writer.add_events([Event("u", "i")]).result()
        futures = [writer.add_slate(Slate(f"patient{n}", [Shown("i", 1, 0.5)])) for n in range(5)]
        started = time.perf_counter()
        writer.add_events([Event("u", "j")]).result()
        assert time.perf_counter() - started < 1.0
        assert all(future.result(timeout=2).stored == 1 for future in futures)
