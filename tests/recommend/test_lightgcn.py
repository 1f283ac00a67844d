"""LightGCN: the formula, by a dense matrix; the fold-in; what it learns; resumption."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import ConfigError
from palate.nn.graph import Adjacency, propagate
from palate.recommend.lightgcn import LightGCN

HALF = 20


def two_tastes(users=120, seed=0):
    """People who like items below HALF, or those above."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    return Dataset.from_columns(
        np.concatenate([np.full(2 * HALF, users), np.repeat(np.arange(users), 6)]),
        np.concatenate([np.arange(2 * HALF), *rows]),
    )


DATA = two_tastes()
SMALL = {"dim": 8, "layers": 3, "epochs": 20, "batch_size": 128, "lr": 0.02}


@pytest.fixture(scope="module")
def model():
    return LightGCN(**SMALL).fit(DATA)


def dense_adjacency(dataset):
    r = dataset.matrix().toarray()
    n = sum(r.shape)
    a = np.zeros((n, n))
    a[: r.shape[0], r.shape[0] :] = r
    a += a.T
    root = np.sqrt(np.maximum(a.sum(1), 1))
    return a / root[:, None] / root[None, :]


def test_adjacency_is_symmetric_with_spectral_radius_one():
    graph = Adjacency.of_matrix(DATA.matrix())
    a = graph.product(np.eye(len(graph), dtype=np.float32))
    np.testing.assert_allclose(a, dense_adjacency(DATA), atol=1e-6)
    np.testing.assert_allclose(np.abs(np.linalg.eigvalsh(a)).max(), 1, atol=1e-5)


def test_many_layers_leave_what_grows_with_the_root_of_the_degree():
    """The largest eigenvalue is 1, and its vector is the root of the degrees: all nodes of a part end on one line."""
    events = np.array([[0, 0], [0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 3]])
    r = sp.csr_matrix((np.ones(len(events), np.float32), tuple(events.T)), shape=(4, 4))
    degree = np.concatenate([r.sum(1).A1, r.sum(0).A1])
    free = torch.tensor(np.random.default_rng(0).normal(size=(8, 3)), dtype=torch.float32)
    ends = propagate(free, Adjacency.of_matrix(r), 4000).numpy() / np.sqrt(degree)[:, None]
    np.testing.assert_allclose(ends, np.broadcast_to(ends[0], ends.shape), atol=2e-3)
    assert np.abs(ends[0]).max() > 0.05


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_vectors_follow_the_formula(layers):
    kept = {}

    class Kept(LightGCN):
        def _finish(self, table, graph, n_users):
            kept["free"] = table.free.detach().numpy().copy()
            super()._finish(table, graph, n_users)

    model = Kept(**{**SMALL, "layers": layers, "epochs": 2}).fit(DATA)
    a, e = dense_adjacency(DATA), kept["free"].astype(np.float64)
    wanted = sum(np.linalg.matrix_power(a, k) @ e for k in range(layers + 1)) / (layers + 1)
    users = np.arange(DATA.n_users, dtype=np.int32)
    np.testing.assert_allclose(model.request_vectors(Requests.of_users(DATA, users)), wanted[: DATA.n_users], atol=1e-5)
    np.testing.assert_allclose(model.item_vectors, wanted[DATA.n_users :], atol=1e-5)


def test_an_unseen_person_is_a_node_that_only_listens(model):
    """The fold-in equals propagation with one more user row, whose free vector is zero and who changes no item."""
    history = np.array([2, 5, 25])
    layers, n = 3, DATA.n_users
    a = dense_adjacency(DATA)
    degree = np.asarray(DATA.matrix().sum(0)).ravel()
    # own_ holds e⁰/(K+1) of people; the items' layers follow from the trained state.
    link = np.zeros(len(a))
    link[n + history] = 1 / np.sqrt(len(history) * degree[history])
    below = model.shares_ * np.sqrt(degree)[:, None]  # Σ_{k<K} e_i^(k) / (K+1)
    wanted = link[n:] @ below
    got = model.request_vectors(Requests.of_histories([history]))
    np.testing.assert_allclose(got[0], wanted, atol=1e-5)
    assert layers == model.config.layers


