"""kill -9 under load: nothing acknowledged is lost, nothing is doubled once the client has repeated the rest."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time

import pytest

from palate.serve.errors import StoreError, Unavailable
from palate.serve.store import Event, GroupWriter, Store

#: Events of a batch.
SIZE = 20

#: A client and a store in one process: eight batches are always under way; a batch's number is printed when it is acknowledged.
PROGRAM = """
import sys, threading
from palate.serve.store import Event, GroupWriter, Store
url, first, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = Store.open(url)
writer, free, said = GroupWriter(store), threading.Semaphore(8), threading.Lock()
def done(number, future):
    future.result()
    with said:
        print(number, flush=True)
    free.release()
for number in range(first, first + 1_000_000):
    free.acquire()
    batch = [Event(f"u{j}", f"i{number % 50}", time=float(number), id=f"{number}-{j}") for j in range(size)]
    writer.add_events(batch).add_done_callback(lambda future, number=number: done(number, future))
"""


def _batch(number: int) -> list[Event]:
    return [Event(f"u{j}", f"i{number % 50}", time=float(number), id=f"{number}-{j}") for j in range(SIZE)]


def _kept(store: Store) -> dict[int, int]:
    """Return how many events of each batch are kept."""
    kept: dict[int, int] = {}
    at = 0
    while (block := store.events_after(at)).num_rows:
        for id_ in block["id"].to_pylist():
            number = int(id_.split("-")[0])
            kept[number] = kept.get(number, 0) + 1
        at = block["n"][-1].as_py()
    return kept


def _write_until_killed(url: str, first: int, seconds: float) -> list[int]:
    """Run the program, kill it; return the acknowledged batches."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, url, str(first), str(SIZE)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    head = process.stdout.readline()
    assert head, "the child never wrote anything"
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    lines = [head, *process.stdout.read().splitlines(keepends=True)]
    process.wait()
    assert process.returncode == -9
    return [int(line) for line in lines if line.endswith("\n")]


def _kill_rounds(url: str, rounds: int) -> None:
    rng, acknowledged, first = random.Random(rounds), set(), 0
    for _ in range(rounds):
        acknowledged.update(_write_until_killed(url, first, rng.uniform(0.01, 0.5)))
        first = max(acknowledged) + 100
    with Store.open(url, wait=20) as store:
        kept = _kept(store)
        assert not acknowledged - kept.keys(), "an acknowledged batch is lost"
        assert set(kept.values()) == {SIZE}, "a batch is torn or doubled"
        sent = set(range(max(acknowledged) + 20))
        with GroupWriter(store, waiting=len(sent)) as writer:
            futures = [writer.add_events(_batch(number)) for number in sorted(sent)]
        repeated = sum(future.result().repeated for future in futures)
        assert repeated == SIZE * len(kept.keys() & sent)
        assert _kept(store) == dict.fromkeys(sent | kept.keys(), SIZE)
        if store.database.dialect == "sqlite":
            with store.database.read() as connection:
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_killed_client_loses_nothing(store_url):
    _kill_rounds(store_url, 2)


@pytest.mark.slow
def test_a_killed_client_loses_nothing_again_and_again(store_url):
    _kill_rounds(store_url, 10)


class _Client(threading.Thread):
    """Sends batches, and each again until it is acknowledged."""

    def __init__(self, writer: GroupWriter, first: int) -> None:
        super().__init__()
        self.writer, self.first, self.sent, self.failed = writer, first, 0, 0
        self.problems: list[BaseException] = []
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            batch = _batch(self.first + self.sent)
            while True:
                try:
                    self.writer.add_events(batch).result(60)
                    break
                except Unavailable as error:
                    self.failed += 1
                    time.sleep(min(error.retry_after, 0.1))
                except Exception as error:
                    self.problems.append(error)
                    return
            self.sent += 1


def _trouble_rounds(postgres, url: str, kinds: list[str]) -> int:
    """Write under load while the server has trouble; return how many batches failed at first."""
    with Store.open(url) as store, GroupWriter(store) as writer:
        clients = [_Client(writer, 1_000_000 * at) for at in range(4)]
        for client in clients:
            client.start()
        for kind in kinds:
            time.sleep(0.3)
            if kind == "backend":
                postgres.kill_backend()
            elif kind == "restart":
                postgres.restart()
            else:
                postgres.crash()
                postgres.start()
            _until_it_answers(store)
        time.sleep(0.3)
        for client in clients:
            client.ending.set()
        for client in clients:
            client.join()
        assert [client.problems for client in clients] == [[]] * 4
        assert all(client.sent for client in clients)
        wanted = {client.first + at for client in clients for at in range(client.sent)}
        assert _kept(store) == dict.fromkeys(wanted, SIZE)
        return sum(client.failed for client in clients)


def _until_it_answers(store: Store) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            store.check()
            return
        except StoreError as error:
            assert isinstance(error, Unavailable), error
            assert time.monotonic() < until, "the store did not come back"
            time.sleep(0.05)


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_server_in_trouble_loses_nothing(postgres, store_url, kind):
    assert _trouble_rounds(postgres, store_url, ["backend", "crash"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_server_in_trouble_loses_nothing_again_and_again(postgres, store_url, kind):
    _trouble_rounds(postgres, store_url, ["backend", "crash", "restart"] * 2)
