"""Posting lists of words, and the exact best ``k`` documents of a query by BM25.

    score(q, d) = sum_t  w_t  f / (f + a_t + b_t |d|),   f = times that t stands in d,   a = k1 (1 - b),   b_t = k1 b / mean |d|

A list lies in falling order of ``f``, and for equal ``f`` in rising order of length, so within a group of equal ``f`` every
part of a score falls, whatever the mean length has become since. Words come in falling order of weight. Three things are left
out when they can't change the answer (bounds in float32, with room for rounding):

1. the rest of a group whose documents, were they seen here first, can't reach the ``k``-th best sum so far;
2. all further words, once together they can't lift a new document that high;
3. documents whose sum plus what was left out stays under it.

The few others are scored whole from their own row, in the order of the words: scores have the bits of
:func:`search_postings_reference`. One thread, no GIL.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.inner import _in_row, _push
from palate.kernels.topk import _insert, tie_key

#: Finishing a document from its own row costs about as much as so many entries of a list. Words are left out where that pays.
COSTLY = 8


@dataclass(frozen=True)
class Postings:
    """Documents by row, and the same by word.

    Attributes
    ----------
    items
        ``int32[m]``, ascending: the item of each document.
    offsets, words, times
        Row ``d`` of ``words`` (``int32``, ascending) and ``times`` (``float32``).
    lengths
        ``float32[m, fields]``: words of each field.
    heads, starts
        Words that occur (``int32[v]``, ascending) and ``int64[v + 1]``: where their lists start.
    documents, counts, sizes
        The lists: document, times, and length of the word's field.
    """

    items: np.ndarray
    offsets: np.ndarray
    words: np.ndarray
    times: np.ndarray
    lengths: np.ndarray
    heads: np.ndarray
    starts: np.ndarray
    documents: np.ndarray
    counts: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of(
        cls,
        items: np.ndarray,
        offsets: np.ndarray,
        words: np.ndarray,
        times: np.ndarray,
        lengths: np.ndarray,
        field_of: np.ndarray,
    ) -> Postings:
        """Build the lists; ``field_of`` is ``int8``, the field of each word."""
        documents = np.repeat(np.arange(len(items), dtype=np.int32), np.diff(offsets))
        sizes = lengths[documents, field_of[words]] if len(words) else np.empty(0, np.float32)
        order = np.lexsort((documents, sizes, -times, words))
        heads, first = np.unique(words[order], return_index=True)
        starts = np.append(first, len(words)).astype(np.int64)
        lists = (documents[order], times[order], sizes[order].astype(np.float32))
        return cls(items, offsets, words, times, lengths, heads, starts, *lists)


@dataclass(frozen=True)
class Query:
    """A query's words, in falling order of weight.

    Attributes
    ----------
    words
        ``int32[t]``.
    weights, a, b
        ``float32[t]``: weight of each word, and the two numbers of its field.
    fields
        ``int8[t]``: the field of each word.
    """

    words: np.ndarray
    weights: np.ndarray
    a: np.ndarray
    b: np.ndarray
    fields: np.ndarray


def search_postings_reference(
    postings: Postings, query: Query, k: int, allowed: np.ndarray | None = None, exclude: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best ``k`` (``int32[k]`` and ``float32[k]``) by scoring every document: the plain definition."""
    scores = np.zeros(len(postings), np.float32)
    for d in range(len(postings)):
        row = slice(postings.offsets[d], postings.offsets[d + 1])
        times = dict(zip(postings.words[row].tolist(), postings.times[row], strict=True))
        for word, weight, a, b, field in zip(query.words, query.weights, query.a, query.b, query.fields, strict=True):
            f = times.get(int(word), np.float32(0))
            if f > 0:
                scores[d] += weight * (f / (f + (a + b * postings.lengths[d, field])))
    kept = scores > 0
    if allowed is not None:
        kept &= allowed[postings.items]
    if exclude is not None:
        kept &= ~np.isin(postings.items, exclude)
    items, best = postings.items[kept], scores[kept]
    order = np.lexsort((tie_key(items), -best))[:k]
    pad = k - len(order)
    found = np.pad(items[order], (0, pad), constant_values=-1).astype(np.int32)
    return found, np.pad(best[order], (0, pad), constant_values=-np.inf)