@pytest.mark.parametrize("loss", ["bpr", "softmax", "sampled_softmax"])
def test_known_and_unseen_people_get_their_taste(loss):
    fitted = LightGCN(**SMALL, loss=loss, n_negatives=16).fit(DATA)
    users = np.arange(1, 100, dtype=np.int32)
    known = Requests.of_users(DATA, users)
    unseen = Requests(np.full(len(users), -1, np.int32), known.histories, known.exclude)
    own = known.histories.items[known.histories.offsets[:-1]] < HALF
    for requests in (known, unseen):
        assert ((fitted.recommend(requests, 5).items < HALF) == own[:, None]).mean() > 0.95


def test_explanation_adds_up(model):
    why = model.explain(Requests.of_users(DATA, np.array([3], np.int32)), 7)
    assert why.exact
    np.testing.assert_allclose(sum(e.weight for e in why.evidence) + why.rest, why.score, atol=1e-5)
    unseen = model.explain(Requests.of_histories([[1, 2]]), 7)
    np.testing.assert_allclose(unseen.rest, 0, atol=1e-6)


def test_items_never_seen_in_training_say_nothing():
    data = two_tastes()
    ids = np.flatnonzero(np.asarray(data.interactions.item) != 3)
    thinner = data.derive({"step": "thin"}, interactions=data.interactions.take(ids))
    model = LightGCN(**{**SMALL, "epochs": 2}).fit(thinner)
    assert not model.item_vectors[3].any()
    ranking = model.recommend(Requests.of_histories([[3], [3, 4]]), 5)
    np.testing.assert_array_equal(ranking.cold, [True, False])
    with_it, without = model.request_vectors(Requests.of_histories([[3, 4], [4]]))
    np.testing.assert_array_equal(with_it, without)


def test_early_stopping_keeps_the_best_epoch():
    rng = np.random.default_rng(1)
    users = np.arange(1, 121, dtype=np.int32)  # number 0 is the one who had everything
    tastes = [np.arange(HALF) + HALF * ((u - 1) % 2) for u in users]
    unseen = [np.setdiff1d(own, DATA.histories.take(users[at : at + 1]).items) for at, own in enumerate(tastes)]
    truth = Ragged.from_rows([[int(rng.choice(left))] for left in unseen])
    held_out = HeldOut(users, DATA.histories.take(users), truth)
    model = LightGCN(**{**SMALL, "epochs": 40, "patience": 3, "patience_steps": 0}).fit(DATA, held_out)
    notes = model.record_.notes
    assert notes["epochs"] == min(40, notes["best_epoch"] + 3)
    from palate.training.validation import validator

    assert validator(model, held_out)() == notes["best_value"]


