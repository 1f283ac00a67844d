"""PLD: the step on what was chosen, the comparisons, the report of noise, and what it keeps of the backbones."""

import numpy as np
import pytest
import torch
from scipy import sparse

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError, UnsupportedError
from palate.nn.graph import Adjacency
from palate.recommend.graph_base import FreeVectors
from palate.recommend.pld import PLD, PLDConfig, _Edges, _Steps
from palate.training.personal_loss import PersonalLossSampler, Pools

HALF, USERS = 20, 100
SMALL = {"dim": 8, "layers": 2, "epochs": 12, "batch_size": 128, "lr": 0.02, "warmup": 3}


def noisy_tastes(seed=0):
    """People who like items below HALF or those above, ten of them each, and two of the other side by mistake."""
    rng = np.random.default_rng(seed)
    true = [rng.choice(HALF, 10, replace=False) + HALF * (u % 2) for u in range(USERS)]
    false = [rng.choice(HALF, 2, replace=False) + HALF * (1 - u % 2) for u in range(USERS)]
    return Dataset.from_columns(
        np.repeat(np.arange(USERS), 12), np.concatenate([np.r_[t, f] for t, f in zip(true, false, strict=True)])
    )


DATA = noisy_tastes()


def mistakes(model):
    owners = np.repeat(np.arange(USERS), np.diff(model.pair_offsets_))
    item = np.array(model.items_.ids.decode(model.pair_items_).to_pylist())
    return (item >= HALF) != (owners % 2 == 1)


@pytest.fixture(scope="module")
def models():
    return {b: PLD(**SMALL, backbone=b).fit(DATA) for b in ("mf", "lightgcn")}


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_mistakes_are_named(models, backbone):
    model = models[backbone]
    wrong, weights = mistakes(model), model.pair_weights_
    known = np.isfinite(weights)
    ranks = weights[known].argsort().argsort()
    n1, n0 = wrong[known].sum(), (~wrong[known]).sum()
    auc = 1 - (ranks[wrong[known]].sum() - n1 * (n1 - 1) / 2) / (n1 * n0)
    assert auc > 0.9
    found = model.suspicious(30)
    assert [s.weight for s in found] == sorted(s.weight for s in found) and found[0].weight < 0.5
    assert np.mean([(s.item >= HALF) != (s.user % 2 == 1) for s in found]) > 0.9
    assert {s.user for s in model.suspicious(5, users=[7, "nobody"])} == {7}


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_known_and_unseen_people_get_their_taste(models, backbone):
    users = np.arange(USERS, dtype=np.int32)
    known = Requests.of_users(DATA, users)
    unseen = Requests(np.full(USERS, -1, np.int32), known.histories, known.exclude)
    for requests in (known, unseen):
        items = models[backbone].items_.ids.decode(models[backbone].recommend(requests, 3).items.ravel()).to_pylist()
        assert ((np.array(items).reshape(-1, 3) >= HALF) == (users % 2 == 1)[:, None]).mean() > 0.95


def test_edges_weigh_what_their_interactions_did():
    matrix = DATA.matrix()
    sampler = PersonalLossSampler(4, 0.1, 0).bind(matrix)
    edges = _Edges(matrix, sampler)
    even = Adjacency.of_matrix(matrix)
    np.testing.assert_array_equal(edges.now.weights, even.weights)  # nothing was in a pool yet
    rng = np.random.default_rng(0)
    chances = rng.random(matrix.nnz).astype(np.float32)
    chances[:12] = 0  # a person whose events were never chosen
    sampler.total[:], sampler.drawn[:] = torch.from_numpy(chances * 3), 3
    sampler.total[20], sampler.drawn[20] = 0, 0
    edges.begin(1, rng)
    weights = np.where(np.arange(matrix.nnz) == 20, 1, chances)
    r = sparse.csr_matrix((weights, matrix.indices, matrix.indptr), matrix.shape).toarray()
    whole = np.block([[np.zeros((len(r), len(r))), r], [r.T, np.zeros((r.shape[1], r.shape[1]))]])
    root = np.sqrt(np.where(whole.sum(1) > 0, whole.sum(1), 1))
    found = sparse.csr_matrix((edges.now.weights, edges.now.columns, edges.now.offsets), whole.shape).toarray()
    np.testing.assert_allclose(found, whole / np.outer(root, root), rtol=1e-5, atol=1e-7)
    for wrong in ({"method": "plain"}, {"backbone": "mf"}):
        with pytest.raises(ConfigError, match="weighed"):
            PLD(edges="weighed", **wrong)


