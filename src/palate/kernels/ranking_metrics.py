"""Accuracy of ranked lists: any number of measures in one pass, from where each relevant item stands.

Ranks come from :func:`palate.kernels.find_ranks.find_ranks`. A measure is a row of a program: code, cut, parameter. Formulas
are in :mod:`palate.evaluation.metrics.ranking`.
"""

from __future__ import annotations

from enum import IntEnum

import numba as nb
import numpy as np

from palate.kernels.compile import compiled


class Code(IntEnum):
    """Measures that :func:`measure` knows."""

    HITS = 0
    PRECISION = 1  # parameter + 1: divide by the length of the list where that is below the cut; + 2: 0 without a relevant item
    RECALL = 2  # parameter 1: divide by min(k, relevant)
    F1 = 3
    HIT = 4
    FIRST_RANK = 5
    R_PRECISION = 6
    AVERAGE_RECALL = 7
    RR = 8
    ARHR = 9
    AP = 10  # parameter 1: divide by min(k, relevant)
    RBP = 11  # parameter: persistence
    ERR = 12  # parameter: largest gain
    DCG = 13  # parameter: 0 binary, 1 linear, 2 exp2
    NDCG = 14  # as DCG
    AUC = 15
    BPREF = 16
    PERCENTILE_RANK = 17  # parameter: 0 binary, 1 linear
    RBP_GAIN = 18  # as RBP, each hit times its gain