def search_postings(
    postings: Postings,
    query: Query,
    items: np.ndarray,
    best: np.ndarray,
    live: np.ndarray | None = None,
    allowed: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
) -> None:
    """Put the best documents into ``items`` (``int32[k]``) and ``best`` (``float32[k]``), which may hold others already.

    Parameters
    ----------
    postings, query
        Documents and words.
    items, best
        Best first; blank places hold -1 and ``-inf``. No document may stand there already.
    live
        ``bool[m]``: documents that still exist, or ``None`` for all.
    allowed
        ``bool``, one an item: items that may be returned, or ``None`` for all.
    exclude
        ``int32``, ascending: items not to return, or ``None``.
    """
    if len(postings.heads) == 0 or len(query.words) == 0:
        return
    place = np.searchsorted(postings.heads, query.words)
    known = (place < len(postings.heads)) & (postings.heads[np.minimum(place, len(postings.heads) - 1)] == query.words)
    if not known.any():
        return
    p, every = postings, np.empty(0, np.bool_)
    weighed = (query.words, query.weights, query.a, query.b, query.fields)
    lists = (np.where(known, place, -1), p.starts, p.documents, p.counts, p.sizes)
    rows = (p.offsets, p.words, p.times, p.lengths)
    gone = np.empty(0, np.int32) if exclude is None else exclude
    gate = (p.items, every if live is None else live, every if allowed is None else allowed, gone)
    _search(weighed, lists, rows, gate, COSTLY, items, best)


@compiled(inline="always")
def _part(weight, times, a, b, size):  # type: ignore[no-untyped-def]
    return np.float32(weight * np.float32(times / np.float32(times + np.float32(a + np.float32(b * size)))))


@compiled()
def _next_group(counts, at, end):  # type: ignore[no-untyped-def]
    """Return where the group of equal counts at ``at`` ends."""
    value, low, high = counts[at], at + 1, end
    while low < high:
        middle = (low + high) // 2
        if counts[middle] < value:
            high = middle
        else:
            low = middle + 1
    return low


@compiled()
def _bounds(weighed, lists):  # type: ignore[no-untyped-def]
    """Return the largest part of each word, with room for rounding, and the sums of all parts from each word on."""
    _, weights, a, b, _ = weighed
    own, starts, _, counts, sizes = lists
    n = own.shape[0]
    largest, rest = np.zeros(n, np.float32), np.zeros(n + 1, np.float32)
    room = np.float32(1 + 4e-7 * (n + 4))
    for t in range(n):
        if own[t] >= 0:
            at, end = starts[own[t]], starts[own[t] + 1]
            while at < end:
                largest[t] = max(largest[t], _part(weights[t], counts[at], a[t], b[t], sizes[at]) * room)
                at = _next_group(counts, at, end)
    for t in range(n - 1, -1, -1):
        rest[t] = (rest[t + 1] + largest[t]) * np.float32(1 + 1e-7)
    return largest, rest, room


@compiled()
def _open(document, gate):  # type: ignore[no-untyped-def]
    """Say whether a document may be returned."""
    items, live, allowed, exclude = gate
    if live.shape[0] and not live[document]:
        return False
    if allowed.shape[0] and not allowed[items[document]]:
        return False
    return not (exclude.shape[0] and _in_row(exclude, 0, exclude.shape[0], items[document]))


@compiled()
def _rise(sums, documents, gate, heap, unused):  # type: ignore[no-untyped-def]
    """Put the sums of documents into the heap of the ``k`` largest."""
    for at in range(documents.shape[0]):
        document = documents[at]
        if sums[document] > heap[0] and _open(document, gate):
            _push(heap, unused, sums[document], 0)


