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


def validator(
    model: Recommender, held_out: HeldOut | None, k: int = 10, max_users: int | None = None
) -> Callable[[], float] | None:
    """Return a function that ranks the catalogue for the held-out people with the model as it is now.

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
    """
    if held_out is None or len(held_out) == 0:
        return None
    if max_users is not None and max_users < len(held_out):
        held_out = held_out.take(np.linspace(0, len(held_out) - 1, max_users).round().astype(np.int64))
    asked, metric = held_out, f"ndcg@{k}"
    requests = Requests.of_held_out(asked)

    def value() -> float:
        # A model counts as fitted only once fit() ends; a shallow copy may answer before.
        answering = copy.copy(model)
        answering.record_ = FitRecord(seed=0, seconds=0.0)
        facts = Facts(model.item_counts_, int((model.histories_.lengths > 0).sum()))
        return float(judge(answering.recommend(requests, k).items, asked, [metric], facts).value(metric))

    return value
