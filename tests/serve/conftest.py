"""Fixtures of the service: one PostgreSQL server a run, one database a module, and stores of both kinds."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


def _servers() -> ModuleType:
    name = "palate_test_servers"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("servers.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def postgres(left_out) -> Iterator[object]:
    """A PostgreSQL server; the tests are skipped where none can be had, and fail where continuous integration has none."""
    servers = _servers()
    reason = servers.why_not()
    if reason is not None:
        left_out(reason)
    server = servers.PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def postgres_url(postgres) -> str:
    """URL of a database of this module."""
    return postgres.database()


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request) -> str:
    """Both kinds of store, one after the other."""
    return request.param


@pytest.fixture
def store_url(kind, tmp_path, request) -> str:
    """URL of an empty store."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'palate.db'}"
    import psycopg

    url = request.getfixturevalue("postgres_url")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


@pytest.fixture
def small_disk(tmp_path, left_out) -> Iterator[Path]:
    """A folder on a disk of two megabytes; only root can mount one, so continuous integration must run as root (or fails)."""
    place = tmp_path / "disk"
    place.mkdir()
    done = os.geteuid() == 0 and shutil.which("mount") is not None
    if done:
        words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
        done = subprocess.run(words, capture_output=True).returncode == 0
    if not done:
        left_out("a small disk can only be mounted by root; the store's test of a page limit is like it")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def clock() -> Callable[[], float]:
    """A clock that moves by a second at every look."""
    now = [1_700_000_000.0]

    def look() -> float:
        now[0] += 1.0
        return now[0]

    return look


@pytest.fixture
def store(store_url, clock):
    """An empty store."""
    from palate.serve.store import Store

    with Store.open(store_url, clock=clock, wait=2.0) as opened:
        yield opened
