"""Rel-SVD: the loss it solves, that nothing is better, the fold-in, and PureSVD as a special case."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.recommend.rel_svd import RelSVD, right_singular


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    half = (np.arange(20) >= 10)[None, :] == (np.arange(60) % 2 == 1)[:, None]
    clicks = rng.random((60, 20)) < np.where(half, 0.5, 0.05) * np.linspace(1, 0.3, 20)
    clicks[0] |= True
    return Dataset.from_columns(*np.nonzero(clicks))


def people_of(model, data):
    return model.request_vectors(Requests.of_users(data, np.arange(data.n_users, dtype=np.int32))).astype(float)


def loss(clicks, weights, x, y, reg):
    scores, targets = x @ y.T, clicks * weights
    fit = targets * np.square(1 - scores) + (1 - targets) * np.square(scores)
    return fit.sum() + reg * (np.square(x).sum() + np.square(y).sum())


def test_it_solves_the_unbiased_loss(data):
    """Alternating least squares on the loss, written out pair by pair, comes to the same scores, and no lower."""
    model = RelSVD(dim=5, eta=0.5, clip=0.0, reg=0.5).fit(data)
    clicks, weights = data.matrix().toarray().astype(float), 1 / model.theta_
    x, y = people_of(model, data), model.item_vectors.astype(float)
    reached = loss(clicks, weights, x, y, 0.5)
    rng = np.random.default_rng(1)
    p, q = rng.standard_normal((60, 5)), rng.standard_normal((20, 5))
    ridge = 0.5 * np.eye(5)
    for _ in range(3000):
        p = np.linalg.solve(q.T @ q + ridge, q.T @ (clicks * weights).T).T
        q = np.linalg.solve(p.T @ p + ridge, p.T @ (clicks * weights)).T
    assert reached == pytest.approx(loss(clicks, weights, p, q, 0.5), rel=1e-5)
    np.testing.assert_allclose(x @ y.T, p @ q.T, atol=1e-2)
    for _ in range(50):
        moved = loss(clicks, weights, x + 0.01 * rng.standard_normal(x.shape), y + 0.01 * rng.standard_normal(y.shape), 0.5)
        assert moved > reached


def test_the_fold_in_is_the_solution_for_any_history(data):
    model = RelSVD(dim=5, clip=0.2, reg=0.5).fit(data)
    y, history = model.item_vectors.astype(float), np.array([3, 8, 14])
    target = np.zeros(20)
    target[history] = 1 / np.maximum(model.theta_[history], 0.2)
    wanted = np.linalg.solve(y.T @ y + 0.5 * np.eye(y.shape[1]), y.T @ target)
    np.testing.assert_allclose(model.request_vectors(Requests.of_histories([history]))[0], wanted, rtol=1e-3, atol=1e-5)


def test_without_correction_it_is_puresvd(data):
    model = RelSVD(dim=4, eta=0.0, reg=0.0).fit(data)
    u, s, v = np.linalg.svd(data.matrix().toarray(), full_matrices=False)
    np.testing.assert_allclose(people_of(model, data) @ model.item_vectors.T, (u[:, :4] * s[:4]) @ v[:4], atol=1e-4)


def test_rare_items_gain(data):
    """Weighted by propensity the scores of rare items rise against those of popular ones."""
    rare = np.argsort(data.item_counts)[:8]
    shares = []
    for eta in (0.0, 1.0):
        model = RelSVD(dim=5, eta=eta, clip=0.0, reg=0.1).fit(data)
        found = model.recommend(
            Requests.of_users(data, np.arange(1, data.n_users, dtype=np.int32), exclude_seen=False), 3
        ).items
        shares.append(np.isin(found, rare).mean())
    assert shares[1] > shares[0]


def test_explanation_adds_up(data):
    model = RelSVD(dim=5).fit(data)
    why = model.explain(Requests.of_histories([[1, 2, 15]]), 7)
    assert why.exact and why.rest == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(sum(e.weight for e in why.evidence), why.score, atol=1e-5)


def test_a_large_ridge_leaves_nothing_and_says_so(data):
    model = RelSVD(reg=1e6).fit(data)
    assert model.record_.notes["rank"] == 0 and model.item_vectors.shape == (20, 0)


def test_sparse_and_dense_decompositions_agree():
    from scipy import sparse

    matrix = sparse.random(400, 300, 0.05, format="csr", random_state=0)
    values, basis = right_singular(matrix, 10, np.random.default_rng(0))
    wanted = np.linalg.svd(matrix.toarray(), compute_uv=False)[:10]
    np.testing.assert_allclose(values, wanted, rtol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(matrix @ basis, axis=0), wanted, rtol=1e-8)
    np.testing.assert_allclose(basis.T @ basis, np.eye(10), atol=1e-8)
