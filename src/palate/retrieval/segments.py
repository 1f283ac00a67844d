"""Documents that come and go: segments that never change, and the counts over all that exist.

Adding makes a small segment; a segment is merged with the one before it where that is less than twice its size, so a document
moves a logarithmic number of times. Removing marks a document, and a merge drops it. A state is never changed but replaced:
whoever reads one sees the same documents to the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from palate.data.ragged import offsets_of, row_positions
from palate.kernels.postings import Postings


@dataclass(frozen=True)
class Segment:
    """Documents that were indexed together, and which of them still exist."""

    postings: Postings
    live: np.ndarray

    @property
    def size(self) -> int:
        """Documents that still exist."""
        return int(np.count_nonzero(self.live))


@dataclass(frozen=True)
class State:
    """Everything that a search reads; a change makes a new one."""

    segments: tuple[Segment, ...]
    field_of: np.ndarray  # int8[words]
    frequency: np.ndarray  # int64[words], documents that hold the word
    documents: np.ndarray  # int64[fields], documents that have the field
    total: np.ndarray  # int64[fields], words of the field in all documents


def find(segment: Segment, items: np.ndarray) -> np.ndarray:
    """Return the rows of those items that the segment holds or held."""
    own = segment.postings.items
    at = np.searchsorted(own, items)
    return at[(at < len(own)) & (own[np.minimum(at, len(own) - 1)] == items)]


def without(state: State, items: np.ndarray) -> tuple[State, int]:
    """Return the state without some items, and how many were there."""
    removed, segments = 0, []
    for segment in state.segments:
        rows = find(segment, items)
        rows = rows[segment.live[rows]]
        if len(rows):
            live, gone = segment.live.copy(), np.zeros(len(segment.live), bool)
            live[rows], gone[rows] = False, True
            state = counted(state, Segment(segment.postings, gone), -1)
            segment = Segment(segment.postings, live)
            removed += len(rows)
        segments.append(segment)
    return replace(state, segments=tuple(segments)), removed


def counted(state: State, segment: Segment, sign: int) -> State:
    """Return the state with the counts of a segment's documents added or taken away."""
    p = segment.postings
    rows = np.flatnonzero(segment.live)
    _, positions = row_positions(p.offsets, rows)
    frequency = state.frequency.copy()
    np.add.at(frequency, p.words[positions], sign)
    lengths = p.lengths[rows].astype(np.int64)
    documents, total = (lengths > 0).sum(0), lengths.sum(0)
    return replace(
        state, frequency=frequency, documents=state.documents + sign * documents, total=state.total + sign * total
    )  # fmt: skip


def tidied(state: State) -> State:
    """Merge segments that are small beside their neighbour, and drop what no longer exists where that is most of one."""
    kept: list[Segment] = []
    for segment in state.segments:
        if segment.size == 0:
            continue
        kept.append(segment if 2 * segment.size >= len(segment.live) else merged([segment], state.field_of))
        while len(kept) > 1 and kept[-2].size < 2 * kept[-1].size:
            kept[-2:] = [merged(kept[-2:], state.field_of)]
    return replace(state, segments=tuple(kept))


def merged(segments: Iterable[Segment], field_of: np.ndarray) -> Segment:
    """Return one segment with the documents that exist."""
    parts = []
    for segment in segments:
        p, rows = segment.postings, np.flatnonzero(segment.live)
        offsets, positions = row_positions(p.offsets, rows)
        parts.append((p.items[rows], np.diff(offsets), p.words[positions], p.times[positions], p.lengths[rows]))
    if not parts:
        none = np.empty(0, np.int32)
        parts = [(none, none, none, none.astype(np.float32), np.empty((0, int(field_of.max(initial=0)) + 1), np.float32))]
    items, sizes, words, times, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(items, kind="stable")
    offsets, positions = row_positions(offsets_of(sizes), order)
    postings = Postings.of(items[order], offsets, words[positions], times[positions], lengths[order], field_of)
    return Segment(postings, np.ones(len(items), bool))
