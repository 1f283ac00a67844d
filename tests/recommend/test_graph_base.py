"""The base of recommenders on the graph: its loss, its answers, and what parts can add, against dense matrices and LightGCN."""

import numpy as np
import pytest
import torch
from torch import nn

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.nn.contrast import contrast, contrast_reference
from palate.nn.graph_views import Passes, Readout
from palate.recommend.graph_base import (
    GraphConfig,
    GraphRecommender,
    Objective,
    Part,
    Setting,
    Step,
    Vectors,
    contrast_of_batch,
)
from palate.recommend.lightgcn import LightGCN
from palate.training.triples import Triples

SMALL = {"dim": 8, "layers": 2, "epochs": 4, "batch_size": 64, "lr": 0.02, "reg": 0.05}


class Plain(GraphRecommender):
    """The base with nothing added, and with what a test adds."""

    name, title, Settings = "plain", "Plain", GraphConfig
    lowest, added = 0, staticmethod(lambda setting: ())

    @property
    def _lowest(self):
        return self.lowest

    def _parts(self, setting):
        return self.added(setting)


def with_parts(*kinds, lowest=0):
    return type("Added", (Plain,), {"added": lambda self, s: [kind() for kind in kinds], "lowest": lowest})


def data(seed=0, users=40, items=15):
    """Made-up pairs with repeats, a person and an item without any."""
    rng = np.random.default_rng(seed)
    u, i = np.nonzero(rng.random((users - 1, items - 1)) < 0.3)
    u, i = np.concatenate([u, u[:5], [users - 1]]), np.concatenate([i, i[:5], [items - 1]])
    whole = Dataset.from_columns(u, i)
    return whole.derive({"step": "thin"}, interactions=whole.interactions.take(np.arange(len(whole) - 1)))


DATA = data()


def dense(dataset):
    r = dataset.matrix().toarray()
    n = sum(r.shape)
    a = np.zeros((n, n))
    a[: len(r), len(r) :] = r
    a += a.T
    root = np.sqrt(np.maximum(a.sum(1), 1))
    return a / root[:, None] / root[None, :]


def objective(model, dataset=DATA):
    setting = Setting.of(dataset, Fitting(0, "cpu", lambda event: None, None, None, "", ()))
    return Objective(model._table(setting, model._parts(setting)), setting, model.config, model._lowest)


def triples(size=50, seed=0):
    rng, m = np.random.default_rng(seed), DATA.matrix().tocoo()
    at = rng.integers(0, m.nnz, size)
    negatives = np.where(rng.random(size) < 0.2, -1, rng.integers(0, DATA.n_items, size))
    return Triples(m.row[at].astype(np.int32), m.col[at].astype(np.int32), negatives.astype(np.int32))


def gradient(aim, batch, seed=0):
    loss = aim.loss(batch, torch.Generator().manual_seed(seed))
    return loss, torch.autograd.grad(loss, aim.table.free)[0]


def test_with_nothing_added_it_is_lightgcn():
    """The same loss, and the same model up to rounding, by another path."""
    kind = type("Same", (Plain,), {"name": "lightgcn", "title": "LightGCN"})
    one, two = kind(**SMALL).fit(DATA, seed=2), LightGCN(**SMALL).fit(DATA, seed=2)
    for name, array in one._state().items():
        np.testing.assert_allclose(array, two._state()[name], atol=2e-3)


@pytest.mark.parametrize("lowest", [0, 1])
def test_the_loss_by_a_dense_matrix(lowest):
    aim, batch = objective(with_parts(lowest=lowest)(**SMALL)), triples()
    found, slope = gradient(aim, batch)
    x = aim.table.free.detach().double().requires_grad_()
    a, n = torch.from_numpy(dense(DATA)), DATA.n_users
    layers = [x, a @ x, a @ a @ x][lowest:]
    e = sum(layers) / len(layers)
    kept = batch.negatives >= 0
    u, i, j = (torch.from_numpy(v[kept].astype(np.int64)) for v in (batch.users, batch.positives, batch.negatives))
    fit = nn.functional.softplus((e[u] * (e[n + j] - e[n + i])).sum(1)).sum()
    size = sum(x[v].square().sum() for v in (u, n + i, n + j))
    wanted = (fit + SMALL["reg"] / 2 * size) / len(batch)
    np.testing.assert_allclose(found.item(), wanted.item(), rtol=1e-5)
    np.testing.assert_allclose(slope, torch.autograd.grad(wanted, x)[0], atol=1e-6)


