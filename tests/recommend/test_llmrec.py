"""LLMRec: augmentors, pruning, blocks of texts, mask and restore, the fold-in."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.errors import ConfigError, DataError
from palate.extras import available
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.texts import item_texts
from palate.recommend.graph_base import GraphConfig, GraphRecommender, Objective, Setting
from palate.recommend.llmrec import Augmented, LLMRec, LLMRecConfig, Told, kept_triples, pruned_bpr
from palate.recommend.llmrec_augment import (
    Augmentor,
    Candidates,
    Picks,
    RuleAugmentor,
    picked,
    propose,
)
from palate.recommend.llmrec_side import Block, Links, Side, restore_loss
from palate.training.triples import Triples

needs_lm = pytest.mark.skipif(not all(map(available, ("tenacity", "jsonschema"))), reason="needs the extra lm")
HALF = 12
SMALL = {"dim": 8, "epochs": 3, "batch_size": 64, "lr": 0.02, "text_dim": 16, "base": "item_knn"}
QUIET = {"augmentor": "none", "share": 0.0, "prune": 0.0, "text_weight": 0.0, "attribute_weight": 0.0, "profile_weight": 0.0}


def two_tastes(users=60, seed=0):
    """People who like items about cats, or those about ships; one person and one item without events."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 5, replace=False) + HALF * (u % 2) for u in range(users)]
    user = np.concatenate([np.full(2 * HALF + 1, users), np.repeat(np.arange(users), 5)])
    whole = Dataset.from_columns(user, np.concatenate([np.arange(2 * HALF + 1), *rows]))
    raw = whole.items.ids.raw.to_pylist()
    titles = [f"Number {n}" for n in raw]
    kinds = [["cats", "fur"] if n < HALF else ["ships", "sea"] for n in raw]
    table = pa.table({"title": titles, "categories": kinds})
    kept = np.flatnonzero(whole.interactions.user != whole.users.ids.number(users))
    made = whole.derive({"step": "texts"}, items=Entities(whole.items.ids, table), interactions=whole.interactions.take(kept))
    assert (made.item_counts == 0).sum() == 1 and (made.histories.lengths == 0).sum() == 1
    return made


DATA = two_tastes()
RAW = DATA.items.ids.raw.to_numpy()


def untold(dataset=DATA):
    return dataset.derive({"step": "no texts"}, items=Entities(dataset.items.ids))


class Fixed(Augmentor):
    """Says what a test wants."""

    name = "fixed"

    def __init__(self, pick=None, attributes=None, profiles=None):
        self.of, self.attributes, self.profiles = pick, attributes or {}, profiles

    def pick(self, dataset, candidates, *, progress=None):
        if self.of is None:
            return Picks(candidates.items[:, 0].copy(), candidates.items[:, 1].copy())
        return self.of(candidates)

    def item_attributes(self, dataset, *, progress=None):
        return self.attributes

    def user_profiles(self, dataset, *, progress=None):
        return self.profiles or [""] * dataset.n_users


def prepared(augmentor=None, dataset=DATA, **settings):
    """The parts of a fit before its first step."""
    model = LLMRec(**{**SMALL, **settings}, **({} if augmentor is None else {"augmentor": augmentor}))
    fitting, c = Fitting(), model.config
    setting = Setting.of(dataset, fitting)
    with model._who() as augmentor:
        told = Told.of(dataset, augmentor, c, fitting)
    side = Side(told.blocks, Links(setting.matrix), c.dim, c.mask, c.power, np.random.default_rng(0))
    table = model._table(setting, (side,))
    return Augmented(table, setting, c, side, told.picks), side, table, told


# -- pruning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.71, 0.99])
@pytest.mark.parametrize("m", [0, 1, 7, 100])
def test_kept_are_exactly_the_smallest_or_largest(rate, m):
    losses = np.random.default_rng(m).random(m).round(1)
    n = m - int(rate * m)
    for by, order in (("noise_dropped", 1), ("hardest_kept", -1)):
        kept = kept_triples(losses, rate, by)
        assert len(kept) == len(set(kept)) == n and (np.diff(kept) > 0).all()
        np.testing.assert_array_equal(np.sort(order * losses[kept]), np.sort(order * losses)[:n])


