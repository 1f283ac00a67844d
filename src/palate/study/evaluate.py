"""Evaluate: a model answers held-out questions in blocks of users, and the judge sees only arrays.

The whole catalogue is ranked unless candidates are asked for; a judgement over candidates is labelled ``sampled``. Items
that the person has had already are not offered unless the caller says so. Memory beyond the model is fixed by
``block_bytes``, and the answer has the same bits for any block size and thread count.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from palate.contracts.ranking import Ranking
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.interactions import Interactions
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import ConfigError, DataError
from palate.evaluation.judge import Facts, Judgement, judge
from palate.evaluation.metrics import DEFAULT_METRICS, parse
from palate.evaluation.slices import by_attribute
from palate.kernels.topk import topk_dense_reference
from palate.progress import Progress, ProgressEvent, silent

__all__ = ["DEFAULT_METRICS", "Measured", "check_asked", "evaluate", "measure", "recommend_rate"]

#: Bytes that one question may take for each rank asked for: the ranking, its scores, and what the judge derives from them.
BYTES_A_RANK = 128
#: Bytes of a question's own, besides its history.
BYTES_A_QUESTION = 2048
#: Beyond this many ranks whole rows are sorted instead of selected from.
DEEP = 2048


@dataclass(frozen=True)
class Measured:
    """A judgement, and what was seen on the way to it.

    Attributes
    ----------
    judgement
        Per-user and overall values.
    seconds
        Time that the model took to rank.
    cold_share
        Share of questions about people of whom the model knew nothing.
    """

    judgement: Judgement
    seconds: float
    cold_share: float


def evaluate(
    model: Recommender,
    held_out: HeldOut,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    facts: Facts | None = None,
    train: Dataset | None = None,
    block_bytes: int = 2**28,
    exclude_seen: bool = True,
    candidates: Ragged | None = None,
    sampled: str = "given candidates",
    progress: Progress = silent,
) -> Judgement:
    """Judge a fitted model on held-out questions.

    Parameters
    ----------
    model
        A fitted recommender.
    held_out
        Questions with answers, from :meth:`palate.data.split.Split.held_out`.
    metrics
        Names such as ``"ndcg@10"``.
    facts
        What the judge knows of the catalogue; made from ``train`` when not given, else from the model's own item counts.
    train
        Training data, for metrics that need counts, categories or vectors.
    block_bytes
        Bytes that a block of questions may take beyond the model (whose own blocks of scores have a bound of their own).
    exclude_seen
        Leave out the items of each question's history.
    candidates
        Items to rank for each question (answers included), instead of the whole catalogue.
    sampled
        How the candidates were sampled; the judgement, and every output of it, carries this label.

    Returns
    -------
    Judgement
        Values of each user and overall; users in the order of ``held_out``.
    """
    return measure(
        model,
        held_out,
        metrics,
        facts=facts,
        train=train,
        block_bytes=block_bytes,
        exclude_seen=exclude_seen,
        candidates=candidates,
        sampled=sampled,
        progress=progress,
    ).judgement


def measure(
    model: Recommender,
    held_out: HeldOut,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    facts: Facts | None = None,
    train: Dataset | None = None,
    block_bytes: int = 2**28,
    exclude_seen: bool = True,
    candidates: Ragged | None = None,
    sampled: str = "given candidates",
    progress: Progress = silent,
) -> Measured:
    """As :func:`evaluate`, with the ranking time and the share of cold questions."""
    if len(held_out) == 0:
        raise DataError("there are no questions to answer.", where=f"{held_out.part} part")
    if candidates is not None and len(candidates) != len(held_out):
        raise DataError("candidates need one row a question.", value=len(candidates), remedy=f"give {len(held_out)} rows")
    known = facts if facts is not None else Facts.of(train if train is not None else _dataset_of(model))
    k = depth(metrics, known.n_items)
    parts: list[Judgement] = []
    seconds, cold = 0.0, 0
    for rows in blocks(held_out, k, block_bytes, candidates, known.n_items if k > DEEP else 0):
        block = held_out if len(rows) == len(held_out) else held_out.take(rows)
        requests = Requests.of_held_out(block, exclude_seen=exclude_seen)
        if candidates is not None:
            requests = replace(requests, candidates=candidates.take(rows))
        started = time.perf_counter()
        ranking = _rank(model, requests, k)
        seconds += time.perf_counter() - started
        cold += int(ranking.cold.sum())
        label = None if candidates is None else sampled
        offered = _offered(requests, known.n_items)
        parts.append(judge(ranking.items, block, metrics, known, scores=ranking.scores, sampled=label, n_candidates=offered))
        progress(ProgressEvent(f"{model.name}: evaluate", int(rows[-1]) + 1, len(held_out)))
    judgement = parts[0] if len(parts) == 1 else Judgement.merge(parts)
    return Measured(judgement, seconds, cold / len(held_out))


def depth(metrics: Sequence[str], n_items: int) -> int:
    """Return how many ranks the metrics need: the largest cut, or the whole catalogue for accuracy without a cut."""
    if not metrics:
        raise ConfigError("name at least one metric.", where="metrics", remedy=f"for example {', '.join(DEFAULT_METRICS[:2])}")
    asked = [parse(name) for name in metrics]
    if any(m.k is None and m.definition.kind == "rows" for m in asked):
        return n_items
    return max([m.k for m in asked if m.k is not None], default=10)


def check_asked(metrics: Sequence[str], facts: Facts, people: Entities, attributes: Sequence[str] = ()) -> None:
    """Find out before any work, and before the test part is opened, whether what is asked for can be given.

    Raises
    ------
    ConfigError
        If a metric is unknown, or needs something that the facts don't hold, or people have no such attribute.
    """
    for name in attributes:
        by_attribute(people, name, np.empty(0, np.int32))
    nobody = HeldOut(np.empty(0, np.int32), Histories.empty(0), Ragged.empty(0))
    judge(np.empty((0, depth(metrics, facts.n_items)), np.int32), nobody, metrics, facts)


def blocks(
    held_out: HeldOut, k: int, block_bytes: int, candidates: Ragged | None = None, dense: int = 0
) -> Iterator[np.ndarray]:
    """Cut questions into consecutive runs of rows that fit in ``block_bytes`` (``dense`` scores a row included)."""
    lengths = held_out.histories.lengths + held_out.truth.lengths
    if candidates is not None:
        lengths = lengths + candidates.lengths
    ends = np.cumsum(BYTES_A_QUESTION + (k + dense) * BYTES_A_RANK + lengths * 48)
    start = 0
    while start < len(ends):
        used = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, used + block_bytes, side="right")))
        yield np.arange(start, stop)
        start = stop


def recommend_rate(model: Recommender, requests: Requests, k: int = 10, *, seconds: float = 1.0, batch: int = 4096) -> float:
    """Return requests answered a second, in batches, warm.

    The first few requests are answered once before the clock starts (compilation, caches); then batches run until
    ``seconds`` have passed, going round the requests again if there are few.
    """
    if len(requests) == 0:
        raise DataError("there are no requests to time.")
    parts = list(requests.blocks(batch))
    model.recommend(requests.take(np.arange(min(len(requests), 256))), k)
    answered, started, at = 0, time.perf_counter(), 0
    while True:
        block = parts[at % len(parts)]
        model.recommend(block, k)
        answered, at = answered + len(block), at + 1
        passed = time.perf_counter() - started
        if passed >= seconds:
            return answered / passed


def _rank(model: Recommender, requests: Requests, k: int) -> Ranking:
    if k <= DEEP or requests.candidates is not None:
        return model.recommend(requests, k)
    everything = np.broadcast_to(np.arange(model.n_items, dtype=np.int32), (len(requests), model.n_items))
    scores = model.score(requests, everything)
    seen = requests.exclude
    found = topk_dense_reference(scores, k, *(() if seen is None else (seen.offsets, seen.values)))
    return Ranking(*found, model.recommend(requests, 1).cold)


def _offered(requests: Requests, n_items: int) -> np.ndarray:
    """Return ``int64[n]``: how many items could have been listed for each question."""
    seen = requests.exclude
    if requests.candidates is None:
        return n_items - (np.zeros(len(requests), np.int64) if seen is None else seen.distinct.lengths)
    offered = requests.candidates.distinct
    if seen is None:
        return offered.lengths
    numbers = [rows.row_numbers * n_items + rows.values for rows in (offered, seen.distinct)]
    return np.bincount(offered.row_numbers[~np.isin(*numbers)], minlength=len(requests))


def _dataset_of(model: Recommender) -> Dataset:
    """Return what a fitted model remembers of its training data."""
    histories: Histories = model.histories_
    users = histories.ragged.row_numbers.astype(np.int32)
    events = Interactions(users, histories.items, histories.times, histories.values, histories.actions)
    return Dataset(events, model.users_, model.items_, name="as fitted")
