"""SocialRS: the graph with ties by a dense matrix, LightGCN where ties don't count, and what is said when there are none."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.errors import DataError
from palate.nn.graph import Adjacency
from palate.nn.social import SocialGraph
from palate.recommend.dsl import DSL
from palate.recommend.lightgcn import LightGCN
from palate.recommend.mhcn import MHCN
from palate.recommend.sept import SEPT
from palate.recommend.social_rec import SocialRec, joined

SMALL = {"dim": 8, "layers": 2, "epochs": 15, "batch_size": 64, "lr": 0.02}


def dense(dataset, tie):
    r = dataset.matrix().toarray()
    s = SocialGraph.of(dataset, "test").either.toarray()
    n, m = r.shape
    left, right, own = (np.sqrt(np.maximum(d, 1)) for d in (r.sum(1), r.sum(0), s.sum(1)))
    a = np.zeros((n + m, n + m))
    a[:n, n:] = r / left[:, None] / right
    a[n:, :n] = a[:n, n:].T
    a[:n, :n] = tie * s / own[:, None] / own
    return a


def test_the_joined_graph_is_symmetric_and_by_blocks(tied):
    graph = joined(Adjacency.of_matrix(tied.matrix()), SocialGraph.of(tied, "test"), 0.5)
    found = graph.product(np.eye(len(graph), dtype=np.float32))
    np.testing.assert_allclose(found, dense(tied, 0.5), atol=1e-6)
    np.testing.assert_allclose(found, found.T, atol=1e-7)


def test_vectors_follow_the_formula(tied):
    kept = {}

    class Kept(SocialRec):
        def _finish(self, table, graph, n_users):
            kept["free"] = table.free.detach().numpy().astype(np.float64)
            super()._finish(table, graph, n_users)

    model = Kept(**{**SMALL, "epochs": 2, "tie": 0.4}).fit(tied)
    a, e, n = dense(tied, 0.4), kept["free"], tied.n_users
    e[:n][tied.histories.lengths == 0] = 0
    e[n:][tied.item_counts == 0] = 0
    wanted = (e + a @ e + a @ a @ e) / 3
    users = np.flatnonzero(tied.histories.lengths > 0).astype(np.int32)
    np.testing.assert_allclose(model.request_vectors(Requests.of_users(tied, users)), wanted[users], atol=1e-5)
    np.testing.assert_allclose(model.item_vectors, wanted[n:], atol=1e-5)


def same_answers(first, second, dataset, weights):
    """Fit both from the same start, and compare answers."""
    models = []
    for kind, settings in ((first, weights), (second, {})):
        named = type("Named", (kind,), {"name": "same", "title": "Same"})
        models.append(named(**SMALL, **settings).fit(dataset, seed=3))
    users = np.arange(dataset.n_users, dtype=np.int32)
    vectors = [model.request_vectors(Requests.of_users(dataset, users)) for model in models]
    np.testing.assert_allclose(*vectors, atol=2e-3)
    np.testing.assert_allclose(models[0].item_vectors, models[1].item_vectors, atol=2e-3)


@pytest.mark.parametrize(
    ("kind", "off"),
    [(SocialRec, {"tie": 0.0}), (DSL, {"social": 0.0, "align": 0.0}), (SEPT, {"ssl": 0.0})],
    ids=["social_rec", "dsl", "sept"],
)
def test_without_its_social_part_it_is_lightgcn(tied, kind, off):
    same_answers(kind, LightGCN, tied, off)


@pytest.mark.parametrize(
    ("kind", "on"),
    [(SocialRec, {"tie": 0.5}), (DSL, {"social": 1.0}), (SEPT, {"ssl": 0.5, "warm_epochs": 0})],
    ids=["social_rec", "dsl", "sept"],
)
def test_with_it_it_is_not(tied, kind, on):
    with pytest.raises(AssertionError):
        same_answers(kind, LightGCN, tied, on)


@pytest.mark.parametrize("kind", [SocialRec, MHCN, SEPT, DSL])
def test_no_ties_is_one_clear_line(tied, untied, kind):
    with pytest.raises(DataError, match=r"needs social ties, and the data have none[\s\S]*lightgcn"):
        kind(**SMALL).fit(untied)
    record = kind(**{**SMALL, "epochs": 1}).fit(tied).record_.notes["ties"]
    assert record["outside"] == 1 and record["doubles"] > 0 and record["given"] > record["kept"] > record["mutual"] > 0


def test_it_learns_tastes(tied, finds_tastes):
    finds_tastes(SocialRec(**SMALL).fit(tied))


def test_explanation_adds_up(tied, sums_up):
    model = SocialRec(**{**SMALL, "epochs": 2}).fit(tied)
    sums_up(model, Requests.of_users(tied, np.array([0, 3], np.int32)))


def test_resumes_to_the_bit(tied, tmp_path):
    whole = SocialRec(**SMALL).fit(tied, seed=4)
    SocialRec(**{**SMALL, "epochs": 7}).fit(tied, seed=4, checkpoint=tmp_path)
    resumed = SocialRec(**SMALL).fit(tied, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