def test_pruning_by_hand():
    """Three triples with losses softplus(-2), softplus(0), softplus(3): a third is dropped, at this or that end."""
    vectors = torch.tensor([[1.0], [2.0], [0.0], [3.0]], requires_grad=True)
    u, i, j = np.array([0, 0, 0]), np.array([1, 2, 2]), np.array([2, 2, 3])
    each = np.log1p(np.exp([-2.0, 0.0, 3.0]))
    for rate, by, wanted in ((0.0, "noise_dropped", each), (0.34, "noise_dropped", each[:2]), (0.34, "hardest_kept", each[1:])):
        assert float(pruned_bpr(vectors, u, i, j, rate, by).detach()) == pytest.approx(wanted.mean(), rel=1e-5)
    pruned_bpr(vectors, u, i, j, 0.34, "noise_dropped").backward()
    assert vectors.grad[3] == 0 and vectors.grad[1] != 0


def test_only_dropping_the_largest_keeps_noise_out():
    """Where wrong triples have the larger losses, the two directions keep almost none and almost all of them."""
    rng = np.random.default_rng(0)
    wrong = rng.random(1000) < 0.3
    losses = rng.normal(np.where(wrong, 2.0, 0.5), 0.3)
    kept = {by: wrong[kept_triples(losses, 0.3, by)].mean() for by in ("noise_dropped", "hardest_kept")}
    assert kept["noise_dropped"] < 0.02 and kept["hardest_kept"] > 1.4 * wrong.mean()


# -- the loss -----------------------------------------------------------------------------------


class Plain(GraphRecommender):
    """LightGCN on the shared base, by the name and streams of LLMRec."""

    name, title, Settings = "llmrec", "LLMRec", GraphConfig


def test_with_nothing_added_a_step_is_plain_bpr():
    aim, _, table, _ = prepared(**QUIET)
    plain = Objective(table, aim.setting, aim.config, 0)
    batch = next(iter(plain.pairs.epoch(np.random.default_rng(0))))
    first, second = (o.loss(batch, torch.Generator().manual_seed(0)) for o in (aim, plain))
    assert float(first.detach()) == pytest.approx(float(second.detach()), rel=1e-6)
    slopes = [torch.autograd.grad(loss, table.free)[0] for loss in (first, second)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-7)


def test_all_weights_zero_equal_the_encoder_of_links():
    """Everything told but the texts counts nothing: the fit has the very vectors of the plain graph."""
    settings = {key: SMALL[key] for key in ("dim", "epochs", "batch_size", "lr")}
    plain = Plain(**settings, layers=2).fit(DATA, seed=3)
    mine = LLMRec(**settings, **{**QUIET, "augmentor": "rule"}).fit(DATA, seed=3)
    for name in ("item_vectors_", "shares_", "own_"):
        np.testing.assert_allclose(getattr(mine, name), getattr(plain, name), rtol=1e-4, atol=1e-5)


def test_augmented_triples_of_a_batch():
    aim, _, _, told = prepared(Fixed(), share=0.5)
    batch = next(iter(aim.pairs.epoch(np.random.default_rng(0))))
    whole = aim.joined(batch, np.random.default_rng(1))
    extra = slice(len(batch), None)
    assert len(whole) - len(batch) == int(0.5 * len(batch)) and set(whole.users[extra]) <= set(batch.users)
    np.testing.assert_array_equal(whole.positives[extra], told.picks[whole.users[extra], 0])
    np.testing.assert_array_equal(whole.negatives[extra], told.picks[whole.users[extra], 1])
    for part in ("users", "positives", "negatives"):
        np.testing.assert_array_equal(getattr(whole, part)[: len(batch)], getattr(batch, part))
    told.picks[:] = -1
    assert len(aim.joined(batch, np.random.default_rng(1))) == len(batch)