def test_resumes_to_the_bit(tmp_path):
    whole = LightGCN(**SMALL).fit(DATA, seed=4)
    LightGCN(**{**SMALL, "epochs": 7}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = LightGCN(**SMALL).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_sampled_softmax_with_all_items_is_the_whole_softmax():
    """Where the draw holds every item, both objectives are the same loss, penalty included."""
    from palate.recommend.graph_base import FreeVectors
    from palate.recommend.lightgcn import _Steps
    from palate.training.triples import Pairs

    config = LightGCN(**SMALL, loss="softmax", n_negatives=5000, reg=0.1).config
    graph = Adjacency.of_matrix(DATA.matrix())
    table = FreeVectors(len(graph), 8, 0.3, np.random.default_rng(0))
    steps = _Steps(config, table, graph, DATA.n_users)
    batch = next(iter(Pairs(DATA.matrix(), 100).epoch_of_people(np.random.default_rng(1))))
    losses = [getattr(steps, name)(batch, torch.Generator().manual_seed(0)) for name in ("softmax", "sampled_softmax")]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(loss, table.free)[0] for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", ["bpr", "softmax", "sampled_softmax"])
def test_without_layers_it_is_matrix_factorisation_on_the_same_batches(loss):
    kept = {}

    class Kept(LightGCN):
        def _finish(self, table, graph, n_users):
            super()._finish(table, graph, n_users)
            kept["free"] = table.free.detach().numpy().copy()

    model = Kept(**{**SMALL, "layers": 0, "loss": loss, "epochs": 3}).fit(DATA)
    people, items = kept["free"][: DATA.n_users], kept["free"][DATA.n_users :]
    np.testing.assert_array_equal(model.request_vectors(Requests.of_users(DATA, np.arange(DATA.n_users))), people)
    if loss != "bpr":
        items = items / np.linalg.norm(items, axis=1, keepdims=True)
    np.testing.assert_allclose(model.item_vectors, items, rtol=1e-6)
    assert not model.request_vectors(Requests.of_histories([[3, 4]])).any()  # nothing leads from a history to a vector


def test_without_layers_the_steps_are_those_of_bpr_mf():
    """The same batches, loss and optimiser, written out for two plain tables."""
    from palate.nn.adam import Adam
    from palate.recommend.graph_base import FreeVectors
    from palate.recommend.lightgcn import _Steps
    from palate.training.triples import Pairs

    config = LightGCN(**{**SMALL, "layers": 0, "reg": 0.1}).config
    graph = Adjacency.of_matrix(DATA.matrix())
    table = FreeVectors(len(graph), 8, 0.3, np.random.default_rng(0))
    first = table.free.detach().clone()
    tables = [torch.nn.Parameter(first[: DATA.n_users].clone()), torch.nn.Parameter(first[DATA.n_users :].clone())]
    steps, ours, plain = _Steps(config, table, graph, DATA.n_users), Adam(table.parameters(), lr=0.02), Adam(tables, lr=0.02)
    for batch in Pairs(DATA.matrix(), 100).epoch(np.random.default_rng(1)):
        known = batch.negatives >= 0  # somebody had everything
        u, i, j = (torch.from_numpy(x[known].astype(np.int64)) for x in (batch.users, batch.positives, batch.negatives))
        p, q, other = tables[0][u], tables[1][i], tables[1][j]
        size = p.square().sum() + q.square().sum() + other.square().sum()
        by_hand = (torch.nn.functional.softplus((p * (other - q)).sum(1)).sum() + 0.05 * size) / len(batch)
        loss = steps.bpr(batch, torch.Generator())
        torch.testing.assert_close(loss, by_hand)
        for optimizer, value in ((ours, loss), (plain, by_hand)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    torch.testing.assert_close(table.free.detach(), torch.cat([t.detach() for t in tables]), rtol=1e-4, atol=1e-5)


def test_many_layers_leave_the_root_of_the_degree():
    """The mean of layers 0..K tends to the projection on the eigenvector of value 1, whose entries are √degree."""
    from palate.nn.graph import propagate

    data = Dataset.from_columns([0, 0, 0, 1, 1, 2, 2, 3], [0, 1, 2, 0, 3, 1, 3, 2])
    graph = Adjacency.of_matrix(data.matrix())
    root = np.sqrt(np.diff(graph.offsets))
    x = np.random.default_rng(0).standard_normal((len(graph), 4)).astype(np.float32)
    limit = np.outer(root, root @ x) / (root @ root)
    errors = [np.abs(propagate(torch.from_numpy(x), graph, layers).numpy() - limit).max() for layers in (100, 1000, 4000)]
    assert errors[0] > 5 * errors[1] > 10 * errors[2]
    assert errors[2] < 1e-3


def test_histories_may_repeat_items(model):
    twice, once = model.request_vectors(Requests(np.full(2, -1, np.int32), Histories.from_rows([[4, 9, 4, 4], [9, 4]])))
    np.testing.assert_array_equal(twice, once)


def test_people_are_drawn_alike_only_where_pairs_are_drawn():
    drawn = LightGCN(**{**SMALL, "loss": "bpr", "draw": "people"}).fit(DATA)
    assert not np.array_equal(drawn.item_vectors, LightGCN(**{**SMALL, "loss": "bpr"}).fit(DATA).item_vectors)
    with pytest.raises(ConfigError, match="holds all pairs of its people"):
        LightGCN(loss="softmax", draw="people")
