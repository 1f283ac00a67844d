"""Requests: a batch of questions about people, columnar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.split import HeldOut


@dataclass(frozen=True, eq=False)
class Requests:
    """Questions about ``n`` people.

    A request carries the person's history, so models serve people whom they never saw in training.

    Attributes
    ----------
    users
        ``int32[n]`` user numbers, -1 for a person unknown in training.
    histories
        What each person did, most recent last.
    exclude
        Items not to offer (usually those seen), or ``None`` to exclude nothing.
    candidates
        The only items that may be offered, or ``None`` for the whole catalogue.
    times
        ``int64[n]`` when the question is asked, where known.
    texts
        A search query or a stated preference for each request, or ``None``.
    context
        Arrow table of context features, one row a request, or ``None``.
    ties
        Numbers of the people whom each person is tied to, in place of the ties known from training; ``None``: those. Systems
        that read ties when they answer (``reads_ties``: DiffNet++, SocialRS) follow them; others pass over them.
    """

    users: np.ndarray
    histories: Histories
    exclude: Ragged | None = None
    candidates: Ragged | None = None
    times: np.ndarray | None = None
    texts: Sequence[str] | None = None
    context: pa.Table | None = None
    ties: Ragged | None = None

    @classmethod
    def of_users(cls, dataset: Dataset, users: np.ndarray, *, exclude_seen: bool = True) -> Requests:
        """Ask about users of a data set (-1 is an unknown person with an empty history)."""
        users = np.asarray(users, np.int32)
        histories = dataset.histories.take(users)
        return cls(users, histories, exclude=histories.ragged if exclude_seen else None)

    @classmethod
    def of_histories(cls, rows: Sequence[Sequence[int]], *, exclude_seen: bool = True) -> Requests:
        """Ask about people known only by a list of item numbers, most recent last."""
        histories = Histories.from_rows(rows)
        return cls(np.full(len(rows), -1, np.int32), histories, exclude=histories.ragged if exclude_seen else None)

    @classmethod
    def of_held_out(cls, held_out: HeldOut, *, exclude_seen: bool = True) -> Requests:
        """Ask the questions of a validation or test part."""
        seen = held_out.histories.ragged if exclude_seen else None
        return cls(held_out.users, held_out.histories, exclude=seen, times=held_out.times)

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> Requests:
        """Return the requests of some row numbers."""
        histories = self.histories.take(rows)
        return Requests(
            self.users[rows],
            histories,
            self._excluded(histories, lambda own: own.take(rows)),
            None if self.candidates is None else self.candidates.take(rows),
            None if self.times is None else self.times[rows],
            None if self.texts is None else [self.texts[r] for r in rows],
            None if self.context is None else self.context.take(pa.array(rows)),
            None if self.ties is None else self.ties.take(rows),
        )

    def blocks(self, rows: int) -> Iterator[Requests]:
        """Cut into consecutive blocks of at most ``rows`` requests."""
        for start in range(0, len(self), rows):
            stop = min(start + rows, len(self))
            if start == 0 and stop == len(self):
                yield self
                return
            histories = self.histories.slice(start, stop)
            yield Requests(
                self.users[start:stop],
                histories,
                self._excluded(histories, partial(Ragged.slice, start=start, stop=stop)),
                None if self.candidates is None else self.candidates.slice(start, stop),
                None if self.times is None else self.times[start:stop],
                None if self.texts is None else self.texts[start:stop],
                None if self.context is None else self.context.slice(start, stop - start),
                None if self.ties is None else self.ties.slice(start, stop),
            )

    def _excluded(self, histories: Histories, cut: Callable[[Ragged], Ragged]) -> Ragged | None:
        """Return the exclusions of some of these requests; where just the history is excluded, one set serves for both."""
        if self.exclude is None:
            return None
        return histories.ragged if self.exclude is self.histories.ragged else cut(self.exclude)
