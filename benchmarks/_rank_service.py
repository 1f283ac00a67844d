"""The rank stage of the service: 1,000 candidates of one request in process and over HTTP, in a small made-up shop."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from palate.contracts.ranker import Rows
from palate.data.row_fields import RowField
from palate.rank.deepfm import DeepFM
from palate.runtime import set_threads
from palate.serve.http.security import new_key
from palate.serve.models.rankers import LoadedRanker
from palate.serve.pipeline.config import PipelineConfig
from palate.serve.pipeline.ranking import in_order
from palate.serve.pipeline.sources import Question
from palate.serve.pipeline.trace import Trace
from palate.serve.rows.asked import Asker, rows_of
from palate.serve.service import Service
from palate.serve.settings import ServiceSettings
from palate.serve.store import Event, ItemRow, Store
from palate.serve.store.rows import ModelRow, UserRow

ITEMS, PEOPLE, PAST, ROWS = 20_000, 500, 50, 20_000
#: Values of the attributes of items and people, and of the context.
OF_ITEM = {"maker": 2_000, "colour": 20, "size": 50, "place": 300, "condition": 5}
OF_PERSON = {"city": 1_000, "plan": 4, "age": 8}
OF_CONTEXT = {"device": 4, "page": 40}
VERSION = "deepfm"


def rank_stage(candidates: int, requests: int, warm: int) -> Iterator[dict[str, Any]]:
    """Yield rows: making rows, the rank stage in process, and ``/v1/rank`` over HTTP with ten answers and with all."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        home, url = Path(folder), f"sqlite:///{Path(folder) / 'palate.db'}"
        with Store.open(url) as store:
            _fill(store, rng)
            service = Service(store, ServiceSettings(), home / "models")
            ranker = _publish(service, home / "bundle", rng)
            yield from _in_process(service, ranker, candidates, requests, warm, rng)
            service.close()
            key = new_key(store, "rank", "write")
        with _served(url, home) as port:
            for k in (10, candidates):
                yield _over_http(port, key, candidates, k, requests, warm, rng)


def _drawn(sizes: dict[str, int], rng: np.random.Generator) -> dict[str, str]:
    return {name: f"{name} {rng.integers(size)}" for name, size in sizes.items()}


def _fill(store: Store, rng: np.random.Generator) -> None:
    now = time.time()
    items = [
        ItemRow(
            id=f"i{n}",
            title=f"Thing {n}",
            categories=(f"kind {n % 30}", f"shelf {n % 7}"),
            price=float(rng.integers(1, 200)),
            attributes=_drawn(OF_ITEM, rng),
            created=now - 60.0 * n,
        )
        for n in range(ITEMS)
    ]
    store.put_items(items)
    store.put_users([UserRow(id=f"u{n}", attributes=_drawn(OF_PERSON, rng)) for n in range(PEOPLE)])
    chosen = rng.integers(ITEMS, size=(PEOPLE, PAST))
    for n in range(PEOPLE):
        store.add_events([Event(user=f"u{n}", item=f"i{item}", time=now - 1e5 + at) for at, item in enumerate(chosen[n])])


