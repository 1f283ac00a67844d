"""Full disks, locks and lost files: a clear error with advice, and recovery without a restart."""

from __future__ import annotations

import sqlite3
import threading
import time

import pytest
from sqlalchemy import event

from palate.errors import ConfigError
from palate.serve.errors import StoreError, Unavailable
from palate.serve.store import Event, GroupWriter, Store


def _big(at: int) -> list[Event]:
    return [Event(f"u{at}-{j}", "i", context={"x": "y" * 2_000}, id=f"{at}-{j}") for j in range(50)]


def _fill(store: Store, most: int = 100) -> int:
    """Write until the disk is full; return the batches that were acknowledged."""
    for at in range(most):
        try:
            store.add_events(_big(at))
        except Unavailable as error:
            assert "full" in error.what and error.retry_after > 0 and "INSERT" not in str(error)
            return at
    raise AssertionError("the disk never was full")


def test_a_full_disk(small_disk):
    with Store.open(f"sqlite:///{small_disk / 'p.db'}") as store:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 600_000)
        written = _fill(store)
        with pytest.raises(Unavailable):
            store.add_events(_big(written))
        assert store.position() == 50 * written, "what was acknowledged can be read still"
        ballast.unlink()
        assert store.add_events(_big(written)).stored == 50
        assert store.position() >= 50 * (written + 1) and store.check() > 0
        with store.database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_full_file(tmp_path):
    with Store.open(f"sqlite:///{tmp_path / 'p.db'}") as store, GroupWriter(store) as writer:
        store.database.engine.dispose()

        @event.listens_for(store.database.engine, "connect")
        def limit(connection: sqlite3.Connection, record: object) -> None:
            connection.execute("PRAGMA max_page_count=200")

        written = _fill(store)
        with pytest.raises(Unavailable, match="full"):
            writer.add_events(_big(written)).result(10)
        event.remove(store.database.engine, "connect", limit)
        store.database.engine.dispose()
        with store.database.outside() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")
        assert writer.add_events(_big(written)).result(10).stored == 50
        assert store.count_of("u0-0") == 1 and store.position() >= 50 * (written + 1)


def test_an_exclusive_lock_of_another_program(tmp_path):
    with Store.open(f"sqlite:///{tmp_path / 'p.db'}", wait=0.3) as store:
        other = sqlite3.connect(tmp_path / "p.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with pytest.raises(Unavailable) as told:
            store.add_events([Event("u", "i")])
        assert 0.25 < time.monotonic() - started < 3 and told.value.retry_after > 0 and "locked" in told.value.what
        assert store.position() == 0, "readers go on"
        other.execute("ROLLBACK")
        other.close()
        assert store.add_events([Event("u", "i")]).stored == 1


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "p.db").write_bytes(b"dear diary " * 1_000)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(f"sqlite:///{tmp_path / 'p.db'}")


def test_a_place_that_can_not_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'p.db'}")


def test_only_the_owner_reads_the_file(tmp_path):
    with Store.open(f"sqlite:///{tmp_path / 'new' / 'p.db'}") as store:
        store.add_events([Event("u", "i")])
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    assert set(modes.values()) == {0o600} and "p.db-wal" in modes


def test_synchronous_is_as_asked(tmp_path):
    for word, number in (("FULL", 2), ("NORMAL", 1)):
        with Store.open(f"sqlite:///{tmp_path / word}.db", synchronous=word) as store, store.database.write() as connection:
            found = [
                connection.exec_driver_sql(f"PRAGMA {n}").scalar() for n in ("synchronous", "foreign_keys", "secure_delete")
            ]
            assert found == [number, 1, 1] and connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with pytest.raises(ConfigError):
        Store.open(f"sqlite:///{tmp_path / 'x'}.db", synchronous="OFF")


def test_many_threads_at_once(store):
    problems: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for at in range(10):
                store.add_events([Event(name, f"i{at}", id=f"{name}-{at}")])
                assert store.events_of(name)[-1].item == f"i{at}"
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(f"u{at}",)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [] and store.position() == 80
