"""DiffKG: the generated graph, its way into training, guidance by hand, the fold-in."""

import itertools

import numpy as np
import pytest
import torch

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.nn.generated_links import adjacency, random_entries, survivors, taken, taking_part
from palate.nn.knowledge import Edges, Knowledge
from palate.recommend.diffkg import DiffKG, KnowledgeViews, guidance
from palate.recommend.graph_base import FreeVectors, Setting, Step

HALF, KINDS = 20, 3
SMALL = {"dim": 8, "epochs": 3, "batch_size": 128, "lr": 0.02, "hidden": 16, "rows": 32}


def two_tastes(users=100, seed=0, silent=()):
    """People who like items below HALF, or those above; items are linked to entities of their half, and to random others.

    Nobody has the ``silent`` items, but entities know them.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    whole = Dataset.from_columns(
        np.concatenate([np.full(2 * HALF, users), np.repeat(np.arange(users), 6)]),
        np.concatenate([np.arange(2 * HALF), *rows]),
    )
    number = np.arange(2 * HALF, dtype=np.int32)
    told = [KINDS * (number // HALF) + k for k in range(KINDS)]
    head = np.tile(number, KINDS + 2)
    tail = np.concatenate([*told, *(2 * KINDS + rng.integers(0, 30, (2, 2 * HALF)))]).astype(np.int32)
    relation = np.repeat(np.minimum(np.arange(KINDS + 2), KINDS), 2 * HALF).astype(np.int32)
    names = Vocabulary([f"r{n}" for n in range(KINDS + 1)])
    graph = Graph(head, relation, tail, "item", "entity", names, Vocabulary.range(2 * KINDS + 30))
    had = np.flatnonzero(~np.isin(whole.interactions.item, silent))
    return whole.derive({"step": "graph"}, graphs={"knowledge": graph}, interactions=whole.interactions.take(had))


DATA = two_tastes()
KNOWN = Knowledge.of(DATA)


@pytest.fixture(scope="module")
def model():
    return DiffKG(**SMALL).fit(DATA)


def part_of(dataset=DATA, **settings):
    config = DiffKG(**{**SMALL, **settings}).config
    setting = Setting.of(dataset, Fitting())
    part = KnowledgeViews(config, Knowledge.of(dataset, required=config.require_graph), setting)
    table = FreeVectors(len(setting.graph), config.dim, config.init, np.random.default_rng(0), (part,))
    return part, table, setting


def test_generated_links_are_some_of_the_knowledge_graphs(model):
    known = set(zip(KNOWN.head.tolist(), KNOWN.relation.tolist(), KNOWN.tail.tolist(), strict=True))
    found = [tuple(row) for row in model.generated_.tolist()]
    assert 0 < len(found) < len(known) and len(set(found)) == len(found) and set(found) <= known


def test_all_entries_and_no_loss_give_the_whole_graph_back():
    part, table, _ = part_of(k=10_000, keep=1.0)
    part.fix(table.free)
    part.renew(np.random.default_rng(0))
    assert part.kept.all() and len(part.second) == len(part.whole)


@pytest.mark.parametrize("views", ["diffusion", "random"])
def test_graphs_keep_links_both_ways(views):
    part, table, _ = part_of(views=views, keep=0.5)
    part.fix(table.free)
    part.renew(np.random.default_rng(0))
    kept = part.kept.numpy().astype(bool)
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(kept, kept[part.whole.inverse])
    second = part.second
    np.testing.assert_array_equal(second.heads[second.inverse], second.tails)
    np.testing.assert_array_equal(second.relations[second.inverse], second.relations ^ 1)


def test_guidance_equals_a_loop():
    rng = np.random.default_rng(0)
    predicted, r, u, x = (
        rng.random((5, 7)),
        rng.integers(0, 2, (5, 5)),
        rng.standard_normal((5, 3)),
        rng.standard_normal((5, 3)),
    )
    total = 0.0
    for h in range(5):
        c = np.zeros(3)
        for item in range(5):
            for user in range(5):
                c += predicted[h, item] * r[user, item] * u[user]
        total += ((c - x[h]) ** 2).sum()
    found = guidance(*(torch.from_numpy(a.astype(np.float64)) for a in (predicted, r.T @ u, x)))
    assert float(found) == pytest.approx(total / 15)


def test_audience_is_of_the_linked_items():
    part, table, setting = part_of()
    part.fix(table.free)
    u = table.free.detach().numpy()[: setting.n_users]
    items = part.linked[part.linked < DATA.n_items]
    np.testing.assert_allclose(part.audience, setting.matrix.toarray()[:, items].T @ u, atol=1e-5)


def test_taken_by_hand():
    edges = KNOWN.edges
    linked = np.flatnonzero(edges.degrees)
    z = adjacency(edges, linked)
    entries = np.full((len(linked), 1), -1)
    entries[0, 0] = z[0].indices[0]
    marks = taken(edges, linked, entries)
    ends = {linked[0], linked[entries[0, 0]]}
    assert marks.any()
    assert all({h, t} == ends for h, t in zip(edges.heads[marks], edges.tails[marks], strict=True))
    assert not taken(edges, linked, np.full((len(linked), 1), -1)).any()
    far = np.setdiff1d(np.arange(len(linked)), z[0].indices)[1]
    entries[0, 0] = far
    assert not taken(edges, linked, entries).any()


def test_a_pair_keeps_all_its_relations():
    """Published code keeps the first relation of a pair; here one entry of a row stands for all that link it."""
    edges = Edges.both_ways(4, np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([2, 2, 3]), 2)
    linked = np.arange(4)
    z = adjacency(edges, linked).toarray()
    assert z[0, 2] == z[2, 0] == 1 and z.sum() == 4
    marks = taken(edges, linked, np.array([[2], [-1], [-1], [-1]]))
    assert sorted(edges.relations[marks]) == [0, 1, 2, 3] and marks.sum() == 4


def test_the_denoiser_learns_alone_from_both_losses():
    """Vectors of people and rows are constants of its loss, which is (1 - λ₀) ELBO + λ₀ guidance."""
    found = []
    for share in (0.0, 1.0, 0.3):
        part, table, _ = part_of(guidance=share)
        part.fix(table.free)
        loss = part.denoising(np.arange(10), torch.Generator().manual_seed(0))
        loss.backward()
        assert table.free.grad is part.entities.grad is part.relations.grad is part.mixing.grad is None
        assert all(weights.grad is not None and weights.grad.any() for weights in part.denoiser.parameters())
        found.append(float(loss.detach()))
    assert found[2] == pytest.approx(0.7 * found[0] + 0.3 * found[1], rel=1e-5) and found[0] != found[1]


def test_entities_with_few_links_take_no_part_in_diffusion():
    edges, degrees = KNOWN.edges, KNOWN.edges.degrees
    np.testing.assert_array_equal(taking_part(edges, DATA.n_items, 1), np.flatnonzero(degrees))
    few = taking_part(edges, DATA.n_items, 5)
    entities = few[few >= DATA.n_items]
    assert 0 < len(entities) < (degrees[DATA.n_items :] > 0).sum() and (degrees[entities] >= 5).all()
    assert adjacency(edges, few).getnnz(axis=1).min() >= 1
    for left_out in np.setdiff1d(np.arange(DATA.n_items), few):
        tails = edges.tails[edges.heads == left_out]
        assert (degrees[tails] < 5).all()
    assert len(taking_part(edges, DATA.n_items, 10**6)) == 0
    model = DiffKG(**SMALL, min_links=5, k=3, keep=1.0).fit(DATA)
    assert set(model.generated_[:, [0, 2]].ravel()) <= set(few) and len(model.generated_)
    most = degrees[DATA.n_items :].max()
    with pytest.raises(DataError, match=f"no entity has so many links(.|\n)*no entity has more than {most}"):
        DiffKG(**SMALL, min_links=10**6).fit(DATA)


def test_random_entries_are_links_without_repeats():
    z = adjacency(KNOWN.edges, np.flatnonzero(KNOWN.edges.degrees))
    found = random_entries(z, 3, np.random.default_rng(0))
    for row, own in enumerate(found):
        real = own[own >= 0]
        assert len(real) == min(3, z[row].nnz) == len(set(real)) and set(real) <= set(z[row].indices)


def test_survivors_share():
    marks = np.ones(len(KNOWN.edges), bool)
    alive = survivors(KNOWN.edges, marks, 0.3, np.random.default_rng(0))
    assert abs(alive.mean() - 0.3) < 0.1
    assert survivors(KNOWN.edges, marks, 1.0, np.random.default_rng(0)).all()
    assert not survivors(KNOWN.edges, ~marks, 1.0, np.random.default_rng(0)).any()


def gradients(part, table, setting):
    """Gradients of layer 0 summed over the items, without dropout, by entities."""
    out = table.layer0(None)[setting.n_users :]
    slope = torch.linspace(-1, 1, out.numel()).view(out.shape)
    return out.detach(), torch.autograd.grad((out * slope).sum(), part.entities)[0]


def test_the_generated_graph_reaches_training_and_answers():
    """With half of the links cut, layer 0 of the main view and its gradient change; with ``main="whole"`` they don't."""
    for main, changes in (("generated", True), ("whole", False)):
        part, table, setting = part_of(main=main)
        before, slope_before = gradients(part, table, setting)
        part.kept.copy_(torch.from_numpy(survivors(part.whole, np.ones(len(part.whole), bool), 0.5, np.random.default_rng(1))))
        after, slope_after = gradients(part, table, setting)
        assert (not torch.equal(before, after)) == (not torch.equal(slope_before, slope_after)) == changes


