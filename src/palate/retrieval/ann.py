"""The approximate index: faiss finds a handful of candidates, exact inner products rank them.

    IVF    k-means cells; only the cells nearest to the query are read, their vectors as 8-bit codes
    HNSW   a graph of near neighbours, walked from coarse to fine

How much is searched is measured, not guessed. For lists of a few *depths* the least effort (cells read, or breadth of the
walk) is sought at which half of the held-out queries reach the wanted recall; the other half says what recall that gives.

A search for ``k`` items, with ``e`` items excluded and a share ``a`` of the catalogue allowed, needs the first ``(k + e) / a``
items of the whole catalogue. The rule:

1. a share under ``SHARE``, more items needed than the deepest depth measured, or a query of zeros: the exact index;
2. else the shallowest depth that suffices; a row that ends with fewer than ``k`` items goes on to the next depth;
3. after the deepest: the exact index.

Scores are always those of the exact index, to the bit. Sources: H. Jegou, M. Douze, C. Schmid, 2011 (IVF); Y. Malkov,
D. Yashunin, 2016 (HNSW); M. Douze et al., "The Faiss library", 2024.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from palate.errors import BundleError, ConfigError, DataError, UnsupportedError
from palate.extras import require
from palate.kernels.inner import topk_inner
from palate.kernels.quantised import topk_among
from palate.retrieval.exact import ExactIndex
from palate.retrieval.files import load_folder, pack_arrays, save_folder, unpack_arrays
from palate.retrieval.index import Exclude, VectorIndex, as_mask, as_queries, as_rows, as_vectors, check_k, pair_of, unit_rows
from palate.runtime import generator, threads, versions

Kind = Literal["ivf", "hnsw"]
Metric = Literal["inner", "cosine"]

#: Lengths of lists for which the effort is measured.
DEPTHS = (10, 30, 100, 300)
#: Candidates fetched beyond the depth: the codes of 8 bits put near neighbours in another order.
SPARE = 16
#: With a smaller share of allowed items than this, the exact index answers.
SHARE = 0.1
#: Queries drawn from the item vectors where none are given.
DRAWN = 512
#: Efforts tried, in this order, at most half of the cells (IVF) or of the items (HNSW).
LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


class AnnIndex:
    """Approximate search of the largest inner products or cosines; made by :meth:`build` or :meth:`load`.

    An index never changes after it is made; any number of threads may ask at once.

    Attributes
    ----------
    facts
        Plain facts: ``kind``, ``metric``, ``lists`` or ``links``, ``wanted`` recall, ``efforts`` and ``recalls`` by depth
        (measured on queries that did not choose the effort), where the ``queries`` came from, version of faiss.
    """

    def __init__(self, exact: ExactIndex, engine: Any, facts: Mapping[str, Any]) -> None:
        self.exact, self.facts = exact, dict(facts)
        self._engine = engine
        self._faiss = require("faiss", "AnnIndex")
        self._efforts = {int(depth): int(effort) for depth, effort in facts["efforts"].items()}

    @classmethod
    def build(
        cls,
        vectors: np.ndarray,
        *,
        kind: Kind = "ivf",
        metric: Metric = "inner",
        recall: float = 0.99,
        queries: np.ndarray | None = None,
        lists: int | None = None,
        links: int = 32,
        seed: int = 0,
    ) -> AnnIndex:
        """Build an index and measure how much of it must be searched.

        Parameters
        ----------
        vectors
            ``float32[n_items, d]``, finite.
        kind
            ``"ivf"`` (builds in seconds) or ``"hnsw"`` (in minutes; less to read a query).
        metric
            ``"inner"``, or ``"cosine"``: vectors and queries are scaled to length 1, and scores are cosines.
        recall
            Mean recall wanted at each depth.
        queries
            ``float32[n, d]``: held-out queries like those that will come, such as the vectors of some hundred people. Without
            them, item vectors are drawn, which suits similar items and may mislead for people.
        lists
            Cells of IVF; by default ``2 sqrt(n_items)``.
        links
            Links an item of HNSW.
        seed
            Fixes k-means, the draw and the halves.

        Raises
        ------
        UnsupportedError
            If the largest effort does not reach the recall: the catalogue is too small, or its vectors have no near
            neighbours.
        """
        for name, value, choices in (("kind", kind, get_args(Kind)), ("metric", metric, get_args(Metric))):
            if value not in choices:
                raise ConfigError(f"{name} is one of: {', '.join(choices)}.", where=name, value=value)
        if not 0 < recall <= 1:
            raise ConfigError("recall lies between 0 and 1.", where="recall", value=recall)
        table = as_vectors(vectors)
        if len(table) == 0:
            raise DataError("an index needs items.", value=0)
        table = unit_rows(table) if metric == "cosine" else table
        rng = generator(seed, "ann")
        asked = _held_out(table, queries, metric, rng)
        faiss = require("faiss", "AnnIndex")
        cells = max(1, min(lists or round(2 * np.sqrt(len(table))), len(table)))
        with _held(faiss, threads()):
            engine = _ivf(faiss, table, cells, seed) if kind == "ivf" else _hnsw(faiss, table, links)
        facts: dict[str, Any] = {
            "kind": kind,
            "metric": metric,
            **({"lists": cells} if kind == "ivf" else {"links": links}),
            "wanted": recall,
            "queries": "drawn from the item vectors" if queries is None else "given",
            "efforts": {},
            "faiss": versions("faiss-cpu").get("faiss-cpu"),
        }
        index = cls(ExactIndex(table), engine, facts)
        index._measure(asked[rng.permutation(len(asked))], recall)
        return index

    def __len__(self) -> int:
        return len(self.exact)

    def search(
        self, queries: np.ndarray, k: int = 10, *, exclude: Exclude = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return about the ``k`` best items of each query (parameters and answer as :meth:`ExactIndex.search`).

        Every score is exact; what may be missed is an item. See the module's text for the rule.
        """
        check_k(k)
        queries, allowed = self._as_queries(queries), as_mask(allowed, len(self))
        gone = as_rows(exclude, len(queries))
        lengths = np.zeros(len(queries), np.int64) if gone is None else gone.lengths
        share = 1.0 if allowed is None else np.count_nonzero(allowed) / len(self)
        depth = np.ceil((k + lengths) / share) if share >= SHARE else np.full(len(queries), np.inf)
        depth[~queries.any(axis=1)] = np.inf
        items, scores = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
        left = np.arange(len(queries))
        for level, effort in self._efforts.items():
            rows = left[depth[left] <= level]
            if len(rows):
                found = self._candidates(queries[rows], level, effort)
                own = pair_of(None if gone is None else gone.take(rows))
                items[rows], scores[rows] = topk_among(queries[rows], self.exact.vectors, found, k, *own, allowed)
                left = left[items[left, -1] < 0]
            if not len(left):
                return items, scores
        own_left = None if gone is None else gone.take(left)
        items[left], scores[left] = self.exact.search(queries[left], k, exclude=own_left, allowed=allowed)
        return items, scores

    def recall(self, queries: np.ndarray, k: int = 10, *, exclude: Exclude = None, allowed: np.ndarray | None = None) -> float:
        """Return the mean share of the exact answer that :meth:`search` finds (NaN where no query has an answer)."""
        found = self.search(queries, k, exclude=exclude, allowed=allowed)[0]
        wanted = self.exact.search(self._as_queries(queries), k, exclude=exclude, allowed=allowed)[0]
        return _recall(found, wanted)

    def speedup(self, queries: np.ndarray, k: int = 10) -> float:
        """Return how many times as fast as the exact index this one answers, one request at a time (medians, taking turns)."""
        table = self._as_queries(queries)
        seconds = np.empty((len(table), 2))
        sides: tuple[VectorIndex, VectorIndex] = (self, self.exact)
        for side in sides:
            side.search(table[0], k)  # the first call may compile
        for row, query in enumerate(table):
            for at, side in enumerate(sides):
                started = time.perf_counter()
                side.search(query, k)
                seconds[row, at] = time.perf_counter() - started
        ours, exact = np.median(seconds, axis=0)
        return float(exact / ours)

    def save(self, folder: str | Path) -> Path:
        """Write vectors, faiss's own file and a manifest with their hashes."""
        engine = self._faiss.serialize_index(self._engine).tobytes()
        files = {"vectors.safetensors": pack_arrays(vectors=self.exact.vectors), "index.faiss": engine}
        return save_folder(folder, "ann", self.facts, files)

    @classmethod
    def load(cls, folder: str | Path) -> AnnIndex:
        """Read what :meth:`save` wrote. faiss sees its file only after the hash was found right.

        Raises
        ------
        BundleError
            If anything is missing, was changed, or does not fit together.
        """
        facts, files = load_folder(folder, "ann", ("vectors.safetensors", "index.faiss"))
        faiss = require("faiss", "AnnIndex")
        (vectors,) = unpack_arrays(files["vectors.safetensors"], "vectors")
        try:
            engine = faiss.deserialize_index(np.frombuffer(files["index.faiss"], np.uint8))
            fits = (engine.ntotal, engine.d) == vectors.shape and engine.metric_type == faiss.METRIC_INNER_PRODUCT
            index = cls(ExactIndex(vectors), engine, facts)
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise BundleError("the index can't be read.", where=folder, value=str(error), remedy="build it again") from None
        if not fits or not isinstance(engine, faiss.IndexIVF if facts.get("kind") == "ivf" else faiss.IndexHNSW):
            raise BundleError("vectors and index don't belong together.", where=folder, remedy="build it again")
        return index

    # -- inside -----------------------------------------------------------------------------------

    def _as_queries(self, queries: np.ndarray) -> np.ndarray:
        table = as_queries(queries, self.exact.dim)
        return unit_rows(table) if self.facts["metric"] == "cosine" else table

    def _candidates(self, queries: np.ndarray, depth: int, effort: int) -> np.ndarray:
        """Return ``int32[n, depth + SPARE]`` items that faiss finds with this effort (-1 is padding)."""
        faiss, wanted = self._faiss, min(depth + SPARE, len(self))
        if self.facts["kind"] == "ivf":
            parameters = faiss.SearchParametersIVF(nprobe=effort)
        else:
            parameters = faiss.SearchParametersHNSW(efSearch=max(effort, wanted))
        with _held(faiss, 1):
            _, found = self._engine.search(queries, wanted, params=parameters)
        return found.astype(np.int32)

    def _measure(self, queries: np.ndarray, wanted: float) -> None:
        """Choose the effort of each depth on one half of the queries, and measure its recall on the other."""
        half = len(queries) // 2
        top = self.facts["lists"] if self.facts["kind"] == "ivf" else len(self)
        ladder = [effort for effort in LADDER if effort <= max(1, top // 2)]
        depths = [depth for depth in DEPTHS if depth <= len(self)] or [len(self)]
        truth = topk_inner(queries, self.exact.vectors, depths[-1])[0]
        recalls: dict[int, float] = {}
        at, reached = 0, 0.0
        for depth in depths:
            best = truth[:, :depth]
            while (reached := self._reached(queries[:half], best[:half], ladder[at])) < wanted and at + 1 < len(ladder):
                at += 1  # the next depth begins here: longer lists never need less
            if reached < wanted:
                break
            self._efforts[depth] = ladder[at]
            recalls[depth] = round(self._reached(queries[half:], best[half:], ladder[at]), 4)
        if not recalls:
            raise UnsupportedError(
                f"the largest effort, {ladder[-1]}, reaches a recall of {reached:.3f}, not {wanted}.",
                remedy="use ExactIndex, or ask for less recall",
            )
        self.facts["efforts"] = {str(depth): effort for depth, effort in self._efforts.items()}
        self.facts["recalls"] = {str(depth): value for depth, value in recalls.items()}

    def _reached(self, queries: np.ndarray, truth: np.ndarray, effort: int) -> float:
        depth = truth.shape[1]
        found = self._candidates(queries, depth, effort)
        return _recall(topk_among(queries, self.exact.vectors, found, depth)[0], truth)


def choose_index(
    vectors: np.ndarray, queries: np.ndarray, *, recall: float = 0.99, least: float = 2.0, kind: Kind = "ivf", seed: int = 0
) -> tuple[ExactIndex | AnnIndex, str]:
    """Return the index to serve from, and why: the exact one, unless the approximate one is well faster on these vectors.

    Parameters
    ----------
    vectors
        ``float32[n_items, d]``, ranked by inner product.
    queries
        ``float32[n, d]``: some hundred queries like those that will come. Half of them choose the effort, some of the others
        are timed.
    recall
        Least recall of an approximate index.
    least
        How many times as fast it must be to be worth what it misses.
    kind, seed
        As in :meth:`AnnIndex.build`.
    """
    asked = as_queries(queries, as_vectors(vectors).shape[1])
    half = len(asked) // 2
    if half < 2:
        raise DataError("choosing an index takes four queries or more.", value=len(asked), remedy="give a few hundred")
    try:
        index = AnnIndex.build(vectors, kind=kind, recall=recall, queries=asked[:half], seed=seed)
    except UnsupportedError as error:
        return ExactIndex(vectors), f"exact: {error.what}"
    times = index.speedup(asked[half:][:200])
    found = f"{times:.1f} times as fast as the exact index at a recall of {index.recall(asked[half:]):.3f}"
    return (
        (index, f"{kind}: {found}") if times >= least else (index.exact, f"exact: {kind} is {found}, less than {least:g} times")
    )


def _ivf(faiss: Any, vectors: np.ndarray, lists: int, seed: int) -> Any:
    d = vectors.shape[1]
    cells = faiss.IndexFlatIP(d)
    engine = faiss.IndexIVFScalarQuantizer(cells, d, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    engine.cp.seed = seed + 1
    engine.cp.min_points_per_centroid = 1  # small catalogues are no fault
    engine.train(vectors)
    engine.add(vectors)
    return engine


def _hnsw(faiss: Any, vectors: np.ndarray, links: int) -> Any:
    engine = faiss.IndexHNSWFlat(vectors.shape[1], links, faiss.METRIC_INNER_PRODUCT)
    engine.hnsw.efConstruction = 200
    engine.add(vectors)
    return engine


@contextmanager
def _held(faiss: Any, count: int) -> Iterator[None]:
    """Hold faiss to some threads; OpenMP keeps that number for each calling thread, so it is set at every call."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _held_out(vectors: np.ndarray, queries: np.ndarray | None, metric: Metric, rng: np.random.Generator) -> np.ndarray:
    """Return the queries to measure with, at least two."""
    if queries is None:
        picked = rng.choice(len(vectors), min(DRAWN, len(vectors)), replace=False)
        asked = vectors[picked]
    else:
        asked = as_queries(queries, vectors.shape[1])
        asked = unit_rows(asked) if metric == "cosine" else asked
    asked = asked[asked.any(axis=1)]
    if len(asked) < 2:
        raise DataError("measuring recall takes two queries that are not zero.", value=len(asked), remedy="give a few hundred")
    return asked


def _recall(found: np.ndarray, wanted: np.ndarray) -> float:
    hits = sum(len(set(a[a >= 0]) & set(b[b >= 0])) for a, b in zip(found, wanted, strict=True))
    total = int((wanted >= 0).sum())
    return hits / total if total else float("nan")
