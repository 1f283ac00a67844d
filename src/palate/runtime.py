"""Threads, random generators and the description of the machine: set once, printed in every report."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np

from palate.errors import ConfigError

_threads: int | None = None
#: Variables that say how many threads to use; the first that is set counts.
VARIABLES = ("PALATE_THREADS", "OMP_NUM_THREADS")


def threads() -> int:
    """Return the number of threads that Palate uses (``PALATE_THREADS``, else ``OMP_NUM_THREADS``, else the usable cores)."""
    if _threads is not None:
        return _threads
    return wanted_threads() or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def wanted_threads() -> int | None:
    """Return the number of threads that the environment names (of a list, as ``OMP_NUM_THREADS`` may be, the first)."""
    for name in VARIABLES:
        given = os.environ.get(name, "").split(",")[0].strip()
        if given.isdigit() and int(given) > 0:
            return int(given)
    return None


def set_threads(count: int) -> None:
    """Set the number of threads of the whole process: our kernels, numba, BLAS and torch."""
    global _threads
    if count < 1:
        raise ConfigError("threads must be at least 1.", where="threads", value=count)
    _threads = count
    import numba
    from threadpoolctl import threadpool_limits

    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(count, most))
    threadpool_limits(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    else:
        os.environ["OMP_NUM_THREADS"] = str(count)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold BLAS to one thread inside a region that is parallel already (no nested-thread trap)."""
    with _libraries(len(sys.modules)).limit(limits=1, user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _libraries(imported: int) -> Any:
    """Return the native libraries that are loaded: looked for again only when something was imported since."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random generator of one purpose.

    Streams of different names are independent; the same seed and names always give the same stream.
    """
    if seed < 0:
        raise ConfigError("a seed is a whole number from 0.", where="seed", value=seed)
    words = [int.from_bytes(hashlib.blake2b(str(n).encode(), digest_size=4).digest(), "big") for n in names]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of some packages (absent ones are left out)."""
    found = {}
    for package in packages or ("palate", "numpy", "scipy", "pyarrow", "polars", "numba", "torch"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, object]:
    """Describe the machine in a form that every report and result file carries."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
