"""SGL: the loss by a dense matrix for each kind of drop, walks with a graph for each layer, answers, resumption."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.nn.contrast import contrast_reference
from palate.nn.graph import Adjacency
from palate.recommend.graph_base import Objective, Setting
from palate.recommend.sgl import SGL

HALF, SMALL = 20, {"dim": 8, "layers": 2, "epochs": 20, "batch_size": 128, "lr": 0.02}
KINDS = ["edges", "nodes", "walks"]


def two_tastes(users=120, seed=0):
    """People who like items below HALF, or those above."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    return Dataset.from_columns(
        np.concatenate([np.full(2 * HALF, users), np.repeat(np.arange(users), 6)]),
        np.concatenate([np.arange(2 * HALF), *rows]),
    )


DATA = two_tastes()


def prepared(**settings):
    model = SGL(**{**SMALL, **settings})
    setting = Setting.of(DATA, Fitting(0, "cpu", lambda event: None, None, None, "", ()))
    aim = Objective(model._table(setting, model._parts(setting)), setting, model.config, model._lowest)
    return model, aim, next(iter(aim.batches(1, np.random.default_rng(0))))


def dense(graph):
    return torch.from_numpy(graph.product(np.eye(len(graph), dtype=np.float32)))


def mean_of_layers(x, matrices):
    layers = [x]
    for matrix in matrices:
        layers.append(matrix @ layers[-1])
    return sum(layers) / len(layers)


@pytest.mark.parametrize("against", ["batch", "all"])
@pytest.mark.parametrize("drop", KINDS)
def test_loss_and_gradient_by_a_dense_matrix(drop, against):
    model, aim, batch = prepared(drop=drop, drop_rate=0.4, against=against, reg=0.1)
    c, n, x = model.config, DATA.n_users, aim.table.free
    e = mean_of_layers(x, [dense(aim.setting.graph)] * 2)
    u, i, j = (torch.from_numpy(v.astype(np.int64)) for v in (batch.users, batch.positives, batch.negatives))
    kept = j >= 0
    wanted = functional.softplus((e[u] * (e[n + j] - e[n + i])).sum(1))[kept].sum() / len(u)
    wanted = wanted + c.reg / (2 * len(u)) * sum(x[v[kept]].square().sum() for v in (u, n + i, n + j))
    graphs = aim.table.additions[0].graphs
    one, two = (
        mean_of_layers(x, [dense(g)] * 2 if isinstance(g, Adjacency) else [dense(layer) for layer in g]) for g in graphs
    )
    for own, part in ((torch.unique(u), slice(0, n)), (torch.unique(i) + n, slice(n, None))):
        others, at = (two[own], None) if against == "batch" else (two[part], own - part.start)
        wanted = wanted + c.cl_weight * contrast_reference(one[own], others, c.temperature, at)
    found = aim.loss(batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    slopes = [torch.autograd.grad(loss, x)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-6)


def test_walks_have_another_graph_in_each_layer():
    _, aim, _ = prepared(drop="walks", drop_rate=0.4)
    for view in aim.table.additions[0].graphs:
        assert len(view) == 2
        first, second = (dense(g) > 0 for g in view)
        assert (first != second).any()
    _, aim, _ = prepared(drop="edges", drop_rate=0.4)
    assert all(isinstance(view, Adjacency) for view in aim.table.additions[0].graphs)


def test_views_differ_from_each_other_and_from_epoch_to_epoch():
    _, aim, _ = prepared(drop_rate=0.4)
    part = aim.table.additions[0]
    before = [dense(g) for g in part.graphs]
    assert (before[0] != before[1]).any()
    aim.batches(2, np.random.default_rng(1))
    assert (dense(part.graphs[0]) != before[0]).any()


def test_nothing_dropped_leaves_no_difference():
    """With ρ = 0 both views are the vectors themselves, and a low temperature tells all apart."""
    _, aim, batch = prepared(drop_rate=0.0, temperature=1e-4, cl_weight=1.0, init=1.0)
    _, plain, _ = prepared(cl_weight=0.0)
    plain.table.load_state_dict(aim.table.state_dict())
    losses = [a.loss(batch, torch.Generator().manual_seed(0)).item() for a in (aim, plain)]
    np.testing.assert_allclose(*losses, atol=1e-4)


@pytest.mark.parametrize("drop", KINDS)
def test_known_and_unseen_people_get_their_taste(drop):
    model = SGL(**{**SMALL, "epochs": 40}, drop=drop, cl_weight=0.02).fit(DATA)
    known = Requests.of_users(DATA, np.arange(1, 100, dtype=np.int32))
    unseen = Requests(np.full(len(known), -1, np.int32), known.histories, known.exclude)
    own = known.histories.items[known.histories.offsets[:-1]] < HALF
    for asked in (known, unseen):
        assert ((model.recommend(asked, 5).items < HALF) == own[:, None]).mean() > 0.95


@pytest.mark.parametrize("drop", KINDS)
def test_resumes_to_the_bit(drop, tmp_path):
    settings = {**SMALL, "drop": drop, "epochs": 5}
    whole = SGL(**settings).fit(DATA, seed=4)
    SGL(**{**settings, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = SGL(**settings).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
