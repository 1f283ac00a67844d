"""Threads: the same work with one thread and with all; what nested BLAS threads and spinning threads cost.

Each figure is the best of three in a process of its own. ``held`` is how Palate runs: regions that are parallel already hold
BLAS to one thread, and waiting threads sleep. ``nested`` lets BLAS start its own threads inside them. ``beside a busy core``
runs with another process at work on one core; there ``spinning`` is what OpenMP does by default (OMP_WAIT_POLICY=ACTIVE).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from _record import record

ROUNDS = 3


def data(users: int) -> Any:
    """Return a made-up world, the same in every process: 50 events a person, an item for two people."""
    from palate.simulate.world import World

    return World(users=users, items=users // 2, events=50 * users, topics=32).dataset(
        text=False, graphs=False, impressions=False
    )


def fits(system: str, users: int = 8_000, **settings: Any) -> Callable[[], Any]:
    """Return a fit of a system."""
    import palate

    world = data(users)
    return lambda: palate.create(system, **settings).fit(world, seed=0)


def top() -> Callable[[], Any]:
    """Return exact top 10 of 8,000 people."""
    from palate.kernels.inner import topk_inner

    rng = np.random.default_rng(0)
    people, items = rng.standard_normal((8_000, 128), np.float32), rng.standard_normal((40_000, 128), np.float32)
    return lambda: topk_inner(people, items, 10)


WORK: dict[str, Callable[[], Callable[[], Any]]] = {
    "top 10 of 8,000 x 40,000, 128 dims": top,
    "iALS, 2 sweeps, 128 dims": lambda: fits("ials", dim=128, epochs=2),
    "LightGCN, an epoch of softmax": lambda: fits("lightgcn", loss="softmax", batch_size=65_536, epochs=1),
    "SASRec, an epoch": lambda: fits("sasrec", users=1_000, epochs=1),
}


def one(name: str, nested: bool) -> float:
    """Return seconds of some work: the best round, after one to warm up."""
    if nested:
        let_blas_nest()
    work, seconds = WORK[name](), []
    work()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def let_blas_nest() -> None:
    """Take Palate's hold on BLAS away."""
    import palate.kernels.inner
    import palate.nn.multinomial
    import palate.recommend.ials

    for module in (palate.kernels.inner, palate.nn.multinomial, palate.recommend.ials):
        if hasattr(module, "single_threaded_blas"):
            module.single_threaded_blas = contextlib.nullcontext  # type: ignore[attr-defined]


def apart(name: str, *flags: str, **env: str) -> float:
    """Run :func:`one` in a process of its own."""
    command = [sys.executable, __file__, "--one", name, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **env})
    return float(json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core at work meanwhile."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=list(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--nested", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.nested)))
        return
    rows = []
    for name in WORK:
        row: dict[str, Any] = {"work": name, "1 thread s": apart(name, PALATE_THREADS="1"), "held s": apart(name)}
        row["nested s"] = apart(name, "--nested")
        with busy_core():
            row["beside a busy core s"] = apart(name)
            row["the same, spinning s"] = apart(name, OMP_WAIT_POLICY="ACTIVE")
        row["all threads / one"] = row["held s"] / row["1 thread s"]
        rows.append({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
        print(rows[-1], flush=True)
    record("threads", rows, what=__doc__, seeds=[0])


if __name__ == "__main__":
    main()