@pytest.mark.parametrize("lowest", [0, 1])
def test_answers_are_the_trained_vectors(lowest):
    kept = {}

    class Kept(with_parts(lowest=lowest)):
        def _finish(self, table, graph, n_users):
            kept["free"] = table.free.detach().numpy().astype(np.float64)
            super()._finish(table, graph, n_users)

    model, a = Kept(**{**SMALL, "layers": 3}).fit(DATA), dense(DATA)
    powers = [np.linalg.matrix_power(a, k) @ kept["free"] for k in range(lowest, 4)]
    wanted = sum(powers) / len(powers)
    active = np.flatnonzero(DATA.histories.lengths > 0).astype(np.int32)
    asked = Requests.of_users(DATA, active)
    np.testing.assert_allclose(model.request_vectors(asked), wanted[active], atol=1e-5)
    seen = DATA.item_counts > 0
    np.testing.assert_allclose(model.item_vectors[seen], wanted[DATA.n_users :][seen], atol=1e-5)
    assert not model.item_vectors[~seen].any()
    if lowest:  # nothing belongs to the person alone
        stranger = Requests(np.full(len(active), -1, np.int32), asked.histories)
        np.testing.assert_array_equal(model.request_vectors(stranger), model.request_vectors(asked))
        assert not model.own_.any()


class Seen(Part):
    """Notes what it is shown; adds the mean square of the people of the batch."""

    def begin(self, epoch, rng):
        self.drawn = int(rng.integers(100))

    def loss(self, step):
        return 0.7 * step.vectors.users(step.batch.users).square().mean()


