"""ExpoMF: E and M by hand and by plain loops, a posterior that never falls, exposure that is found again, the fold-in."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import ConfigError
from palate.recommend import expo_mf
from palate.recommend.expo_mf import ExpoMF, exposed_step, log_posterior, posterior

SMALL = {"dim": 4, "epochs": 6, "init": 0.1}


@pytest.fixture(scope="module")
def model(events):
    return ExpoMF(**SMALL).fit(events)


def rows_of(*lists):
    return Ragged.from_rows(lists)


def normal(x, mean, precision):
    return np.sqrt(precision / (2 * np.pi)) * np.exp(-precision / 2 * (x - mean) ** 2)


def test_one_step_by_hand():
    """One dimension: beta = (1, 2), theta = 1/2, mu = (1/5, 1/2), lambda_y = 2, lambda = 3; the first item was clicked.

    p_1 = 1. Of the second s = 1: N(0 | 1, 1/2) = e^-1 / sqrt(pi) = 0.20755; p_2 = 0.103777 / (0.103777 + 0.5) = 0.171880.
    theta = 2 * 1 / (2 (1 + 4 * 0.171880) + 3) = 2 / 6.375037 = 0.313724.
    """
    beta, start = np.array([[1.0], [2.0]], np.float32), np.array([[0.5]], np.float32)
    theta, seen = exposed_step(rows_of([0]), beta, start, np.array([[0.2, 0.5]]), 2.0, 3.0)
    np.testing.assert_allclose(theta, [[0.313724]], rtol=1e-5)
    np.testing.assert_allclose(seen, [1.171880], rtol=1e-5)
    # From the item's side: mu belongs to the row.
    told, seen = exposed_step(rows_of([], [0]), start, beta, np.array([[0.2], [0.5]]), 2.0, 3.0)
    s, n = 0.5, normal(0, 0.5, 2.0)
    p = 0.2 * n / (0.2 * n + 0.8)
    assert s == 0.5 and told[0, 0] == 0 and seen[0] == pytest.approx(p, rel=1e-5)
    np.testing.assert_allclose(told[1], [2 * 0.5 / (2 * 0.25 + 3)], rtol=1e-6)


@pytest.mark.parametrize("by_row", [False, True])
def test_a_step_equals_plain_loops_in_any_blocks(by_row, monkeypatch):
    rng = np.random.default_rng(0)
    n, m, d, precision, reg = 13, 17, 3, 1.7, 0.2
    fixed, start = rng.normal(size=(m, d)).astype(np.float32), rng.normal(size=(n, d)).astype(np.float32)
    lists = [np.sort(rng.choice(m, int(rng.integers(0, 5)), replace=False)).tolist() for _ in range(n)]
    mu = rng.uniform(0.05, 0.9, (n, 1) if by_row else (1, m))
    wanted, sums = np.zeros((n, d)), np.zeros(n)
    for r in range(n):
        system, side = reg * np.eye(d), np.zeros(d)
        for c in range(m):
            f, s = fixed[c].astype(float), float(start[r] @ fixed[c])
            chance = mu[r, 0] if by_row else mu[0, c]
            p = 1.0 if c in lists[r] else chance * normal(0, s, precision) / (chance * normal(0, s, precision) + 1 - chance)
            system += precision * p * np.outer(f, f)
            side += precision * f * (c in lists[r])
            sums[r] += p
        wanted[r] = np.linalg.solve(system, side)
    for rows, numbers in ((256, 2**22), (5, 1), (4, 100)):
        monkeypatch.setattr(expo_mf, "ROWS", rows)
        monkeypatch.setattr(expo_mf, "NUMBERS", numbers)
        found, seen = exposed_step(rows_of(*lists), fixed, start, mu, precision, reg)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(seen, sums, rtol=1e-5)


def test_chances_by_hand_and_at_their_ends():
    # ln N(0 | 0, 1) = -ln sqrt(2 pi): 0.398942; mu = 1/2 gives 0.398942 / 1.398942.
    found = posterior(np.array([[0.0, 100.0]]), np.array([[0.5, 0.5]]), 1.0)
    np.testing.assert_allclose(found, [[0.285174, 0.0]], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"alpha1": 3.0, "alpha2": 20.0, "precision_y": 4.0}])
def test_the_posterior_never_falls(events, settings):
    values = [ExpoMF(**{**SMALL, **settings, "epochs": n}).fit(events).record_.notes["log_posterior"] for n in range(1, 9)]
    assert (np.diff(values) >= -1e-6 * abs(values[0])).all() and values[-1] > values[0]


def test_the_posterior_by_its_definition():
    rng, c = np.random.default_rng(1), ExpoMF(dim=2, alpha1=2.0, alpha2=3.0, precision_y=0.7, reg=0.3).config
    theta, beta, mu = rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), rng.uniform(0.1, 0.8, 4)
    lists, total = [[0, 3], [], [1]], 0.0
    for u in range(3):
        for i in range(4):
            s = theta[u] @ beta[i]
            clicked = i in lists[u]
            total += np.log(mu[i] * normal(1, s, 0.7)) if clicked else np.log(mu[i] * normal(0, s, 0.7) + 1 - mu[i])
    total += -0.15 * ((theta**2).sum() + (beta**2).sum()) + np.log(mu).sum() + 2 * np.log(1 - mu).sum()
    assert log_posterior(rows_of(*lists), theta, beta, mu, c) == pytest.approx(total, rel=1e-9)


def test_exposure_is_found_again():
    """All items are liked alike; some are seen by few. Their prior of exposure says so, and what is liked does not."""
    rng = np.random.default_rng(0)
    mu = np.tile([0.15, 0.75], 10)
    clicks = rng.random((400, 20)) < mu
    users, items = np.nonzero(clicks)
    data = Dataset.from_columns(np.append(users, np.full(20, 400)), np.append(items, np.arange(20)))
    order = np.argsort(data.items.ids.raw.to_numpy(zero_copy_only=False))
    model = ExpoMF(dim=1, epochs=60, init=0.5, precision_y=20.0, reg=0.1).fit(data)
    found = model.exposure_[order]
    np.testing.assert_allclose(found[::2].mean(), 0.15, atol=0.06)
    np.testing.assert_allclose(found[1::2].mean(), 0.75, atol=0.06)
    theta = model.request_vectors(Requests.of_users(data, np.arange(100, dtype=np.int32)))
    liked = (theta @ model.vectors_.T)[:, order].mean(0)
    assert abs(liked[::2].mean() / liked[1::2].mean() - 1) < 0.3


def test_known_and_unseen_people_are_answered_alike(model, events):
    known = Requests.of_users(events, np.flatnonzero(events.histories.lengths > 0).astype(np.int32))
    unseen = Requests(np.full(len(known), -1, np.int32), known.histories, known.exclude)
    np.testing.assert_array_equal(model.request_vectors(known), model.request_vectors(unseen))


def test_an_answer_is_the_fold_in_by_its_definition(model, events):
    request = Requests.of_histories([[0, 3, 3, 5]])
    beta, theta, c = model.vectors_.astype(float), np.zeros(4), model.config
    for _ in range(c.fold_steps):
        n = normal(0, beta @ theta, c.precision_y)
        p = model.exposure_ * n / (model.exposure_ * n + 1 - model.exposure_)
        p[[0, 3, 5]] = 1
        theta = np.linalg.solve(c.precision_y * (beta.T * p) @ beta + c.reg * np.eye(4), c.precision_y * beta[[0, 3, 5]].sum(0))
    np.testing.assert_allclose(model.request_vectors(request)[0], theta, rtol=2e-3, atol=1e-4)
    wanted = model.exposure_ * (beta @ theta)
    np.testing.assert_allclose(model.score(request, np.arange(model.n_items)[None])[0], wanted, rtol=2e-3, atol=1e-4)


def test_relevance_ranks_without_exposure(events):
    liked = ExpoMF(**SMALL, rank_by="relevance").fit(events)
    clicked = ExpoMF(**SMALL).fit(events)
    np.testing.assert_array_equal(liked.vectors_, clicked.vectors_)
    np.testing.assert_allclose(clicked.item_vectors, liked.item_vectors * liked.exposure_[:, None], rtol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"fold_steps": 1}, {"rank_by": "relevance"}])
def test_explanation_adds_up(events, settings):
    model = ExpoMF(**SMALL, **settings).fit(events)
    why = model.explain(Requests.of_histories([[0, 3, 5]]), 7)
    assert why.exact and len(why.evidence) == 3 and why.rest == pytest.approx(0, abs=1e-4)
    score = float(model.score(Requests.of_histories([[0, 3, 5]]), np.array([[7]], np.int32))[0, 0])
    assert sum(e.weight for e in why.evidence) == pytest.approx(score, rel=1e-3, abs=1e-5)


def test_exposures_are_chances_and_one_where_clicked(model):
    found = model.exposures(Requests.of_histories([[0, 3], []]))
    assert found.shape == (2, model.n_items) and (found >= 0).all() and (found <= 1).all()
    assert (found[0, [0, 3]] == 1).all()
    n = normal(0, 0, 1.0)
    np.testing.assert_allclose(found[1], model.exposure_ * n / (model.exposure_ * n + 1 - model.exposure_), rtol=1e-5)


def test_validation_keeps_the_best_sweep(events):
    users = np.flatnonzero(events.histories.lengths > 2).astype(np.int32)
    histories = events.histories.take(users)
    seen = [
        row.tolist() for row in (histories.items[a:b] for a, b in zip(histories.offsets, histories.offsets[1:], strict=False))
    ]
    shorter = type(histories).from_rows([row[:-1] for row in seen])
    held = HeldOut(users, shorter, Ragged(np.arange(len(users) + 1), np.array([row[-1] for row in seen], np.int32)))
    model = ExpoMF(**{**SMALL, "epochs": 5}, patience=2).fit(events, held)
    best = model.record_.notes["best_epoch"]
    assert 1 <= best <= model.record_.notes["epochs"] <= min(5, best + 2)
    again = ExpoMF(**{**SMALL, "epochs": best}).fit(events)
    np.testing.assert_array_equal(model.vectors_, again.vectors_)
    np.testing.assert_array_equal(model.exposure_, again.exposure_)


@pytest.mark.parametrize("settings", [{"alpha1": 0.5}, {"exposure": 1.0}, {"reg": 0.0}, {"rank_by": "likes"}])
def test_bad_settings_are_named(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        ExpoMF(**settings)
