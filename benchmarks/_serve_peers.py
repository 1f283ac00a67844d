"""What others serve, asked the same over HTTP: implicit behind a minimal handler, and LibRecommender's own serving."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _load import Request, load
from _peers import HERE, peer_python
from scipy import sparse

PROGRAMS = HERE / "peers"


def peers(matrix: sparse.csr_matrix, dim: int, home: Path, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each peer that runs here."""
    sparse.save_npz(home / "matrix.npz", matrix)
    return [implicit(matrix, dim, home, seconds), *librecommender(matrix, dim, home, seconds)]


def implicit(matrix: sparse.csr_matrix, dim: int, home: Path, seconds: float) -> dict[str, Any]:
    """Ask an implicit model behind a minimal FastAPI handler."""
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, dim), np.float32) for n in matrix.shape)
    np.savez(home / "factors.npz", users=users, items=items)
    port = free_port()
    command = [str(peer_python("implicit_fastapi")), str(PROGRAMS / "implicit_fastapi.py")]
    process = subprocess.Popen(
        [*command, str(home / "matrix.npz"), str(home / "factors.npz"), str(port)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close(), 30, process)

        def make() -> Iterator[Request]:
            bodies = (json.dumps({"user": n % matrix.shape[0], "k": 10}).encode() for n in itertools.count())
            return (Request.post(f"127.0.0.1:{port}", "/recommend", body) for body in bodies)

        return {"what": "peer: implicit behind FastAPI, slates at 200/s", **timed(port, make, seconds)}
    finally:
        end(process)


def librecommender(matrix: sparse.csr_matrix, dim: int, home: Path, seconds: float) -> list[dict[str, Any]]:
    """Ask LibRecommender's program; left out, with a line that says so, where there is no Redis."""
    if shutil.which("redis-server") is None:
        print("LibRecommender left out: it needs redis-server (Debian's package of that name)", flush=True)
        return []
    port, folder = free_port(), home / "librecommender"
    folder.mkdir()
    redis = subprocess.Popen(["redis-server", "--save", "", "--dir", str(folder)], stdout=subprocess.DEVNULL)
    command = [str(peer_python("librecommender")), str(PROGRAMS / "librecommender_sanic.py"), str(home / "matrix.npz")]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([*command, str(dim), str(folder), str(port)], stdout=log, stderr=log)

    def ask(user: int) -> Request:
        return Request.post(f"127.0.0.1:{port}", "/embed/recommend", json.dumps({"user": str(user), "n_rec": 10}).encode())

    known = np.flatnonzero(np.diff(matrix.indptr))
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close(), 300, process)
        turns = (ask(int(user)) for user in itertools.cycle(known))
        return [{"what": "peer: LibRecommender's serving, slates at 200/s", **timed(port, lambda: turns, seconds)}]
    except OSError:
        print(f"LibRecommender did not start:\n{(folder / 'log.txt').read_text()[-2_000:]}", flush=True)
        return []
    finally:
        end(process)
        end(redis)


def timed(port: int, make: Callable[[], Iterator[Request]], seconds: float) -> dict[str, Any]:
    """Warm up, then ask at 200/s."""
    url = f"http://127.0.0.1:{port}"
    load(url, make, rate=200.0, seconds=2.0, lanes=16)
    return load(url, make, rate=200.0, seconds=seconds, lanes=16).summary()


def wait_for(look: Callable[[], Any], seconds: float, process: subprocess.Popen[Any]) -> None:
    """Wait until a process that is to listen answers."""
    until = time.monotonic() + seconds
    while True:
        try:
            look()
            return
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                raise
            time.sleep(0.1)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def end(process: subprocess.Popen[Any]) -> None:
    """Stop a peer."""
    process.terminate()
    process.wait(timeout=30)
