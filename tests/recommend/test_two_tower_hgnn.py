"""2T-HGNN and its graph alone: a new type lives on an old one's audience, means by type, new items, leaks, bundles."""

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")

import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.features import Features
from palate.data.histories import Histories
from palate.data.interactions import Interactions
from palate.data.ragged import Ragged
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError
from palate.recommend.item_hgnn import ItemHGNN
from palate.recommend.two_tower_hgnn import TwoTowerHGNN, TypedTowers

N, BOOKS, NEW = 48, 16, (12, 13, 46, 47)
GRAPH = {"item_type": "kind", "graph_dim": 8, "text_dim": 8, "min_links": 300, "graph_batch_size": 64, "negatives": 32,
         "graph_lr": 5e-3, "graph_epochs": 12}  # fmt: skip
TOWERS = {"dim": 8, "field_dim": 4, "history_dim": 8, "hidden": (16,), "epochs": 10, "batch_size": 128, "lr": 0.02,
          "text_buckets": 64}  # fmt: skip
TASTE = np.arange(N) % 2


def vertical(users=150, seed=0, told=True):
    """Everybody has six podcasts of one taste, half of the people two books of it too; the last person has nothing.

    Items of ``NEW`` were had by nobody. With ``told`` their words tell tastes apart, else words say nothing.
    """
    rng = np.random.default_rng(seed)
    had = np.setdiff1d(np.arange(N), NEW)
    rows = []
    for u in range(users - 1):
        own = had[TASTE[had] == u % 2]
        podcasts, books = own[own >= BOOKS], own[own < BOOKS]
        rows.append(np.concatenate([rng.choice(podcasts, 6, replace=False), rng.choice(books, 2 * (u % 4 < 2), replace=False)]))
    user, item = np.repeat(np.arange(users - 1), [len(r) for r in rows]), np.concatenate(rows)
    action = (rng.random(len(user)) < 0.3).astype(int)
    events = Interactions.sorted(user, item, time=rng.permutation(len(user)), action=action)
    words = np.array(["red apple", "blue berry"])[TASTE if told else rng.integers(2, size=N)]
    table = {
        "kind": ["book" if i < BOOKS else "podcast" for i in range(N)],
        "title": [f"{w} {'uvwxyz'[i % 6]} {'klmnopqr'[i // 6]}" for i, w in enumerate(words)],
    }
    return Dataset(
        events,
        Entities(Vocabulary(pa.array([f"u{u}" for u in range(users)]))),
        Entities(Vocabulary.range(N), pa.table(table)),
        actions=Vocabulary(pa.array(["stream", "follow"])),
    )


DATA = vertical()
COLD = np.flatnonzero(np.arange(149) % 4 >= 2).astype(np.int32)  # no book


@pytest.fixture(scope="module")
def model():
    return TwoTowerHGNN(**GRAPH, **TOWERS).fit(DATA)


@pytest.fixture(scope="module")
def graph():
    return ItemHGNN(**GRAPH).fit(DATA)


def books_for(fitted, users, data=DATA):
    """Return the share of the first three books offered that have the person's taste."""
    asked = Requests.of_users(data, users)
    asked = Requests(asked.users, asked.histories, asked.exclude, Ragged.from_rows([np.arange(BOOKS)] * len(users)))
    ranking = fitted.recommend(asked, 3)
    assert (ranking.items < BOOKS).all() and not ranking.cold.any()
    return float((TASTE[ranking.items] == (users % 2)[:, None]).mean())


@pytest.mark.parametrize("settings", [
    {}, {"use_ids": True}, {"balanced": False}, {"weak": ["follow"]}, {"graph": False}, {"item_type": ""}, {"alone": 0},
    {"weak": ["follow"], "learn_weak": False}, {"min_support": 1, "min_lift": 0}, {"skip": ["book - book"]},
], ids=str)  # fmt: skip
def test_people_without_a_book_are_offered_books_of_their_taste(settings):
    fitted = TwoTowerHGNN(**{**GRAPH, **TOWERS, **settings}).fit(DATA)
    assert books_for(fitted, COLD) > 0.9


