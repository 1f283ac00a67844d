"""Explanations of models whose score is a sum over the history."""

from __future__ import annotations

import numpy as np

from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.histories import Histories


def one_history(model: Recommender, request: Requests, item: int) -> np.ndarray:
    """Return the distinct items of the history of the one request given, once the question has been checked."""
    model._check_question(request, item)
    return np.unique(request.histories.items)


def explain_by_shares(
    model: Recommender,
    request: Requests,
    item: int,
    history: np.ndarray,
    shares: np.ndarray,
    method: str,
    *,
    score: float | None = None,
) -> Explanation:
    """Build the exact explanation of a score: ``shares``, one for each item of ``history``, and a rest.

    Without ``score`` the shares are the whole of it. A person of whom the model knows nothing is answered by training
    popularity, and so is the explanation.
    """
    if not model._informed(request)[0]:
        score = float(model.score(request, np.full((1, 1), item, np.int32))[0, 0])
        reason = Evidence("popularity", "chosen by others", score)
        return Explanation(item, score, (reason,), exact=True, method="popularity, for want of a known history")
    order = np.argsort(-np.abs(shares), kind="stable")
    reasons = tuple(Evidence("history", int(history[at]), float(shares[at])) for at in order if shares[at] != 0)
    total = float(shares.sum(dtype=np.float64))
    whole = total if score is None else score
    return Explanation(item, whole, reasons, exact=True, method=method, rest=whole - total)


def knows_items(item_counts: np.ndarray, histories: Histories) -> np.ndarray:
    """Return ``bool[n]``: does the history hold an item that was seen in training?"""
    known = np.concatenate([[0], np.cumsum(item_counts[histories.items] > 0)])
    return known[histories.offsets[1:]] > known[histories.offsets[:-1]]
