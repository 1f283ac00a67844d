"""The cross-fitted reward model: solves its problem, leaks nothing, and gives DR what it needs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from palate.errors import ConfigError, DataError
from palate.evaluation.offpolicy import crossfit as module
from palate.evaluation.offpolicy.crossfit import RewardModel, crossfit, deal, fit, modelled, mrdr_weights
from palate.evaluation.offpolicy.estimate import estimate
from palate.evaluation.offpolicy.estimators import find
from palate.evaluation.offpolicy.log import Log


def problem(n: int = 300, actions: int = 3, d: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n, actions, d))
    chosen = rng.integers(0, actions, n)
    logged = table[np.arange(n), chosen]
    beta = np.arange(1.0, d + 1) / d
    target = rng.dirichlet(np.ones(actions), n)
    return table, logged, target, beta, rng


def test_ridge_solves_its_normal_equations() -> None:
    _, x, _, beta, rng = problem()
    y, v = x @ beta + 2 + rng.normal(0, 0.1, len(x)), rng.uniform(0.1, 2, len(x))
    model = fit(x, y, v, reg=3.0)
    v = v / v.mean()
    mean = np.average(x, axis=0, weights=v)
    scale = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=v))
    off = v * (model.predict(x) - y)
    np.testing.assert_allclose((x - mean).T @ off / scale + 3.0 * model.coefficients * scale, 0, atol=1e-9)
    assert off.sum() == pytest.approx(0, abs=1e-9)


def test_logistic_solves_its_normal_equations() -> None:
    _, x, _, beta, rng = problem()
    y = (rng.random(len(x)) < special.expit(x @ beta)).astype(float)
    model = fit(x, y, np.ones(len(x)), kind="logistic", reg=2.0)
    off = model.predict(x) - y
    scale, mean = x.std(axis=0), x.mean(axis=0)
    np.testing.assert_allclose((x - mean).T @ off / scale + 2.0 * model.coefficients * scale, 0, atol=2e-3)
    assert off.sum() == pytest.approx(0, abs=2e-3)


def test_exact_data_are_found_again() -> None:
    table, x, target, beta, _ = problem()
    found = crossfit(x, x @ beta - 1, table, target, reg=0.0)
    np.testing.assert_allclose(found.q_logged, x @ beta - 1, atol=1e-9)
    np.testing.assert_allclose(found.q_target, (target * (table @ beta - 1)).sum(1), atol=1e-9)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_no_row_is_predicted_by_a_model_that_saw_its_unit(kind) -> None:
    table, x, target, _, rng = problem()
    unit = np.arange(300) // 3
    y = rng.integers(0, 2, 300).astype(float)
    base = crossfit(x, y, table, target, kind=kind, unit=unit)
    changed = y.copy()
    changed[unit == 7] = 1 - changed[unit == 7]
    after = crossfit(x, changed, table, target, kind=kind, unit=unit)
    fold = base.fold[21]
    assert set(base.fold[unit == 7]) == {fold}
    same = base.fold == fold
    np.testing.assert_array_equal(after.q_logged[same], base.q_logged[same])
    np.testing.assert_array_equal(after.q_target[same], base.q_target[same])
    assert (after.q_logged[~same] != base.q_logged[~same]).all()


def test_every_row_has_the_values_of_its_folds_model() -> None:
    table, x, target, beta, rng = problem()
    found = crossfit(x, x @ beta + rng.normal(size=300), table, target, folds=4, seed=3)
    for row in (0, 17, 299):
        model = found.models[found.fold[row]]
        assert found.q_logged[row] == pytest.approx(x[row] @ model.coefficients + model.intercept)
        assert found.q_target[row] == pytest.approx(target[row] @ model.predict(table[row]))


def test_a_function_of_rows_and_small_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table, x, target, beta, _ = problem()
    whole = crossfit(x, x @ beta, table, target)
    monkeypatch.setattr(module, "BLOCK_BYTES", 8 * 12 * 7)
    asked: list[int] = []

    def features(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return table[rows]

    cut = crossfit(x, x @ beta, features, target)
    assert max(asked) == 7
    np.testing.assert_allclose(cut.q_target, whole.q_target, rtol=1e-12)


def test_folds_are_even_and_keep_units_together() -> None:
    fold = deal(100, 3, None, 0)
    assert sorted(np.bincount(fold)) == [33, 33, 34]
    unit = np.random.default_rng(0).integers(0, 20, 200)
    fold = deal(200, 4, unit, 1)
    assert all(len(set(fold[unit == u])) == 1 for u in np.unique(unit))
    assert (deal(200, 4, unit, 1) == fold).all()
    assert (deal(200, 4, unit, 2) != fold).any()


def test_constant_features_get_no_weight() -> None:
    _, x, _, beta, _ = problem()
    model = fit(np.column_stack([x, np.ones(300)]), x @ beta, np.ones(300), reg=0.0)
    assert model.coefficients[-1] == 0.0
    np.testing.assert_allclose(model.coefficients[:-1], beta, atol=1e-9)


def test_predictions_of_both_kinds() -> None:
    x = np.array([[1.0, 2.0], [0.0, 0.0]])
    assert RewardModel("ridge", np.array([1.0, -1.0]), 0.5).predict(x).tolist() == [-0.5, 0.5]
    assert RewardModel("logistic", np.array([1.0, -1.0]), 1.0).predict(x) == pytest.approx([0.5, special.expit(1.0)])


def test_mrdr_weights_give_the_least_variance_of_dr() -> None:
    """A constant model and a deterministic candidate: of all constants, the weighted fit's has DR's least exact variance."""
    context, chance, mean = np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.3, 0.1]), np.array([0.1, 0.5, 0.9])

    def variance(q: float) -> float:
        # DR is q + w (r - q) where the candidate's action was logged, else q
        first = second = 0.0
        for p, b, m in zip(context, chance, mean, strict=True):
            for r, share in ((1.0, m), (0.0, 1 - m)):
                v = q + (r - q) / b
                first, second = first + p * b * share * v, second + p * b * share * v * v
            first, second = first + p * (1 - b) * q, second + p * (1 - b) * q * q
        return second - first**2

    # what the weighted fit converges to: Σ over logged rows of weight × reward, over weights
    log = Log(mean, chance, np.ones(3))
    weights = context * chance * mrdr_weights(log)
    best = float((weights * mean).sum() / weights.sum())
    plain = float((context * chance * mean).sum() / (context * chance).sum())
    grid = np.linspace(0, 1, 10_001)
    assert grid[np.argmin([variance(q) for q in grid])] == pytest.approx(best, abs=1e-4)
    assert variance(best) < 0.9 * variance(plain)


def test_dr_with_a_cross_fitted_model_is_narrower_than_ips() -> None:
    table, x, target, beta, rng = problem(n=3_000)
    y = x @ beta + 3 + rng.normal(0, 0.3, 3_000)
    chosen = (x[:, None] == table).all(axis=2).argmax(axis=1)
    log = Log(y, np.full(3_000, 1 / 3), target[np.arange(3_000), chosen])
    found = crossfit(x, y, table, target)
    dr = find("dr").rows(log.with_model(found.q_logged, found.q_target)).terms()
    assert dr.std() < 0.5 * find("ips").rows(log).terms().std()
    truth = (target * (table @ beta + 3)).sum(1).mean()
    assert abs(dr.mean() - truth) < 4 * dr.std() / np.sqrt(3_000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folds": 1}, "two folds"), ({"kind": "tree"}, "no such reward model"), ({"reg": -1.0}, "penalty"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(change, words: str) -> None:
    table, x, target, beta, _ = problem()
    with pytest.raises(ConfigError, match=words):
        crossfit(x, x @ beta, table, target, **change)


@pytest.mark.parametrize(
    ("change", "words", "where"),
    [
        ({"kind": "logistic", "reward": np.full(300, 2.0)}, "outside 0 to 1", "reward, row 0"),
        ({"unit": np.zeros(300, int)}, "fewer units than folds", "unit"),
        ({"unit": np.zeros(3, int)}, "one number a row", "unit"),
        ({"weights": np.zeros(300)}, "all weights", "weights"),
        ({"weights": np.full(300, -1.0)}, "negative", "weights, row 0"),
        ({"target": np.full((300, 3), 0.5)}, "not 1", "the sum of target, row 0"),
        ({"target": np.full(3, 1 / 3)}, "one row of chances", "target"),
        ({"reward": np.ones(5)}, "differ in length", "reward"),
        ({"actions": np.zeros((300, 2, 4))}, "features of actions", "actions"),
        ({"features": np.full((300, 4), np.nan)}, "missing", "features, row 0, position 0"),
    ],
)
def test_wrong_data_are_refused(change, words: str, where: str) -> None:
    table, x, target, beta, _ = problem()
    given = {"features": x, "reward": x @ beta, "actions": table, "target": target, **change}
    with pytest.raises(DataError, match=words) as caught:
        crossfit(**given)
    assert caught.value.where == where


def mrdr_problem(seed: int, n: int = 1_500):
    """A deterministic candidate, logged unevenly, and a model that can't be right: two kinds of people, one feature less."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    chance = np.array([[0.85, 0.15], [0.2, 0.8]])[kind]
    action = (rng.random(n) > chance[:, 0]).astype(int)
    mean = np.array([[0.2, 0.5], [0.6, 0.9]])
    reward = (rng.random(n) < mean[kind, action]).astype(float)
    target = np.tile([0.0, 1.0], (n, 1))
    one_hot = np.eye(2)
    log = Log(reward, chance[np.arange(n), action], target[np.arange(n), action])
    return log, one_hot[action], np.broadcast_to(one_hot, (n, 2, 2)), target, float(mean[:, 1].mean())


