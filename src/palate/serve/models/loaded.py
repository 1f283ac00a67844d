"""A recommender in this process: its bundle, and the way between its item numbers and rows of the catalogue."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from palate.catalog.registry import load
from palate.contracts.bundle import read_manifest
from palate.contracts.explanation import Explanation
from palate.contracts.recommender import Recommender, VectorRecommender
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.errors import UnsupportedError
from palate.retrieval.index import VectorIndex
from palate.serve.memory.catalogue import Catalogue
from palate.serve.memory.people import Person
from palate.serve.models.kinds import use_of
from palate.serve.models.seen import position_of, positive_of
from palate.serve.search.indexes import index_of
from palate.serve.settings import RetrievalSettings

#: Search of vectors without settings.
EXACT = RetrievalSettings()


class Loaded:
    """A model, and the way between its item numbers and rows of the catalogue.

    Attributes
    ----------
    version
        Its name in the store.
    model
        The recommender.
    facts
        The manifest of its bundle.
    positive
        Which events it learnt from; ``None`` where all count.
    index_words
        What searches its vectors, and why; ``None`` where it has none.
    """

    def __init__(self, version: str, folder: str | Path, catalogue: Catalogue, retrieval: RetrievalSettings = EXACT) -> None:
        self.version, self.folder = version, Path(folder)
        self.facts: Mapping[str, Any] = read_manifest(folder)
        self.positive = positive_of(self.facts)
        model = load(folder)
        if not isinstance(model, Recommender):
            raise UnsupportedError(
                "only a recommender can answer from the whole catalogue.",
                where=version,
                value=self.facts.get("system"),
                remedy=use_of(str(self.facts.get("system")), version),
            )
        self.model, self.catalogue = model, catalogue
        self.index: VectorIndex | None = None
        self.index_words: str | None = None
        if isinstance(model, VectorRecommender):
            self.index, self.index_words = index_of(model, retrieval)
        self._lock = threading.Lock()
        self.row_of = np.full(model.n_items, -1, np.int32)
        self.number_of = np.full(1_024, -1, np.int32)
        self.allowed = np.zeros(model.n_items, bool)
        catalogue.listen(self._changed)

    @property
    def store_position(self) -> tuple[str, int] | None:
        """Which store the training events came from, and up to which event; ``None`` if they came from elsewhere."""
        return position_of(self.facts)

    def close(self) -> None:
        """Hear no more of the catalogue's changes."""
        self.catalogue.forget(self._changed)

    def _changed(self, rows: Sequence[int]) -> None:
        """Take up rows of the catalogue that are new or changed."""
        items = self.catalogue.items
        at = np.fromiter(rows, np.int64, len(rows))
        numbers = self.model.items_.ids.encode([items[row].id for row in rows])
        shown = np.fromiter((items[row].shown for row in rows), bool, len(rows))
        known = numbers >= 0
        with self._lock:
            top = max(rows, default=-1) + 1
            if top > len(self.number_of):
                more = np.full(max(top, 2 * len(self.number_of)) - len(self.number_of), -1, np.int32)
                self.number_of = np.concatenate([self.number_of, more])
            self.number_of[at[known]], self.row_of[numbers[known]] = numbers[known], at[known]
            self.allowed[numbers[known]] = shown[known]

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """Return item numbers of rows; what the model doesn't know is left out."""
        found = self._aligned(rows)
        return found[found >= 0]

    def _aligned(self, rows: np.ndarray) -> np.ndarray:
        """Return ``int32[m]``: the item number of each row, -1 where the model doesn't know it."""
        known = rows < len(self.number_of)
        return np.where(known, self.number_of[np.where(known, rows, 0)], -1).astype(np.int32)

    def base(self, user: str | None) -> Person:
        """Return what the bundle itself knows of a person."""
        number = -1 if user is None else self.model.users_.ids.number(user)
        if number < 0:
            return Person(user)
        own = self.model.histories_.take(np.array([number]))
        rows = self.row_of[own.items]
        times = own.times if own.times is not None else np.zeros(len(rows), np.int64)
        return Person(user, rows[rows >= 0].astype(np.int32), times[rows >= 0])

    def request(self, person: Person) -> Requests:
        """Return the question about a person, in the model's numbers."""
        numbers = self._aligned(person.rows)
        kept = numbers >= 0
        items = numbers[kept]
        times = person.times[kept] if self.model.histories_.times is not None else None
        user = -1 if person.id is None else self.model.users_.ids.number(person.id)
        offsets = np.array([0, len(items)], np.int64)
        texts = [person.words] if self.model.reads_words and person.words.strip() else None
        ties = self.model.ties_of([person.ties]) if self.model.reads_ties and person.ties is not None else None
        return Requests(np.array([user], np.int32), Histories(offsets, items, times), texts=texts, ties=ties)

    def informed(self, person: Person) -> bool:
        """Say whether the model knows anything of a person, or can read what they say."""
        return bool(self.model.informed(self.request(person))[0])

    def best(self, person: Person, k: int, barred: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return rows and scores of the best ``k`` that may be shown, and whether the person is unknown to the model.

        Parameters
        ----------
        barred
            Rows that must not come.
        """
        request, barred = self.request(person), self.numbers(barred)
        if self.index is not None and bool(self.model.informed(request)[0]):
            assert isinstance(self.model, VectorRecommender)
            found, scores = self.index.search(self.model.request_vectors(request), k, exclude=barred, allowed=self.allowed)
            items, values, cold = found[0], scores[0], False
        else:
            closed = np.union1d(barred, np.flatnonzero(~self.allowed)).astype(np.int32)
            exclude = Ragged(np.array([0, len(closed)], np.int64), closed)
            ranking = self.model.recommend(replace(request, exclude=exclude), k)
            items, values, cold = ranking.items[0], ranking.scores[0], bool(ranking.cold[0])
        good = items >= 0
        return self.row_of[items[good]], values[good], cold

    def score(self, person: Person, rows: np.ndarray) -> np.ndarray:
        """Return ``float32[m]`` scores of rows; ``-inf`` where the model doesn't know the item."""
        return self.model.score(self.request(person), self._aligned(rows)[None, :])[0]

    def knows(self, rows: np.ndarray) -> np.ndarray:
        """Return ``bool[m]``: which rows the model has learnt of."""
        return self._aligned(rows) >= 0

    def strangers(self) -> np.ndarray:
        """Return ``int64[m]``: the rows of the catalogue that the model has not learnt of, ascending."""
        return np.flatnonzero(self._aligned(np.arange(len(self.catalogue))) < 0)

    def alike(self, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return what may be shown and is like any of some rows, each with its best score, best first.

        Parameters
        ----------
        rows
            What the model doesn't know is passed over.
        k
            How many are looked for, for each row.

        Returns
        -------
        rows, scores, full
            ``int32[m]``, ``float32[m]``, and whether any of the rows has ``k`` (there may be more).

        Raises
        ------
        UnsupportedError
            If the model has no notion of likeness.
        """
        numbers = self.numbers(rows)
        if not len(numbers):
            return np.empty(0, np.int32), np.empty(0, np.float32), False
        closed = int((~self.allowed).sum())
        ranking = self.model.similar(numbers, min(self.model.n_items, k + min(closed, 4 * k + 100)))
        good = (ranking.items >= 0) & self.allowed[ranking.items]
        good &= np.cumsum(good, axis=1) <= k
        found, scores = self.row_of[ranking.items[good]], ranking.scores[good]
        order = np.lexsort((found, -scores))
        _, first = np.unique(found[order], return_index=True)
        kept = order[np.sort(first)]
        return found[kept], scores[kept], bool((good.sum(axis=1) >= k).any())

    def explain(self, person: Person, row: int) -> Explanation:
        """Say why a row has its score for a person."""
        number = self.numbers(np.array([row]))
        if not len(number):
            raise UnsupportedError("the model doesn't know this item yet.", value=self.catalogue.items[row].id)
        return self.model.explain(self.request(person), int(number[0]))

    def warm(self) -> None:
        """Answer once for somebody known and once for somebody unknown: kernels are compiled, pages come into memory."""
        shown = np.flatnonzero(self.row_of >= 0)[:3]
        somebody = Person(None, self.row_of[shown].astype(np.int32), np.zeros(len(shown), np.int64))
        for person in (somebody, Person(None)):
            self.best(person, 10, np.empty(0, np.int32))