def test_people_without_a_book_by_the_graph_alone(graph):
    assert books_for(graph, COLD) > 0.9


def test_the_graph_carries_what_words_do_not():
    """Words say nothing: links with podcasts place the books. With the people of podcasts shuffled, nothing does."""
    data = vertical(told=False)
    events = data.interactions
    turned = np.random.default_rng(1).permutation(149).astype(np.int32)
    user = np.where(events.item >= BOOKS, turned[np.minimum(events.user, 148)], events.user)
    mixed = data.derive({"step": "shuffled"}, interactions=Interactions.sorted(user, events.item, action=events.action))
    settings = {**GRAPH, "graph_epochs": 20, "min_lift": 0.5}
    assert books_for(ItemHGNN(**settings).fit(data), COLD, data) > 0.85
    assert books_for(ItemHGNN(**settings).fit(mixed), COLD, data) < 0.75


@pytest.mark.parametrize("kind", ["model", "graph"])
def test_new_items_stand_in_the_lists_of_their_taste(kind, request):
    fitted = request.getfixturevalue(kind)
    assert not DATA.item_counts[list(NEW)].any()
    users = np.arange(100, dtype=np.int32)
    scores = fitted.score(Requests.of_users(DATA, users), np.tile(np.array(NEW, np.int32), (100, 1)))
    own = TASTE[list(NEW)][None] == (users % 2)[:, None]
    assert scores[own].reshape(100, 2).min(1).mean() > scores[~own].reshape(100, 2).max(1).mean() + 0.2
    assert np.isin(fitted.recommend(Requests.of_users(DATA, users), 18).items, NEW).any(axis=1).mean() > 0.5
    told = fitted.recommend(Requests.of_histories([[12], [13]]), 4)
    assert not told.cold.any() and (TASTE[told.items] == np.array([[0], [1]])).mean() > 0.8


@pytest.mark.parametrize("kind", ["model", "graph"])
def test_items_outside_the_catalogue_are_embedded(kind, request):
    fitted = request.getfixturevalue(kind)
    inside = fitted.embed_items(DATA.items.attributes)
    np.testing.assert_allclose(inside[list(NEW)], fitted.item_vectors[list(NEW)], atol=1e-5)
    later = fitted.embed_items(pa.table({"title": ["red apple q", None, "blue berry"], "kind": ["book", None, "film"]}))
    people = fitted.request_vectors(Requests.of_users(DATA, np.array([0, 1], np.int32)))
    assert not later[1].any()
    assert people[0] @ later[0] > people[0] @ later[2] and people[1] @ later[2] > people[1] @ later[0]
    assert fitted.embed_items(DATA.items.attributes.slice(0, 0)).shape == (0, 8)
    assert fitted.embed_items(pa.table({"title": ["red apple"]})).any()


def test_vectors_have_length_one_and_unseen_people_are_answered_alike(model, graph):
    users = np.arange(40, dtype=np.int32)
    known = Requests.of_users(DATA, users)
    unseen = Requests(np.full(40, -1, np.int32), known.histories, known.exclude)
    for fitted in (model, graph):
        np.testing.assert_allclose(np.linalg.norm(fitted.item_vectors, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(fitted.request_vectors(known), axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(fitted.recommend(known, 5).items, fitted.recommend(unseen, 5).items)
        cold = fitted.recommend(Requests.of_users(DATA, np.array([149, -1], np.int32)), 3)
        assert cold.cold.all()


def test_the_graph_alone_is_the_mean_and_explains_itself(graph):
    history = [3, 20, 20, 5]
    asked = Requests.of_histories([history])
    mean = graph.item_vectors[[3, 20, 5]].sum(0)
    np.testing.assert_allclose(graph.request_vectors(asked)[0], mean / np.linalg.norm(mean), atol=1e-6)
    why = graph.explain(asked, 7)
    assert why.exact and sum(e.weight for e in why.evidence) == pytest.approx(why.score, abs=1e-5)
    assert {e.subject for e in why.evidence} <= {3, 5, 20}


def towers(types=2):
    return TypedTowers((0, 0, 3 + types), (0, 0, 0), types, dim=4, field_dim=2, history_dim=3, hidden=(5,), dropout=0.0,
                       rng=np.random.default_rng(0))  # fmt: skip


def test_the_person_side_has_a_mean_for_each_type():
    """Three items of type 0, one of type 1: the tower reads both means, whatever their shares."""
    net = towers()
    with torch.no_grad():
        net.no_type += 0.3
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32))
    inputs = torch.cat([x, torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])], 1)
    nobody = Features(Ragged.empty(0), np.zeros((1, 0), np.float32), 0)
    profiles = net.profiles(inputs)

    def person(rows):
        return net.person(net.pooled(profiles, torch.tensor(rows, dtype=torch.long), torch.tensor([0, len(rows)])), nobody)

    told = inputs @ net.profile.T
    both = net.person_tower(torch.cat([told[:3].mean(0), told[3]])[None])
    torch.testing.assert_close(person([0, 1, 2, 3]), both)
    one = net.person_tower(torch.cat([told[:2].mean(0), net.no_type[1]])[None])
    torch.testing.assert_close(person([0, 1]), one)
    torch.testing.assert_close(person([]), net.person_tower(net.no_type.flatten()[None]))