def test_mrdr_covers_the_truth_and_is_no_wider_than_dr() -> None:
    hits, errors = [], {"dr": [], "mrdr": []}
    for seed in range(200):
        log, features, actions, target, truth = mrdr_problem(seed)
        (dr,) = estimate(modelled(log, features, actions, target), ["dr"])
        (mrdr,) = estimate(modelled(log, features, actions, target, fitted="mrdr"), ["mrdr"])
        hits.append(mrdr.low <= truth <= mrdr.high)
        for one in (dr, mrdr):
            errors[one.name].append(one.value - truth)
    assert np.mean(hits) > 0.9
    bias, spread = np.mean(errors["mrdr"]), np.std(errors["mrdr"], ddof=1)
    assert abs(bias) < 3 * spread / np.sqrt(200)
    assert spread < np.std(errors["dr"], ddof=1)


def test_mrdr_needs_its_own_model() -> None:
    log, features, actions, target, _ = mrdr_problem(0)
    plain = modelled(log, features, actions, target)
    (refused,) = estimate(plain, ["mrdr"])
    assert "fitted for it" in refused.refused
    assert "mrdr" not in {e.name for e in estimate(plain)}
    own = modelled(log, features, actions, target, fitted="mrdr")
    given = crossfit(features, log.reward, actions, target, weights=mrdr_weights(log))
    np.testing.assert_array_equal(own.q_logged, given.q_logged)
    assert "mrdr" in {e.name for e in estimate(own)}
    with pytest.raises(DataError, match="fitted"):
        Log(log.reward, log.propensity, log.target, fitted="else")
