"""Positives chosen by personal loss, in any recommender on the graph: who is chosen, the step on it, what is refused."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.catalog.registry import create
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.errors import ConfigError
from palate.nn.graph import Adjacency, propagate
from palate.recommend import graph_base
from palate.recommend.graph_base import FreeVectors, Objective, Setting
from palate.recommend.lightgcn import LightGCN, LightGCNConfig
from palate.recommend.lightgcn import _Steps as LightSteps
from palate.recommend.pld import PLDConfig
from palate.recommend.pld import _Steps as PLDSteps
from palate.recommend.rlmrec import RLMRec
from palate.recommend.simgcl import SimGCL
from palate.training.personal_loss import PersonalLossSampler, Pools
from palate.training.triples import Triples

HALF, USERS = 20, 60
SMALL = {"dim": 8, "layers": 2, "epochs": 8, "batch_size": 128, "lr": 0.02, "warmup": 2, "positives": "personal_loss"}
FITTING = Fitting(0, "cpu", lambda event: None, None, None, "", ())
RLM = {"text_dim": 12, "place_new": False}


def noisy_tastes(seed=0):
    """Two tastes, ten items a person, and two of the other taste by mistake; titles tell the taste."""
    rng = np.random.default_rng(seed)
    rows = [
        np.r_[rng.choice(HALF, 10, replace=False) + HALF * (u % 2), rng.choice(HALF, 2, replace=False) + HALF * (1 - u % 2)]
        for u in range(USERS)
    ]
    data = Dataset.from_columns(np.repeat(np.arange(USERS), 12), np.concatenate(rows))
    raw = data.items.ids.raw.to_pylist()
    titles = [f"{'red' if r < HALF else 'blue'} thing {'abcdefgh'[r % 8] * 4}" for r in raw]
    return data.derive({"step": "texts"}, items=replace(data.items, attributes=pa.table({"title": titles})))


DATA = noisy_tastes()


def prepared(kind, **settings):
    """An objective whose free vectors have a scale that tells losses apart."""
    model = kind(**{**SMALL, "warmup": 0, "init": 1.0, **({} if kind is not RLMRec else RLM), **settings})
    if kind is RLMRec:
        fitted = RLMRec(**{**SMALL, **RLM, **settings, "epochs": 0}).fit(DATA)
        model.user_texts_, model.item_texts_ = fitted.user_texts_, fitted.item_texts_
    setting = Setting.of(DATA, FITTING)
    return Objective(model._table(setting, model._parts(setting)), setting, model.config, model._lowest)


def false(users, items):
    """Whether these pairs are mistakes."""
    raw_users = np.array(DATA.users.ids.decode(users).to_pylist())
    return (np.array(DATA.items.ids.decode(items).to_pylist()) >= HALF) != (raw_users % 2 == 1)


KINDS = [(SimGCL, {}), (SimGCL, {"cl_weight": 0.0}), (RLMRec, {}), (RLMRec, {"mode": "gen", "backbone": "xsimgcl"})]


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_without_temperature_the_least_loss_of_the_pool_is_taken(kind, settings):
    aim = prepared(kind, tau=0.0, **settings)
    pools = next(iter(aim.batches(1, np.random.default_rng(0))))
    assert isinstance(pools, Pools) and pools.candidates.shape == (128, 5)
    found, e, n = aim.triples(pools), aim.final().numpy(), DATA.n_users
    for row in range(len(pools)):
        person, other = e[pools.users[row]], e[n + pools.negatives[row]]
        losses = np.logaddexp(0, person @ other - e[n + pools.candidates[row]] @ person)
        at = int(np.flatnonzero(pools.candidates[row] == found.positives[row])[0])
        assert losses[at] <= losses.min() + 1e-6
    np.testing.assert_array_equal(found.users, pools.users)


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_the_step_is_that_on_what_was_chosen(kind, settings):
    """Loss and gradient are those of plain triples: choosing draws nothing and has no gradient."""
    aim = prepared(kind, **settings)
    pools = next(iter(aim.batches(1, np.random.default_rng(0))))
    fixed = aim.triples(pools)
    losses = [aim.loss(batch, torch.Generator().manual_seed(3)) for batch in (pools, fixed)]
    slopes = [torch.autograd.grad(loss, aim.table.free)[0] for loss in losses]
    assert torch.equal(*losses) and torch.equal(*slopes)


def test_what_is_chosen_is_judged_by_answers_without_noise():
    aim = prepared(SimGCL, eps=5.0)
    free, graph = aim.table.free.detach(), aim.setting.graph
    layers = [propagate(free, graph, k) * (k + 1) for k in range(3)]  # sums of the layers up to k
    torch.testing.assert_close(aim.final(), (layers[2] - layers[0]) / 2, rtol=1e-4, atol=1e-5)


def test_the_warm_up_takes_any_item():
    aim = prepared(SimGCL, warmup=2)
    shapes = [next(iter(aim.batches(epoch, np.random.default_rng(0)))).candidates.shape[1] for epoch in (1, 2, 3)]
    assert shapes == [1, 1, 5]
    assert isinstance(next(iter(prepared(SimGCL, positives="uniform").batches(1, np.random.default_rng(0)))), Triples)


@pytest.mark.parametrize(("name", "own", "epochs"), [
    ("pld", {}, 4), ("lightgcn", {"positives": "personal_loss"}, 4), ("lightgcn", {"positives": "uniform"}, 2)
])  # fmt: skip
def test_patience_leaves_the_warm_up_out(name, own, epochs, monkeypatch):
    monkeypatch.setattr(graph_base, "validator", lambda *args, **more: lambda: 0.5)
    settings = {key: value for key, value in SMALL.items() if key != "positives"} | own
    model = create(name, **{**settings, "warmup": 3, "patience": 1, "patience_steps": 0}).fit(DATA)
    assert model.record_.notes["epochs"] == epochs and model.record_.notes["best_epoch"] == 1


def test_lightgcn_takes_the_step_of_pld():
    matrix, common = DATA.matrix(), {"dim": 8, "layers": 2, "reg": 0.05}
    graph = Adjacency.of_matrix(matrix)
    table = FreeVectors(len(graph), 8, 1.0, np.random.default_rng(0), ())
    table.sampler = PersonalLossSampler(5, 0.1, 0).bind(matrix)
    pools = table.sampler.draw(table.sampler.people[np.arange(40)], 5, np.random.default_rng(1))
    theirs = PLDSteps(PLDConfig(**common), table, table.sampler, graph, USERS).loss(pools, torch.Generator())
    ours = LightSteps(LightGCNConfig(**common), table, graph, USERS).bpr(pools, torch.Generator())
    torch.testing.assert_close(ours, theirs)
    slopes = [torch.autograd.grad(loss, table.free)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "settings"), [(SimGCL, {"cl_weight": 0.02}), (RLMRec, {**RLM, "weight": 0.01}), (LightGCN, {})]
)
def test_mistakes_are_seldom_trained_on(kind, settings):
    """After a fit the report of the pools stands low for mistakes."""
    seen = {}

    class Watched(kind):
        def _finish(self, table, graph, n_users):
            super()._finish(table, graph, n_users)
            seen["weights"] = table.sampler.weights

    Watched(**{**SMALL, "epochs": 30, "batch_size": 64, "lr": 0.05, **settings}).fit(DATA)
    matrix = DATA.matrix()
    wrong = false(np.repeat(np.arange(USERS), np.diff(matrix.indptr)), matrix.indices)
    known = np.isfinite(seen["weights"])
    weights = seen["weights"][known]
    assert known.mean() > 0.9
    assert weights[wrong[known]].mean() < 0.7 * weights[~wrong[known]].mean()


@pytest.mark.parametrize(("name", "settings"), [("simgcl", {}), ("rlmrec", RLM), ("llmrec", {})])
def test_resumes_to_the_bit(name, settings, tmp_path):
    settings = {**SMALL, "epochs": 4, **settings}
    whole = create(name, **settings).fit(DATA, seed=4)
    create(name, **{**settings, "epochs": 3}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = create(name, **settings).fit(DATA, seed=4, checkpoint=tmp_path)
    for key, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[key])
    plain = create(name, **{**settings, "positives": "uniform"}).fit(DATA, seed=4)
    assert not np.array_equal(plain.item_vectors, whole.item_vectors)


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax"])
def test_losses_without_a_rival_refuse_it(loss):
    with pytest.raises(ConfigError, match="personal_loss"):
        LightGCN(loss=loss, positives="personal_loss")


@pytest.mark.parametrize("name", ["mhcn", "diffnetpp"])
def test_systems_with_steps_of_their_own_refuse_it(name):
    with pytest.raises(ConfigError):
        create(name, positives="personal_loss")
