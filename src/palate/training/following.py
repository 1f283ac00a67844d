"""Batches of histories up to a moment, and the items that followed one by one, for models that answer with several.

A history ``x_1 … x_n`` that is cut at ``b`` gives inputs ``x_1 … x_b`` (the last ``max_len``) and answers ``x_{b+1} … x_{b+s}``
and the end, where ``s`` is ``steps``, or what is left. The answers of a batch are told apart from one another: an item that
stands several times is one column (``distinct``), or each answer has a column of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate.data.histories import Histories

#: Stands for the end among the columns.
END = -1


@dataclass(frozen=True)
class Following:
    """A batch.

    Attributes
    ----------
    needed
        ``int64[m]`` ascending numbers of the items of the batch; all else counts rows of it.
    events, lengths
        ``int64[B, width]`` inputs, oldest first (row 0 where padding), and how many are real.
    followed, counts
        ``int64[B, steps]`` items that followed (row 0 where there are fewer), and how many are real.
    columns, own
        ``int64[U]`` rows of what is told apart (:data:`END` is the end), and ``int64[answers]`` the column of each answer.
    at
        ``int64[answers]`` flat places of these answers among ``B x (steps + 1)``.
    """

    needed: np.ndarray
    events: np.ndarray
    lengths: np.ndarray
    followed: np.ndarray
    counts: np.ndarray
    columns: np.ndarray
    own: np.ndarray
    at: np.ndarray


class FollowingItems:
    """Histories of at least two events; call :meth:`epoch` for a shuffled pass.

    Parameters
    ----------
    histories
        Training histories.
    max_len, steps
        Most inputs, and most items that follow.
    batch_size
        Histories a batch.
    cut
        ``"random"`` draws anew in each pass where a history is cut; ``"last"`` leaves ``steps`` items after it.
    distinct
        See the module's text.
    """

    def __init__(
        self,
        histories: Histories,
        *,
        max_len: int,
        steps: int,
        batch_size: int,
        cut: Literal["random", "last"] = "random",
        distinct: bool = True,
    ) -> None:
        self.histories, self.max_len, self.steps = histories, max_len, steps
        self.batch_size, self.cut, self.distinct = batch_size, cut, distinct
        self.people = np.flatnonzero(histories.lengths >= 2)

    def epoch(self, rng: np.random.Generator) -> FollowingEpoch:
        """Return one shuffled pass."""
        order = rng.permutation(self.people)
        last = np.maximum(1, self.histories.lengths[order] - self.steps)
        return FollowingEpoch(self, order, last if self.cut == "last" else rng.integers(1, last + 1))

    def batch(self, people: np.ndarray, begin: np.ndarray) -> Following:
        """Lay out some histories, cut after ``begin`` events each."""
        h = self.histories
        start = h.offsets[people]
        lengths = np.minimum(begin, self.max_len)
        counts = np.minimum(h.lengths[people] - begin, self.steps)
        events = self._laid(start + begin - lengths, lengths, int(lengths.max()))
        followed = self._laid(start + begin, counts, self.steps)
        needed = np.unique(np.concatenate([events[events >= 0], followed[followed >= 0]]))
        place = np.arange(self.steps + 1)
        answers = np.append(followed, np.full((len(people), 1), END), axis=1)
        answers[place >= counts[:, None]] = END  # after the last item comes the end
        real = place <= counts[:, None]
        wanted = answers[real]
        columns, own = np.unique(wanted, return_inverse=True) if self.distinct else (wanted, np.arange(len(wanted)))
        return Following(
            needed,
            np.searchsorted(needed, np.maximum(events, needed[0])),
            lengths,
            np.searchsorted(needed, np.maximum(followed, needed[0])),
            counts,
            np.where(columns == END, END, np.searchsorted(needed, columns)),
            np.asarray(own).ravel(),
            np.flatnonzero(real),
        )

    def _laid(self, start: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
        """Return ``int64[n, width]`` items from a place on, -1 where there are fewer."""
        column = np.arange(width)
        inside = column < lengths[:, None]
        out = np.full(inside.shape, -1, np.int64)
        out[inside] = self.histories.items[(start[:, None] + column)[inside]]
        return out


@dataclass(frozen=True)
class FollowingEpoch:
    """The batches of one pass, made one at a time.

    Attributes
    ----------
    source
        What makes them.
    people, begin
        ``int64[n]`` histories in their order, and after how many events each is cut.
    """

    source: FollowingItems
    people: np.ndarray
    begin: np.ndarray

    def __len__(self) -> int:
        return -(-len(self.people) // self.source.batch_size)

    def __iter__(self) -> Iterator[Following]:
        size = self.source.batch_size
        for start in range(0, len(self.people), size):
            part = slice(start, start + size)
            yield self.source.batch(self.people[part], self.begin[part])
