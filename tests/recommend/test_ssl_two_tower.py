"""SSL two-tower: plain towers at alpha 0, views, the copy of a field, sampling of items, what it does to vectors."""

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")

import torch

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.protocols import split as cut
from palate.data.vocabulary import Vocabulary
from palate.nn.losses import info_nce
from palate.recommend.ssl_two_tower import SSLTwoTower
from palate.recommend.two_tower import TwoTower
from palate.simulate.world import World

SMALL = {"dim": 8, "field_dim": 8, "history_dim": 8, "hidden": (16,), "epochs": 3, "batch_size": 256, "text_buckets": 64}
DATA = World(users=150, items=90, events=2_500, topics=6).dataset(graphs=False, impressions=False)


def features_of(model, data=DATA):
    return model._item_features(data.items.attributes, data.n_items, model.item_counts_ > 0)


@pytest.fixture(scope="module")
def model():
    return SSLTwoTower(**SMALL, alpha=0.5).fit(DATA)


def test_without_weight_it_is_the_plain_towers_to_the_bit(model):
    plain, none = TwoTower(**SMALL).fit(DATA, seed=3)._state(), SSLTwoTower(**SMALL, alpha=0).fit(DATA, seed=3)._state()
    assert set(none) - set(plain) == {"mutual_information"}
    for name, array in plain.items():
        np.testing.assert_array_equal(array, none[name])
    assert any((model._state()[name] != plain[name]).any() for name in plain if plain[name].dtype == np.float32)


def test_main_batches_do_not_depend_on_the_task():
    from palate.recommend.two_tower import _Trainer

    found = []
    for kind, more in ((TwoTower, {}), (SSLTwoTower, {"alpha": 1.0})):
        fitted = kind(**{**SMALL, "epochs": 0}, **more).fit(DATA)
        batches = list(_Trainer(fitted, features_of(fitted), DATA).epoch(1, np.random.default_rng(5)))
        found.append([(b.users.tolist(), b.items.tolist(), b.history.tolist(), b.kept.tolist()) for b in batches])
    assert found[0] == found[1]


@pytest.mark.parametrize("task", ["cfm", "rfm"])
@pytest.mark.parametrize("ids", [False, True])
def test_views_are_complementary(model, task, ids):
    fitted = SSLTwoTower(**{**SMALL, "epochs": 0}, task=task, view_dropout=0.0, ids_in_views=ids).fit(DATA)
    features = features_of(fitted)
    for seed in range(10):
        drawn = fitted._draw(features, np.random.default_rng(seed))
        field = drawn.features.bags.row_numbers % drawn.features.n_fields
        assert not (drawn.first & drawn.second).any()
        attributes = field < features.n_fields - 1
        np.testing.assert_array_equal((drawn.first | drawn.second)[attributes], True)
        assert (drawn.first | drawn.second)[~attributes].all() == ids
        assert (drawn.first | drawn.second)[~attributes].any() == ids


def test_a_view_does_not_depend_on_masked_values(model):
    drawn = model._draw(features_of(model), np.random.default_rng(0))
    bags = drawn.features.bags
    scrambled = bags.values.copy()
    scrambled[~drawn.first] = np.random.default_rng(1).permutation(scrambled[~drawn.first])
    other = type(drawn.features)(type(bags)(bags.offsets, scrambled), drawn.features.dense, drawn.features.n_fields)
    kept = torch.from_numpy(drawn.first)
    first, second = (model.net_.item_inputs(f, kept) for f in (drawn.features, other))
    assert torch.equal(first, second)


def test_the_loss_is_the_contrast_of_the_two_views(model):
    drawn = model._draw(features_of(model), np.random.default_rng(0))
    z = [
        model.net_.item_tower(model.net_.item_inputs(drawn.features, torch.from_numpy(k))) for k in (drawn.first, drawn.second)
    ]
    wanted = 0.5 * info_nce(*z, model.config.ssl_temperature)
    torch.testing.assert_close(model._auxiliary(drawn, None), wanted)


