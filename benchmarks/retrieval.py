"""Finding candidates on one thread: exact search of a single request, the approximate index, and words.

Exact: history to top 10 of 100,000 items of 64 dimensions, one request at a time: ExactIndex beside a NumPy product with
argpartition and faiss's flat index. Vectors without structure, and in clusters with norms of lognormal(0, 0.25).

Approximate: 300,000 items of 64 dimensions, recall@10 against the exact answer and requests a second, one at a time and in
batches of 1,000: in clusters, and the item vectors that iALS learns from a synthetic world, asked by people's vectors.

Words: 100,000 titles drawn by a power law over 50,000 words, queries of one to six words of a title: BM25 beside bm25s (its
numba back end), one query at a time.

Every side runs on one thread; sides alternate, the median of all requests counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, Literal

import faiss
import numpy as np
from _record import record

from palate.errors import UnsupportedError
from palate.recommend.ials import IALS
from palate.retrieval.ann import AnnIndex
from palate.retrieval.bm25 import BM25
from palate.retrieval.exact import ExactIndex
from palate.runtime import set_threads, versions
from palate.simulate.world import World

DIM, K, SEED = 64, 10, 0


def clusters(n: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors around 2,000 centres with unequal norms, and queries like them."""
    rng = np.random.default_rng(SEED)
    centres = rng.normal(size=(2000, DIM))
    draw = centres[rng.integers(0, 2000, n + queries)] + 0.6 * rng.normal(size=(n + queries, DIM))
    draw /= np.linalg.norm(draw, axis=1, keepdims=True)
    draw[:n] *= rng.lognormal(0, 0.25, (n, 1))
    return draw[:n].astype(np.float32), draw[n:].astype(np.float32)


