"""iALS: fold-in by the normal equations, stationary sides, all solvers, ridge by frequency, exact shares."""

import copy

import numpy as np
import pytest

from palate.contracts.growth import grown
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.recommend.ials import IALS

SMALL = {"dim": 4, "epochs": 60, "alpha0": 0.2, "reg": 0.02, "solver": "exact"}


@pytest.fixture(scope="module")
def model(events):
    return IALS(**SMALL).fit(events)


def ridge(model, length, others):
    c = model.config
    return c.reg * (length + c.alpha0 * others) ** c.nu


def fold_in(model, rows):
    """The vector of each row of ones, by its normal equations."""
    y = model.item_vectors.astype(np.float64)
    rows = rows * (model.item_counts_ > 0)
    out = []
    for row in rows:
        own = y[row > 0]
        a = own.T @ own + model.config.alpha0 * y.T @ y + ridge(model, len(own), len(y)) * np.eye(y.shape[1])
        out.append(np.linalg.solve(a, own.sum(0)))
    return np.array(out)


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
def test_every_request_is_solved_from_its_history(events, ones, unseen, all_scores, nu):
    model = IALS(**{**SMALL, "epochs": 5, "nu": nu}).fit(events)
    people = np.flatnonzero(events.histories.lengths > 0)
    known = Requests.of_users(events, people)
    np.testing.assert_allclose(model.request_vectors(known), fold_in(model, ones[people]), atol=1e-5)
    x = fold_in(model, unseen.histories.matrix(model.n_items).toarray())
    np.testing.assert_allclose(model.request_vectors(unseen), x, atol=1e-5)
    np.testing.assert_allclose(all_scores(model, unseen), x @ model.item_vectors.T, atol=1e-5)


def test_both_sides_come_to_rest(events, ones, model):
    """At the end neither side can lower the loss: the items' gradient is zero too, with the people's ridge and theirs."""
    x, y = fold_in(model, ones), model.item_vectors.astype(np.float64)
    reg = ridge(model, ones.sum(0), len(x))[:, None]
    slope = (ones * (x @ y.T - 1)).T @ x + model.config.alpha0 * y @ (x.T @ x) + reg * y
    slope[model.item_counts_ == 0] = 0
    assert np.abs(slope).max() < 2e-3
    assert np.abs(y).max() > 0.1


def test_the_loss_that_is_recorded_is_the_plain_one(ones, model):
    x, y, c = fold_in(model, ones), model.item_vectors.astype(np.float64), model.config
    scores = x @ y.T
    plain = (ones * (1 - scores) ** 2).sum() + c.alpha0 * (scores**2).sum()
    plain += (ridge(model, ones.sum(1), y.shape[0]) * (x**2).sum(1)).sum()
    plain += (ridge(model, ones.sum(0), len(x)) * (y**2).sum(1)).sum()
    assert model.record_.notes["loss"] == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize(
    "how", [{"solver": "cg", "steps": 3}, {"solver": "block", "block": 3}, {"solver": "block", "block": 1}]
)
def test_every_solver_reaches_the_same_loss(events, model, how):
    found = IALS(**{**SMALL, **how}).fit(events)
    assert found.record_.notes["loss"] == pytest.approx(model.record_.notes["loss"], rel=0.02)


def test_the_loss_falls_with_every_sweep(events):
    losses = [IALS(**{**SMALL, "epochs": n}).fit(events).record_.notes["loss"] for n in range(1, 7)]
    assert (np.diff(losses) <= 1e-5 * losses[0]).all() and losses[-1] < losses[0]


def test_the_usual_weight_of_all_pairs_follows_the_data(events, ones):
    model = IALS(dim=4, epochs=1).fit(events)
    assert model.record_.notes["alpha0"] == pytest.approx(20 * ones.mean())


def test_shares_by_the_normal_equations(events, model, unseen, sums_up):
    sums_up(model, unseen)
    sums_up(model, Requests.of_users(events, np.array([0, 29])))
    y, own, item = model.item_vectors.astype(np.float64), [7, 2, 5], 4
    a = y[own].T @ y[own] + model.config.alpha0 * y.T @ y + ridge(model, 3, len(y)) * np.eye(4)
    want = dict(zip(own, y[own] @ np.linalg.solve(a, y[item]), strict=True))
    why = model.explain(unseen.take(np.array([1])), item)
    assert {e.subject: e.weight for e in why.evidence} == pytest.approx(want, rel=1e-3, abs=1e-6)


def test_an_item_that_nobody_had_says_nothing(events, model):
    silent = int(np.flatnonzero(events.item_counts == 0)[0])
    with_it, without = model.request_vectors(Requests.of_histories([[0, silent, 1], [0, 1]]))
    np.testing.assert_allclose(with_it, without, atol=1e-6)
    assert model.recommend(Requests.of_histories([[silent]]), 3).cold.all()


def test_an_update_goes_on_where_the_sweeps_had_ended(events, model):
    """With the same data: a sweep from settled vectors changes no more than the next sweep of the fit would."""
    again = copy.copy(model).update(grown(events, model))
    assert again.record_.notes["loss"] == pytest.approx(model.record_.notes["loss"], rel=1e-4)
    asked = Requests.of_users(events, np.arange(20, dtype=np.int32))
    np.testing.assert_allclose(*(m.score(asked, np.tile(np.arange(12), (20, 1))) for m in (again, model)), atol=5e-3)
    fresh = IALS(**{**SMALL, "epochs": model.config.update_epochs}).fit(events)
    assert fresh.record_.notes["loss"] > 1.005 * again.record_.notes["loss"]


def test_an_update_learns_what_came_since(events):
    """From a third of the people on; the loss comes near that of many sweeps on everything."""
    seen = events.interactions
    early = seen.user < 10
    raw = events.users.ids.decode(seen.user[early]), events.items.ids.decode(seen.item[early])
    past = Dataset.from_columns(*raw, time=seen.time[early])
    model = IALS(**SMALL).fit(past)
    whole = grown(events, model)
    many, few = IALS(**SMALL).fit(whole).record_.notes["loss"], model.update(whole).record_.notes["loss"]
    assert few == pytest.approx(many, rel=0.02)
    assert (np.linalg.norm(model.item_vectors, axis=1) > 0).tolist() == (whole.item_counts > 0).tolist()
