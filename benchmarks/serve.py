"""The service under load: one process answers, this one asks, on the same machine.

A made-up world is loaded into a store (SQLite, synchronous FULL); a model of 100,000 items and 64 dimensions is served. Every
request carries an API key, which the service checks. Open loop: requests are due at a set rate and latency counts from then.
The soak asks for slates and sends events at once. The same world on PostgreSQL, where a server is at hand. Peers have as many
items, dimensions and histories: an implicit model behind a minimal FastAPI handler, without keys, store, live events, filters
and log; and LibRecommender's own serving from Redis.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _load import Request, load
from _peers import HERE
from _record import record
from _serve_peers import peers

from palate.contracts.recommender import VectorRecommender
from palate.serve import answers, wire
from palate.serve.http.security import Doorman, new_key
from palate.serve.models.retrain import retrain
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Store
from palate.serve.store.exchange import load_dataset
from palate.simulate.world import World

USERS, ITEMS, EVENTS, DIM = 20_000, 100_000, 1_000_000, 64
#: Slates asked for in a second while events are sent, and batches of 100 events sent in a second of the soak.
BESIDE, SOAKED = 100.0, 10.0


@dataclass(frozen=True)
class Target:
    """What is asked, and the key that goes with every request."""

    url: str
    key: str

    def post(self, path: str, body: bytes) -> Request:
        """Make a request."""
        return Request.post(self.url.removeprefix("http://"), path, body, self.key)


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--soak", type=float, default=0.0, help="minutes of a soak at the end")
    parser.add_argument("--dry", action="store_true", help="measure, but write no result")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        url = f"sqlite:///{home / 'palate.db'}"
        data = World(users=USERS, items=ITEMS, events=EVENTS, topics=64).dataset(graphs=False, impressions=False)
        with Store.open(url) as store:
            load_dataset(store, data)
            retrain(store, home / "models", "ials", {"dim": DIM, "epochs": 3}, gate=False)
            rows += in_process(store, home)
        rows += over_http(url, home, given.seconds, given.soak)
        rows += on_postgresql(data, home, given.seconds)
        rows += peers(data.matrix(), DIM, home, given.seconds)
    for row in rows:
        print(row, flush=True)
    if not given.dry:
        versions = {"implicit": "0.7.3", "fastapi": "0.165.0", "LibRecommender": "1.5.2", "sanic": "25.12.1"}
        record("serve", rows, what=__doc__, peers=versions, seeds=[0], notes={"seconds of each load": given.seconds})


def in_process(store: Store, home: Path) -> list[dict[str, Any]]:
    """Time answers without HTTP: of the index alone, of the model, of the whole service with its store."""
    service = Service(store, ServiceSettings(), home / "models")
    loaded = service.shelf.active
    assert loaded is not None and loaded.index is not None and isinstance(loaded.model, VectorRecommender)
    index, model, people = loaded.index, loaded.model, [str(n) for n in range(2_000)]
    persons = [service.person(user) for user in people]
    requests = [loaded.request(person) for person in persons]
    vectors = [model.request_vectors(request) for request in requests]
    works = {
        "index: vector to top 10 of 100,000": lambda at: index.search(vectors[at], 10, allowed=loaded.allowed),
        "model: history to top 10, seen left out": lambda at: loaded.best(persons[at], 10, persons[at].seen),
        "service: request to logged slate": lambda at: answers.recommend(service, wire.RecommendIn(user=people[at], k=10)),
    }
    rows = [timed(name, work, len(people)) for name, work in works.items()]
    rows += door(store)
    service.close()
    return rows


def timed(name: str, work: Callable[[int], object], times: int) -> dict[str, Any]:
    """Return the latencies of some work; the first time doesn't count."""
    work(0)
    seconds = []
    for at in range(1, times):
        started = time.perf_counter()
        work(at)
        seconds.append(time.perf_counter() - started)
    ms = 1_000 * np.array(seconds)
    row = {"what": name, "p50 ms": round(float(np.median(ms)), 4), "p99 ms": round(float(np.percentile(ms, 99)), 4)}
    print(row, flush=True)
    return row


def door(store: Store) -> list[dict[str, Any]]:
    """Time the check of a key and of its rate: looked up in the store, and as it is remembered for some seconds."""
    settings = ServiceSettings().server.replace(requests_per_second=1e9, burst=10**9)
    key, known = new_key(store, "door", "read"), Doorman(store, settings)
    return [
        timed("door: a key checked, remembered", lambda at: known.admit(key, "read"), 20_000),
        timed("door: a key checked, looked up in the store", lambda at: Doorman(store, settings).admit(key, "read"), 1_000),
    ]


