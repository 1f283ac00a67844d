"""Served processes: one with nothing else said, one with a bundle and settings, and Ctrl-C in the middle of a request."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from palate.progress import ProgressEvent
from palate.serve.clients.client import Client, ServiceError
from palate.serve.run import home, prepared, serve_bundle
from palate.serve.settings import ServiceSettings
from palate.serve.store import ItemRow, Store

PEOPLE, FILMS, RATINGS = 943, 1_682, 100_000


@contextmanager
def serving(place: Path, *words: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run ``palate serve`` in a folder until it says what to type next; give the process and the lines said so far."""
    command = [sys.executable, "-m", "palate.cli.main", "serve", "--port", "0", *words]
    out, err = subprocess.PIPE, (place / "stderr").open("w")
    with err, subprocess.Popen(command, stdout=out, stderr=err, text=True, cwd=place, env={**os.environ, **more}) as process:
        try:
            assert process.stdout is not None
            said: list[str] = []
            while not said or not (said[-1].startswith("Ctrl-C") or said[-1].rstrip() == "}"):
                line = process.stdout.readline()
                assert line, (said, (place / "stderr").read_text())
                said.append(line)
            yield process, said
        finally:
            process.kill()


def film_fans(folder: Path) -> None:
    """Write made-up ratings as large as MovieLens 100K: each film is rated, and by whom depends on the film."""
    rng = np.random.default_rng(0)
    liked = rng.random((PEOPLE, FILMS)) / (1 + np.arange(FILMS) // 40)
    liked[np.arange(FILMS) % PEOPLE, np.arange(FILMS)] = 2.0  # each has somebody, and somebody has each
    pairs = np.argpartition(-liked.ravel(), RATINGS)[:RATINGS]
    user, film = np.divmod(pairs, FILMS)
    rows = np.column_stack([user + 1, film + 1, rng.integers(1, 6, RATINGS), 880_000_000 + np.arange(RATINGS)])
    folder.mkdir(parents=True)
    np.savetxt(folder / "u.data", rows, fmt="%d", delimiter="\t")


def test_with_nothing_else_it_makes_its_data_its_model_and_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film_fans(tmp_path / "cache" / "ml-100k")
    for name, value in (("XDG_DATA_HOME", tmp_path / "share"), ("PALATE_CACHE", tmp_path / "cache"), ("PALATE_DATA", "")):
        monkeypatch.setenv(name, str(value))
    with serving(tmp_path) as (process, said):
        told = {line.split()[0]: line.split()[1] for line in said if line.startswith("  ")}
        url = said[0].split()[-1]
        key_file = tmp_path / "share" / "palate" / "service" / "admin.key"
        assert told["key"] == key_file.read_text().strip() and key_file.stat().st_mode & 0o777 == 0o600
        progress = (tmp_path / "stderr").read_text()
        assert "Load events: 100000 of 100000 done" in progress and "Load: 1 of 1 done" in progress
        with Client(url, told["key"]) as client:
            assert client.ready().model == told["model"] and told["model"].startswith("ease-")
            slate = client.recommend(user="7", k=5)
            assert len(slate.items) == 5 and not slate.cold
        with Client(url) as client, pytest.raises(ServiceError) as refused:
            client.recommend(user="7")
        assert refused.value.status == 401
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stdout is not None and "nothing under way was dropped" in process.stdout.read()
    stages: list[ProgressEvent] = []
    settings = ServiceSettings().replace(store={"url": f"sqlite:///{home() / 'palate.db'}"})
    with prepared(settings, demo=home(), progress=stages.append) as again:
        active = again.service.shelf.active
        assert active is not None and active.version == told["model"] and again.key is None
        assert {event.stage for event in stages} == {"Load"}, "the second start neither loads nor fits"


def test_a_bundle_is_not_served_from_a_store_of_something_else(
    work: Path, tmp_path: Path, palate: Callable[..., Result]
) -> None:
    url = f"sqlite:///{tmp_path / 'films.db'}"
    with Store.open(url) as store:
        store.put_items([ItemRow(id="film")])
    told = palate("serve", "--store", url, "--bundle", str(work / "model"), "--port", "0", code=2).output
    assert "none of the bundle's items" in told and "--store" in told
    with Store.open(url) as store:
        assert store.models() == [], "nothing was published"
        store.put_items([ItemRow(id="3")])
        assert store.model(serve_bundle(store, work / "model")).state == "active"
        assert store.sizes()["items"] == 2, "a store with items keeps to its own"


def test_ctrl_c_drains_a_request_under_way(work: Path, tmp_path: Path) -> None:
    (tmp_path / "palate.toml").write_text(
        f"[store]\nurl = 'sqlite:///{tmp_path / 'own.db'}'\n"
        "[server]\ninsecure_loopback = true\nconsole = false\nmax_k = 7\n"
        "[pipeline]\nsources = [{ kind = 'model' }]\n"
    )
    words = ("--bundle", str(work / "model"), "--config", "palate.toml", "--json")
    with serving(tmp_path, *words) as (process, said):
        facts = json.loads("".join(said))
        assert facts["model"].startswith("ease-") and facts["store"].endswith("own.db") and facts["key"] is None
        with Client(facts["url"], retries=0, timeout=20.0) as client, ThreadPoolExecutor(1) as beside:
            assert len(client.recommend(user="u1", k=7).items) == 7, "the bundle's items are offered"
            with pytest.raises(ServiceError) as refused:
                client.recommend(user="u1", k=8)
            assert refused.value.status == 422, "the limit is that of the file"
            lock = sqlite3.connect(tmp_path / "own.db", isolation_level=None)
            lock.execute("BEGIN EXCLUSIVE")
            slow = beside.submit(client.add_events, [{"id": "slow", "user": "u1", "item": "3"}])
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert process.poll() is None and not slow.done(), "it waits for the request under way"
            with Client(facts["url"], retries=0) as late, pytest.raises(ServiceError) as gone:
                late.ready()
            assert gone.value.status == 0, "nothing new is taken"
            lock.execute("ROLLBACK")
            lock.close()
            assert slow.result(20).stored == 1
        assert process.wait(timeout=20) == 0
    with Store.open(facts["store"]) as store:
        assert store.count_of("u1") == 1, "what was answered is kept"
