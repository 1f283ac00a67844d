"""CML: the unit ball, the score, the fold-in, attributes of items; what it learns; resumption."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.ragged import Ragged
from palate.errors import ConfigError
from palate.nn.adam import Adam
from palate.nn.dropout import OFF
from palate.recommend.cml import BEYOND, CML, Objective, Space, attribute_bags, hinge, hinge_torch, in_ball, into_ball
from palate.training.triples import Triples

HALF = 20
SMALL = {"dim": 4, "epochs": 10, "batch_size": 64, "lr": 0.03, "n_negatives": 2}


def two_tastes(users=120, seed=0):
    """People who like items below HALF, or those above; items carry the kind that they are of."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF - 1, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    made = Dataset.from_columns(
        np.concatenate([np.repeat(np.arange(users), 6), [users, users]]), np.concatenate([*rows, [HALF - 1, 2 * HALF - 1]])
    )
    kept = np.flatnonzero(made.interactions.user != made.users.ids.number(users))
    numbers = np.array([made.items.ids.raw[n].as_py() for n in range(made.n_items)])
    table = pa.table(
        {
            "kind": pa.array([["low", "all"] if n < HALF else ["high", "all"] for n in numbers]),
            "colour": pa.array(["red" if n < HALF else "blue" for n in numbers]),
        }
    )
    items = Entities(made.items.ids, table)
    return replace(made.derive({"step": "thin"}, interactions=made.interactions.take(kept)), items=items)


DATA = two_tastes()  # items HALF - 1 and 2 HALF - 1, and one person, have no events
LOW = np.array([DATA.items.ids.raw[n].as_py() < HALF for n in range(DATA.n_items)])
NEW = np.flatnonzero(DATA.item_counts == 0)


@pytest.fixture(scope="module")
def model():
    return CML(**SMALL).fit(DATA)


def space_of(dataset, seed=0, **settings):
    config = CML(**{**SMALL, **settings}).config
    bags, codes = attribute_bags(dataset, config.features)
    space = Space(dataset.n_users, dataset.n_items, codes, config, np.random.default_rng(seed))
    return config, bags, space


def test_all_vectors_lie_in_the_ball_after_each_step():
    """Steps so long that they leave it: without the projection norms exceed one, with it never."""
    for projected in (True, False):
        config, bags, space = space_of(DATA, lr=0.5)
        objective = Objective(config, space, bags)
        optimizer = in_ball(Adam, space, config) if projected else Adam(space.parameters(), lr=0.5)
        rng, longest = np.random.default_rng(0), 0.0
        for _ in range(4):
            batch = Triples(
                rng.integers(100, size=50), rng.integers(30, size=50), rng.integers(38, size=(50, 5)).astype(np.int32)
            )
            optimizer.zero_grad()
            objective.loss(batch, torch.Generator()).backward()
            optimizer.step()
            longest = max(longest, *(float(t.detach().norm(dim=1).max()) for t in (space.people, space.items)))
        assert (longest <= 1 + 1e-6) == projected


def test_a_fitted_model_lies_in_the_ball(model):
    points = model.points(Requests.of_users(DATA, np.arange(DATA.n_users, dtype=np.int32)))
    assert np.linalg.norm(points, axis=1).max() <= 1 + 1e-6
    assert np.linalg.norm(model.places_, axis=1).max() <= 1 + 1e-6


def test_scores_are_negative_squared_distances(model):
    asked = Requests.of_users(DATA, np.arange(5, dtype=np.int32))
    items = np.flatnonzero(DATA.item_counts)[None].repeat(5, 0).astype(np.int32)
    wanted = -((model.points(asked)[:, None] - model.places_[items]) ** 2).sum(2)
    np.testing.assert_allclose(model.score(asked, items), wanted, atol=1e-5)
    ranking = model.recommend(asked, 3)
    assert (ranking.scores <= 0).all() and (ranking.scores >= -BEYOND).all()


def test_distances_are_a_metric(model):
    x = model.places_[np.flatnonzero(DATA.item_counts)].astype(np.float64)
    d = np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    np.testing.assert_array_equal(d, d.T)
    assert (d[:, None, :] <= d[:, :, None] + d.T[None] + 1e-9).all()


