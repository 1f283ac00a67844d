"""Dropped graphs: what is left, renormalised by the degrees that are left."""

import numpy as np
import pytest
from scipy import sparse

from palate.nn.graph import Adjacency
from palate.nn.graph_drop import dropped

USERS, ITEMS = 30, 20


def matrix(seed=0):
    dense = np.random.default_rng(seed).random((USERS, ITEMS)) < 0.4
    dense[3], dense[:, 5] = False, False
    return sparse.csr_matrix(dense, dtype=np.float32)


def dense(graph):
    return graph.product(np.eye(len(graph), dtype=np.float32))


@pytest.mark.parametrize("what", ["edges", "nodes"])
def test_renormalised_by_the_degrees_that_are_left(what):
    full = dense(Adjacency.of_matrix(matrix()))
    a = dense(dropped(matrix(), 0.4, np.random.default_rng(1), what))
    links = a > 0
    assert not (links & ~(full > 0)).any() and 0 < links.sum() < (full > 0).sum()
    degree = links.sum(1)
    wanted = links / np.sqrt(np.maximum(degree, 1))[:, None] / np.sqrt(np.maximum(degree, 1))[None, :]
    np.testing.assert_allclose(a, wanted, atol=1e-6)
    np.testing.assert_allclose(a, a.T)
    np.testing.assert_allclose(np.abs(np.linalg.eigvalsh(a)).max(), 1, atol=1e-5)


def test_nodes_lose_all_links_or_none_of_their_own():
    graph = dropped(matrix(), 0.4, np.random.default_rng(3), "nodes")
    left = dense(graph)[:USERS, USERS:] > 0
    whole = matrix().toarray() > 0
    people, items = left.any(1), left.any(0)
    np.testing.assert_array_equal(left, whole & people[:, None] & items[None, :])


def test_the_share_that_is_left_out():
    big = sparse.csr_matrix(np.ones((200, 150), np.float32))
    rng = np.random.default_rng(0)
    edges = len(dropped(big, 0.3, rng).columns) / (2 * big.nnz)
    nodes = np.mean([len(dropped(big, 0.3, rng, "nodes").columns) / (2 * big.nnz) for _ in range(20)])
    assert abs(edges - 0.7) < 0.02 and abs(nodes - 0.49) < 0.03


def test_nothing_dropped_is_the_graph_and_an_empty_one_stays_empty():
    np.testing.assert_allclose(dense(dropped(matrix(), 0.0, np.random.default_rng(0))), dense(Adjacency.of_matrix(matrix())))
    assert not dense(dropped(sparse.csr_matrix((4, 3), dtype=np.float32), 0.5, np.random.default_rng(0))).any()