def test_weighed_edges_answer_with_the_graph_of_what_was_kept(models):
    model = PLD(**SMALL, edges="weighed").fit(DATA)
    weights = np.nan_to_num(model.pair_weights_, nan=1.0)
    matrix = DATA.matrix()
    graph = Adjacency.of_matrix(sparse.csr_matrix((weights, matrix.indices, matrix.indptr), matrix.shape))
    wrong = mistakes(model)
    to_items = graph.weights[: graph.offsets[USERS]]
    assert to_items[wrong].mean() < 0.7 * to_items[~wrong].mean()
    known = Requests.of_users(DATA, np.arange(USERS, dtype=np.int32), exclude_seen=False)
    own = (model.request_vectors(known) @ model.item_vectors.T)[matrix.nonzero()]
    even = (models["lightgcn"].request_vectors(known) @ models["lightgcn"].item_vectors.T)[matrix.nonzero()]
    gap = [(scores[~wrong].mean() - scores[wrong].mean()) / scores.std() for scores in (own, even)]
    assert gap[0] > gap[1]


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
@pytest.mark.parametrize("loss", ["bpr", "bce"])
def test_the_choice_has_no_gradient(backbone, loss):
    """The gradient of a step is that of a run in which the chosen items stood fixed."""
    config = PLDConfig(dim=4, layers=2, backbone=backbone, loss=loss, pool=4, tau=0.2, reg=0.1)
    matrix = DATA.matrix()
    graph, gradients = Adjacency.of_matrix(matrix), []
    table = FreeVectors(len(graph), 4, 0.5, np.random.default_rng(0), ())
    sampler = PersonalLossSampler(4, 0.2, 0).bind(matrix)
    pools = sampler.draw(sampler.people[:50], 4, np.random.default_rng(1))
    chosen = {}

    class Watched(PersonalLossSampler):
        def choose(self, losses, pools):
            chosen["at"] = super().choose(losses, pools)
            assert not losses.requires_grad
            return chosen["at"]

    watched = Watched(4, 0.2, 0).bind(matrix)
    first = _Steps(config, table, watched, graph, USERS).loss(pools, torch.Generator())
    gradients.append(torch.autograd.grad(first, table.free)[0])
    rows, at = np.arange(len(pools)), chosen["at"]
    fixed = Pools(
        pools.users, pools.places[rows, at][:, None], pools.candidates[rows, at][:, None], pools.negatives, pools.chances
    )
    second = _Steps(config, table, PersonalLossSampler(1, 0.2, 0).bind(matrix), graph, USERS).loss(fixed, torch.Generator())
    gradients.append(torch.autograd.grad(second, table.free)[0])
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(*gradients)


def smoothed(free):
    """The mean of layers 0 to 2 of LightGCN, by a dense matrix."""
    r = DATA.matrix().toarray().astype(float)
    a = np.block([[np.zeros((len(r),) * 2), r], [r.T, np.zeros((r.shape[1],) * 2)]])
    root = np.sqrt(np.maximum(a.sum(1), 1))
    a /= root[:, None] * root
    return (free + a @ free + a @ a @ free) / 3