@pytest.mark.parametrize("views", ["dropout", "off"])
def test_without_diffusion_the_second_graph_stays_the_whole_one(views):
    """``dropout`` is what the code published last trains: it generates a graph that never reaches either view."""
    part, table, _ = part_of(views=views, keep=0.5)
    before = table.layer0(None)
    part.renew(np.random.default_rng(0))
    assert part.denoiser is None and part.kept.all() and len(part.second) == len(part.whole)
    assert torch.equal(before, table.layer0(None))


def contrast_of(views, cut):
    """The contrast of a step without dropout."""
    part, table, setting = part_of(views=views, dropout=0.0, cl_weight=1.0, against="all")
    if cut:
        part.kept.copy_(torch.from_numpy(survivors(part.whole, np.ones(len(part.whole), bool), 0.5, np.random.default_rng(1))))
    from palate.training.triples import Pairs

    batch = next(iter(Pairs(setting.matrix, 64).epoch(np.random.default_rng(0))))
    step = Step(batch, torch.Generator().manual_seed(0), setting.n_users, 2, 0)
    step.layer0, step.graph = table.layer0(step), setting.graph
    (step.vectors,) = step.propagate()
    return part, batch, step, float(part.loss(step).detach())


def test_both_views_are_contrasted_and_equal_views_give_the_plain_softmax():
    part, batch, step, same = contrast_of("dropout", cut=False)
    wanted = 0.0
    unit = torch.nn.functional.normalize(step.vectors.rows.detach(), dim=1)
    n = step.n_users
    for own, kind in ((np.unique(batch.users), unit[:n]), (np.unique(batch.positives), unit[n:])):
        scores = kind[torch.from_numpy(own.astype(np.int64))] @ kind.T / part.c.temperature
        wanted -= float(torch.log_softmax(scores, 1)[torch.arange(len(own)), torch.from_numpy(own.astype(np.int64))].mean())
    assert same == pytest.approx(wanted, rel=1e-4)
    assert contrast_of("diffusion", cut=True)[3] > same * 1.001