def noise(n: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors without any structure: nothing to skip."""
    rng = np.random.default_rng(SEED)
    draw = rng.normal(size=(n + queries, DIM)).astype(np.float32)
    return draw[:n], draw[n:]


def learned(n: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the item vectors that iALS learns from a synthetic world, and vectors of its people."""
    world = World(users=60_000, items=n, events=20 * n, seed=SEED)
    data = world.dataset()
    model = IALS(dim=DIM, epochs=6).fit(data, seed=SEED)
    people = data.users.ids.raw.to_pylist()[:queries]
    return model.item_vectors, model.request_vectors(model.requests(users=people))


def latencies(sides: dict[str, Callable[[int], Any]], count: int) -> dict[str, np.ndarray]:
    """Return seconds of each request, the sides taking turns of 100 (one alone has the caches to itself)."""
    took = {name: np.empty(count) for name in sides}
    for side in sides.values():
        side(0)
    for first in range(0, count, 100):
        for name, side in sides.items():
            for at in range(first, min(first + 100, count)):
                started = time.perf_counter()
                side(at)
                took[name][at] = time.perf_counter() - started
    return took


def percentiles(name: str, seconds: np.ndarray) -> dict[str, float]:
    """Return p50 and p99 in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    return {f"{name} p50 ms": round(float(p50), 3), f"{name} p99 ms": round(float(p99), 3)}


def exact(kind: str, vectors: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
    """Time single requests."""
    index, flat = ExactIndex(vectors), faiss.IndexFlatIP(DIM)
    flat.add(vectors)

    def plain(at: int) -> np.ndarray:
        scores = vectors @ queries[at]
        top = np.argpartition(-scores, K)[:K]
        return top[np.argsort(-scores[top])]

    sides = {
        "palate": lambda at: index.search(queries[at], K),
        "numpy": plain,
        "faiss flat": lambda at: flat.search(queries[at : at + 1], K),
    }
    took = latencies(sides, len(queries))
    same = np.mean([set(index.search(q, K)[0][0]) == set(plain(at)) for at, q in enumerate(queries[:50])])
    row: dict[str, Any] = {"what": "exact, single requests", "vectors": kind, "items": len(vectors)}
    for name, seconds in took.items():
        row |= percentiles(name, seconds)
    return row | {
        "same lists as numpy (first 50)": float(same),
        "bytes / bytes of vectors": round(index.nbytes / vectors.nbytes, 2),
    }


def approximate(kind: str, vectors: np.ndarray, queries: np.ndarray, engine: Literal["ivf", "hnsw"]) -> dict[str, Any]:
    """Build on one half of the queries, measure on the other."""
    half = len(queries) // 2
    started = time.perf_counter()
    try:
        index = AnnIndex.build(vectors, kind=engine, queries=queries[:half])
    except UnsupportedError as error:
        return {"what": f"approximate, {engine}", "vectors": kind, "items": len(vectors), "refused": str(error)}
    build = time.perf_counter() - started
    asked = queries[half:]
    took = latencies({"ann": lambda at: index.search(asked[at], K), "exact": lambda at: index.exact.search(asked[at], K)}, 500)
    batch = {}
    for name, side in (("ann", index), ("exact", index.exact)):
        started = time.perf_counter()
        side.search(asked[:1000], K)
        batch[name] = min(1000, len(asked)) / (time.perf_counter() - started)
    single = {name: 1 / float(np.median(seconds)) for name, seconds in took.items()}
    return {
        "what": f"approximate, {engine}",
        "vectors": kind,
        "items": len(vectors),
        "build s": round(build, 1),
        "effort": index.facts["efforts"]["10"],
        "recall@10": round(index.recall(asked, K), 4),
        "ann requests/s, one by one": round(single["ann"]),
        "exact requests/s, one by one": round(single["exact"]),
        "times exact, one by one": round(single["ann"] / single["exact"], 2),
        "ann requests/s, batch": round(batch["ann"]),
        "exact requests/s, batch": round(batch["exact"]),
        "times exact, batch": round(batch["ann"] / batch["exact"], 2),
    }


def titles(n: int) -> tuple[list[list[str]], list[list[str]]]:
    """Return titles and queries as words."""
    rng = np.random.default_rng(SEED)
    chance = 1 / np.arange(1, 50_001) ** 1.05
    words = rng.choice(50_000, size=(n, 12), p=chance / chance.sum())
    lengths = rng.integers(3, 13, n)
    rows = [[f"w{word}" for word in row[:length]] for row, length in zip(words.tolist(), lengths, strict=True)]
    asked = [rows[d][: rng.integers(1, 7)] for d in rng.integers(0, n, 500)]
    return rows, asked


def words(n: int) -> list[dict[str, Any]]:
    """Time building, single queries, and an item added live."""
    import bm25s

    rows, asked = titles(n)
    started = time.perf_counter()
    index = BM25()
    index.add(np.arange(n), [" ".join(row) for row in rows])
    ours = time.perf_counter() - started
    peer = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
    started = time.perf_counter()
    peer.index(rows, show_progress=False)
    theirs = time.perf_counter() - started
    sides: dict[str, Callable[[int], Any]] = {
        "palate": lambda at: index.search(" ".join(asked[at]), K),
        "bm25s": lambda at: peer.retrieve([asked[at]], k=K, show_progress=False, n_threads=1),
    }

    def gap(query: list[str]) -> float:
        """Return how far the scores of one list differ (documents without any word count 0)."""
        mine, their = index.search(" ".join(query), K)[1][0], sides["bm25s"](asked.index(query)).scores[0]
        return float(np.abs(np.maximum(mine, 0) - their).max())

    took, far = latencies(sides, len(asked)), max(map(gap, asked[:50]))
    added = []
    for at in range(200):
        started = time.perf_counter()
        index.add([n + at], [" ".join(rows[at])])
        added.append(time.perf_counter() - started)
    row: dict[str, Any] = {"what": "words", "documents": n, "palate build s": round(ours, 2), "bm25s build s": round(theirs, 2)}
    for name, seconds in took.items():
        row |= percentiles(name, seconds)
    row |= {"largest difference of scores (first 50)": far}
    row |= percentiles("palate add one", np.array(added))
    return [row]


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=300_000, help="items of the approximate part")
    parser.add_argument("--hnsw", action="store_true", help="measure HNSW too (builds for minutes)")
    options = parser.parse_args()
    set_threads(1)
    faiss.omp_set_num_threads(1)
    rows = []
    for kind, make in (("no structure", noise), ("clusters", clusters)):
        rows.append(exact(kind, *make(100_000, 500)))
        print(rows[-1])
    engines: tuple[Literal["ivf", "hnsw"], ...] = ("ivf", "hnsw") if options.hnsw else ("ivf",)
    for kind, make in (("clusters", clusters), ("learned by iALS", learned)):
        vectors, queries = make(options.items, 2000)
        for engine in engines:
            rows.append(approximate(kind, vectors, queries, engine))
            print(rows[-1])
    rows += words(100_000)
    print(rows[-1])
    notes = {
        "goal, exact": "p50 of at most 1 ms at 100,000 x 64",
        "goal, approximate": "recall@10 of at least .99 at 5 times the requests a second of ExactIndex",
    }
    record("retrieval", rows, what=__doc__, peers=versions("faiss-cpu", "bm25s"), seeds=[SEED], notes=notes)


if __name__ == "__main__":
    main()