def test_loss_by_hand_with_a_block():
    """Fused vectors, the mean of two kept losses of three, and the penalty, in float64."""
    aim, side, table, _ = prepared(**{**QUIET, "text_weight": 0.7, "prune": 0.34, "reg": 0.1})
    n, r = DATA.n_users, DATA.matrix().toarray().astype(float)
    degrees = np.maximum(np.concatenate([r.sum(1), r.sum(0)]), 1)
    a = np.block([[np.zeros((n, n)), r], [r.T, np.zeros((r.shape[1],) * 2)]]) / np.sqrt(np.outer(degrees, degrees))
    free = table.free.detach().double().numpy()
    x = TfidfEncoder(dim=16).fit(item_texts(DATA)).encode(item_texts(DATA)).astype(float)
    there = (r / np.sqrt(np.maximum(r.sum(1), 1))[:, None]) @ x
    back = (r / np.sqrt(np.maximum(r.sum(0), 1))).T @ there
    own = np.concatenate([there, back]) @ side.maps["text"].detach().double().numpy()
    h = (free + a @ free + a @ a @ free) / 3 + 0.7 * own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    u, i, j = np.array([0, 1, 2]), np.array([3, 4, 5]), np.array([6, 7, 8])
    losses = np.sort(np.log1p(np.exp((h[u] * (h[n + j] - h[n + i])).sum(1))))
    size = (free[np.concatenate([u, n + i, n + j])] ** 2).sum()
    batch = Triples(u.astype(np.int32), i.astype(np.int32), j.astype(np.int32))
    found = float(aim.loss(batch, torch.Generator().manual_seed(0)).detach())
    assert found == pytest.approx(losses[:2].mean() + 0.1 / 6 * size, rel=1e-4)


# -- mask and restore ---------------------------------------------------------------------------


