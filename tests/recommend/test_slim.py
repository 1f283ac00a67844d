"""SLIM: each column is an elastic net; scores and reasons follow from the weights."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.kernels.slim import elastic_net_reference
from palate.recommend.slim import SLIM

EXACT = {"candidates": 0, "tolerance": 1e-9, "rounds": 2000}


def columns(x, l1, l2, positive):
    n = x.shape[1]
    nets = [elastic_net_reference(x, j, np.delete(np.arange(n), j), l1=l1, l2=l2, positive=positive) for j in range(n)]
    return np.stack(nets, axis=1)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(("l1", "l2"), [(0.5, 2.0), (2.0, 10.0)])
def test_weights_are_elastic_nets(events, ones, positive, l1, l2):
    model = SLIM(l1=l1, l2=l2, positive=positive, **EXACT).fit(events)
    np.testing.assert_allclose(model.weights_.toarray(), columns(ones, l1, l2, positive), atol=1e-5)
    assert model.record_.notes["weights"] == model.weights_.nnz > 0


def test_no_step_away_lowers_the_objective(events, ones):
    """Without the reference solver: the weights of an item stand at the bottom of its own objective."""
    l1, l2, item = 0.5, 2.0, 6
    w = SLIM(l1=l1, l2=l2, positive=False, **EXACT).fit(events).weights_.toarray()[:, item].astype(np.float64)

    def objective(w):
        return 0.5 * ((ones[:, item] - ones @ w) ** 2).sum() + l2 / 2 * (w**2).sum() + l1 * np.abs(w).sum()

    for i in np.delete(np.arange(12), item):
        for step in (1e-3, -1e-3):
            assert objective(w + step * np.eye(12)[i]) >= objective(w)


def test_ridge_alone_is_ease_without_its_diagonal_term(events, ones):
    """With l1 = 0 a column is the ridge regression of the item on all others."""
    model = SLIM(l1=0.0, l2=3.0, positive=False, **EXACT).fit(events)
    others = np.delete(np.arange(12), 4)
    a = ones[:, others]
    want = np.linalg.solve(a.T @ a + 3.0 * np.eye(11), a.T @ ones[:, 4])
    np.testing.assert_allclose(model.weights_.toarray()[others, 4], want, atol=1e-5)


def test_candidates_are_the_nearest_items(events, ones):
    model = SLIM(l1=0.1, l2=1.0, candidates=3).fit(events)
    cosines = ones.T @ ones / np.maximum(np.outer(*(np.linalg.norm(ones, axis=0),) * 2), 1e-12)
    np.fill_diagonal(cosines, -1)
    for item in range(12):
        used = np.flatnonzero(model.weights_.toarray()[:, item])
        third = np.sort(cosines[item])[-3]
        assert len(used) <= 3 and (cosines[item, used] >= third - 1e-6).all()


def test_scores_and_reasons(events, ones, unseen, all_scores, sums_up):
    model = SLIM(l1=0.5, l2=2.0, **EXACT).fit(events)
    table = columns(ones, 0.5, 2.0, True)
    np.testing.assert_allclose(all_scores(model, Requests.of_users(events, np.arange(5))), ones[:5] @ table, atol=1e-4)
    rows = unseen.histories.matrix(12).toarray()
    np.testing.assert_allclose(all_scores(model, unseen), rows @ table, atol=1e-4)
    sums_up(model, unseen)
