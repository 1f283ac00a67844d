"""SocialRS: the graph with ties by a dense matrix, LightGCN where ties don't count, and what is said when there are none."""

from dataclasses import replace

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.data.ragged import Ragged
from palate.errors import DataError
from palate.nn.graph import Adjacency
from palate.nn.social import SocialGraph
from palate.recommend.diffnetpp import DiffNetPP
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


@pytest.fixture(scope="module")
def fitted(tied):
    return SocialRec(**{**SMALL, "epochs": 3, "tie": 0.4}).fit(tied)


def test_naming_the_ties_of_training_changes_nothing(tied, fitted):
    users = np.flatnonzero(tied.histories.lengths > 0).astype(np.int32)
    asked = Requests.of_users(tied, users)
    either = SocialGraph.of(tied, "test").either
    named = replace(asked, ties=Ragged(either.indptr.astype(np.int64), either.indices.astype(np.int32)).take(users))
    np.testing.assert_allclose(fitted.request_vectors(named), fitted.request_vectors(asked), atol=1e-5)


def test_somebody_unseen_is_placed_by_the_ties_of_the_request(tied, fitted):
    """One step of propagation to a new node with these items and friends, whose own layers stand still, by its definition."""
    kept = {}

    class Kept(SocialRec):
        def _finish(self, table, graph, n_users):
            kept["free"] = table.free.detach().numpy().astype(np.float64)
            super()._finish(table, graph, n_users)

    Kept(**{**SMALL, "epochs": 3, "tie": 0.4}).fit(tied)
    a, e, n = dense(tied, 0.4), kept["free"], tied.n_users
    e[:n][tied.histories.lengths == 0] = 0
    e[n:][tied.item_counts == 0] = 0
    degree, friends = tied.item_counts, np.asarray(SocialGraph.of(tied, "test").either.sum(1)).ravel()
    people = [int(p) for p in np.flatnonzero(tied.histories.lengths > 0)[[1, 4, 7]]]
    items = [int(i) for i in np.flatnonzero(degree > 0)[[0, 5]]]
    below = e + a @ e  # layers 0 and 1 of two
    distinct = np.maximum(tied.matrix().toarray().sum(0), 1)
    wanted = sum(below[n + i] / np.sqrt(2 * distinct[i]) for i in items)
    wanted = wanted + sum(0.4 * below[v] / np.sqrt(3 * max(1, float(friends[v]))) for v in people)
    asked = replace(Requests.of_histories([items]), ties=Ragged.from_rows([people]))
    np.testing.assert_allclose(fitted.request_vectors(asked)[0], wanted / 3, atol=1e-5)


@pytest.mark.parametrize("kind", [SocialRec, DiffNetPP])
def test_friends_answer_for_somebody_who_had_nothing(tied, kind):
    model = kind(**{**SMALL, "epochs": 3}).fit(tied)
    friends = np.flatnonzero(tied.histories.lengths > 0)[:3]
    nobody = Requests.of_histories([[], []])
    assert model.recommend(nobody, 3).cold.all()
    found = model.recommend(replace(nobody, ties=Ragged.from_rows([friends, []])), 3)
    assert found.cold.tolist() == [False, True]
    twice = replace(nobody, ties=Ragged.from_rows([[*friends, *friends], []]))
    np.testing.assert_array_equal(model.recommend(twice, 3).scores, found.scores)
    why = model.explain(replace(Requests.of_histories([[0, 1]]), ties=Ragged.from_rows([friends])), 2)
    score = model.score(replace(Requests.of_histories([[0, 1]]), ties=Ragged.from_rows([friends])), np.array([[2]], np.int32))
    assert why.score == pytest.approx(float(score[0, 0]), abs=1e-5)


@pytest.mark.parametrize("kind", [SocialRec, DiffNetPP])
def test_those_who_are_forgotten_tell_nothing(tied, kind, tmp_path):
    model = kind(**{**SMALL, "epochs": 2}).fit(tied)
    gone = int(np.flatnonzero(tied.histories.lengths > 0)[2])
    model.forget([tied.users.ids.raw[gone].as_py()])
    rows = [model.friends_[row] for row in range(len(model.friends_))]
    assert len(rows[gone]) == 0 and not any(gone in row for row in rows)
    again = kind.load(model.save(tmp_path / "b"))
    asked = replace(Requests.of_histories([[0, 1]]), ties=Ragged.from_rows([[3, 5]]))
    np.testing.assert_array_equal(model.request_vectors(asked), again.request_vectors(asked))


def test_ties_to_nobody_are_refused(tied, fitted):
    asked = Requests.of_histories([[0, 1]])
    for ties in ([[tied.n_users]], [[-1]], [[0], [1]]):
        with pytest.raises(DataError, match="ties"):
            fitted.recommend(replace(asked, ties=Ragged.from_rows(ties)), 3)