def test_identity_views_spread_items_out(model):
    """Nothing masked: -1/N Σ ln e^{1/τ} / (e^{1/τ} + Σ_{j≠i} e^{s_ij/τ}), which only pushes items apart."""
    drawn = model._draw(features_of(model), np.random.default_rng(0))
    everything = np.ones(len(drawn.first), bool)
    same = type(drawn)(drawn.features, everything, everything)
    with torch.inference_mode():
        z = model.net_.item_tower(model.net_.item_inputs(drawn.features, dense=False))
        found = float(model._auxiliary(same, None))
    tau = model.config.ssl_temperature
    own = np.exp(1 / tau)
    others = np.exp((z @ z.T).double().numpy() / tau)
    np.fill_diagonal(others, 0)
    wanted = -np.log(own / (own + others.sum(axis=1))).mean()
    assert found == pytest.approx(0.5 * wanted, rel=1e-4)


def test_self_loss_is_that_of_the_draws_without_weight_for_any_model(model):
    plain, none = SSLTwoTower(**SMALL, alpha=0).fit(DATA), SSLTwoTower(**{**SMALL, "epochs": 0}).fit(DATA)
    for task in ("cfm", "rfm"):
        assert model.self_loss(task) == model.self_loss(task)
        assert model.self_loss(task, draws=2, seed=1) != model.self_loss(task)
        assert 0 < model.self_loss(task) < none.self_loss(task)
    assert model.self_loss("cfm") < plain.self_loss("cfm")
    bare = SSLTwoTower(**SMALL).fit(Dataset.from_columns(np.repeat(np.arange(20), 3), np.arange(60) % 15))
    assert np.isnan(bare.self_loss("cfm"))


def test_patience_does_not_count_while_it_ranks_by_popularity():
    """Choices say nothing but how popular items are: with a patience of one look, every pass is made all the same."""
    rng = np.random.default_rng(0)
    share = 0.9 ** np.arange(90)
    items = np.concatenate([rng.choice(90, 12, replace=False, p=share / share.sum()) for _ in range(150)])
    data = DATA.derive({"step": "by lot"}, interactions=Interactions.sorted(np.repeat(np.arange(150), 12), items))
    whole = cut(data, "user_ratio", valid=0.2, test=0.2, order="random")
    settings = {**SMALL, "epochs": 12, "patience": 1, "lr": 0.03}
    fitted = SSLTwoTower(**settings, alpha=0.5).fit(whole.train, whole.held_out("valid"))
    values = [value for _, _, value in fitted.record_.notes["curve"]]
    assert len(values) == 12
    assert any(value <= max(values[:at]) for at, value in enumerate(values[1:-1], start=1))


def test_items_are_distinct_and_drawn_evenly_or_by_popularity():
    shares = {}
    for sampling in ("uniform", "popularity"):
        fitted = SSLTwoTower(**{**SMALL, "epochs": 0}, item_sampling=sampling, ssl_batch_size=10).fit(DATA)
        features, rng, hits = features_of(fitted), np.random.default_rng(0), np.zeros(DATA.n_items)
        ids = features.field(features.n_fields - 1)
        item_of = {int(ids[i][0]): i for i in range(DATA.n_items) if len(ids[i])}
        for _ in range(150):
            drawn = fitted._draw(features, rng).features
            own = [item_of[int(v)] for v in drawn.field(features.n_fields - 1).values]
            assert len(set(own)) == len(own)
            hits[own] += 1
        shares[sampling] = hits / hits.sum()
    popular = np.argsort(-DATA.item_counts)[:9]
    assert shares["popularity"][popular].sum() > 2 * shares["uniform"][popular].sum()
    assert shares["uniform"].max() < 3 / DATA.n_items


def test_mutual_information_is_of_items_not_of_choices(model):
    """Every item counts once, however often it was chosen; the id is left out."""
    events = DATA.interactions
    doubled = Interactions(*(np.repeat(c, 1 + (events.item == 3) * 4) for c in (events.user, events.item, events.time)))
    other = SSLTwoTower(**{**SMALL, "epochs": 0}).fit(DATA.derive({"step": "more"}, interactions=doubled))
    np.testing.assert_array_equal(model.mutual_information_, other.mutual_information_)
    assert model.mutual_information_.shape == (5, 5)
    assert model.record_.notes["item_fields"] == ["title", "description", "categories", "maker", "price"]