def test_the_item_to_be_found_is_not_in_the_history_of_a_training_row():
    from palate.recommend.two_tower import _Trainer

    fitted = TwoTowerHGNN(**{**GRAPH, **TOWERS, "graph_epochs": 0, "epochs": 0}).fit(DATA)
    trainer = _Trainer(fitted, fitted._item_features(DATA.items.attributes, N, DATA.item_counts > 0), DATA)
    for batch in trainer.epoch(1, np.random.default_rng(0)):
        own = batch.columns[batch.own]
        assert all(own[row] not in batch.history[row] for row in range(len(own)))
        assert batch.history.lengths.min() >= 5


def test_weak_actions_make_no_links_and_may_be_left_out_altogether():
    every = TwoTowerHGNN(**{**GRAPH, **TOWERS, "epochs": 1}).fit(DATA)
    few = TwoTowerHGNN(**{**GRAPH, **TOWERS, "epochs": 1, "weak": ["follow"]}).fit(DATA)
    total = [sum(m.record_.notes["links"].values()) for m in (every, few)]
    assert total[0] > total[1] > 0
    with pytest.raises(ConfigError, match="follow"):
        TwoTowerHGNN(**GRAPH, **TOWERS, weak=["folow"]).fit(DATA)


def test_a_bundle_answers_alike_and_places_new_items_alike(model, graph, tmp_path):
    table = pa.table({"title": ["red apple q", "nothing known"], "kind": ["book", "book"]})
    for at, fitted in enumerate((model, graph)):
        again = type(fitted).load(fitted.save(tmp_path / str(at)))
        np.testing.assert_array_equal(again.embed_items(table), fitted.embed_items(table))
        asked = Requests.of_users(DATA, np.arange(20, dtype=np.int32))
        np.testing.assert_array_equal(again.recommend(asked, 7).scores, fitted.recommend(asked, 7).scores)


def test_a_fit_goes_on_from_its_checkpoints(tmp_path):
    settings = {**GRAPH, **TOWERS, "graph_epochs": 3}
    whole = TwoTowerHGNN(**{**settings, "epochs": 4}).fit(DATA)
    TwoTowerHGNN(**{**settings, "epochs": 2}).fit(DATA, checkpoint=tmp_path)
    resumed = TwoTowerHGNN(**{**settings, "epochs": 4}).fit(DATA, checkpoint=tmp_path)
    np.testing.assert_array_equal(resumed.item_vectors, whole.item_vectors)


def test_somebody_with_an_empty_history_and_one_of_unknown_items():
    data = vertical()
    fitted = ItemHGNN(**{**GRAPH, "graph_epochs": 1}).fit(data)
    vectors = fitted.request_vectors(Requests(np.full(2, -1, np.int32), Histories.from_rows([[], [1, 1]])))
    assert not vectors[0].any() and vectors[1].any()