@pytest.mark.parametrize("size", [1, 40])
@pytest.mark.parametrize("method", ["pld", "plain", "t_ce", "r_ce"])
@pytest.mark.parametrize("loss", ["bpr", "bce"])
@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_a_step_by_hand(backbone, loss, method, size):
    """Choice, loss of the pair or of each item alone, global denoisers and penalty, in float64; a batch of one person, too."""
    own = {"pld": {"pool": 4, "tau": 0.2}, "t_ce": {"drop": 0.5, "drop_step": 0.25}, "r_ce": {"beta": 0.5}}.get(method, {})
    config = PLDConfig(dim=4, layers=2, backbone=backbone, loss=loss, method=method, reg=0.3, warmup=0, **own)
    matrix, k = DATA.matrix(), 4 if method == "pld" else 1
    table = FreeVectors(len(graph := Adjacency.of_matrix(matrix)), 4, 1.0, np.random.default_rng(0), ())
    sampler = PersonalLossSampler(k, 0.2, 0).bind(matrix)
    pools = sampler.draw(sampler.people[:size], k, np.random.default_rng(1))
    found = _Steps(config, table, sampler, graph, USERS).loss(pools, torch.Generator())
    free = table.free.detach().numpy().astype(float)
    e = free if backbone == "mf" else smoothed(free)
    rival = (e[pools.users] * e[USERS + pools.negatives]).sum(1)
    scores = np.einsum("md,mkd->mk", e[pools.users], e[USERS + pools.candidates])
    losses = np.logaddexp(0, rival[:, None] - scores) if loss == "bpr" else np.logaddexp(0, -scores)
    p = np.exp(-losses / 0.2) / np.exp(-losses / 0.2).sum(1, keepdims=True)
    at = (p.cumsum(1) <= pools.chances[:, None]).sum(1)
    terms, against = losses[np.arange(size), at], np.logaddexp(0, rival)
    if method == "t_ce":  # in the first epoch after the warm-up a quarter of the batch's positives is left out
        terms = np.where(terms.argsort().argsort() < size - size // 4, terms, 0)
    if method == "r_ce":
        terms, against = terms * np.exp(-terms) ** 0.5, against * np.exp(-against) ** 0.5
    terms = terms if loss == "bpr" else (terms + against) / 2
    rows = np.concatenate([pools.users, USERS + pools.candidates[np.arange(size), at], USERS + pools.negatives])
    assert float(found.detach()) == pytest.approx((terms.sum() + 0.15 * (free[rows] ** 2).sum()) / size, rel=1e-4)


def test_pools_of_one_and_no_temperature_are_plain_training():
    plain = PLD(**SMALL, backbone="mf", method="plain").fit(DATA)
    one = PLD(**SMALL, backbone="mf", pool=1).fit(DATA)
    np.testing.assert_array_equal(plain.item_vectors, one.item_vectors)
    for model in (plain, one):
        with pytest.raises(UnsupportedError, match="suspicious"):
            model.suspicious()


def weighted(method, losses, **settings):
    config = PLDConfig(method=method, warmup=2, **settings)
    graph = Adjacency.of_matrix(DATA.matrix())
    table = FreeVectors(len(graph), 4, 0.5, np.random.default_rng(0), ())
    steps = _Steps(config, table, PersonalLossSampler(1).bind(DATA.matrix()), graph, USERS)
    out = []
    for epoch in (2, 3, 9):
        steps.epoch = epoch
        out.append(steps._weigh(losses))
    return out


def test_global_denoisers_by_hand():
    losses = torch.tensor([0.1, 2.0, 0.5, 1.0])
    early, first, late = weighted("t_ce", losses, drop=0.5, drop_step=0.25)
    assert early.tolist() == losses.tolist()
    torch.testing.assert_close(first, torch.tensor([0.1, 0.0, 0.5, 1.0]))
    torch.testing.assert_close(late, torch.tensor([0.1, 0.0, 0.5, 0.0]))
    early, first, _ = weighted("r_ce", losses, beta=0.5)
    assert early.tolist() == losses.tolist()
    torch.testing.assert_close(first, losses * torch.exp(-losses) ** 0.5)


@pytest.mark.parametrize("method", ["t_ce", "r_ce"])
@pytest.mark.parametrize("loss", ["bpr", "bce"])
def test_comparisons_learn_the_tastes(method, loss):
    model = PLD(**SMALL, backbone="mf", method=method, loss=loss).fit(DATA)
    users = np.arange(USERS, dtype=np.int32)
    items = model.items_.ids.decode(model.recommend(Requests.of_users(DATA, users), 3).items.ravel()).to_pylist()
    assert ((np.array(items).reshape(-1, 3) >= HALF) == (users % 2 == 1)[:, None]).mean() > 0.9


def test_resumes_to_the_bit_with_its_report(tmp_path):
    whole = PLD(**SMALL, backbone="mf").fit(DATA, seed=4)
    PLD(**{**SMALL, "epochs": 7}, backbone="mf").fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = PLD(**SMALL, backbone="mf").fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_forgotten_people_are_not_suspected(models, tmp_path):
    model = PLD.load(models["mf"].save(tmp_path / "bundle"))
    assert model.forget([7]) == 1
    assert model.suspicious(5, users=[7]) == []
    assert all(s.user != 7 for s in model.suspicious(10_000))
    assert len(model.pair_items_) == model.pair_offsets_[-1] == len(models["mf"].pair_items_) - 12
    with pytest.raises(DataError, match="at least 1"):
        model.suspicious(0)
