"""Another order of a few hundred candidates: less alike, nearer to a person's own mix, nobody shown too often.

    marginal relevance   next = argmax  t r_i - (1 - t) max_{j above} sim(i, j)
    determinantal        next = argmax  t r_i + (1 - t) log vol_i,    vol: squared length outside the span of those above
    calibrated           next = argmax  t sum r - (1 - t) KL(p || (1 - a) q + a p),    p: the mix wanted, q: that of the list
    capped               next = best of which no category has its fill

``r`` are the scores brought to 0 to 1 over the candidates. Everything is greedy, and returns why each candidate moved.

Sources: J. Carbonell, J. Goldstein, SIGIR 1998 (maximal marginal relevance); L. Chen, G. Zhang, E. Zhou, "Fast Greedy MAP
Inference for Determinantal Point Process to Improve Recommendation Diversity", NeurIPS 2018; H. Steck, "Calibrated
Recommendations", RecSys 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate.data.ragged import Ragged, offsets_of
from palate.errors import ConfigError, DataError
from palate.kernels.diversify import calibrated, determinantal, divergence, marginal
from palate.retrieval.index import as_vectors, check_k, unit_rows

Method = Literal["marginal relevance", "determinantal", "calibrated", "capped"]


@dataclass(frozen=True)
class Move:
    """What happened to one candidate.

    Attributes
    ----------
    at
        Its position among the candidates given.
    before, after
        Rank by score, and in the new order (from 1; 0 where it is not in the list).
    reason
        Why, in a few words.
    """

    at: int
    before: int
    after: int
    reason: str


@dataclass(frozen=True)
class Reordered:
    """A new order, and what led to it.

    Attributes
    ----------
    method
        Which rule.
    order
        ``int32[n]``: positions among the candidates given, best first.
    before, after
        ``int32[m]``: rank by score, and in the new order (from 1; 0 where a candidate is not in the list).
    amount, other
        ``float32[m]`` and ``int32[m]``: the likeness to the nearest candidate above and its position (marginal relevance); the
        share that is new beside those above (determinantal); the fall of the divergence and the category that brings it
        (calibrated); the cap and the category that is full (capped). -1 where there is none.
    """

    method: Method
    order: np.ndarray
    before: np.ndarray
    after: np.ndarray
    amount: np.ndarray
    other: np.ndarray

    def moves(self) -> tuple[Move, ...]:
        """Return what happened to each candidate of the list, in its order, and then to those that fell out of it."""
        fallen = np.flatnonzero((self.after == 0) & (self.before <= len(self.order)))
        places = [*self.order.tolist(), *fallen[np.argsort(self.before[fallen])].tolist()]
        return tuple(Move(at, int(self.before[at]), int(self.after[at]), self._reason(at)) for at in places)

    def _reason(self, at: int) -> str:
        amount, other, fallen = float(self.amount[at]), int(self.other[at]), self.after[at] == 0
        if self.method == "marginal relevance":
            return "the most relevant" if other < 0 else f"{amount:.2f} like number {self.after[other]} above it"
        if self.method == "determinantal":
            return f"{amount:.0%} of it is new beside those above"
        if self.method == "calibrated":
            if fallen:
                return "others serve the mix better"
            return "has no category" if other < 0 else f"brings category {other}: divergence falls by {amount:.3f}"
        return f"category {other} has its {amount:.0f}" if other >= 0 else "the best that fits"


def mmr(
    scores: np.ndarray, k: int, *, vectors: np.ndarray | None = None, categories: Ragged | None = None, trade: float = 0.7
) -> Reordered:
    """Maximal marginal relevance: the best candidate that is least like any above it.

    Parameters
    ----------
    scores
        ``float[m]``, finite; candidates may stand in any order.
    k
        How many.
    vectors
        ``float32[m, d]``: likeness is their cosine. Or:
    categories
        One row a candidate: likeness is the Jaccard index of the sets.
    trade
        Weight of relevance: 1 keeps the order of the scores, 0 looks at likeness alone (after the first).
    """
    relevance, k = _relevance(scores, k, trade)
    if (vectors is None) == (categories is None):
        raise ConfigError("give either vectors or categories.")
    if categories is not None:
        rows, sizes = _memberships(categories, len(relevance))
        order, likeness, nearest = marginal(relevance, rows, sizes, k, trade)
    else:
        order, likeness, nearest = marginal(relevance, _rows(vectors, len(relevance)), None, k, trade)
    return _reordered("marginal relevance", scores, order, likeness, nearest)


def dpp(scores: np.ndarray, k: int, *, vectors: np.ndarray, trade: float = 0.7) -> Reordered:
    """Greedy mode of a determinantal point process: relevance, and the volume that unit vectors span.

    Where nothing that is left adds volume (more candidates than dimensions, or copies), the rest comes by relevance.

    Parameters
    ----------
    scores, k, trade
        As in :func:`mmr`.
    vectors
        ``float32[m, d]``; only their directions count.
    """
    relevance, k = _relevance(scores, k, trade)
    order, volume = determinantal(relevance, _rows(vectors, len(relevance)), k, trade)
    return _reordered("determinantal", scores, order, volume, np.full(len(volume), -1, np.int32))


def calibrate(
    scores: np.ndarray, k: int, *, categories: Ragged, wanted: np.ndarray, trade: float = 0.5, smoothing: float = 0.01
) -> Reordered:
    """Steck's calibration: a list whose mix of categories is that of the person.

    Parameters
    ----------
    scores, k, trade
        As in :func:`mmr`.
    categories
        One row a candidate; several categories share it evenly.
    wanted
        ``float[c]``: the person's mix (any positive scale), such as shares in the history.
    smoothing
        ``a``: keeps the divergence finite where a category is absent from the list.
    """
    relevance, k = _relevance(scores, k, trade)
    if not 0 < smoothing < 1:
        raise ConfigError("smoothing lies between 0 and 1.", where="smoothing", value=smoothing)
    rows = _sets(categories, len(relevance))
    mix = _mix(wanted)
    if len(rows.values) and rows.values.max() >= len(mix):
        raise DataError("the mix has a share for each category.", where="wanted", value=len(mix))
    order, falls, moved = calibrated(relevance, rows.offsets, rows.values, mix, k, trade, smoothing)
    amount, other = np.zeros(len(relevance)), np.full(len(relevance), -1, np.int32)
    amount[order], other[order] = falls, moved
    return _reordered("calibrated", scores, order, amount, other)


def cap(scores: np.ndarray, k: int, *, groups: Ragged, most: int | np.ndarray, fill: bool = False) -> Reordered:
    """At most so many of a group (category, maker, seller) in the list.

    Parameters
    ----------
    scores, k
        As in :func:`mmr`.
    groups
        One row a candidate: the groups it counts for.
    most
        The cap, or ``int[c]``, one for each group.
    fill
        Whether places that stay empty are filled with the best of those held back; else the list is shorter.
    """
    _, k = _relevance(scores, k, 1.0)
    rows = _sets(groups, len(scores))
    caps = np.asarray(most)
    size = int(rows.values.max(initial=-1)) + 1
    if caps.dtype.kind not in "iu" or caps.ndim > 1 or (caps < 0).any() or (caps.ndim == 1 and len(caps) < size):
        raise ConfigError(f"a cap is a whole number from 0, or one for each of the {size} groups.", where="most", value=most)
    left = np.broadcast_to(caps, size if caps.ndim == 0 else len(caps)).tolist()
    limits = list(left)
    amount, other = np.zeros(len(scores)), np.full(len(scores), -1, np.int32)
    order: list[int] = []
    for at in np.argsort(-np.asarray(scores), kind="stable").tolist():
        own = rows[at].tolist()
        full = next((g for g in own if left[g] < 1), None)
        if full is not None:
            amount[at], other[at] = limits[full], full
        elif len(order) < k:
            order.append(at)
            for g in own:
                left[g] -= 1
    if fill:
        held = [at for at in np.argsort(-np.asarray(scores), kind="stable").tolist() if other[at] >= 0]
        order += held[: k - len(order)]
    return _reordered("capped", scores, np.array(order, np.int32), amount, other)


def mix_divergence(categories: Ragged, wanted: np.ndarray, *, smoothing: float = 0.01) -> float:
    """Return how far a list (one row of categories an item) is from a mix: what :func:`calibrate` makes small."""
    rows, mix = _sets(categories, len(categories)), _mix(wanted)
    held = np.zeros(len(mix))
    np.add.at(held, rows.values, 1 / np.repeat(np.maximum(rows.lengths, 1), rows.lengths))
    return divergence(mix, held / max(len(rows), 1), smoothing)


def _reordered(method: Method, scores: np.ndarray, order: np.ndarray, amount: np.ndarray, other: np.ndarray) -> Reordered:
    before, after = np.empty(len(scores), np.int32), np.zeros(len(scores), np.int32)
    before[np.argsort(-np.asarray(scores), kind="stable")] = np.arange(1, len(scores) + 1)
    after[order] = np.arange(1, len(order) + 1)
    return Reordered(method, order, before, after, amount.astype(np.float32), other.astype(np.int32))


def _relevance(scores: np.ndarray, k: int, trade: float) -> tuple[np.ndarray, int]:
    """Return scores from 0 to 1 (all 1 where they are equal), and how many can be chosen."""
    check_k(k)
    given = np.asarray(scores, np.float64)
    if given.ndim != 1 or not np.isfinite(given).all():
        raise DataError("scores are one finite number a candidate.", where="scores", value=list(given.shape))
    if not 0 <= trade <= 1:
        raise ConfigError("trade lies in 0 to 1.", where="trade", value=trade)
    if not len(given):
        return given, 0
    low, width = given.min(), np.ptp(given)
    return ((given - low) / width if width > 0 else np.ones_like(given)), min(k, len(given))


def _rows(vectors: np.ndarray | None, m: int) -> np.ndarray:
    table = as_vectors(vectors)  # type: ignore[arg-type]
    if len(table) != m:
        raise DataError("there is a vector for each candidate.", where="vectors", value=len(table), remedy=f"give {m} rows")
    return unit_rows(table)


def _sets(rows: Ragged, m: int) -> Ragged:
    """Return the distinct numbers of each row."""
    if len(rows) != m:
        raise DataError("there is one row for each candidate.", value=len(rows), remedy=f"give {m} rows")
    if len(rows.values) and rows.values.min() < 0:
        raise DataError("categories are whole numbers from 0.", value=int(rows.values.min()))
    row, value = np.unique(np.stack([rows.row_numbers, rows.values.astype(np.int64)]), axis=1)
    return Ragged(offsets_of(np.bincount(row, minlength=m)), value.astype(np.int32))


def _memberships(categories: Ragged, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sets as rows of zeros and ones over the categories that occur, and their sizes."""
    rows = _sets(categories, m)
    names, column = np.unique(rows.values, return_inverse=True)
    table = np.zeros((m, max(len(names), 1)), np.float32)
    table[rows.row_numbers, column] = 1
    return table, rows.lengths.astype(np.float32)


def _mix(wanted: np.ndarray) -> np.ndarray:
    mix = np.asarray(wanted, np.float64)
    if mix.ndim != 1 or not (np.isfinite(mix) & (mix >= 0)).all() or not mix.sum() > 0:
        raise DataError("the mix wanted has shares from 0, and some above.", where="wanted", value=mix.tolist())
    return mix / mix.sum()
