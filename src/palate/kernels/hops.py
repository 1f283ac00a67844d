"""Scores two hops away on the graph of who had what: from the items of a history to their people, and on to all that they had.

    s_j = r_j Σ_v w_v [v had j] Σ_{i in H} r_i [v had i]

With ``r = 1/√d`` of items and ``w = 1/d`` of people this is ``h D^-1/2 R̃ᵀR̃ D^..`` of the normalised matrix ``R̃``: a row of
item-item weights times a history, without the item-item matrix. Memory beyond the answer is one line of people a thread.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.inner import dot
from palate.kernels.spans import each_span, even_rows, even_spans

#: Vectors of a block, which stay in a core's own cache.
CHUNK = 128


def two_hops_reference(
    offsets: np.ndarray,
    items: np.ndarray,
    people: tuple[np.ndarray, np.ndarray],
    columns: tuple[np.ndarray, np.ndarray],
    r: np.ndarray,
    w: np.ndarray,
) -> np.ndarray:
    """Return ``float32[n, n_items]`` scores by the plain definition.

    Parameters
    ----------
    offsets, items
        Histories (``int64[n + 1]``, ``int32[m]``), items distinct within each.
    people, columns
        Offsets and items of each person; offsets and people of each item (the transposed matrix).
    r, w
        ``float32[n_items]`` and ``float32[n_users]``.
    """
    out = np.zeros((len(offsets) - 1, len(r)), np.float32)
    for row in range(len(out)):
        line = np.zeros(len(w), np.float32)
        for item in items[offsets[row] : offsets[row + 1]]:
            line[columns[1][columns[0][item] : columns[0][item + 1]]] += r[item]
        for person in np.flatnonzero(line):
            out[row, people[1][people[0][person] : people[0][person + 1]]] += w[person] * line[person]
        out[row] *= r
    return out


def two_hops(
    offsets: np.ndarray,
    items: np.ndarray,
    people: tuple[np.ndarray, np.ndarray],
    columns: tuple[np.ndarray, np.ndarray],
    r: np.ndarray,
    w: np.ndarray,
) -> np.ndarray:
    """As :func:`two_hops_reference`, fast. The order of a history's items decides the order of the sum."""
    out = np.zeros((len(offsets) - 1, len(r)), np.float32)
    firsts = int(np.diff(columns[0])[items].sum())
    work = firsts * max(1, len(people[1]) // max(1, len(w))) + out.size
    each_span(lambda a, b: _two_hops(offsets, items, people, columns, r, w, out, a, b), even_spans(offsets), work)
    return out


def add_inner_reference(queries: np.ndarray, vectors: np.ndarray, out: np.ndarray) -> None:
    """Add to ``out`` (``float32[n, m]``) the inner products of ``queries`` and ``vectors`` (``float32[n, d]``, ``[m, d]``)."""
    for row, query in enumerate(queries):
        for at, vector in enumerate(vectors):
            out[row, at] += dot(query, vector)


def add_inner(queries: np.ndarray, vectors: np.ndarray, out: np.ndarray) -> None:
    """As :func:`add_inner_reference`, fast; the same bits for any number of rows and threads."""
    queries, vectors = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(vectors, np.float32)
    each_span(lambda a, b: _add_inner(queries, vectors, out, a, b), even_rows(len(out)), out.size * vectors.shape[1])


@compiled()
def _two_hops(offsets, items, people, columns, r, w, out, low, high):  # type: ignore[no-untyped-def]
    starts, owned = people
    tops, owners = columns
    line = np.zeros(w.shape[0], np.float32)
    touched = np.empty(w.shape[0], np.int32)
    for row in range(low, high):
        count, total = 0, out[row]
        for at in range(offsets[row], offsets[row + 1]):
            item = items[at]
            for spot in range(tops[item], tops[item + 1]):
                person = owners[spot]
                if line[person] == 0:
                    touched[count] = person
                    count += 1
                line[person] += r[item]
        for at in range(count):
            person = touched[at]
            mass = w[person] * line[person]
            line[person] = 0
            for spot in range(starts[person], starts[person + 1]):
                total[owned[spot]] += mass
        for item in range(r.shape[0]):
            total[item] *= r[item]


@compiled()
def _add_inner(queries, vectors, out, low, high):  # type: ignore[no-untyped-def]
    for first in range(0, vectors.shape[0], CHUNK):
        last = min(first + CHUNK, vectors.shape[0])
        for row in range(low, high):
            for at in range(first, last):
                out[row, at] += dot(queries[row], vectors[at])
