"""Memo: ages, one maker at a time, refreshing beside the callers, trouble."""

from __future__ import annotations

import threading
import time

import pytest

from palate.serve.memory.memo import Memo


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_fresh_value_is_given_and_an_old_one_made_anew(clock: Clock) -> None:
    memo, made = Memo(5, 10, clock=clock), iter(range(9))
    assert [memo.get("a", lambda: next(made)) for _ in range(3)] == [0, 0, 0]
    assert memo.get("b", lambda: next(made)) == 1
    clock.now = 10.0
    assert memo.get("a", lambda: next(made)) == 2
    memo.clear()
    assert memo.get("a", lambda: next(made)) == 3
    memo.close()


def test_a_usable_value_is_given_at_once_while_the_next_is_made(clock: Clock) -> None:
    memo, go, calls = Memo(5, 10, clock=clock), threading.Event(), []

    def slow() -> str:
        calls.append(threading.current_thread().name)
        assert go.wait(5)
        return "new"

    assert memo.get("a", lambda: "old") == "old"
    clock.now = 6.0
    assert [memo.get("a", slow) for _ in range(3)] == ["old"] * 3
    go.set()
    memo._maker.submit(lambda: None).result(5)
    assert memo.get("a", slow) == "new"
    assert len(calls) == 1
    assert calls[0] != threading.current_thread().name
    memo.close()


def test_many_who_wait_share_one_making() -> None:
    memo, calls = Memo(5, 10), []

    def slow() -> int:
        calls.append(1)
        time.sleep(0.05)
        return 7

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(memo.get("a", slow))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [7] * 8
    assert len(calls) == 1
    memo.close()


def test_trouble_is_told_and_not_kept(clock: Clock) -> None:
    memo = Memo(5, 10, clock=clock)

    def fail() -> int:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        memo.get("a", fail)
    assert memo.get("a", lambda: 1) == 1
    clock.now = 6.0
    assert memo.get("a", fail) == 1
    memo._maker.submit(lambda: None).result(5)
    with pytest.raises(OSError, match="gone"):
        memo.get("a", fail)
    assert memo.peek("a", lambda: 2) is None
    memo.close()


def test_what_is_begun_is_waited_for_and_made_once(clock: Clock) -> None:
    memo, go, calls = Memo(5, 10, clock=clock), threading.Event(), []

    def slow() -> str:
        calls.append(1)
        assert go.wait(5)
        return "made"

    memo.begin("a", slow)
    memo.begin("a", slow)
    threading.Timer(0.05, go.set).start()
    assert memo.get("a", lambda: "never") == "made" and calls == [1]
    memo.close()
