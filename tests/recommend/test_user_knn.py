"""UserKNN: neighbours found when asked, scores and reasons by plain numpy, for every similarity and weighting."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.recommend.user_knn import UserKNN

SIMILARITIES, WEIGHTS = ("cosine", "jaccard", "dot"), ("none", "tfidf", "bm25")


def weights_of(train, rows, kind):
    """Rows weighted by what was learnt from ``train`` (people are documents, items are words)."""
    n, occurs, lengths = len(train), train.sum(0), rows.sum(1, keepdims=True)
    if kind == "tfidf":
        return rows * (np.log((1 + n) / (1 + occurs)) + 1)
    if kind == "bm25":
        mean = train.sum() / (train.sum(1) > 0).sum()
        return rows * np.log(1 + (n - occurs + 0.5) / (occurs + 0.5)) * 2.2 / (1.2 * (0.25 + 0.75 * lengths / mean) + 1)
    return rows


def scores_by_hand(train, rows, own, *, k, similarity, weights, shrink, normalise=False):
    a, b = weights_of(train, rows, weights), weights_of(train, train, weights)
    if similarity == "jaccard":
        a, b = rows, train
    product = a @ b.T
    below = {
        "cosine": np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)) + shrink,
        "jaccard": a.sum(1)[:, None] + b.sum(1)[None, :] - product + shrink,
        "dot": np.ones_like(product),
    }[similarity]
    similar = np.where(product > 0, product / np.where(product > 0, below, 1), 0)
    out = np.zeros((len(rows), train.shape[1]))
    for r, line in enumerate(similar):
        if own[r] >= 0:
            line[own[r]] = 0
        best = np.argsort(-line, kind="stable")[:k]
        out[r] = line[best] @ train[best] / (line[best].sum() or 1 if normalise else 1)
    return out


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_scores_by_hand_when_everybody_is_a_neighbour(events, ones, unseen, all_scores, similarity, weights):
    how = {"k": 30, "similarity": similarity, "weights": weights, "shrink": 2.0}
    model = UserKNN(**how).fit(events)
    rows = unseen.histories.matrix(model.n_items).toarray().astype(float)
    np.testing.assert_allclose(all_scores(model, unseen), scores_by_hand(ones, rows, [-1] * 3, **how), rtol=1e-4, atol=1e-6)
    people = np.arange(6, dtype=np.int32)
    known = Requests.of_users(events, people)
    np.testing.assert_allclose(all_scores(model, known), scores_by_hand(ones, ones[:6], people, **how), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_few_neighbours(events, ones, all_scores, normalise):
    """With weights no two people are equally like a third, so the neighbours are the same."""
    how = {"k": 4, "similarity": "cosine", "weights": "bm25", "shrink": 1.0, "normalise": normalise}
    model, people = UserKNN(**how).fit(events), np.arange(8, dtype=np.int32)
    found = all_scores(model, Requests.of_users(events, people))
    np.testing.assert_allclose(found, scores_by_hand(ones, ones[:8], people, **how), rtol=1e-4, atol=1e-6)
    if normalise:
        assert found.max() <= 1 + 1e-6


def test_a_known_person_is_not_their_own_neighbour_but_a_stranger_alike_is(events):
    model = UserKNN(k=1, shrink=0.0).fit(events)
    known = Requests.of_users(events, np.array([2]))
    stranger = Requests(np.array([-1], np.int32), known.histories)
    assert model.neighbours(known)[0][0, 0] != 2
    (found,), (weight,) = (part[0] for part in model.neighbours(stranger))
    assert found == 2 and weight == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("normalise", [False, True])
def test_reasons_are_what_neighbours_have_in_common(events, unseen, sums_up, similarity, normalise):
    model = UserKNN(k=6, similarity=similarity, weights="tfidf", normalise=normalise).fit(events)
    sums_up(model, unseen)
    sums_up(model, Requests.of_users(events, np.array([0, 29])))