@compiled()
def _whole(document, weighed, rows):  # type: ignore[no-untyped-def]
    """Score one document from its row, word by word in the query's order."""
    words, weights, a, b, fields = weighed
    offsets, own, times, lengths = rows
    total = np.float32(0.0)
    for t in range(words.shape[0]):
        at, end = offsets[document], offsets[document + 1]
        while at < end:
            middle = (at + end) // 2
            if own[middle] < words[t]:
                at = middle + 1
            else:
                end = middle
        if at < offsets[document + 1] and own[at] == words[t]:
            total = np.float32(total + _part(weights[t], times[at], a[t], b[t], lengths[document, fields[t]]))
    return total


@compiled()
def _add(part, documents, sums, touched, count):  # type: ignore[no-untyped-def]
    """Add a part to the sums of documents; return how many have been touched."""
    for at in range(documents.shape[0]):
        before = sums[documents[at]]
        sums[documents[at]] = before + part
        touched[count] = documents[at]
        count += before == 0
    return count


@compiled()
def _near(sums, documents, more, room, bar):  # type: ignore[no-untyped-def]
    """Return how many documents could still come up to the bar with so much more."""
    count = 0
    for at in range(documents.shape[0]):
        count += (sums[documents[at]] + more) * room >= bar
    return count


@compiled()
def _walk(t, bar, after, room, weighed, lists, gate, dear, costly, sums, touched, count, heap, unused):  # type: ignore[no-untyped-def]
    """Add one word's parts; return how many documents have been touched, the bar, and whether something was left out."""
    own, starts, documents, counts, sizes = lists
    at, end, cut = starts[own[t]], starts[own[t] + 1], False
    while at < end:
        part = _part(weighed[1][t], counts[at], weighed[2][t], weighed[3][t], sizes[at])
        if (part + after) * room < bar and end - at > dear + costly * count:
            at, cut = _next_group(counts, at, end), True
            continue
        run = at + 1  # documents of the same count and length have the same part
        while run < end and counts[run] == counts[at] and sizes[run] == sizes[at]:
            run += 1
        known = count
        count = _add(part, documents[at:run], sums, touched, count)
        if part > heap[0]:
            _rise(sums, touched[known:count], gate, heap, unused)
            bar = max(bar, heap[0])
        at = run
    return count, bar, cut


@compiled()
def _search(weighed, lists, rows, gate, costly, items, best):  # type: ignore[no-untyped-def]
    own, starts, m, k = lists[0], lists[1], gate[0].shape[0], items.shape[0]
    largest, rest, room = _bounds(weighed, lists)
    sums, touched = np.zeros(m, np.float32), np.empty(m + 1, np.int32)
    heap, unused = np.full(k, -np.inf, np.float32), np.empty(k, np.int32)
    count, missing, bar, first = 0, np.float32(0.0), best[k - 1], True
    for t in range(own.shape[0]):
        if own[t] < 0:
            continue
        dear = costly * _near(sums, touched[:count], missing + rest[t], room, bar)
        cut = rest[t] * room < bar and (missing > 0 or starts[own[t] + 1] - starts[own[t]] > dear)
        if not cut:
            dear -= costly * count
            count, bar, cut = _walk(
                t, bar, rest[t + 1], room, weighed, lists, gate, dear, costly, sums, touched, count, heap, unused
            )
            if not first:
                heap[:] = -np.inf
                _rise(sums, touched[:count], gate, heap, unused)
                bar = max(bar, heap[0])
            first = False
        if cut:
            missing = np.float32(missing + largest[t])
    for at in range(count):
        document = touched[at]
        score = sums[document]
        if (score + missing) * room < max(bar, best[k - 1]) or not _open(document, gate):
            continue
        if missing > 0:
            score = _whole(document, weighed, rows)
        if score >= best[k - 1]:
            _insert(items, best, gate[0][document], score)
