"""Recommender: which items of the whole catalogue, in what order?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.model import Model
from palate.contracts.ranking import Ranking
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.errors import DataError
from palate.kernels.inner import inner_pairs, topk_inner
from palate.kernels.topk import topk_dense, topk_rows

#: Bytes that one block of dense scores may take.
BLOCK_BYTES = 128 * 2**20


class Recommender(Model):
    """Base of systems that rank the whole catalogue for a person.

    A subclass implements ``_scores`` (or, if its score is an inner product, derives from :class:`VectorRecommender`).
    Everything else (blocks, seen items, candidates, people about whom nothing is known, ties) is done here, once, in the same
    way for all.

    Notes
    -----
    Ties: equal scores rank by a fixed hash of the item number (:func:`palate.kernels.topk.tie_key`), which knows nothing of
    popularity, time or the target.

    People about whom the model knows nothing (by default: an empty history) are answered by training popularity, and
    marked ``cold`` in the ranking.
    """

    #: Whether ``requests.texts`` (a query, a stated preference) counts; where not, they are passed over.
    reads_words: ClassVar[bool] = False
    #: Whether ``requests.ties`` (people whom a person is tied to) count; where not, they are passed over.
    reads_ties: ClassVar[bool] = False

    def recommend(self, requests: Requests, k: int = 10) -> Ranking:
        """Return the best ``k`` items for each request, from the whole catalogue or from its candidates.

        Items in ``requests.exclude`` are never returned. Where fewer than ``k`` items remain, rows end in -1.
        """
        self._check_request(requests, k)
        cold = ~self._informed(requests)
        if not cold.any():
            return self._rank(requests, k, cold=False)
        if cold.all():
            return self._rank(requests, k, cold=True)
        parts = (np.flatnonzero(~cold), np.flatnonzero(cold))
        joined = Ranking.stack([self._rank(requests.take(rows), k, cold=bool(c)) for c, rows in enumerate(parts)])
        back = np.argsort(np.concatenate(parts), kind="stable")
        return Ranking(joined.items[back], joined.scores[back], joined.cold[back])

    def score(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float32[n, m]`` scores of the items ``int32[n, m]`` of each request (-1 gives ``-inf``)."""
        self._check_request(requests, 1)
        items = self._check_items(items, "the items to score", lowest=-1)
        out = np.full(items.shape, -np.inf, np.float32)
        start = 0
        for block in requests.blocks(self._block_rows()):
            stop = start + len(block)
            wanted = items[start:stop]
            dense = self._scores_or_popularity(block)
            found = np.take_along_axis(dense, np.maximum(wanted, 0).astype(np.int64), axis=1)
            out[start:stop] = np.where(wanted >= 0, found, -np.inf)
            start = stop
        return out

    def similar(self, items: np.ndarray, k: int = 10) -> Ranking:
        """Return the ``k`` items most like each item (itself left out), where the model has a notion of it."""
        self._check_fitted()
        items = self._check_items(items, "the items asked about")
        if k < 1:
            raise DataError("k must be at least 1.", value=k)
        found, scores = self._similar(items, k, np.arange(len(items) + 1, dtype=np.int64))
        return Ranking(found, scores, np.zeros(len(items), bool))

    def explain(self, request: Requests, item: int) -> Explanation:
        """Say why ``item`` has its score for one request.

        Unless a model knows better: leave each item of the history out in turn and see how far the score falls.
        """
        self._check_question(request, item)
        history = request.histories.items
        kept = [np.delete(history, at) for at in range(len(history))]
        variants = Requests(np.full(len(kept) + 1, -1, np.int32), Histories.from_rows([history, *kept]))
        scores = self.score(variants, np.full((len(variants), 1), item, np.int32))[:, 0]
        falls = scores[0] - scores[1:]
        reasons = [Evidence("history", int(i), float(w)) for i, w in zip(history, falls, strict=True)]
        reasons.sort(key=lambda e: -abs(e.weight))
        return Explanation(item, float(scores[0]), tuple(reasons), exact=False, method="leave one out of the history")

    def informed(self, requests: Requests) -> np.ndarray:
        """Return ``bool[n]``: does the model know anything about this person? Others are answered by popularity (``cold``)."""
        self._check_request(requests, 1)
        return self._informed(requests)

    def requests(
        self,
        users: Sequence[Any] | None = None,
        *,
        histories: Sequence[Sequence[Any]] | None = None,
        texts: Sequence[str] | None = None,
        ties: Sequence[Sequence[Any]] | None = None,
        include_seen: bool = False,
    ) -> Requests:
        """Ask by raw ids: known users with the history stored in the bundle, or people by a list of item ids.

        Unknown users get an empty history; unknown item ids are left out of histories, unknown people out of ties.

        Parameters
        ----------
        users, histories
            Either of them; neither where texts or ties are all that is known.
        texts
            A query or a stated preference of each (``""``: none), for systems that read them (:attr:`reads_words`).
        ties
            Ids of the people whom each is tied to, in place of the ties known from training, for systems that read them
            (:attr:`reads_ties`).
        include_seen
            Whether items of the histories may be offered.

        Raises
        ------
        DataError
            If both or none are given, or one id stands where a list of them belongs (text would be read letter by letter).
        UnsupportedError
            If texts or ties are given to a system that doesn't read them.
        """
        self._check_fitted()
        if texts is not None:
            self.check_words()
            if isinstance(texts, str):
                raise DataError("one text stands where a list belongs.", where="texts", value=texts, remedy="give texts=[TEXT]")
        if users is None and histories is None and (texts is not None or ties is not None):
            histories = [[] for _ in (ties if texts is None else texts) or ()]
        if (users is None) == (histories is None):
            raise DataError("give either users or histories.")
        _refuse_lone_ids(users, histories, ties)
        tied = None if ties is None else self.ties_of(ties)
        if users is not None:
            numbers = np.array([self.users_.ids.number(u) for u in users], np.int32)
            events = self.histories_.take(numbers)
        else:
            rows = [self.items_.ids.encode(list(row)) for row in histories or ()]
            events = Histories.from_rows([row[row >= 0] for row in rows])
            numbers = np.full(len(rows), -1, np.int32)
        asked = Requests(numbers, events, exclude=None if include_seen else events.ragged, texts=texts, ties=tied)
        self._check_request(asked, 1)
        return asked

    def check_words(self) -> None:
        """Refuse words where this system doesn't read them."""
        if not self.reads_words:
            raise self._refuse("read words", "leave them out, or fit a system whose abilities name words: palate models")

    def ties_of(self, people: Sequence[Sequence[Any]]) -> Ragged:
        """Return ids of people whom others are tied to in this model's numbers; those unknown to it are left out.

        Raises
        ------
        UnsupportedError
            If this system doesn't read ties when it answers.
        """
        if not self.reads_ties:
            raise self._refuse("read ties", "leave them out, or fit a system whose abilities name ties: palate models")
        rows = [self.users_.ids.encode(list(row)) for row in people]
        return Ragged.from_rows([row[row >= 0] for row in rows])

    # -- what a subclass gives ------------------------------------------------------------------

    def _scores(self, requests: Requests) -> np.ndarray:
        """Return dense ``float32[n, n_items]`` scores of a block of requests (a fresh array, which may be overwritten)."""
        raise NotImplementedError

    def _informed(self, requests: Requests) -> np.ndarray:
        """Return ``bool[n]``: does the model know anything about this person? By default: is there a history."""
        return requests.histories.lengths > 0

    def _similar(self, items: np.ndarray, k: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return items and scores, each ``[n, k]``, for :meth:`similar`; ``own`` are offsets that give each item to its row."""
        raise self._refuse("say which items are alike", "ask a model with item vectors or item-item weights, such as ease")

    # -- shared machinery -----------------------------------------------------------------------

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        return len(self.items_)

    def _rank(self, requests: Requests, k: int, *, cold: bool) -> Ranking:
        if requests.candidates is not None:
            items, scores = self._rank_candidates(requests, k)
        else:
            blocks = [self._rank_block(b, k, cold=cold) for b in requests.blocks(self._block_rows())]
            items = np.concatenate([b[0] for b in blocks]) if blocks else np.empty((0, k), np.int32)
            scores = np.concatenate([b[1] for b in blocks]) if blocks else np.empty((0, k), np.float32)
        return Ranking(items, scores, np.full(len(requests), cold))

    def _rank_block(self, requests: Requests, k: int, *, cold: bool) -> tuple[np.ndarray, np.ndarray]:
        scores = self._popularity_scores(len(requests)) if cold else self._scores(requests)
        return topk_dense(scores, k, *_pair(requests.exclude))

    def _rank_candidates(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        candidates = requests.candidates
        assert candidates is not None
        width = int(candidates.lengths.max(initial=0))
        table = np.full((len(requests), width), -1, np.int32)
        table[np.arange(width) < candidates.lengths[:, None]] = candidates.values
        table.sort(axis=1)
        table[:, 1:][table[:, 1:] == table[:, :-1]] = -1  # a candidate named twice counts once
        scores = self.score(requests, table)
        return topk_rows(table, scores, k, *_pair(requests.exclude))

    def _scores_or_popularity(self, requests: Requests) -> np.ndarray:
        cold = ~self._informed(requests)
        if cold.all():
            return self._popularity_scores(len(requests))
        scores = self._scores(requests)
        if cold.any():
            scores[cold] = self._popularity_scores(int(cold.sum()))
        return scores

    def _popularity_scores(self, n: int) -> np.ndarray:
        counts = self.item_counts_.astype(np.float32)
        share = counts / max(1.0, float(counts.sum()))
        return np.broadcast_to(share, (n, self.n_items)).astype(np.float32)

    def _block_rows(self) -> int:
        return max(1, BLOCK_BYTES // (4 * max(1, self.n_items)))

    def _check_request(self, requests: Requests, k: int) -> None:
        self._check_fitted()
        if k < 1:
            raise DataError("k must be at least 1.", value=k)
        users, known = requests.users, len(self.users_)
        if len(users) and (users.min() < -1 or users.max() >= known):
            wrong = users[(users < -1) | (users >= known)][0]
            raise DataError(
                "a request names a user number unknown to the model.",
                value=int(wrong),
                remedy=f"use 0 to {known - 1}, or -1 for somebody who was not in training",
            )
        if requests.texts is not None and len(requests.texts) != len(requests):
            found = f"{len(requests.texts)} for {len(requests)} requests"
            raise DataError("texts are one a request.", where="requests.texts", value=found, remedy='"" stands for none')
        if requests.ties is not None:
            self._check_ties(requests.ties, len(requests))
        own = requests.histories.items
        self._check_items(own, "a history")
        for what, rows in (("exclude", requests.exclude), ("candidates", requests.candidates)):
            if rows is not None and rows.values is not own:
                self._check_items(rows.values, f"requests.{what}")

    def _check_ties(self, ties: Ragged, n: int) -> None:
        """Refuse ties of another number of people, or to somebody unknown to the model."""
        wrong = ties.values[(ties.values < 0) | (ties.values >= len(self.users_))]
        if len(ties) != n or len(wrong):
            raise DataError(
                "ties are one row a request, of user numbers that the model knows.",
                where="requests.ties",
                value=int(wrong[0]) if len(wrong) else f"{len(ties)} rows for {n} requests",
                remedy="leave out people who were not in training",
            )

    def _check_items(self, items: np.ndarray, what: str, *, lowest: int = 0) -> np.ndarray:
        """Return the item numbers as ``int32``; refuse those outside the catalogue (a kernel would read past its arrays)."""
        items = np.asarray(items)
        if items.size and (items.min() < lowest or items.max() >= self.n_items):
            raise DataError(
                f"{what} holds an item number outside the catalogue of {self.n_items}.",
                value=int(items[(items < lowest) | (items >= self.n_items)][0]),
                remedy="encode raw ids with model.requests(histories=…)",
            )
        return items.astype(np.int32, copy=False)

    def _check_question(self, request: Requests, item: int) -> None:
        """Refuse what :meth:`explain` can't be asked."""
        self._check_request(request, 1)
        if len(request) != 1:
            raise DataError("explain takes one request.", value=len(request))
        self._check_items(np.array([item]), "the question")


class VectorRecommender(Recommender):
    """A recommender whose score is an inner product: vectors give exact top-k, similar items, an index and export."""

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``, one vector a request (rows of people unknown to the model are zero)."""
        raise NotImplementedError

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, d]``."""
        raise NotImplementedError

    def score(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float32[n, m]`` scores of the items ``int32[n, m]`` of each request (-1 gives ``-inf``)."""
        self._check_request(requests, 1)
        items = self._check_items(items, "the items to score", lowest=-1)
        out = inner_pairs(self.request_vectors(requests), self.item_vectors, items)
        cold = ~self._informed(requests)
        out[cold] = self._popularity_scores(1)[0][np.maximum(items[cold], 0)]
        out[items < 0] = -np.inf
        return out

    @property
    def _directions(self) -> np.ndarray:
        """``float32[n_items, d]``: vectors whose cosine says how alike two items are."""
        return self.item_vectors

    def _similar(self, items: np.ndarray, k: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` items with the highest cosine to each item."""
        vectors = self._directions
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = np.ascontiguousarray(vectors / np.maximum(norms, 1e-12), np.float32)
        return topk_inner(unit[items], unit, k, own, items)

    def _rank(self, requests: Requests, k: int, *, cold: bool) -> Ranking:
        if cold or requests.candidates is not None:
            return super()._rank(requests, k, cold=cold)
        found, scores = topk_inner(self.request_vectors(requests), self.item_vectors, k, *_pair(requests.exclude))
        return Ranking(found, scores, np.zeros(len(requests), bool))


def _refuse_lone_ids(users: Any, histories: Any, ties: Any) -> None:
    """Refuse one id where a list of them belongs: text is a sequence too, of letters that would pass for unknown ids."""
    lone = [outer for outer in (users, histories, ties) if isinstance(outer, str | int)]
    rows = (row for nested in (histories, ties) if nested is not None and not isinstance(nested, str | int) for row in nested)
    lone += [row for row in rows if isinstance(row, str | int)]
    if lone:
        remedy = "give users=[ID, …], or histories=[[ID, …], …] (ties likewise), a list for each person"
        raise DataError("one id stands where a list belongs.", where="requests", value=lone[0], remedy=remedy)


def _pair(rows: Ragged | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    return (None, None) if rows is None else (rows.distinct.offsets, rows.distinct.values)