class Shifted(Part):
    """Adds something learnt to layer 0 of items."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.full((8,), 0.1))

    def layer0(self, free, step):
        mask = torch.zeros(len(free), 1)
        mask[DATA.n_users :] = 1
        return free + mask * self.shift


class Thinner(Part):
    """Half of every link, on the way and in answers."""

    def graph(self, graph, step):
        return type(graph)(graph.offsets, graph.columns, graph.weights * np.float32(0.5))


def test_losses_of_parts_add_up():
    batch = triples()
    (plain, slope0), (one, slope1) = (gradient(objective(with_parts(*k)(**SMALL)), batch) for k in ([], [Seen]))
    (two, slope2) = gradient(objective(with_parts(Seen, Seen)(**SMALL)), batch)
    assert (one - plain).item() > 0
    np.testing.assert_allclose((two - plain).item(), 2 * (one - plain).item(), rtol=1e-4)
    np.testing.assert_allclose(slope2 - slope0, 2 * (slope1 - slope0), atol=1e-6)


def test_layer_0_can_be_altered_and_learns():
    model = with_parts(Shifted)(**SMALL)
    tables = []
    model._finish = lambda table, graph, n: (tables.append(table), GraphRecommender._finish(model, table, graph, n))
    model.fit(DATA)
    table = tables[-1]
    shift = table.additions[0].shift.detach().numpy()
    assert np.abs(shift - 0.1).max() > 1e-3
    x = table.free.detach().numpy().astype(np.float64)
    x[DATA.n_users :] += shift
    degree = np.concatenate([DATA.histories.lengths, DATA.item_counts])
    x[degree == 0] = 0
    a = dense(DATA)
    wanted = (x + a @ x + a @ a @ x) / 3
    np.testing.assert_allclose(model.item_vectors, wanted[DATA.n_users :], atol=1e-5)
    users = np.arange(DATA.n_users, dtype=np.int32)
    np.testing.assert_allclose(model.request_vectors(Requests.of_users(DATA, users)), wanted[: DATA.n_users], atol=1e-5)


@pytest.mark.parametrize("lowest", [0, 1])
def test_the_graph_can_be_altered_for_answers_too(lowest):
    kept = {}

    class Kept(with_parts(Thinner, lowest=lowest)):
        def _finish(self, table, graph, n_users):
            kept["free"] = table.free.detach().numpy().astype(np.float64)
            super()._finish(table, graph, n_users)

    model, a = Kept(**SMALL).fit(DATA), dense(DATA) / 2
    layers = [kept["free"], a @ kept["free"], a @ a @ kept["free"]][lowest:]
    wanted = sum(layers) / len(layers)
    active = np.flatnonzero(DATA.histories.lengths > 0).astype(np.int32)
    np.testing.assert_allclose(model.request_vectors(Requests.of_users(DATA, active)), wanted[active], atol=1e-5)


def test_a_part_that_draws_resumes_to_the_bit(tmp_path):
    class Noisy(Part):
        def begin(self, epoch, rng):
            self.scale = float(rng.random())

        def loss(self, step):
            noise = torch.rand(8, generator=step.generator)
            (again,) = step.propagate(passes=Passes((step.mean,), (step.seed(),), 0.1), rows=np.unique(step.batch.users))
            return self.scale * (again.users(step.batch.users) * noise).square().mean()

    kind = with_parts(Noisy, Shifted)
    whole = kind(**SMALL).fit(DATA, seed=4)
    kind(**{**SMALL, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = kind(**SMALL).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_rows_that_were_not_asked_for_are_an_error():
    vectors = Vectors(torch.eye(2), np.array([0, -1, 1]), 1)
    torch.testing.assert_close(vectors.items(np.array([1])), torch.eye(2)[1:])
    with pytest.raises(IndexError, match=r"node 1 was not computed"):
        vectors.items(np.array([1, 0]))


def test_a_part_may_ask_for_more_rows():
    class Items(Part):
        asked = ()

        def rows(self, batch):
            return DATA.n_users + np.arange(DATA.n_items)

        def loss(self, step):
            return step.vectors.items(np.arange(DATA.n_items)).square().mean()

    class Everybody(Items):
        def rows(self, batch):
            return None

    batch = triples(5)
    (a, one), (b, two) = (gradient(objective(with_parts(kind)(**SMALL)), batch) for kind in (Items, Everybody))
    np.testing.assert_allclose(a.item(), b.item(), rtol=1e-6)
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_two_parts_that_plan_the_propagation_are_refused():
    class Planned(Part):
        def passes(self, step):
            return Passes((step.mean, Readout.layer(1, step.layers)))

    with pytest.raises(ValueError, match="only one may"):
        gradient(objective(with_parts(Planned, Planned)(**SMALL)), triples())


def step_of(batch, n):
    return Step(batch, torch.Generator().manual_seed(0), n, 2, 0)


def test_contrast_of_a_batch_runs_over_distinct_people_and_items():
    n, batch = 4, Triples(*(np.array(v, np.int32) for v in ([1, 1, 3], [0, 2, 2], [1, 1, 1])))
    first, second = (torch.randn(9, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    views, step = (Vectors(first, None, n), Vectors(second, None, n)), step_of(batch, n)
    u, i = torch.tensor([1, 3]), torch.tensor([4, 6])
    wanted = contrast_reference(first[u], second[u], 0.3) + contrast_reference(first[i], second[i], 0.3)
    for group in (None, 2, 2048):
        torch.testing.assert_close(contrast_of_batch(step, *views, 0.3, "batch", group), wanted)
    wanted = contrast(first[u], second[:n], 0.3, u) + contrast(first[i], second[n:], 0.3, i - n)
    torch.testing.assert_close(contrast_of_batch(step, *views, 0.3, "all"), wanted)


def test_a_large_batch_is_contrasted_in_random_groups():
    n, everybody = 40, np.arange(40, dtype=np.int32)
    batch = Triples(everybody, everybody, everybody)
    views = [Vectors(torch.randn(80, 5, generator=torch.Generator().manual_seed(s)), None, n) for s in (0, 1)]
    step = step_of(batch, n)
    whole = contrast_of_batch(step, *views, 0.3, "batch").item()
    values = [contrast_of_batch(step, *views, 0.3, "batch", 10).item() for _ in range(5)]
    assert len(set(values)) == 5 and max(values) < whole  # fewer to be told apart from
