"""Two-tower: tastes, new items and unseen people by attributes, the fold of the history, bundles, resumption."""

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")

import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError
from palate.recommend.two_tower import TwoTower, _Trainer

HALF, NEW = 20, (5, 25)
SMALL = {"dim": 8, "field_dim": 8, "history_dim": 8, "hidden": (16,), "epochs": 12, "batch_size": 128, "lr": 0.02,
         "text_buckets": 64}  # fmt: skip


def two_tastes(users=120, seed=0, silent=NEW):
    """People who like items below HALF, or those above; ``silent`` items nobody had; attributes tell the halves apart."""
    rng = np.random.default_rng(seed)
    kinds = [np.setdiff1d(np.arange(HALF) + HALF * side, silent) for side in (0, 1)]
    rows = [rng.choice(kinds[u % 2], 6, replace=False) for u in range(users)]
    events = Interactions.sorted(np.repeat(np.arange(users), 6), np.concatenate(rows))
    items = pa.table({
        "title": [f"{'red' if i < HALF else 'blue'} thing {'abcd'[i % 4]}" for i in range(2 * HALF)],
        "topics": [["r" if i < HALF else "b", f"t{i % 5}"] for i in range(2 * HALF)],
        "price": [float(i % 7) for i in range(2 * HALF)],
    })  # fmt: skip
    people = pa.table({"side": ["left" if u % 2 == 0 else "right" for u in range(users)]})
    return Dataset(
        events,
        Entities(Vocabulary(pa.array([f"u{n}" for n in range(users)])), people),
        Entities(Vocabulary.range(2 * HALF), items),
    )


DATA = two_tastes()


@pytest.fixture(scope="module")
def model():
    return TwoTower(**SMALL).fit(DATA)


def asks(users):
    return Requests.of_users(DATA, np.asarray(users, np.int32))


@pytest.mark.parametrize("settings", [
    {}, {"logq": "stream"}, {"logq": "none"}, {"use_ids": False}, {"uniform_negatives": 64}, {"dropout": 0.2},
    {"value_dropout": 0.3}, {"attributes": False, "user_attributes": False}, {"kinds": {"price": "standard"}}, {"hidden": ()},
], ids=str)  # fmt: skip
def test_known_and_unseen_people_get_their_taste(settings):
    fitted = TwoTower(**{**SMALL, **settings}).fit(DATA)
    known = asks(np.arange(60))
    unseen = Requests(np.full(60, -1, np.int32), known.histories, known.exclude)
    left = np.arange(60) % 2 == 0
    for requests in (known, unseen):
        ranking = fitted.recommend(requests, 5)
        assert ((ranking.items < HALF) == left[:, None]).mean() > 0.95
        assert not ranking.cold.any()


def test_new_items_are_placed_by_their_attributes(model):
    """Nobody had items 5 and 25: each is nearer to people of its half, and stands in their lists."""
    assert all(DATA.item_counts[i] == 0 for i in NEW)
    scores = model.score(asks(np.arange(60)), np.tile(np.array(NEW, np.int32), (60, 1)))
    left = np.arange(60) % 2 == 0
    assert ((scores[:, 0] > scores[:, 1]) == left).mean() > 0.95
    ranking = model.recommend(asks(np.arange(60)), 14)
    assert np.isin(ranking.items, NEW).any(axis=1).mean() > 0.7


def test_a_new_item_in_the_history_says_something(model):
    ranking = model.recommend(Requests.of_histories([[5], [25]]), 8)
    assert not ranking.cold.any()
    assert ((ranking.items[0] < HALF).mean(), (ranking.items[1] >= HALF).mean()) > (0.9, 0.9)


def test_items_outside_the_catalogue_are_embedded(model):
    table = DATA.items.attributes
    inside = model.embed_items(table)
    np.testing.assert_allclose(inside[list(NEW)], model.item_vectors[list(NEW)], atol=1e-5)
    later = pa.table({"title": ["red thing z", None, "blue b"], "topics": [["r"], None, ["b", "never seen"]]})
    vectors = model.embed_items(later)
    people = model.request_vectors(asks([0, 1]))
    assert not vectors[1].any()
    assert people[0] @ vectors[0] > people[0] @ vectors[2] and people[1] @ vectors[2] > people[1] @ vectors[0]


def test_without_attributes_a_new_item_is_silent_and_a_history_of_it_cold():
    fitted = TwoTower(**SMALL, attributes=False, user_attributes=False).fit(DATA)
    assert not fitted.item_vectors[list(NEW)].any()
    ranking = fitted.recommend(Requests.of_histories([[5], [5, 6]]), 5)
    np.testing.assert_array_equal(ranking.cold, [True, False])
    with_it, without = fitted.request_vectors(Requests.of_histories([[5, 6], [6]]))
    np.testing.assert_array_equal(with_it, without)


def test_somebody_with_attributes_alone_is_answered_by_them(model):
    """A known person of whom no history is given; an unknown one gets popularity."""
    nothing = Histories.empty(3)
    ranking = model.recommend(Requests(np.array([0, 1, -1], np.int32), nothing), 6)
    np.testing.assert_array_equal(ranking.cold, [False, False, True])
    assert (ranking.items[0] < HALF).mean() > 0.8 and (ranking.items[1] >= HALF).mean() > 0.8


