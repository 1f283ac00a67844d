"""Work on rows, shared out to threads: spans of equal work that threads take one after another.

Each row is worked on by one thread in a fixed order, so the bits don't depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from palate.runtime import threads

#: Spans that work is cut into.
SPANS = 32
#: Multiplications under which a second thread costs more than it saves.
SMALL = 2_000_000


def even_spans(offsets: np.ndarray, parts: int = SPANS) -> np.ndarray:
    """Return ``int64[parts + 1]`` row bounds that share the entries (and the rows) about evenly."""
    work = offsets + np.arange(len(offsets))
    return np.searchsorted(work, np.linspace(0, work[-1], parts + 1)).astype(np.int64)


def even_rows(rows: int, parts: int = SPANS) -> np.ndarray:
    """Return ``int64[parts + 1]`` row bounds that share rows of equal work."""
    return np.linspace(0, rows, parts + 1).astype(np.int64)


def each_span(run: Callable[[int, int], None], spans: np.ndarray, work: int) -> None:
    """Call ``run(low, high)`` for spans of rows: in threads where there is enough ``work``, else all rows at once.

    Threads take the next span as they become free, so a busy core does not hold the others up.
    """
    count = threads()
    if count == 1 or work < SMALL:
        run(int(spans[0]), int(spans[-1]))
        return
    left = iter(zip(spans[:-1].tolist(), spans[1:].tolist(), strict=True))

    def take() -> None:
        for low, high in left:
            run(low, high)

    others = [_pool(count - 1).submit(take) for _ in range(count - 1)]
    take()
    for other in others:
        other.result()


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="palate")


if hasattr(os, "register_at_fork"):
    # The threads of a pool don't live on in a child process.
    os.register_at_fork(after_in_child=_pool.cache_clear)