def test_similar_items_are_the_nearest(model):
    asked = np.array([0, 3], np.int32)
    found = model.similar(asked, 5)
    x = model.places_
    for row, item in enumerate(asked):
        away = ((x - x[item]) ** 2).sum(1)
        away[item], away[NEW] = np.inf, np.inf
        assert set(found.items[row]) == set(np.argsort(away)[:5])
        np.testing.assert_allclose(found.scores[row], -np.sort(away)[:5], atol=1e-5)


def test_known_people_stand_where_they_were_trained():
    kept = {}

    class Kept(CML):
        def _finish(self, space, bags, histories):
            kept["people"] = space.people.detach().numpy().copy()
            super()._finish(space, bags, histories)

    fitted = Kept(**{**SMALL, "epochs": 2}).fit(DATA)
    users = np.flatnonzero(DATA.histories.lengths).astype(np.int32)
    np.testing.assert_allclose(fitted.points(Requests.of_users(DATA, users)), kept["people"][users], atol=1e-5)


def test_unseen_people_stand_where_distances_have_the_least_sum(model):
    history = np.array([2, 5, 25])
    (point,) = model.points(Requests.of_histories([history, [1]]))[:1]

    def total(at):
        return ((at - model.places_[history]) ** 2).sum()

    rng = np.random.default_rng(0)
    moves = rng.standard_normal((200, len(point))) * 0.05
    assert all(total(point) < total(point + move) for move in moves)
    twice = model.points(Requests.of_histories([[5, 2, 25, 2, 2]]))[0]
    np.testing.assert_array_equal(twice, point)


def test_a_shifted_history_never_leaves_the_ball(model):
    users = np.arange(60, dtype=np.int32)
    others = Requests.of_users(DATA, users[::-1].copy()).histories
    points = model.points(Requests(users, others))
    assert np.linalg.norm(points, axis=1).max() <= 1 + 1e-6
    long = into_ball(np.array([[3.0, 4.0], [0.3, 0.4], [0, 0]], np.float32))
    np.testing.assert_allclose(long, [[0.6, 0.8], [0.3, 0.4], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"features": ("kind",)}])
def test_known_and_unseen_people_get_their_taste(settings):
    fitted = CML(**SMALL, **settings).fit(DATA)
    users = np.arange(100, dtype=np.int32)
    known = Requests.of_users(DATA, users)
    unseen = Requests(np.full(len(users), -1, np.int32), known.histories, known.exclude)
    own = LOW[known.histories.items[known.histories.offsets[:-1]]]
    for requests in (known, unseen):
        assert (LOW[fitted.recommend(requests, 5).items] == own[:, None]).mean() > 0.9


def test_new_items_lie_where_their_attributes_say(model):
    placed = CML(**{**SMALL, "epochs": 40}, features=("kind", "colour")).fit(DATA)
    users = np.arange(100, dtype=np.int32)
    asked = Requests.of_users(DATA, users)
    own = LOW[asked.histories.items[asked.histories.offsets[:-1]]]
    low, high = (NEW[LOW[NEW] == side][0] for side in (True, False))
    scores = placed.score(asked, np.tile(np.array([low, high], np.int32), (100, 1)))
    assert ((scores[:, 0] > scores[:, 1]) == own).mean() > 0.9
    without = model.score(asked, np.tile(NEW.astype(np.int32), (100, 1)))  # nothing places them: beyond everything
    assert (without <= -BEYOND).all()
    whole = model.recommend(replace(asked, exclude=None), DATA.n_items)
    assert set(whole.items[0, -2:]) == set(NEW)


def test_items_of_equal_attributes_have_one_place():
    _, bags, space = space_of(DATA, features=("kind",))
    found = space.placed(bags, np.arange(DATA.n_items), OFF).detach().numpy()
    assert np.ptp(found[LOW], axis=0).max() < 1e-6 and np.abs(found[LOW][0] - found[~LOW][0]).max() > 1e-3


def test_the_loss_has_its_three_terms():
    config, bags, space = space_of(DATA, features=("kind",), covariance=0.7, feature_weight=0.3, dropout=0.0)
    batch = Triples(np.array([0, 1]), np.array([2, 30]), np.array([[5, 6], [7, 8]], np.int32))
    got = Objective(config, space, bags).loss(batch, torch.Generator()).item()
    both = torch.cat([space.people, space.items]).detach().double().numpy()
    c = np.cov(both.T, bias=True)
    places = space.placed(bags, np.array([2, 30]), OFF)
    away = (space.items[[2, 30]] - places).square().sum(1).mean().item()
    base = hinge_torch(space.people, space.items, batch, config.margin).item()
    assert got == pytest.approx(base + 0.7 * ((c**2).sum() - (np.diag(c) ** 2).sum()) + 0.3 * away, rel=1e-4)


