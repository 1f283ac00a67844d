"""CML for releases: the ball, text places, the losses, new films and unseen people, the audience, bundles."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.errors import ConfigError, DataError
from palate.nn import losses
from palate.recommend.cml_theatrical import CMLTheatrical, logistic, objective
from palate.training.release_pairs import ReleasePairs, first_events
from palate.training.triples import Triples

DAY = 86_400
SMALL = {"dim": 8, "hidden": 16, "text_dim": 16, "batch_size": 128, "epochs": 12, "lr": 0.02, "n_negatives": 5}
WORDS = {True: "robot laser orbit galaxy", False: "wedding kiss letter summer"}


def two_tastes(people=150, films=60, seed=0):
    """Two kinds of films told by their words; people go to seven of one kind; the last eight films are new: nobody saw them."""
    rng = np.random.default_rng(seed)
    kind = np.arange(films) % 2 == 0
    old = films - 8
    rows = [rng.permutation(np.flatnonzero(kind[:old] == (u % 2 == 0)))[:7] for u in range(people)]
    order = [np.sort(row) for row in rows]  # films come out in the order of their numbers
    user = np.concatenate([np.repeat(np.arange(people), 7), np.full(films, people)])
    item = np.concatenate([*order, np.arange(films)])
    whole = Dataset.from_columns(user, item, time=1_600_000_000 + 20 * DAY * item + rng.integers(0, DAY, len(item)))
    numbers = whole.items.ids.raw.to_numpy()
    text = [" ".join(rng.choice(WORDS[bool(kind[n])].split(), 3)) + f" word{n % 7}" for n in numbers]
    items = Entities(whole.items.ids, pa.table({"plot": text, "genre": [f"g{n % 3}" for n in numbers], "number": numbers}))
    kept = np.flatnonzero(whole.interactions.user != whole.users.ids.number(people))
    return replace(whole.derive({"step": "no critic"}, interactions=whole.interactions.take(kept)), items=items), kind[numbers]


DATA, KIND = two_tastes()
NEW = np.flatnonzero(DATA.item_counts == 0).astype(np.int32)
USERS = np.flatnonzero(DATA.histories.lengths).astype(np.int32)
TASTE = KIND[DATA.histories.items[DATA.histories.offsets[:-1][USERS]]]


@pytest.fixture(scope="module")
def model():
    return CMLTheatrical(**SMALL).fit(DATA)


def new_scores(fitted, requests=None):
    asked = Requests.of_users(DATA, USERS) if requests is None else requests
    scores = fitted.score(asked, np.tile(NEW, (len(asked), 1)))
    right = KIND[NEW][None, :] == TASTE[:, None]
    return float(np.mean([(s[r][:, None] > s[~r][None, :]).mean() for s, r in zip(scores, right, strict=True)]))


def test_places_and_people_lie_in_the_ball(model):
    assert np.linalg.norm(model.places_, axis=1).max() <= 1 + 1e-6
    assert np.linalg.norm(model.points(Requests.of_users(DATA, USERS)), axis=1).max() <= 1 + 1e-6


def test_scores_are_negative_squared_distances_and_near_is_good(model):
    asked = Requests.of_users(DATA, USERS[:6])
    items = np.tile(np.arange(DATA.n_items, dtype=np.int32), (6, 1))
    d = ((model.points(asked)[:, None] - model.places_[None]) ** 2).sum(2)
    np.testing.assert_allclose(model.score(asked, items), -d, atol=1e-5)
    assert set(model.recommend(replace(asked, exclude=None), 3).items[0]) == set(np.argsort(d[0])[:3])
    x = np.sqrt(((model.places_[:, None] - model.places_[None]) ** 2).sum(2, dtype=np.float64))
    np.testing.assert_array_equal(x, x.T)
    assert (x[:, None, :] <= x[:, :, None] + x.T[None] + 1e-6).all()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"places": "text"},
        {"loss": "logistic", "places": "text"},
        {"history": "others"},
        {"weeks": 20.0},
        {"half_life": 60.0},
    ],
    ids=str,
)
def test_new_films_reach_those_who_like_such_films(settings):
    fitted = CMLTheatrical(**SMALL, **settings).fit(DATA)
    unseen = Requests(np.full(len(USERS), -1, np.int32), DATA.histories.take(USERS))
    assert new_scores(fitted) > 0.9 and new_scores(fitted, unseen) > 0.9
    assert np.isin(fitted.recommend(Requests.of_users(DATA, USERS), 10).items, NEW).any()


def test_shuffled_texts_and_free_places_do_not_find_them():
    table = DATA.items.attributes
    mixed = table.take(pa.array(np.random.default_rng(1).permutation(DATA.n_items)))
    wrong = CMLTheatrical(**SMALL).fit(replace(DATA, items=Entities(DATA.items.ids, mixed)))
    free = CMLTheatrical(**SMALL, places="free").fit(DATA)
    assert new_scores(wrong) < 0.75 and new_scores(free) == 0  # all equal: none scores above another
    assert not free.placed_[NEW].any() and not np.isin(free.recommend(Requests.of_users(DATA, USERS), 5).items, NEW).any()


def test_equal_texts_have_one_place(model):
    one = {"plot": ["robot orbit", "robot orbit", "kiss letter", None], "genre": ["g1", "g1", "g1", None]}
    found = model.embed_items(pa.table(one))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0.1 and not found[3].any()
    np.testing.assert_allclose(model.embed_items(DATA.items.attributes)[NEW], model.places_[NEW], atol=1e-6)


def parts(**settings):
    """A model without training, with inputs and one batch."""
    fitted = CMLTheatrical(**{**SMALL, "epochs": 0, "dropout": 0.0, "head_films": 0.0, **settings}).fit(DATA)
    pairs = ReleasePairs(first_events(DATA.histories), DATA.n_items, batch_size=20, n_negatives=4)
    batch = next(iter(pairs.epoch(1, np.random.default_rng(0))))
    return fitted, fitted.description_.inputs(DATA.items.attributes, DATA.n_items), batch


def test_the_hinge_of_a_batch_by_hand():
    fitted, inputs, batch = parts(feature_weight=0.3, margin=0.4)
    with torch.no_grad():
        fitted.space_.own += torch.randn(fitted.space_.own.shape, generator=torch.Generator().manual_seed(0)) * 0.3
    got = objective(fitted.space_, inputs, batch, fitted.config, torch.Generator()).item()
    q = fitted.space_(inputs).detach()
    rows = [slice(*batch.history.offsets[r : r + 2]) for r in range(len(batch))]
    people = torch.stack([torch.from_numpy(batch.weights[r]) @ q[batch.history.values[r].astype(int)] for r in rows])
    total = 0.0
    for p, i, others in zip(people, batch.positives, batch.negatives, strict=True):
        near, far = (p - q[int(i)]).square().sum(), (p - q[others.astype(int)]).square().sum(1)
        intruders = int((far < near + 0.4).sum())
        total += float(np.log1p(len(q) * intruders / 4) * max(0.0, float(0.4 + near - far.min())))
    own = fitted.space_.own[np.unique(batch.positives).astype(int)].square().sum(1).mean().item()
    assert got == pytest.approx(total / len(batch) + 0.3 * own, rel=1e-4)


def test_covariances_are_squared_where_the_first_program_of_cml_sums_them_signed():
    """Places whose dimensions go against each other: with signs the term is a reward of it, squared it is a price."""
    fitted, inputs, batch = parts(places="free", covariance=0.7, feature_weight=0.0)
    films = len(fitted.space_.own)
    against = np.random.default_rng(0).normal(0, 0.25, (films, 1)) * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    fitted.space_.own.data = torch.from_numpy(against.astype(np.float32))
    q = fitted.space_(inputs).detach().double().numpy()
    off = np.cov(q.T, bias=True) * (1 - np.eye(8))
    plain = fitted.config.model_copy(update={"covariance": 0.0})
    with_, without = (objective(fitted.space_, inputs, batch, c, torch.Generator()).item() for c in (fitted.config, plain))
    assert with_ - without == pytest.approx(0.7 * (off**2).sum(), rel=1e-3)
    assert 0.7 * off.sum() < -0.01 < 0.01 < with_ - without


def test_the_hinge_is_zero_where_all_negatives_are_beyond_the_margin():
    people, items = torch.zeros(1, 2), torch.tensor([[0.1, 0.0], [0.9, 0.0], [0.0, -0.8]])
    loss = losses.cml(people, items[:1], items[None, 1:], 3, 0.5)
    assert loss.item() == 0 and losses.cml(people, items[:1], items[None, 1:], 3, 0.9).item() > 0


def test_the_logistic_loss_leaves_out_rows_without_negatives():
    fitted, inputs, batch = parts(loss="logistic")
    q = fitted.space_(inputs)
    people = q[:20] * 0.5
    kept = replace(batch, negatives=batch.negatives.copy())
    kept.negatives[3:] = -1
    first = Triples(batch.places[:3], batch.positives[:3], batch.negatives[:3])
    short = replace(batch, positives=first.positives, negatives=first.negatives)
    assert logistic(fitted.space_, people, q, kept).item() == pytest.approx(
        logistic(fitted.space_, people[:3], q, short).item()
    )


def test_the_own_part_begins_at_zero_and_is_what_people_know():
    fitted, _, _ = parts()
    np.testing.assert_allclose(fitted.places_, fitted.embed_items(DATA.items.attributes), atol=1e-6)
    heavy = CMLTheatrical(**SMALL, feature_weight=100.0).fit(DATA).space_.own.detach().norm()
    light = CMLTheatrical(**SMALL, feature_weight=0.001).fit(DATA).space_.own.detach().norm()
    assert heavy < 0.5 * light


def test_the_head_sees_histories_that_end_before_the_film():
    fitted = CMLTheatrical(**SMALL, head_films=0.3).fit(DATA)
    seen = []

    def keep(points, facts, films):
        seen.append(points)
        return type(fitted)._facts(fitted, points, facts, films)

    fitted._facts = keep
    had = first_events(DATA.histories)
    film = int(np.argsort(-DATA.item_counts)[0])
    held = np.zeros(DATA.n_items, bool)
    held[film] = True
    known = had
    ((own, bought, weight),) = fitted._head_rows(had, known, np.array([film]), np.random.default_rng(0))
    first = had.times[had.items == film].min()
    owner = np.repeat(np.arange(len(had)), had.lengths)
    direct = {u: fitted.places_[had.items[(owner == u) & (had.times < first)]] for u in range(len(had))}
    wanted = [rows.mean(0) for u, rows in direct.items() if len(rows) and film in had.ragged[u]]
    np.testing.assert_allclose(seen[0][bought], wanted, atol=1e-5)
    assert (weight[bought] == 1).all() and len(own) == len(weight)


def test_what_the_head_is_told_of_a_person_by_hand(model):
    """Two films of the last year and one before it, the last 30 days ago; the length of the mean is small for mixed tastes."""
    robots, kisses = (np.flatnonzero((kind == KIND) & model.placed_) for kind in (True, False))
    rows = [[robots[0], robots[1], robots[2]], [robots[0], kisses[1], kisses[2]]]
    now = 2_000_000_000
    times = now - DAY * np.array([400, 300, 30] * 2)
    points, facts = model._people(Histories(np.array([0, 3, 6]), np.concatenate(rows).astype(np.int32), times), np.full(2, now))
    np.testing.assert_allclose(points, [model.places_[row].mean(0) for row in rows], atol=1e-6)
    np.testing.assert_allclose(facts[:, :2], [[np.log(3), 30.0]] * 2)
    np.testing.assert_allclose(facts[:, 2], np.linalg.norm(points, axis=1), atol=1e-6)
    assert facts[1, 2] < 0.7 * facts[0, 2]
    films = model.places_[NEW[:2]]
    told = model._facts(points, facts, films)
    np.testing.assert_allclose(told[..., 0], np.linalg.norm(points[:, None] - films, axis=2), atol=1e-6)
    np.testing.assert_array_equal(told[:, 0, 1:], facts)


def test_a_head_uses_only_the_facts_that_it_may():
    fitted = CMLTheatrical(**SMALL, head_facts=("distance", "norm")).fit(DATA)
    assert (fitted.head_.weights[[2, 3]] == 0).all() and (fitted.head_.weights[[1, 4]] != 0).all()


def test_texts_of_films_that_nobody_saw_shape_nothing(model):
    """Other words about the new films: the vectoriser, the network and all other places stay the same to the bit."""
    table = DATA.items.attributes
    plots = np.array(table.column("plot").to_pylist(), object)
    plots[NEW] = "robot zebra unheard words of another film"
    items = Entities(DATA.items.ids, table.set_column(0, "plot", pa.array(plots.tolist())))
    other = CMLTheatrical(**SMALL).fit(replace(DATA, items=items))
    np.testing.assert_array_equal(np.delete(other.places_, NEW, 0), np.delete(model.places_, NEW, 0))
    assert (np.abs(other.places_[NEW] - model.places_[NEW]).max(1) > 0).all()


def test_the_audience_is_the_same_as_ranking_everybody(model):
    assert model.record_.notes["calibrated"] and model.head_.weights[1] < 0
    found = model.audience(NEW[:3], 200)
    asked = Requests(USERS, DATA.histories.take(USERS))
    chance = model.probability(asked, np.tile(NEW[:3], (len(USERS), 1)))
    np.testing.assert_allclose(found.expected, chance.sum(0) + model.head_.rate * (DATA.n_users - len(USERS)), rtol=1e-5)
    for row in range(3):
        people = found.people[row][found.people[row] >= 0]
        assert sorted(people.tolist()) == USERS.tolist()  # each once; the one without events is not named
        np.testing.assert_allclose(
            found.probabilities[row, : len(people)], chance[np.searchsorted(USERS, people), row], atol=1e-5
        )
        assert (np.diff(found.probabilities[row, : len(people)]) <= 1e-3).all()
    best = model.audience(NEW, 20).people
    assert np.mean([TASTE[np.searchsorted(USERS, row)] == KIND[f] for row, f in zip(best, NEW, strict=True)]) > 0.9


def test_the_audience_of_a_text_and_in_blocks(model, monkeypatch):
    text = pa.table({"plot": ["robot galaxy laser"], "genre": ["g0"]})
    whole = model.audience(text, 10)
    assert TASTE[np.searchsorted(USERS, whole.people[0])].mean() > 0.9
    monkeypatch.setattr("palate.recommend.release_audience.BLOCK", 64)
    small = model.audience(text, 10)
    np.testing.assert_allclose(small.probabilities, whole.probabilities, atol=1e-6)
    np.testing.assert_allclose(small.expected, whole.expected, rtol=1e-6)
    with pytest.raises(DataError, match="nothing is known of a film"):
        model.audience(pa.table({"plot": [None], "genre": [None]}))


def test_buyers_are_not_named_again(model):
    film = int(np.argmax(DATA.item_counts))
    buyers = set(DATA.interactions.user[DATA.interactions.item == film].tolist())
    assert not buyers & set(model.audience(np.array([film]), 200).people[0].tolist())
    assert buyers < set(model.audience(np.array([film]), 200, new_only=False).people[0].tolist())


def test_somebody_unknown_gets_the_share_of_buyers_and_no_head_is_refused(model):
    nobody = Requests.of_histories([[], [0, 2]])
    chance = model.probability(nobody, np.tile(NEW[:2], (2, 1)))
    assert (chance[0] == model.head_.rate).all() and (chance[1] != model.head_.rate).any()
    assert model.recommend(nobody, 3).cold.tolist() == [True, False]
    plain = CMLTheatrical(**{**SMALL, "epochs": 1}, head_films=0.0).fit(DATA)
    with pytest.raises(DataError, match="no probability"):
        plain.probability(nobody, np.tile(NEW[:2], (2, 1)))
    assert np.isnan(plain.audience(NEW[:1], 3).probabilities).all() and (plain.audience(NEW[:1], 3).people >= 0).all()


def test_explanations_sum_up(model, sums_up):
    sums_up(model, Requests.of_users(DATA, USERS[:2]))
    sums_up(model, Requests.of_histories([[2, 5, 25], [1], []]))


def test_what_cannot_be_read_is_refused(events):
    with pytest.raises(ConfigError, match="no such attribute"):
        CMLTheatrical(**SMALL, texts=("plots",)).fit(DATA)
    with pytest.raises(ConfigError, match="no attribute tells"):
        CMLTheatrical(**SMALL).fit(events)
    with pytest.raises(DataError, match="no such attribute"):
        CMLTheatrical(**SMALL, release="premiere").fit(DATA)
    with pytest.raises(DataError, match="must be a number"):
        CMLTheatrical(**SMALL, release="plot").fit(DATA)
    assert CMLTheatrical(**SMALL, places="free").fit(events).placed_.sum() == 11 - 1  # one film stands aside for the head


def test_order_alone_and_a_release_column_serve_too():
    plain = DATA.derive({"step": "no times"}, interactions=DATA.interactions.without("time"))
    fitted = CMLTheatrical(**SMALL, release="number", head_films=0.2).fit(plain)
    assert new_scores(fitted) > 0.9 and fitted.head_ is not None and fitted.head_.weights[3] == 0  # recency isn't known


def test_a_bundle_keeps_everything(model, tmp_path):
    again = CMLTheatrical.load(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(again.item_vectors, model.item_vectors)
    for a, b in zip(vars(again.audience(NEW, 5)).values(), vars(model.audience(NEW, 5)).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    table = pa.table({"plot": ["kiss in orbit"], "genre": ["g2"]})
    np.testing.assert_array_equal(again.embed_items(table), model.embed_items(table))


def test_resumes_to_the_bit(tmp_path):
    short = {**SMALL, "epochs": 4}
    whole = CMLTheatrical(**short).fit(DATA, seed=4)
    CMLTheatrical(**{**short, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = CMLTheatrical(**short).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
