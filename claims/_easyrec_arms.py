"""What answers in the claim on EasyRec: text encoders that learnt elsewhere, or nothing, and how they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from palate.contracts.model import Fitting, Former
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.profiles import item_profiles, user_profiles
from palate.recommend.easyrec import EasyRec
from palate.retrieval.bm25 import BM25


class TextMatch(EasyRec):
    """The same profiles, read by TF-IDF that was fitted on the items at hand."""

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        texts = self._write_items()
        self.encoder_ = TfidfEncoder(dim=512).fit([text for rows in texts for text in rows])
        self.item_vectors_ = np.asarray(np.mean([self.encoder_.encode(rows) for rows in texts], axis=0, dtype=np.float32))
        return {}


class WordMatch(Recommender):
    """The plain profiles, a person's as a query to the items' by BM25."""

    name = "bm25"

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        self.profiles_, self.index_ = item_profiles(dataset), BM25()
        told = np.flatnonzero(self.profiles_.known)
        self.index_.add(told, [self.profiles_.texts[int(item)] for item in told])
        return {}

    def _scores(self, requests: Requests) -> np.ndarray:
        out = np.zeros((len(requests), self.n_items), np.float32)
        items, scores = self.index_.search(user_profiles(requests.histories, self.profiles_).texts, k=self.n_items)[:2]
        rows, at = np.nonzero(items >= 0)
        out[rows, items[rows, at]] = scores[rows, at]
        return out


class Given(EasyRec):
    """People's profiles as they came with the data, in the place of ours where there is one."""

    column: ClassVar[str] = "profile"

    def _stated(self, requests: Requests) -> list[str]:
        column = self.users_.column(self.column)
        assert column is not None
        return [text or "" for text in column.take(pa.array(requests.users)).to_pylist()]


class GivenMatch(Given, TextMatch):
    """The same, read by TF-IDF."""


class OneVersion(EasyRec):
    """Answers in one paraphrase alone."""

    version: ClassVar[int] = 0

    def _form(self, version: int) -> Any:
        return super()._form(self.version)


def told(model: EasyRec, data: Dataset, version: int) -> EasyRec:
    """Return the model's answers on other data in one paraphrase."""
    return answering(type("Told", (OneVersion,), {"version": version}), model, data, versions=1)


def answering(kind: type[EasyRec], model: EasyRec, data: Dataset, **changes: Any) -> EasyRec:
    """Return a model of another kind that answers on other data with the same encoder."""
    former = Former(model._state(), model.histories_, model.item_counts_)
    made: EasyRec = kind(model.config, **changes)._take_up(data, Fitting(data=data.fingerprint, former=former))
    return made