def measure_reference(
    ranks: np.ndarray,
    offsets: np.ndarray,
    lengths: np.ndarray,
    program: np.ndarray,
    gains: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``float64[m, n]``: every measure of a program for every row, NaN where it is undefined.

    Parameters
    ----------
    ranks, lengths
        As :func:`palate.kernels.find_ranks.find_ranks` gives them.
    offsets
        Rows of ``ranks``.
    program
        ``float64[m, 3]``: code, cut, parameter.
    gains
        ``float64`` aligned with ``ranks``; ``None`` counts every relevant item as 1.
    candidates
        ``int64[n]`` items that could have been listed (AUC, BPREF, PERCENTILE_RANK only).
    """
    out = np.full((len(program), len(lengths)), np.nan)
    for row in range(len(lengths)):
        own = ranks[offsets[row] : offsets[row + 1]]
        worth = np.ones(len(own)) if gains is None else gains[offsets[row] : offsets[row + 1]]
        pool = 0 if candidates is None else int(candidates[row])
        for at, (code, cut, parameter) in enumerate(program):
            if not len(own) and code == Code.PRECISION and parameter >= 2:
                out[at, row] = 0.0
            elif len(own):
                out[at, row] = _plain(Code(int(code)), int(cut), parameter, own, worth, int(lengths[row]), pool)
    return out


def measure(
    ranks: np.ndarray,
    offsets: np.ndarray,
    lengths: np.ndarray,
    program: np.ndarray,
    gains: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
) -> np.ndarray:
    """As :func:`measure_reference`, fast: the program is run on the sorted hits of each row."""
    out = np.empty((len(program), len(lengths)))
    graded = gains is not None
    worth = np.ones(1) if gains is None else np.ascontiguousarray(gains, np.float64)
    pool = np.zeros(1, np.int64) if candidates is None else np.asarray(candidates, np.int64)
    longest = int(max(np.diff(offsets).max(initial=0), program[:, 1].max(initial=0), 1))
    discounts = 1.0 / np.log2(np.arange(2, longest + 2))
    columns = program[:, 0].astype(np.int64), program[:, 1].astype(np.int64), program[:, 2].copy()
    _measure(ranks, offsets, lengths, worth, graded, pool, discounts, *columns, out)
    return out


def _worth(gains: np.ndarray, form: float) -> np.ndarray:
    return np.ones(len(gains)) if form == 0 else gains if form == 1 else np.exp2(gains) - 1


def _plain(code: Code, k: int, parameter: float, ranks: np.ndarray, gains: np.ndarray, length: int, pool: int) -> float:
    """One measure of one row, from its dense vector of relevance."""
    relevant, listed = len(ranks), min(k, length)
    hit = (ranks > 0) & (ranks <= k)
    rel, place, found = np.zeros(k), np.arange(1, k + 1), float(hit.sum())
    rel[ranks[hit] - 1] = 1
    precision, recall = found / k, found / relevant
    capped = min(k, relevant) if parameter == 1 else relevant
    above, negatives = (place - np.cumsum(rel))[rel > 0], pool - relevant
    if code in (Code.DCG, Code.NDCG):
        worth, ideal = _worth(gains, parameter), np.sort(_worth(gains, parameter))[::-1][:k]
        dcg = (worth[hit] / np.log2(ranks[hit] + 1)).sum()
        best = (ideal / np.log2(np.arange(2, len(ideal) + 2))).sum()
        return dcg if code is Code.DCG else dcg / best if best > 0 else np.nan
    if code is Code.ERR:
        stop = np.zeros(k)
        stop[ranks[hit] - 1] = (np.exp2(gains[hit]) - 1 if parameter > 1 else 1) / 2**parameter
        return (stop * np.concatenate([[1], np.cumprod(1 - stop)[:-1]]) / place).sum()
    if code is Code.AUC:
        if negatives <= 0:
            return np.nan
        rest = (relevant - found) * (negatives - (listed - found)) / 2
        return ((negatives - above).sum() + rest) / (relevant * negatives)
    if code is Code.BPREF:
        if negatives <= 0:
            return np.nan
        return (1 - np.minimum(above, relevant) / min(relevant, negatives)).clip(0).sum() / relevant
    if code is Code.PERCENTILE_RANK:
        share = np.where(hit, ranks - 1, (listed + pool - 1) / 2) / max(pool - 1, 1)
        worth = _worth(gains, parameter)
        return (share * worth).sum() / worth.sum() if worth.sum() > 0 else np.nan
    simple = {
        Code.HITS: lambda: found,
        Code.PRECISION: lambda: found / max(listed, 1) if parameter % 2 == 1 else precision,
        Code.RECALL: lambda: found / capped,
        Code.F1: lambda: 2 * precision * recall / (precision + recall) if found else 0.0,
        Code.HIT: lambda: float(found > 0),
        Code.FIRST_RANK: lambda: ranks[hit].min() if found else np.nan,
        Code.R_PRECISION: lambda: ((ranks > 0) & (ranks <= relevant)).sum() / relevant,
        Code.AVERAGE_RECALL: lambda: (np.cumsum(rel) / relevant).mean(),
        Code.RR: lambda: 1 / ranks[hit].min() if found else 0.0,
        Code.ARHR: lambda: (rel / place).sum(),
        Code.AP: lambda: (np.cumsum(rel) / place * rel).sum() / capped,
        Code.RBP: lambda: (1 - parameter) * (rel * parameter ** (place - 1.0)).sum(),
        Code.RBP_GAIN: lambda: (1 - parameter) * (gains[hit] * parameter ** (ranks[hit] - 1.0)).sum(),
    }
    value: float = simple[code]()  # type: ignore[no-untyped-call]
    return float(value)


@compiled(parallel=True)
def _measure(ranks, offsets, lengths, gains, graded, pool, discounts, codes, cuts, params, out):  # type: ignore[no-untyped-def]
    for row in nb.prange(lengths.shape[0]):
        low, high = offsets[row], offsets[row + 1]
        relevant = high - low
        if relevant == 0:
            for op in range(codes.shape[0]):
                out[op, row] = 0.0 if codes[op] == 1 and params[op] >= 2 else np.nan
            continue
        keys = _sorted_hits(ranks[low:high])
        at, worth = np.empty(keys.shape[0], np.int64), np.empty(keys.shape[0])
        for hit in range(keys.shape[0]):
            at[hit] = keys[hit] >> 32
            worth[hit] = gains[low + (keys[hit] & 0xFFFFFFFF)] if graded else 1.0
        own = gains[low:high] if graded else gains[:1]
        ideal = _descending(own)
        candidates = pool[row] if pool.shape[0] == lengths.shape[0] else pool[0]
        for op in range(codes.shape[0]):
            code, k, param = codes[op], cuts[op], params[op]
            found = _within(at, k)
            if code <= 7:
                out[op, row] = _counting(code, k, param, at, found, relevant, lengths[row])
            elif code <= 12 or code == 18:
                out[op, row] = _by_place(code, k, param, at, worth, found, relevant)
            elif code <= 14:
                out[op, row] = _discounted(code, k, param, at, worth, found, relevant, ideal, graded, discounts)
            else:
                out[op, row] = _whole(code, k, param, at, worth, found, relevant, own, graded, lengths[row], candidates)


@compiled()
def _descending(values):  # type: ignore[no-untyped-def]
    return values if values.shape[0] == 1 else -np.sort(-values)


@compiled()
def _sorted_hits(ranks):  # type: ignore[no-untyped-def]
    """Return ``rank << 32 | position`` of the hits, ascending."""
    keys = np.empty(ranks.shape[0], np.int64)
    count = 0
    for position in range(ranks.shape[0]):
        if ranks[position] > 0:
            key = (np.int64(ranks[position]) << 32) | position
            at = count
            if ranks.shape[0] <= 32:
                while at > 0 and keys[at - 1] > key:
                    keys[at] = keys[at - 1]
                    at -= 1
            keys[at] = key
            count += 1
    return keys[:count] if ranks.shape[0] <= 32 else np.sort(keys[:count])


@compiled()
def _within(at, k):  # type: ignore[no-untyped-def]
    found = at.shape[0]
    while found > 0 and at[found - 1] > k:
        found -= 1
    return found


@compiled()
def _counting(code, k, param, at, found, relevant, length):  # type: ignore[no-untyped-def]
    if code == 0:
        return float(found)
    if code == 1:
        return found / (max(min(k, length), 1) if param % 2 == 1 else k)
    if code == 2:
        return found / (min(k, relevant) if param == 1 else relevant)
    if code == 3:
        return 2.0 * found / (k + relevant)
    if code == 4:
        return 1.0 if found else 0.0
    if code == 5:
        return float(at[0]) if found else np.nan
    if code == 6:
        return _within(at, relevant) / relevant
    total = 0.0
    for hit in range(found):
        total += k - at[hit] + 1
    return total / (relevant * k)


@compiled()
def _by_place(code, k, param, at, worth, found, relevant):  # type: ignore[no-untyped-def]
    if code == 8:
        return 1.0 / at[0] if found else 0.0
    total, going = 0.0, 1.0
    for hit in range(found):
        if code == 9:
            total += 1.0 / at[hit]
        elif code == 10:
            total += (hit + 1) / at[hit]
        elif code == 11 or code == 18:
            total += (worth[hit] if code == 18 else 1.0) * param ** (at[hit] - 1.0)
        else:
            stop = (2.0 ** worth[hit] - 1.0 if param > 1 else 1.0) / 2.0**param
            total += going * stop / at[hit]
            going *= 1.0 - stop
    if code == 10:
        return total / (min(k, relevant) if param == 1 else relevant)
    return total * (1.0 - param) if code == 11 or code == 18 else total


@compiled()
def _discounted(code, k, param, at, worth, found, relevant, ideal, graded, discounts):  # type: ignore[no-untyped-def]
    dcg, best = 0.0, 0.0
    for hit in range(found):
        gain = 1.0 if param == 0 else worth[hit] if param == 1 else 2.0 ** worth[hit] - 1.0
        dcg += gain * discounts[at[hit] - 1]
    if code == 13:
        return dcg
    for place in range(min(k, relevant)):
        own = ideal[place] if graded else 1.0
        gain = 1.0 if param == 0 else own if param == 1 else 2.0**own - 1.0
        best += gain * discounts[place]
    return dcg / best if best > 0 else np.nan


@compiled()
def _whole(code, k, param, at, worth, found, relevant, own, graded, length, pool):  # type: ignore[no-untyped-def]
    listed, negatives, total = min(k, length), pool - relevant, 0.0
    if code == 17:
        return _percentile(param, at, worth, found, relevant, own, graded, listed, pool)
    if negatives <= 0:
        return np.nan
    for hit in range(found):
        above = at[hit] - 1 - hit
        total += negatives - above if code == 15 else max(0.0, 1.0 - min(above, relevant) / min(relevant, negatives))
    if code == 16:
        return total / relevant
    total += (relevant - found) * (negatives - (listed - found)) / 2.0
    return total / (relevant * negatives)


@compiled()
def _percentile(param, at, worth, found, relevant, own, graded, listed, pool):  # type: ignore[no-untyped-def]
    weighted = param == 1 and graded
    share, near = 0.0, 0.0
    for hit in range(found):
        gain = worth[hit] if weighted else 1.0
        share += (at[hit] - 1) * gain
        near += gain
    everything = own.sum() if weighted else float(relevant)
    share += (everything - near) * (listed + pool - 1) / 2.0
    return share / max(pool - 1, 1) / everything if everything > 0 else np.nan
