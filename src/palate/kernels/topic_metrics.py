"""Topics (categories) of lists: diversity of what was found, and calibration to the history.

Formulas are in :mod:`palate.evaluation.metrics.beyond`. Topics are ragged rows of distinct topic numbers, one row an item.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from palate.kernels.compile import compiled


def alpha_ndcg_reference(
    items: np.ndarray, k: int, offsets: np.ndarray, truth: np.ndarray, starts: np.ndarray, topics: np.ndarray, alpha: float
) -> np.ndarray:
    """Return ``float64[n]`` α-nDCG at ``k``; the ideal list is chosen greedily; NaN where no relevant item has a topic."""
    out = np.full(len(items), np.nan)
    for row in range(len(items)):
        own = [int(i) for i in truth[offsets[row] : offsets[row + 1]]]
        listed = [int(i) for i in items[row, :k] if i >= 0]
        ideal, left, seen = 0.0, list(own), dict[int, int]()
        for place in range(1, min(k, len(own)) + 1):
            gains = [_topic_gain(topics[starts[i] : starts[i + 1]], seen, alpha) for i in left]
            best = left.pop(int(np.argmax(gains)))
            ideal += max(gains) / np.log2(place + 1)
            _note(topics[starts[best] : starts[best + 1]], seen)
        seen, dcg = {}, 0.0
        for place, item in enumerate(listed, start=1):
            if item in own:
                dcg += _topic_gain(topics[starts[item] : starts[item + 1]], seen, alpha) / np.log2(place + 1)
                _note(topics[starts[item] : starts[item + 1]], seen)
        if ideal > 0:
            out[row] = dcg / ideal
    return out


def _topic_gain(own: np.ndarray, seen: dict[int, int], alpha: float) -> float:
    return float(sum((1 - alpha) ** seen.get(int(t), 0) for t in own))


def _note(own: np.ndarray, seen: dict[int, int]) -> None:
    for topic in own:
        seen[int(topic)] = seen.get(int(topic), 0) + 1


def alpha_ndcg(
    items: np.ndarray, k: int, offsets: np.ndarray, truth: np.ndarray, starts: np.ndarray, topics: np.ndarray, alpha: float
) -> np.ndarray:
    """As :func:`alpha_ndcg_reference`, fast."""
    out = np.empty(len(items))
    n_topics = int(topics.max(initial=-1)) + 1
    _alpha_ndcg(items, min(k, items.shape[1]), k, offsets, truth, starts, topics, n_topics, alpha, out)
    return out


def calibration_reference(
    items: np.ndarray, k: int, offsets: np.ndarray, history: np.ndarray, starts: np.ndarray, topics: np.ndarray, alpha: float
) -> np.ndarray:
    """Return ``float64[n]``: ``Σ_g p(g) ln(p(g) / q̃(g))`` of the history's topics against the first ``k`` items'.

    Every event shares one vote among its topics. NaN where the history or the list has no topic.
    """
    out = np.full(len(items), np.nan)
    n_topics = int(topics.max(initial=-1)) + 1
    for row in range(len(items)):
        p = _shares(history[offsets[row] : offsets[row + 1]], starts, topics, n_topics)
        q = _shares(items[row, :k][items[row, :k] >= 0], starts, topics, n_topics)
        if p.sum() > 0 and q.sum() > 0:
            p, q = p / p.sum(), q / q.sum()
            mixed, held = (1 - alpha) * q + alpha * p, p > 0
            out[row] = (p[held] * np.log(p[held] / mixed[held])).sum()
    return out


def _shares(chosen: np.ndarray, starts: np.ndarray, topics: np.ndarray, n_topics: int) -> np.ndarray:
    votes = np.zeros(n_topics)
    for item in chosen:
        own = topics[starts[item] : starts[item + 1]]
        votes[own] += 1 / max(len(own), 1)
    return votes


def calibration(
    items: np.ndarray, k: int, offsets: np.ndarray, history: np.ndarray, starts: np.ndarray, topics: np.ndarray, alpha: float
) -> np.ndarray:
    """As :func:`calibration_reference`, fast."""
    out = np.empty(len(items))
    n_topics = int(topics.max(initial=-1)) + 1
    _calibration(items, min(k, items.shape[1]), offsets, history, starts, topics, n_topics, alpha, out)
    return out


def subtopic_recall_reference(
    items: np.ndarray, k: int, offsets: np.ndarray, truth: np.ndarray, starts: np.ndarray, topics: np.ndarray
) -> np.ndarray:
    """Return ``float64[n]``: topics of the relevant items within ``k``, over topics of all relevant items."""
    out = np.full(len(items), np.nan)
    for row in range(len(items)):
        own = set(truth[offsets[row] : offsets[row + 1]].tolist())
        wanted = {int(t) for i in own for t in topics[starts[i] : starts[i + 1]]}
        found = {int(t) for i in items[row, :k].tolist() if i in own for t in topics[starts[i] : starts[i + 1]]}
        if wanted:
            out[row] = len(found) / len(wanted)
    return out


def subtopic_recall(
    items: np.ndarray, k: int, offsets: np.ndarray, truth: np.ndarray, starts: np.ndarray, topics: np.ndarray
) -> np.ndarray:
    """As :func:`subtopic_recall_reference`, fast."""
    out = np.empty(len(items))
    n_topics = int(topics.max(initial=-1)) + 1
    _subtopic_recall(items, min(k, items.shape[1]), offsets, truth, starts, topics, n_topics, out)
    return out


@compiled()
def _gain(item, starts, topics, seen, alpha):  # type: ignore[no-untyped-def]
    total = 0.0
    for at in range(starts[item], starts[item + 1]):
        total += (1.0 - alpha) ** seen[topics[at]]
    return total


@compiled()
def _mark(item, starts, topics, seen):  # type: ignore[no-untyped-def]
    for at in range(starts[item], starts[item + 1]):
        seen[topics[at]] += 1


@compiled()
def _ideal(own, k, starts, topics, n_topics, alpha):  # type: ignore[no-untyped-def]
    seen, used, total = np.zeros(n_topics, np.int64), np.zeros(own.shape[0], np.bool_), 0.0
    for place in range(1, min(k, own.shape[0]) + 1):
        best, gain = -1, -1.0
        for at in range(own.shape[0]):
            if not used[at]:
                candidate = _gain(own[at], starts, topics, seen, alpha)
                if candidate > gain:
                    best, gain = at, candidate
        used[best] = True
        _mark(own[best], starts, topics, seen)
        total += gain / np.log2(place + 1.0)
    return total


@compiled(parallel=True)
def _alpha_ndcg(items, width, k, offsets, truth, starts, topics, n_topics, alpha, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(items.shape[0]):
        own = np.sort(truth[offsets[row] : offsets[row + 1]])
        best = _ideal(truth[offsets[row] : offsets[row + 1]], k, starts, topics, n_topics, alpha)
        seen, total = np.zeros(n_topics, np.int64), 0.0
        for at in range(width):
            item = items[row, at]
            if item < 0:
                break
            spot = np.searchsorted(own, item)
            if spot < own.shape[0] and own[spot] == item:
                total += _gain(item, starts, topics, seen, alpha) / np.log2(at + 2.0)
                _mark(item, starts, topics, seen)
        out[row] = total / best if best > 0 else np.nan


@compiled()
def _vote(item, starts, topics, votes):  # type: ignore[no-untyped-def]
    size = starts[item + 1] - starts[item]
    for at in range(starts[item], starts[item + 1]):
        votes[topics[at]] += 1.0 / size


@compiled(parallel=True)
def _calibration(items, width, offsets, history, starts, topics, n_topics, alpha, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(items.shape[0]):
        p, q = np.zeros(n_topics), np.zeros(n_topics)
        for at in range(offsets[row], offsets[row + 1]):
            _vote(history[at], starts, topics, p)
        for at in range(width):
            if items[row, at] < 0:
                break
            _vote(items[row, at], starts, topics, q)
        own, listed, total = p.sum(), q.sum(), 0.0
        for topic in range(n_topics):
            if p[topic] > 0 and listed > 0:
                share = p[topic] / own
                total += share * np.log(share / ((1.0 - alpha) * q[topic] / listed + alpha * share))
        out[row] = total if own > 0 and listed > 0 else np.nan


@compiled(parallel=True)
def _subtopic_recall(items, width, offsets, truth, starts, topics, n_topics, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(items.shape[0]):
        own = np.sort(truth[offsets[row] : offsets[row + 1]])
        wanted, found = np.zeros(n_topics, np.int64), np.zeros(n_topics, np.int64)
        for at in range(own.shape[0]):
            _mark(own[at], starts, topics, wanted)
        for at in range(width):
            item = items[row, at]
            if item < 0:
                break
            spot = np.searchsorted(own, item)
            if spot < own.shape[0] and own[spot] == item:
                _mark(item, starts, topics, found)
        whole = (wanted > 0).sum()
        out[row] = (found > 0).sum() / whole if whole > 0 else np.nan