def on_postgresql(data: Any, home: Path, seconds: float) -> list[dict[str, Any]]:
    """Load the world into PostgreSQL, and ask the service over it."""
    sys.path.insert(0, str(HERE.parent / "tests" / "serve"))
    from servers import PostgresServer, why_not

    if (reason := why_not()) is not None:
        print(reason, flush=True)
        return []
    server = PostgresServer()
    try:
        url = server.database()
        with Store.open(url) as store:
            load_dataset(store, data)
            retrain(store, home / "models on PostgreSQL", "ials", {"dim": DIM, "epochs": 3}, gate=False)
        rows = over_http(url, home, seconds, 0.0)
    finally:
        server.close()
    return [{**row, "what": f"PostgreSQL: {row['what']}"} for row in rows]


def over_http(url: str, home: Path, seconds: float, soak: float) -> list[dict[str, Any]]:
    """Start the service, and ask it over HTTP."""
    command = [sys.executable, "-m", "palate.cli.main", "serve", "--store", url, "--port", "0", "--json"]
    config = home / "palate.toml"
    config.write_text("[server]\nrequests_per_second = 100000.0\nburst = 100000\nconsole = false\n", encoding="utf-8")
    with Store.open(url) as store:
        key = new_key(store, "load", "write")
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--config", str(config)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = ""
    while "}" not in told:
        line = process.stdout.readline()
        assert line, "the service did not start"
        told += line
    ready = time.perf_counter() - began
    target = Target(json.loads(told)["url"], key)
    rows: list[dict[str, Any]] = [{"what": "start to ready, 100,000 items", "seconds": round(ready, 2)}]
    asks = {
        "personal slates at 200/s": (personal, 200.0, 16),
        "lists for nobody, closed loop": (fixed, None, 16),
        "event batches of 100 at 100/s": (batches, 100.0, 4),
        "event batches of 100, closed loop": (batches, None, 4),
    }
    memory = {"at the start": resident_mb(process.pid)}
    for name, (make, rate, lanes) in asks.items():
        ask(target, make, rate, 2.0, lanes)
        rows.append({"what": name, **ask(target, make, rate, seconds, lanes)})
        print(rows[-1], flush=True)
    rows += mixed(target, seconds, 100.0)
    print(rows[-2], rows[-1], sep="\n", flush=True)
    memory["after the loads"] = resident_mb(process.pid)
    if soak:
        rows += [{**row, "what": f"soak: {row['what']}"} for row in mixed(target, 60 * soak, SOAKED)]
        memory["after the soak"] = resident_mb(process.pid)
    rows.append({"what": f"resident memory, MB: {', '.join(memory)}", "MB": [round(m) for m in memory.values()]})
    print(rows[0], rows[-1], sep="\n", flush=True)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    return rows


def ask(
    target: Target, make: Callable[[Target], Iterator[Request]], rate: float | None, seconds: float, lanes: int
) -> dict[str, Any]:
    """Send requests for some seconds; return what came of it."""
    return load(target.url, lambda: make(target), rate=rate, seconds=seconds, lanes=lanes).summary()


def mixed(target: Target, seconds: float, rate: float) -> list[dict[str, Any]]:
    """Send event batches at a rate while slates are asked for, from a process of its own."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import serve, json;"
        "target = serve.Target(*sys.argv[2:4]);"
        "print(json.dumps(serve.ask(target, serve.personal, serve.BESIDE, float(sys.argv[4]), 8)))"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(HERE), target.url, target.key, str(seconds)], stdout=subprocess.PIPE, text=True
    )
    events = ask(target, batches, rate, seconds, 4)
    slates = json.loads(other.communicate()[0])
    return [
        {"what": f"event batches of 100 at {rate:g}/s, beside slates", **events},
        {"what": f"personal slates at {BESIDE:g}/s, beside events", **slates},
    ]


def personal(target: Target) -> Iterator[Request]:
    """Ask for people in turn."""
    bodies = (json.dumps({"user": str(n * 7 % USERS), "k": 10}).encode() for n in itertools.count())
    return (target.post("/v1/recommendations", body) for body in bodies)


def fixed(target: Target) -> Iterator[Request]:
    """Ask for nobody in particular."""
    return itertools.repeat(target.post("/v1/recommendations", b'{"k": 10}'))


def batches(target: Target) -> Iterator[Request]:
    """Send batches of 100 events, each with an id of its own."""
    run = os.urandom(4).hex()
    for n in itertools.count():
        events = [
            {"id": f"{run}-{n}-{at}", "user": str((n * 100 + at) % USERS), "item": str(at * 13 % ITEMS)} for at in range(100)
        ]
        yield target.post("/v1/events", json.dumps({"events": events}).encode())


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    main()
