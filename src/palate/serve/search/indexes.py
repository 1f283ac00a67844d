"""How a model's item vectors are searched: the exact index, or where the settings ask for it the approximate one.

The approximate index is measured on people whom the bundle knows. Where it can't reach the recall that is asked for, the exact
index answers, and the words that go with it say so. Both obey what is barred and what may be shown; see
:mod:`palate.retrieval.ann` for when the approximate one hands a question to the exact one.
"""

from __future__ import annotations

import time

import numpy as np

from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.errors import UnsupportedError
from palate.retrieval.ann import AnnIndex
from palate.retrieval.exact import ExactIndex
from palate.retrieval.index import VectorIndex
from palate.serve.settings import RetrievalSettings

#: People whose vectors measure the approximate index: at most, and at least (with fewer, item vectors are drawn instead).
MOST, LEAST = 512, 20


def index_of(model: VectorRecommender, settings: RetrievalSettings) -> tuple[VectorIndex, str]:
    """Return the index that the settings ask for, and words about it: what it is, or why it is the exact one.

    Raises
    ------
    MissingExtraError
        If the approximate index is asked for and faiss is not installed.
    """
    if settings.index == "exact":
        return ExactIndex(model.item_vectors), "exact"
    started = time.perf_counter()
    try:
        index = AnnIndex.build(model.item_vectors, recall=settings.recall, queries=_people(model))
    except UnsupportedError as error:
        return ExactIndex(model.item_vectors), f"exact, because ann can't be used: {error.what}"
    least = min(index.facts["recalls"].values())
    return index, f"ann, recall {least:.3f} or more as measured, built in {time.perf_counter() - started:.1f} s"


def _people(model: VectorRecommender) -> np.ndarray | None:
    """Return ``float32[n, d]``: vectors of some known people, evenly spaced; ``None`` where there are too few."""
    users = np.flatnonzero(model.histories_.lengths > 0)
    users = users[np.linspace(0, len(users) - 1, min(MOST, len(users))).astype(np.int64)].astype(np.int32)
    vectors = model.request_vectors(Requests(users, model.histories_.take(users)))
    vectors = vectors[vectors.any(axis=1)]
    return vectors if len(vectors) >= LEAST else None
