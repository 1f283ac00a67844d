"""Explanations of models whose score is a sum over the history."""

from __future__ import annotations

import numpy as np

from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.errors import DataError


def one_history(model: Recommender, request: Requests) -> np.ndarray:
    """Return the distinct items of the history of the one request given."""
    model._check_request(request, 1)
    if len(request) != 1:
        raise DataError("explain takes one request.", value=len(request))
    return np.unique(request.histories.items)


def explain_by_shares(
    model: Recommender, request: Requests, item: int, history: np.ndarray, shares: np.ndarray, method: str
) -> Explanation:
    """Build the exact explanation of a score that is the sum of ``shares``, one for each item of ``history``.

    A person of whom the model knows nothing is answered by training popularity, and so is the explanation.
    """
    if not model._informed(request)[0]:
        score = float(model.score(request, np.full((1, 1), item, np.int32))[0, 0])
        reason = Evidence("popularity", "chosen by others", score)
        return Explanation(item, score, (reason,), exact=True, method="popularity, for want of a known history")
    order = np.argsort(-np.abs(shares), kind="stable")
    reasons = tuple(Evidence("history", int(history[at]), float(shares[at])) for at in order if shares[at] != 0)
    return Explanation(item, float(shares.sum(dtype=np.float64)), reasons, exact=True, method=method)


def knows_items(item_counts: np.ndarray, histories: Histories) -> np.ndarray:
    """Return ``bool[n]``: does the history hold an item that was seen in training?"""
    known = np.concatenate([[0], np.cumsum(item_counts[histories.items] > 0)])
    return known[histories.offsets[1:]] > known[histories.offsets[:-1]]
