"""The validation metric of early stopping: NDCG over a full ranking of the catalogue, seen items left out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from palate.contracts.fitted import FitRecord
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.split import HeldOut
from palate.evaluation.facts import Facts
from palate.evaluation.judge import judge


class Validator:
    """Ranks the catalogue for held-out people with a model as it is now (see :func:`validator`)."""

    def __init__(self, model: Recommender, asked: HeldOut, k: int, before: Callable[[], object] | None) -> None:
        self.model, self.asked, self.k, self.before = model, asked, k, before
        self._floor: float | None = None
        self._requests = Requests.of_held_out(asked)

    def __call__(self) -> float:
        """Return the value now."""
        if self.before is not None:
            self.before()
        return self._judged(self._answering.recommend(self._requests, self.k).items)

    def floor(self) -> float:
        """Return the value that ranking by popularity reaches (ranked once)."""
        if self._floor is None:
            self._floor = self._judged(self._answering._rank(self._requests, self.k, cold=True).items)
        return self._floor

    @property
    def _answering(self) -> Recommender:
        """A shallow copy that may answer: a model counts as fitted only once fit() ends."""
        answering = copy.copy(self.model)
        answering.record_ = FitRecord(seed=0, seconds=0.0)
        return answering

    def _judged(self, items: np.ndarray) -> float:
        metric = f"ndcg@{self.k}"
        facts = Facts(self.model.item_counts_, int((self.model.histories_.lengths > 0).sum()))
        return float(judge(items, self.asked, [metric], facts).value(metric))


def validator(
    model: Recommender,
    held_out: HeldOut | None,
    k: int = 10,
    max_users: int | None = None,
    *,
    before: Callable[[], object] | None = None,
) -> Validator | None:
    """Return what ranks the catalogue for the held-out people with the model as it is now.

    Parameters
    ----------
    model
        The model that is being fitted; it must be able to answer between two epochs.
    held_out
        Validation questions; ``None`` (or none at all) gives ``None``.
    k
        Length of the lists: the value is NDCG@k.
    max_users
        Ask at most this many people, evenly spaced, always the same.
    before
        Called before each look: makes what answers of what is learnt so far.
    """
    if held_out is None or len(held_out) == 0:
        return None
    if max_users is not None and max_users < len(held_out):
        held_out = held_out.take(np.linspace(0, len(held_out) - 1, max_users).round().astype(np.int64))
    return Validator(model, held_out, k, before)
