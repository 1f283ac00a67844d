"""Elastic nets by coordinate descent: against the plain form and scikit-learn."""

import numpy as np
import pytest
from scipy import sparse

from palate.kernels.slim import elastic_net_reference, elastic_nets


def data(users=60, items=14, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.random((users, items)) < rng.uniform(0.1, 0.5, items)).astype(np.float64)
    x[:, 3] = 0
    return x, sparse.csr_matrix(x.T.astype(np.float32))


def dense(found, n):
    counts, sources, weights = found
    out = np.zeros((n, n))
    out[sources, np.repeat(np.arange(n), counts)] = weights
    return out


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(("l1", "l2"), [(0.3, 5.0), (1.0, 1.0), (4.0, 10.0)])
def test_equals_the_plain_form_and_scikit_learn(positive, l1, l2):
    linear = pytest.importorskip("sklearn.linear_model")
    x, by_item = data()
    n_users, n = x.shape
    found = dense(elastic_nets(by_item, l1=l1, l2=l2, positive=positive, tolerance=1e-9, rounds=2000), n)
    for target in range(n):
        others = np.delete(np.arange(n), target)
        want = elastic_net_reference(x, target, others, l1=l1, l2=l2, positive=positive)
        np.testing.assert_allclose(found[:, target], want, atol=1e-6)
        net = linear.ElasticNet(
            alpha=(l1 + l2) / n_users,
            l1_ratio=l1 / (l1 + l2),
            fit_intercept=False,
            positive=positive,
            tol=1e-10,
            max_iter=100_000,
        )
        np.testing.assert_allclose(found[others, target], net.fit(x[:, others], x[:, target]).coef_, atol=1e-5)


def test_only_the_features_given_have_weights():
    x, by_item = data()
    n = x.shape[1]
    features = np.stack([(np.arange(n) + 1) % n, (np.arange(n) + 4) % n, np.full(n, -1)], axis=1).astype(np.int32)
    found = dense(elastic_nets(by_item, l1=0.5, l2=1.0, positive=False, features=features, tolerance=1e-9, rounds=2000), n)
    for target in range(n):
        want = elastic_net_reference(x, target, features[target, :2], l1=0.5, l2=1.0, positive=False)
        np.testing.assert_allclose(found[:, target], want, atol=1e-6)


def test_threads_don_t_change_a_bit(monkeypatch):
    _, by_item = data(items=200, users=80)
    first = elastic_nets(by_item, l1=0.5, l2=2.0)
    monkeypatch.setattr("palate.kernels.spans.SMALL", 10**18)
    second = elastic_nets(by_item, l1=0.5, l2=2.0)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))
    assert len(first[1]) > 1024, "too few weights for the buffer to grow"