def test_the_covariance_term_squares_its_entries_where_the_first_program_sums_them_signed():
    """Two dimensions that go against each other: signs make the term negative (a reward), and opposite ones cancel."""
    _, bags, space = space_of(DATA, dim=3)
    config = space_of(DATA, dim=3, covariance=0.7)[0]
    batch = Triples(np.array([0, 1]), np.array([2, 30]), np.array([[5, 6], [7, 8]], np.int32))

    def term(x):
        points = np.random.default_rng(0).permutation(np.tile(x, (len(space.people) + len(space.items), 1))[: 4 * 40])
        space.people.data, space.items.data = (
            torch.from_numpy(part.astype(np.float32)) for part in (points[:120], points[120:])
        )
        losses_ = [
            Objective(c, space, bags).loss(batch, torch.Generator())
            for c in (config, config.model_copy(update={"covariance": 0.0}))
        ]
        off = np.cov(points.T, bias=True) * (1 - np.eye(3))
        return (losses_[0] - losses_[1]).item(), 0.7 * (off**2).sum(), 0.7 * off.sum()

    against = np.array([[0.6, -0.6, 0.1], [-0.6, 0.6, 0.1], [0.3, -0.3, 0.1], [-0.3, 0.3, 0.1]])
    ours, paper, published = term(against)
    assert ours == pytest.approx(paper, rel=1e-4) and paper > 0.05 and published < -0.05
    # The first two go together, the first and the third just as much against each other, the others not at all.
    a, b = np.array([1, -1, 1, -1]), np.array([1, 1, -1, -1])
    cancelling = 0.4 * np.column_stack([a, (a + b) / 2, (b - a) / 2])
    ours, paper, published = term(cancelling)
    assert ours == pytest.approx(paper, rel=1e-4) and paper > 0.005 and abs(published) < 1e-9


def test_fast_and_plain_hinge_agree_with_gradient():
    _, _, space = space_of(DATA)
    rng = np.random.default_rng(1)
    batch = Triples(rng.integers(100, size=40), rng.integers(30, size=40), rng.integers(38, size=(40, 6)).astype(np.int32))
    batch.negatives[3] = -1
    slopes, values = [], []
    for form in (hinge, hinge_torch):
        loss = form(space.people, space.items, batch, 0.8)
        values.append(loss)
        slopes.append(torch.autograd.grad(loss * 2, [space.people, space.items]))
    torch.testing.assert_close(*values)
    for fast, plain in zip(*slopes, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-6)


def test_explanations_sum_up(model, sums_up):
    sums_up(model, Requests.of_users(DATA, np.array([3, 40], np.int32)))
    sums_up(model, Requests.of_histories([[2, 5, 25], [1]]))


def test_somebody_who_had_everything_stops_nothing():
    data = Dataset.from_columns([0, 0, 0, 1], [0, 1, 2, 0])
    fitted = CML(**{**SMALL, "epochs": 2}).fit(data)
    assert np.isfinite(fitted.item_vectors).all()


def test_attributes_that_are_not_there_are_refused(events):
    with pytest.raises(ConfigError, match="no such attribute") as refused:
        CML(**SMALL, features=("kinds",)).fit(DATA)
    assert "kind, colour" in str(refused.value)
    with pytest.raises(ConfigError, match="no such attribute"):
        CML(**SMALL, features=("kind",)).fit(events)


def test_a_bundle_keeps_what_is_placed(tmp_path):
    fitted = CML(**{**SMALL, "epochs": 2}, features=("kind",)).fit(DATA)
    again = CML.load(fitted.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(again.item_vectors, fitted.item_vectors)


def test_without_attributes_there_are_no_codes():
    bags, codes = attribute_bags(DATA, ())
    assert codes == 0 and isinstance(bags, Ragged) and not bags.lengths.any() and len(bags) == DATA.n_items


def test_resumes_to_the_bit(tmp_path):
    short = {**SMALL, "epochs": 6}
    whole = CML(**short, features=("kind",)).fit(DATA, seed=4)
    CML(**{**short, "epochs": 2}, features=("kind",)).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = CML(**short, features=("kind",)).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