def test_vectors_have_length_one_and_histories_are_sets(model):
    np.testing.assert_allclose(np.linalg.norm(model.item_vectors, axis=1), 1, atol=1e-5)
    twice, once = model.request_vectors(Requests(np.full(2, -1, np.int32), Histories.from_rows([[4, 9, 4, 4], [9, 4]])))
    np.testing.assert_array_equal(twice, once)
    np.testing.assert_allclose(np.linalg.norm(once), 1, atol=1e-5)


def test_the_fold_of_the_history_is_that_of_training(model):
    """One training row without anything left out gives the vector that the request with that history gets."""
    plain = TwoTower(**{**SMALL, "leave_out": 0.0, "epochs": 1}).fit(DATA)
    features = plain._item_features(DATA.items.attributes, DATA.n_items, plain.item_counts_ > 0)
    trainer = _Trainer(plain, features, DATA)
    users, items = DATA.interactions.user[:12], DATA.interactions.item[:12]
    batch = trainer.batch(users, items, np.random.default_rng(0), np.random.default_rng(1))
    rows = [np.setdiff1d(DATA.histories.ragged[int(u)], [i]) for u, i in zip(users, items, strict=True)]
    wanted = plain.request_vectors(Requests(users, Histories.from_rows(rows)))
    with torch.inference_mode():
        net, x = plain.net_, plain.net_.item_inputs(batch.features)
        history = net.pooled(net.profiles(x), torch.from_numpy(batch.history.values), torch.from_numpy(batch.history.offsets))
        np.testing.assert_allclose(net.person(history, batch.people).numpy(), wanted, atol=1e-5)
        np.testing.assert_allclose(net.item_tower(x[batch.columns]).numpy(), plain.item_vectors[batch.items], atol=1e-5)


def test_frequencies_are_shares_of_the_training_pairs():
    fitted = TwoTower(**{**SMALL, "epochs": 0}).fit(DATA)
    trainer = _Trainer(fitted, fitted._item_features(None, 2 * HALF, DATA.item_counts > 0), DATA)
    batch = trainer.batch(DATA.interactions.user[:30], DATA.interactions.item[:30], *(np.random.default_rng(s) for s in (0, 1)))
    log_q, counts = trainer._log_q(batch, torch.device("cpu"))
    np.testing.assert_allclose(log_q.exp(), DATA.item_counts[batch.items] / len(DATA), rtol=1e-5)
    assert counts.sum() == 30


def test_without_correction_popular_items_are_pushed_down():
    """The correction is what keeps popular items up: its absence lowers their mean score beside rare ones."""
    rng = np.random.default_rng(0)
    p = np.arange(1, 31) ** -1.2
    rows = [rng.choice(30, 5, replace=False, p=p / p.sum()) for _ in range(200)]
    data = Dataset.from_columns(np.repeat(np.arange(200), 5), np.concatenate(rows))
    asked = Requests.of_users(data, np.arange(100, dtype=np.int32), exclude_seen=False)
    popular = {}
    for logq in ("counts", "stream", "none"):
        found = TwoTower(**{**SMALL, "logq": logq, "epochs": 8}).fit(data).recommend(asked, 5).items
        popular[logq] = data.item_counts[found].mean()
    assert min(popular["counts"], popular["stream"]) > 1.2 * popular["none"]


def test_explanations_leave_one_out(model):
    why = model.explain(asks([3]), 30)
    assert not why.exact and {e.subject for e in why.evidence} == set(DATA.histories.ragged[3].tolist())
    history = DATA.histories.ragged[3]
    first = why.evidence[0]
    without = Requests(np.array([3], np.int32), Histories.from_rows([history[history != first.subject]]))
    score = model.score(without, np.array([[30]], np.int32))[0, 0]
    assert first.weight == pytest.approx(why.score - score, abs=1e-5)
    cold = model.explain(Requests.of_histories([[]]), 30)
    assert cold.evidence == () and "popularity" in cold.method


@pytest.mark.parametrize("logq", ["counts", "stream"])
def test_resumes_to_the_bit(tmp_path, logq):
    settings = {**SMALL, "logq": logq, "dropout": 0.1, "epochs": 5}
    whole = TwoTower(**settings).fit(DATA, seed=4)
    TwoTower(**{**settings, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = TwoTower(**settings).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_a_bundle_keeps_what_embeds_new_items(model, tmp_path):
    again = TwoTower.load(model.save(tmp_path / "bundle"))
    table = DATA.items.attributes.slice(3, 4)
    np.testing.assert_array_equal(model.embed_items(table), again.embed_items(table))
    np.testing.assert_array_equal(model.request_vectors(asks([1, 2])), again.request_vectors(asks([1, 2])))


def test_forgotten_attributes_are_gone():
    fitted = TwoTower(**{**SMALL, "epochs": 1}).fit(DATA)
    assert fitted.people_.known[0]
    fitted.forget(["u0"])
    assert not fitted.people_.known[0] and fitted.people_.known[1]


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="no such attribute"):
        TwoTower(**SMALL, kinds={"titel": "text"}).fit(DATA)
    with pytest.raises(ConfigError, match="kinds"):
        TwoTower(kinds={"title": "texts"})


def test_one_row_without_history_trains():
    data = Dataset.from_columns(["a", "b", "c"], ["x", "y", "x"])
    ranking = TwoTower(**{**SMALL, "epochs": 2}).fit(data).recommend(Requests.of_histories([[0]]), 3)
    assert ranking.items[0, 0] == 1
