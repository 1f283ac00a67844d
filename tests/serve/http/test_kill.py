"""kill -9 of the served process under load: nothing acknowledged is lost, nothing is doubled, and the service comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from palate.serve.clients.client import Client, ServiceError
from palate.serve.store import Store

#: Times that the process is killed and started again.
ROUNDS = 2
SERVE = [sys.executable, "-m", "palate.cli.main", "serve", "--insecure-loopback"]


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def start(url: str, port: int, config: Path) -> subprocess.Popen[bytes]:
    command = [*SERVE, "--store", url, "--port", str(port), "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with Client(f"http://127.0.0.1:{port}", retries=0) as client:
        for _ in range(300):
            try:
                client.ready()
                return process
            except ServiceError:
                time.sleep(0.1)
    process.kill()
    raise AssertionError("the service did not start")


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_doubled(store_url: str, tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "palate.toml"
    config.write_text("[server]\nconsole = false\n", encoding="utf-8")
    acknowledged: set[str] = set()
    sent: set[str] = set()
    stop = threading.Event()

    def write(worker: int) -> None:
        number = 0
        with Client(f"http://127.0.0.1:{port}", retries=200, timeout=5.0) as client:
            while not stop.is_set():
                ids = [f"{worker}-{number}-{at}" for at in range(20)]
                sent.update(ids)
                events = [{"id": i, "user": f"u{worker}", "item": f"i{at}"} for at, i in enumerate(ids)]
                try:
                    kept = client.add_events(events)
                except ServiceError:
                    continue  # sent again with the same ids
                assert kept.stored + kept.repeated == 20
                acknowledged.update(ids)
                number += 1

    process = start(store_url, port, config)
    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for writer in writers:
        writer.start()
    for _ in range(ROUNDS):
        time.sleep(0.7)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process = start(store_url, port, config)
    time.sleep(0.5)
    stop.set()
    for writer in writers:
        writer.join()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    kept = _ids(store_url)
    assert len(kept) == len(set(kept))
    assert acknowledged <= set(kept) <= sent and len(acknowledged) > 200


def _ids(url: str) -> list[Any]:
    found: list[Any] = []
    with Store.open(url) as store:
        position = 0
        while True:
            page = store.events_after(position)
            if not page.num_rows:
                return found
            found.extend(page.column("id").to_pylist())
            position = page.column("n")[-1].as_py()