def _publish(service: Service, folder: Path, rng: np.random.Generator) -> LoadedRanker:
    """Fit a DeepFM on 15 columns of the service's own kind, clicks by chance, and put it into the store."""
    own = ["user", "item", "hour", "weekday", "history", "categories", "price", "age_days"]
    kinds: dict[str, Any] = dict.fromkeys(own[:4], "text") | {"history": "list", "categories": "list"}
    kinds |= {"price": "number", "age_days": "number"}
    groups = (("item", OF_ITEM), ("user", OF_PERSON), ("context", OF_CONTEXT))
    kinds |= {f"{group}.{name}": "text" for group, names in groups for name in names}
    tables = []
    for n in rng.integers(PEOPLE, size=ROWS // 50).tolist():
        person = service.person(f"u{n}")
        past = [service.catalogue.items[row].id for row in person.rows.tolist()]
        asker = Asker(f"u{n}", past, time.time(), _drawn(OF_PERSON, rng), _drawn(OF_CONTEXT, rng), len(past))
        tables.append(rows_of(asker, [service.catalogue.items[at] for at in rng.integers(ITEMS, size=50)], kinds))
    table = pa.concat_tables(tables)
    clicks = pa.array(rng.integers(2, size=len(table)).astype(np.float32))
    read: dict[str, Any] = {"list": "list", "number": "number", "text": "category"}
    fields = tuple(RowField(name, "sequence" if name == "history" else read[kind]) for name, kind in kinds.items())
    model = DeepFM(dim=16, hidden=(256, 128), epochs=1, fields=fields)
    model.fit(Rows.of_table(table.append_column("click", clicks), ["click"]), seed=0).save(folder)
    service.store.add_model(ModelRow(VERSION, system="deepfm", path=str(folder)))
    return service.shelf.ranker(VERSION, service.folder)


def _in_process(
    service: Service, ranker: LoadedRanker, candidates: int, requests: int, warm: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    config = PipelineConfig.parse({"rank": {"kind": "ranker", "model": VERSION, "pool": candidates}})
    asked = [
        (
            Question(service.person(f"u{rng.integers(PEOPLE)}"), 10, context=_drawn(OF_CONTEXT, rng), now=time.time()),
            rng.choice(ITEMS, candidates, replace=False),
        )
        for _ in range(requests + warm)
    ]
    scores = -np.arange(candidates, dtype=np.float64)

    def rows(at: int) -> object:
        question, given = asked[at]
        asker = service.asker(question.person, question.context, question.now, ranker)
        return rows_of(asker, [service.catalogue.items[row] for row in given.tolist()], ranker.kinds)

    def stage(at: int) -> object:
        question, given = asked[at]
        return in_order(config, question, given, scores, service, Trace())

    for count in (1, 2):
        set_threads(count)
        about = f"{candidates:,} candidates, {count} thread{'s' if count > 1 else ''}"
        if count == 1:
            yield _timed(f"service: rows of {len(ranker.kinds)} columns, {about}", rows, requests, warm, candidates)
        yield _timed(f"service: rank stage in process (deepfm), {about}", stage, requests, warm, candidates)


@contextmanager
def _served(url: str, home: Path) -> Iterator[int]:
    """Serve the store in a process of its own; give its port."""
    config = home / "palate.toml"
    config.write_text("[server]\nrequests_per_second = 100000.0\nburst = 100000\nconsole = false\n", encoding="utf-8")
    command = [sys.executable, "-m", "palate.cli.main", "serve", "--store", url, "--port", "0", "--json"]
    process = subprocess.Popen([*command, "--config", str(config)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = ""
    while "}" not in told:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the service ended with exit code {process.wait()}")
        told += line
    try:
        yield int(json.loads(told)["url"].rsplit(":", 1)[1])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def _over_http(
    port: int, key: str, candidates: int, k: int, requests: int, warm: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Ask over one connection that stays open."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    bodies = [
        json.dumps(
            {
                "user": f"u{rng.integers(PEOPLE)}",
                "candidates": [f"i{n}" for n in rng.choice(ITEMS, candidates, replace=False)],
                "context": _drawn(OF_CONTEXT, rng),
                "k": k,
                "model": VERSION,
            }
        )
        for _ in range(requests + warm)
    ]

    def ask(at: int) -> None:
        connection.request("POST", "/v1/rank", bodies[at], headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {answer[:300]!r}")

    row = _timed(f"/v1/rank over HTTP (deepfm), {candidates:,} candidates, best {k:,} told", ask, requests, warm, candidates)
    connection.close()
    return row


def _timed(what: str, work: Callable[[int], object], requests: int, warm: int, candidates: int) -> dict[str, Any]:
    """Return percentiles of some work; the first calls don't count."""
    seconds = []
    for at in range(warm + requests):
        started = time.perf_counter()
        work(at)
        seconds.append(time.perf_counter() - started)
    p50, p99 = (float(np.percentile(seconds[warm:], q)) * 1e3 for q in (50, 99))
    return {"what": what, "p50 ms": round(p50, 2), "p99 ms": round(p99, 2), "candidates/s": round(candidates / p50 * 1e3)}
