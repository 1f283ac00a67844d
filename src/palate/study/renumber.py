"""A bundle and a split made from different files number the same things differently: this brings them together by raw id."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from palate.contracts.ranking import Ranking
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.ragged import Ragged, offsets_of
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError


class Renumbered:
    """A model that is asked, and answers, in the numbers of a data set.

    Items that only the model knows are numbered after the data set's own, so they keep their place in a list.

    Parameters
    ----------
    model
        A fitted recommender.
    dataset
        The data set whose numbers callers use.
    """

    def __init__(self, model: Recommender, dataset: Dataset) -> None:
        self.model = model
        own, theirs = dataset.items.ids, model.items_.ids
        if own.is_text != theirs.is_text and len(own) and len(theirs):
            raise DataError(
                "the bundle and the split have item ids of different kinds (text and integers).",
                value=(own.raw[0].as_py(), theirs.raw[0].as_py()),
                remedy="fit the model on data read in the same way as the split",
            )
        self.same = own == theirs and dataset.users.ids == model.users_.ids
        self.users = model.users_.ids.encode(dataset.users.ids.raw)
        self.to_model = theirs.encode(own.raw)
        extra = np.setdiff1d(np.arange(len(theirs)), self.to_model)
        self.from_model = np.empty(len(theirs) + 1, np.int32)
        self.from_model[self.to_model[self.to_model >= 0]] = np.flatnonzero(self.to_model >= 0)
        self.from_model[extra] = len(own) + np.arange(len(extra))
        self.from_model[-1] = -1
        catalogue = Vocabulary(pa.concat_arrays([own.raw, theirs.raw.take(pa.array(extra)).cast(own.raw.type)]))
        self.dataset = dataset if self.same else dataset.derive({"step": "catalogues joined"}, items=Entities(catalogue))

    def recommend(self, requests: Requests, k: int) -> Ranking:
        """As :meth:`Recommender.recommend`, in the data set's numbers."""
        if self.same:
            return self.model.recommend(requests, k)
        answer = self.model.recommend(self.requests(requests), k)
        return Ranking(self.from_model[answer.items], answer.scores, answer.cold)

    def requests(self, requests: Requests) -> Requests:
        """Return requests in the model's numbers; items that it doesn't know are left out."""
        if self.same:
            return requests
        users = np.where(requests.users >= 0, self.users[np.maximum(requests.users, 0)], -1).astype(np.int32)
        exclude, candidates = (None if r is None else self._known(r) for r in (requests.exclude, requests.candidates))
        histories = in_numbers(requests.histories, self.to_model)
        return Requests(users, histories, exclude, candidates, requests.times, requests.texts, requests.context)

    def _known(self, rows: Ragged) -> Ragged:
        numbers = self.to_model[rows.values]
        lengths = np.bincount(rows.row_numbers[numbers >= 0], minlength=len(rows))
        return Ragged(offsets_of(lengths), numbers[numbers >= 0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def in_numbers(histories: Histories, numbers: np.ndarray) -> Histories:
    """Return histories with each item replaced by ``numbers[item]``, and left out where that is -1."""
    mapped = numbers[histories.items]
    known = mapped >= 0
    lengths = np.bincount(histories.ragged.row_numbers[known], minlength=len(histories))
    columns = (None if c is None else c[known] for c in (histories.times, histories.values, histories.actions))
    return Histories(offsets_of(lengths), mapped[known], *columns)