def test_attention_encoder_by_hand():
    """Layer 0 of the items, edge by edge in float64."""
    part, table, setting = part_of(kg_layers=2, residual=0.3)
    edges, n = part.whole, setting.n_users
    x = torch.cat([table.free[n:], part.entities]).detach().double().numpy()
    w, r = part.mixing.detach().double().numpy(), part.relations.detach().double().numpy()
    out = x
    for _ in range(2):
        y = x.copy()
        for h in range(edges.rows):
            own = range(edges.offsets[h], edges.offsets[h + 1])
            a = np.array([((x[h] @ w[0] + x[edges.tails[e]] @ w[1]) * r[edges.relations[e]]).sum() for e in own])
            a = np.where(a > 0, a, 0.2 * a)
            for e, p in zip(own, np.exp(a) / np.exp(a).sum(), strict=True):
                y[h] += p * x[edges.tails[e]]
        x = y / np.linalg.norm(y, axis=1, keepdims=True)
        out = 0.3 * out + x
    found = part.encode(table.free, edges).detach().numpy()
    np.testing.assert_allclose(found[n:], out[: DATA.n_items], atol=1e-4)
    np.testing.assert_array_equal(found[:n], table.free.detach().numpy()[:n])


def test_training_history_gives_the_trained_person():
    """Vectors of people and items are the mean of LightGCN's layers over the encoder's output, by a dense matrix."""
    kept = {}

    class Kept(DiffKG):
        def _finish(self, table, graph, n_users):
            kept["layer0"] = table.layer0(None).detach().numpy().astype(float)
            super()._finish(table, graph, n_users)

    model = Kept(**SMALL).fit(DATA)
    r, n = DATA.matrix().toarray(), DATA.n_users
    a = np.block([[np.zeros((n, n)), r], [r.T, np.zeros((DATA.n_items, DATA.n_items))]])
    root = np.sqrt(np.maximum(a.sum(1), 1))
    a /= root[:, None] * root
    wanted = sum(np.linalg.matrix_power(a, k) @ kept["layer0"] for k in range(3)) / 3
    users = np.arange(n, dtype=np.int32)
    np.testing.assert_allclose(model.request_vectors(Requests.of_users(DATA, users)), wanted[:n], atol=1e-5)
    np.testing.assert_allclose(model.item_vectors, wanted[n:], atol=1e-5)


