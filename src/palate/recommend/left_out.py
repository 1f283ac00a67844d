"""Explanations of models that are no sum over the history: leave each item out in turn, and keep the person and the rest."""

from __future__ import annotations

import numpy as np

from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.data.ragged import offsets_of
from palate.recommend.shares import explain_by_shares, one_history


def explain_left_out(model: Recommender, request: Requests, item: int) -> Explanation:
    """Say how far the score falls when each item of the history, with its value, is left out.

    An item without which nothing is known of the person has no such fall (the answer would be popularity, in other units). A
    person of whom nothing is known is answered by training popularity, and so is the explanation.
    """
    history, own = one_history(model, request, item), request.histories
    if not model._informed(request)[0]:
        return explain_by_shares(model, request, item, history, np.zeros(len(history)), "")
    places = [np.arange(len(own.items)), *(np.flatnonzero(own.items != left_out) for left_out in history)]
    at = np.concatenate(places)
    times, values, actions = (None if column is None else column[at] for column in (own.times, own.values, own.actions))
    histories = Histories(offsets_of([len(row) for row in places]), own.items[at], times, values, actions)
    ties = None if request.ties is None else request.ties.take(np.zeros(len(places), np.int64))
    asked = Requests(np.full(len(places), request.users[0], np.int32), histories, ties=ties)
    told = np.flatnonzero(model._informed(asked))
    scores = model.score(asked.take(told), np.full((len(told), 1), item, np.int32))[:, 0]
    falls = scores[0] - scores[1:]
    reasons = [Evidence("history", int(history[row - 1]), float(w)) for row, w in zip(told[1:], falls, strict=True)]
    reasons.sort(key=lambda e: -abs(e.weight))
    return Explanation(item, float(scores[0]), tuple(reasons), exact=False, method="leave one out of the history")
