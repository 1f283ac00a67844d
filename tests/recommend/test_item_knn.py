"""ItemKNN: similarities, neighbours, scores and reasons by plain numpy, for every similarity and weighting."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.recommend.item_knn import ItemKNN

SIMILARITIES, WEIGHTS = ("cosine", "jaccard", "dot"), ("none", "tfidf", "bm25")


def weighted(rows, kind):
    """Rows are documents, columns are words: the formulas of the weighting module."""
    n, occurs, lengths = len(rows), rows.sum(0), rows.sum(1, keepdims=True)
    if kind == "tfidf":
        return rows * (np.log((1 + n) / (1 + occurs)) + 1)
    if kind == "bm25":
        mean = rows.sum() / (lengths > 0).sum()
        return rows * np.log(1 + (n - occurs + 0.5) / (occurs + 0.5)) * 2.2 / (1.2 * (0.25 + 0.75 * lengths / mean) + 1)
    return rows


def similarities(rows, similarity, weights, shrink):
    w = weighted(rows, weights)
    if similarity == "jaccard":
        product, sizes = rows @ rows.T, rows.sum(1)
        below = sizes[:, None] + sizes[None, :] - product + shrink
    else:
        product, norms = w @ w.T, np.linalg.norm(w, axis=1)
        below = np.outer(norms, norms) + shrink if similarity == "cosine" else np.ones_like(product)
    found = np.where(product > 0, product / np.where(product > 0, below, 1), 0)
    np.fill_diagonal(found, 0)
    return found


def kept(table, k, normalise=False):
    """Each row keeps its k greatest values."""
    out = np.zeros_like(table)
    for j, row in enumerate(table):
        best = np.argsort(-row, kind="stable")[:k]
        out[j, best] = row[best] / (row[best].sum() or 1 if normalise else 1)
    return out


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_by_hand(events, ones, similarity, weights):
    model = ItemKNN(k=11, similarity=similarity, weights=weights, shrink=3.0).fit(events)
    want = similarities(ones.T, similarity, weights, 3.0)
    np.testing.assert_allclose(model.weights_.toarray(), want.T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_scores_sum_over_the_history_and_the_neighbourhood_of_the_target(events, ones, unseen, all_scores, normalise):
    model = ItemKNN(k=3, weights="tfidf", normalise=normalise).fit(events)
    table = kept(similarities(ones.T, "cosine", "tfidf", 10.0), 3, normalise)  # row j: the neighbours of target j
    rows = unseen.histories.matrix(model.n_items).toarray()
    np.testing.assert_allclose(all_scores(model, unseen), rows @ table.T, rtol=1e-4, atol=1e-6)
    known = Requests.of_users(events, np.arange(5))
    np.testing.assert_allclose(all_scores(model, known), ones[:5] @ table.T, rtol=1e-4, atol=1e-6)
    if normalise:
        assert all_scores(model, known).max() <= 1 + 1e-6


def test_likeness_is_the_neighbourhood(events, ones):
    model = ItemKNN(k=3, shrink=0.0).fit(events)
    want = similarities(ones.T, "cosine", "none", 0.0)
    found = model.similar(np.array([4]), 5)
    assert found.items[0, :3].tolist() == np.argsort(-want[4], kind="stable")[:3].tolist()
    assert found.items[0, 3:].tolist() == [-1, -1]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_reasons_are_similarities(events, unseen, sums_up, similarity):
    model = ItemKNN(k=5, similarity=similarity, weights="bm25").fit(events)
    sums_up(model, unseen)
    sums_up(model, Requests.of_users(events, np.array([0, 29])))