def copied_field(seed=0):
    """Items with two independent fields, and the first of them twice."""
    rng = np.random.default_rng(seed)
    n = 120
    a, b, c = (rng.integers(0, 12, n) for _ in range(3))
    table = pa.table(
        {"a": [f"a{v}" for v in a], "copy": [f"c{v}" for v in a], "b": [f"b{v}" for v in b], "c": [f"d{v}" for v in c]}
    )
    users = np.repeat(np.arange(60), 5)
    return Dataset(
        Interactions.sorted(users, rng.integers(0, n, len(users))),
        Entities(Vocabulary.range(60)),
        Entities(Vocabulary.range(n), table),
    )


def test_the_task_can_not_be_solved_through_a_copy_with_correlated_masks():
    """Random masks often leave the copy in the other view; correlated ones never part the two."""
    data = copied_field()
    parted, losses = {}, {}
    for task in ("rfm", "cfm"):
        settings = {**SMALL, "epochs": 15, "lr": 0.03, "batch_size": 64}
        fitted = SSLTwoTower(**settings, task=task, alpha=3.0, view_dropout=0.0, min_count=1).fit(data)
        features = features_of(fitted, data)
        rng, apart, values = np.random.default_rng(0), 0, []
        for _ in range(30):
            drawn = fitted._draw(features, rng)
            field = drawn.features.bags.row_numbers % drawn.features.n_fields
            apart += bool(drawn.first[field == 0].any() != drawn.first[field == 1].any())
            with torch.inference_mode():
                values.append(float(fitted._auxiliary(drawn, None)) / 3)
        parted[task], losses[task] = apart, np.mean(values)
    assert parted["rfm"] > 10 > parted["cfm"] == 0
    assert losses["rfm"] < losses["cfm"]


def effective_rank(vectors):
    s = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    p = s / s.sum()
    return float(np.exp(-(p * np.log(np.maximum(p, 1e-12))).sum()))


@pytest.mark.parametrize("task", ["cfm", "rfm", "spread_out"])
def test_the_task_is_learnt_and_items_do_not_collapse(task):
    """Its loss is well below that of plain towers, on the same draws; the vectors keep their dimensions."""
    settings = {**SMALL, "dim": 32, "field_dim": 16, "hidden": (32,), "epochs": 10, "lr": 0.01}
    alpha = 0.1 if task == "spread_out" else 1.0
    plain, fitted = (SSLTwoTower(**settings, task=task, alpha=a).fit(DATA) for a in (1e-9, alpha))
    losses = []
    for model in (plain, fitted):
        draws = [model._draw(features_of(model), np.random.default_rng(seed)) for seed in range(8)]
        with torch.inference_mode():
            losses.append(np.mean([float(model._auxiliary(d, None)) / model.config.alpha for d in draws]))
    assert losses[1] < 0.8 * losses[0]
    assert effective_rank(fitted.item_vectors) > 8


def test_fewer_than_two_fields_leave_the_task_out_and_say_so():
    data = Dataset.from_columns(np.repeat(np.arange(20), 3), np.arange(60) % 15)
    fitted = SSLTwoTower(**SMALL, alpha=1.0).fit(data, seed=1)
    assert "left out" in fitted.record_.notes["task"]
    np.testing.assert_array_equal(fitted.item_vectors, TwoTower(**SMALL).fit(data, seed=1).item_vectors)
    assert SSLTwoTower(**SMALL, task="spread_out").fit(data).record_.notes["task"] == "spread_out"


def test_items_with_one_field_take_no_part():
    table = pa.table({"a": ["x", "x", "y", "y", None, None], "b": ["p", None, "p", "q", "q", None], "c": [None] * 6})
    events = Interactions.sorted(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 2, 3, 4]))
    data = Dataset(events, Entities(Vocabulary.range(3)), Entities(Vocabulary.range(6), table))
    fitted = SSLTwoTower(**SMALL, min_count=1, kinds={"a": "category", "b": "category"}).fit(data)
    drawn = fitted._draw(features_of(fitted, data), np.random.default_rng(0))
    assert len(drawn.features) == 3  # items 0, 2 and 3 have both fields