def test_restoring_costs_nothing_where_parallel():
    target = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(restore_loss(3 * target, target, 2.0), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(restore_loss(-target, target, 2.0), torch.full((4,), 4.0))
    torch.testing.assert_close(restore_loss(-target, target, 3.0), torch.full((4,), 8.0))


def test_a_mask_hides_what_it_should_and_leaves_the_stored_vectors():
    _, side, _, told = prepared(mask=0.4)
    before = [block.vectors.copy() for block in told.blocks]
    clean = [spread.items.copy() for spread in side.clean]
    rng = np.random.default_rng(0)
    shares = []
    for epoch in range(30):
        side.begin(epoch, rng)
        for block, spread, own in zip(side.blocks, side.spread, side.clean, strict=True):
            assert block.masked or spread is own
            if block.side == "items" and block.masked:
                shares.append(spread.hidden.mean())
                mean = block.vectors.mean(axis=0)
                hidden = spread.hidden & side.links.had
                np.testing.assert_allclose(spread.shares[hidden], np.tile(mean, (hidden.sum(), 1)), atol=1e-5)
                shown = ~spread.hidden & side.links.had
                np.testing.assert_array_equal(spread.shares[shown], block.vectors[shown])
    assert abs(np.mean(shares) - 0.4) < 0.06
    for block, kept in zip(told.blocks, before, strict=True):
        np.testing.assert_array_equal(block.vectors, kept)
    for spread, kept in zip(side.clean, clean, strict=True):
        np.testing.assert_array_equal(spread.items, kept)


def test_the_decoder_learns():
    """A few steps change its weights and lower what restoring costs."""
    aim, side, table, _ = prepared(mask=0.3, restore_weight=1.0, share=0.0)
    first = {space: weights.detach().clone() for space, weights in side.decoders.items()}
    assert set(first) == {"attributes", "profiles"}
    side.begin(1, np.random.default_rng(0))
    users, items = np.arange(DATA.n_users), np.arange(DATA.n_items)

    def cost():
        with torch.no_grad():
            return float(side.restoring(users, items, side.projected(users, items)))

    before, optimizer = cost(), torch.optim.Adam(table.parameters(), lr=0.02)
    for batch in aim.pairs.epoch(np.random.default_rng(0)):
        optimizer.zero_grad()
        aim.loss(batch, torch.Generator().manual_seed(0)).backward()
        optimizer.step()
    assert cost() < before
    assert all(not torch.equal(weights, first[space]) for space, weights in side.decoders.items())


# -- what is told -------------------------------------------------------------------------------


def test_candidates_are_new_to_the_person():
    found = propose(DATA, "item_knn", 6)
    had = DATA.matrix().toarray() > 0
    assert len(found) == DATA.n_users - 1
    for user, items in zip(found.users, found.items, strict=True):
        own = items[items >= 0]
        assert len(set(own)) == len(own) and not had[user, own].any()


@pytest.mark.parametrize("base", ["ials", "item_knn", "lightgcn", "popularity"])
def test_every_base_proposes(base):
    few = two_tastes(users=20)
    assert propose(few, base, 4).items.shape[1] == 4


def test_rule_picks_by_content():
    found = propose(DATA, "popularity", 12)
    picks = picked(RuleAugmentor(dim=8), DATA, found)
    some = np.flatnonzero(picks.liked >= 0)
    assert len(some) > 40
    taste = np.array([RAW[DATA.histories.take(found.users[[row]]).items[0]] < HALF for row in some])
    mixed = np.array([len({bool(RAW[i] < HALF) for i in found.items[row] if i >= 0}) == 2 for row in some])
    assert ((RAW[picks.liked[some]] < HALF) == taste)[mixed].all()
    assert ((RAW[picks.disliked[some]] < HALF) != taste)[mixed].all()


def test_rule_says_nothing_where_nothing_tells():
    alike = DATA.derive({"step": "alike"}, items=Entities(DATA.items.ids, pa.table({"title": ["one"] * DATA.n_items})))
    offered = propose(DATA, "popularity", 6)
    for data in (alike, untold()):
        picks = picked(RuleAugmentor(), data, offered)
        assert (picks.liked == -1).all() and (picks.disliked == -1).all()
    lonely = Candidates(offered.users, np.where(np.arange(6) == 0, offered.items, -1).astype(np.int32))
    assert (picked(RuleAugmentor(), DATA, lonely).liked == -1).all()


def test_picks_outside_the_candidates_are_refused():
    offered = Candidates(np.array([0, 1], np.int32), np.array([[1, 2], [3, -1]], np.int32))
    none = np.array([-1, -1], np.int32)

    def says(liked, disliked):
        return Fixed(lambda _: Picks(np.array(liked, np.int32), np.array(disliked, np.int32)))

    picked(says([1, -1], [2, -1]), DATA, offered)
    for liked, disliked in (([5, -1], [2, -1]), ([1, -1], [3, -1]), ([1, -1], [1, -1]), ([1, -1], [-1, -1]), ([1], [2])):
        with pytest.raises(DataError, match="pick"):
            picked(says(liked, disliked), DATA, offered)
    assert (picked(Fixed(lambda _: Picks(none, none)), DATA, offered).liked == -1).all()


def test_items_without_texts():
    with pytest.raises(DataError, match="require_text"):
        LLMRec(**SMALL).fit(untold())
    model = LLMRec(**SMALL, require_text=False).fit(untold())
    assert model.side_.shape[0] == 0 and model.record_.notes["augmentation"]["picked"] == 0
    with pytest.raises(ConfigError, match="a text for each"):
        LLMRec(**SMALL, augmentor=Fixed(attributes={"maker": ["one"]})).fit(DATA)


# -- answers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    return LLMRec(**{**SMALL, "epochs": 15, "dim": 16}).fit(DATA)


def test_with_the_training_history_the_vector_is_the_trained_one():
    """The fused vectors of training, node by node, equal those that answer, whatever the order of the request's history."""
    aim, side, table, told = prepared(mask=0.3)
    model = LLMRec(**SMALL)
    model.users_, model.items_, model.item_counts_ = DATA.users, DATA.items, DATA.item_counts
    model.histories_ = DATA.histories
    model._finish(table, aim.setting.graph, DATA.n_users)
    users, items = np.arange(DATA.n_users), np.arange(DATA.n_items)
    e = torch.from_numpy(aim.setting.graph.horner(table.free.detach().numpy(), 2)) / 3
    with torch.no_grad():
        final = side.fused(e, side.projected(users, items)).numpy()
    known = DATA.histories.lengths > 0
    found = model.request_vectors(Requests.of_users(DATA, users.astype(np.int32)))
    np.testing.assert_allclose(found[known], final[: DATA.n_users][known], rtol=1e-4, atol=1e-5)
    had = DATA.item_counts > 0
    np.testing.assert_allclose(model.item_vectors[had], final[DATA.n_users :][had], rtol=1e-4, atol=1e-5)
    assert {block.side for block in told.blocks} == {"items", "users"}


def test_answers_follow_the_history(fitted, all_scores, sums_up):
    cats, ships = (np.flatnonzero((RAW < HALF) == side) for side in (True, False))
    ships = ships[DATA.item_counts[ships] > 0]
    asked = Requests.of_histories([cats[:4], ships[:4], cats[[3, 1, 0, 2, 1]]])
    scores = all_scores(fitted, asked)
    assert scores[0, cats[4:]].mean() > scores[0, ships[4:]].mean()
    assert scores[1, cats[4:]].mean() < scores[1, ships[4:]].mean()
    np.testing.assert_allclose(scores[0], scores[2], rtol=1e-4, atol=1e-6)
    sums_up(fitted, asked.take(np.array([0, 2])))
    sums_up(fitted, Requests.of_users(DATA, np.array([1], np.int32)))


def test_saved_with_an_augmentor_of_ones_own(tmp_path):
    profiles = [f"person {n % 2}" for n in range(DATA.n_users)]
    model = LLMRec(**SMALL, augmentor=Fixed(attributes={"maker": [f"maker {n % 3}" for n in RAW]}, profiles=profiles)).fit(DATA)
    notes = model.record_.notes["augmentation"]
    assert notes["augmentor"] == "fixed" and notes["filled"] == {"text": 1.0, "maker": 1.0, "profile": 1.0}
    again = LLMRec.load(model.save(tmp_path / "m"))
    asked = Requests.of_histories([[1, 2, 3]])
    np.testing.assert_array_equal(again.request_vectors(asked), model.request_vectors(asked))
    assert again.side_.shape == (3, DATA.n_items, 8)


def test_a_fit_that_was_killed_goes_on_to_the_bit(tmp_path):
    class Killed(Exception):
        pass

    def kill(event):
        if event.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        LLMRec(**SMALL).fit(DATA, checkpoint=tmp_path, callbacks=(kill,))
    resumed, whole = LLMRec(**SMALL).fit(DATA, checkpoint=tmp_path), LLMRec(**SMALL).fit(DATA)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(resumed._state()[name], array)


def test_settings_that_belong_together():
    for wrong in ({"augmentor": "language_model"}, {"language_model": "x.gguf"}):
        with pytest.raises(ConfigError, match="go together"):
            LLMRec(**wrong)
    with pytest.raises(ConfigError):
        LLMRec(augmentor="oracle")
    assert LLMRecConfig().prune_by == "noise_dropped"


def test_blocks_by_dense_matrices():
    r = DATA.matrix().toarray()
    links = Links(DATA.matrix())
    ru, ri = r / np.sqrt(np.maximum(r.sum(1, keepdims=True), 1)), r.T / np.sqrt(np.maximum(r.sum(0), 1))[:, None]
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal((r.shape[1], 3)).astype(np.float32), rng.standard_normal((r.shape[0], 3)).astype(np.float32)
    of_items, of_people = (links.spread(Block("b", "b", side, v, 1.0, False)) for side, v in (("items", x), ("users", p)))
    np.testing.assert_allclose(of_items.items, ri @ (ru @ x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_people.items, ri @ p, rtol=1e-4, atol=1e-5)
    people = np.array([5, 0, 11])
    np.testing.assert_allclose(links.people(people, of_items.shares), (ru @ x)[people], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(links.people(people, of_people.shares), (ru @ ri @ p)[people], rtol=1e-4, atol=1e-5)
    blocks = [Block("x", "x", "items", x, 0.3, False), Block("p", "p", "users", p, 0.7, False)]
    side = Side(blocks, links, 4, 0.0, 2.0, rng)
    found = side.fused(torch.zeros(sum(r.shape), 4), side.projected(np.arange(r.shape[0]), np.arange(r.shape[1])))
    both = np.concatenate([ru @ x, ri @ (ru @ x)]), np.concatenate([ru @ ri @ p, ri @ p])
    own = [rows @ side.maps[name].detach().numpy() for name, rows in zip("xp", both, strict=True)]
    first, second = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in own)
    np.testing.assert_allclose(found.detach().numpy(), 0.3 * first + 0.7 * second, rtol=1e-3, atol=1e-5)