@pytest.mark.parametrize("main", ["generated", "whole"])
def test_items_that_nobody_had_are_placed_by_their_triples(main, tmp_path):
    """Items without events rank by the half that their entities are of, others keep their vectors; without triples: nothing."""
    silent = np.array([3, 4, 5, HALF + 3, HALF + 4, HALF + 5])
    data = two_tastes(silent=silent)
    model = DiffKG(**{**SMALL, "epochs": 30}, main=main).fit(data, seed=1)
    users = np.arange(1, 100, dtype=np.int32)
    asked = Requests.of_users(data, users)
    scores = model.score(asked, np.tile(silent.astype(np.int32), (99, 1)))
    own = data.histories.take(users).items[data.histories.take(users).offsets[:-1]] < HALF
    assert ((scores[:, :3].sum(1) > scores[:, 3:].sum(1)) == own).mean() > 0.8
    assert np.isin(model.recommend(asked, 10).items, silent).any()
    loaded = DiffKG.load(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(loaded.item_vectors, model.item_vectors)
    off = DiffKG(**{**SMALL, "epochs": 1}, views="off").fit(data)
    alone = DiffKG(**{**SMALL, "epochs": 1}, require_graph=False).fit(data.derive({"step": "none"}, graphs={}))
    assert not off.item_vectors[silent].any() and not alone.item_vectors[silent].any()


def test_placing_alters_silent_items_alone():
    part, table, setting = part_of(two_tastes(silent=(3,)))
    placed = part.placed(table.free, np.arange(2 * HALF) == 3)
    assert placed[3].any() and not np.delete(placed, 3, axis=0).any()
    free = table.free.detach().clone()
    free[setting.n_users + 3] = 0
    whole = part.encode(free, part.graphs[0])[setting.n_users :].detach().numpy()
    np.testing.assert_allclose(placed[3], whole[3], rtol=1e-5)
    assert part.placed(table.free, np.zeros(2 * HALF, bool)) is None


def test_known_people_and_strangers_get_their_taste():
    model = DiffKG(**{**SMALL, "epochs": 20}).fit(DATA)
    known = Requests.of_users(DATA, np.arange(1, 90, dtype=np.int32))
    unseen = Requests(np.full(len(known), -1, np.int32), known.histories, known.exclude)
    own = known.histories.items[known.histories.offsets[:-1]] < HALF
    for requests in (known, unseen):
        assert ((model.recommend(requests, 5).items < HALF) == own[:, None]).mean() > 0.9


@pytest.mark.parametrize("views", ["diffusion", "random", "dropout", "off"])
def test_every_form_fits_and_resumes_to_the_bit(views, tmp_path):
    settings = {**SMALL, "views": views}
    whole = DiffKG(**settings).fit(DATA, seed=2)
    DiffKG(**{**settings, "epochs": 1}).fit(DATA, seed=2, checkpoint=tmp_path)
    resumed = DiffKG(**settings).fit(DATA, seed=2, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_forms_differ():
    found = [
        DiffKG(**{**SMALL, "views": v, "epochs": 1}).fit(DATA, seed=2).item_vectors for v in ("diffusion", "random", "dropout")
    ]
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(found))


def test_other_settings_fit():
    for settings in ({"guidance": 0.0}, {"against": "batch"}, {"k": 3, "steps": 1}, {"guidance": 1.0}):
        assert len(DiffKG(**{**SMALL, "epochs": 1, **settings}).fit(DATA).generated_)


def test_without_a_graph_it_says_so():
    bare = DATA.derive({"step": "none"}, graphs={})
    with pytest.raises(DataError, match="no knowledge graph"):
        DiffKG(**SMALL).fit(bare)
    alone = DiffKG(**{**SMALL, "epochs": 1}, require_graph=False).fit(bare)
    assert alone.generated_.shape == (0, 3) and alone.record_.notes["knowledge"]["triples"] == 0
