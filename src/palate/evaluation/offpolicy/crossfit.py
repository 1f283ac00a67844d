"""A reward model for doubly robust estimates, fitted so that no row is predicted by a model that saw its unit.

Units are dealt into folds at random; each fold is predicted by a model of the others. Features are standardised by the rows
that fit; the intercept is free; ``v_i`` are weights of mean 1::

    ridge      min_β  Σ v_i (r_i - b - x_i β)² / 2  + reg |β|² / 2
    logistic   min_β  Σ v_i log loss(r_i, σ(b + x_i β))  + reg |β|² / 2,        0 ≤ r ≤ 1

Then ``q_logged = q(x_i, a_i)`` and ``q_target = Σ_a π(a | x_i) q(x_i, a)``. :func:`modelled` gives a log with both, from a
model that is right about rewards as far as it can be, or one that aims at DR's least variance (``fitted="mrdr"``).

Sources: Chernozhukov et al. 2018 (cross-fitting); Farajtabar, Chow and Ghavamzadeh 2018 (MRDR).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from palate.errors import ConfigError, DataError, TrainingError
from palate.evaluation.offpolicy.log import Fitted, Log, as_floats, check_bounds
from palate.evaluation.offpolicy.support import distributions
from palate.runtime import generator, single_threaded_blas

Kind = Literal["ridge", "logistic"]
#: Gives ``float64[m, A, d]``, features of all actions for some rows ``int64[m]``.
Features = Callable[[np.ndarray], np.ndarray]
#: Bytes that a block of features of all actions may take.
BLOCK_BYTES = 2**27


@dataclass(frozen=True, eq=False)
class RewardModel:
    """A linear or logistic model of the reward.

    Attributes
    ----------
    kind
        ``"ridge"`` or ``"logistic"``.
    coefficients
        ``float64[d]``, of the features as given.
    intercept
        Of the same scale.
    """

    kind: Kind
    coefficients: np.ndarray
    intercept: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return ``float64[...]``, expected rewards of features ``float[..., d]``."""
        with single_threaded_blas():
            score = features @ self.coefficients + self.intercept
        return special.expit(score) if self.kind == "logistic" else score


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """Values of the reward model for every row, each from a model that never saw the row's unit.

    Attributes
    ----------
    q_logged, q_target
        ``float64[n]``: at the logged action, and the mean over the candidate's actions.
    fold
        ``int64[n]``: fold of each row; its values are those of ``models[fold]``.
    models
        One a fold.
    """

    q_logged: np.ndarray
    q_target: np.ndarray
    fold: np.ndarray
    models: tuple[RewardModel, ...]


def crossfit(
    features: np.ndarray,
    reward: np.ndarray,
    actions: np.ndarray | Features,
    target: np.ndarray,
    *,
    kind: Kind = "ridge",
    reg: float = 1.0,
    folds: int = 3,
    unit: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    seed: int = 0,
) -> CrossFitted:
    """Fit a reward model by folds and return its values for a log.

    Parameters
    ----------
    features
        ``float[n, d]`` of each row with its logged action (and position, if that matters).
    reward
        ``float[n]``; from 0 to 1 for ``"logistic"``.
    actions
        ``float[n, A, d]`` features of each row with every action, or a function that gives them for some rows (so that they
        need not fit in memory at once).
    target
        ``float[n, A]`` chances of every action under the candidate policy.
    kind, reg
        Model and strength of its penalty (see the module's text).
    folds
        From 2.
    unit
        ``int[n]``: rows of a unit share a fold. Give persons, where they have several rows.
    weights
        ``float[n]`` weights of the fit, not negative; see :func:`mrdr_weights`.
    seed
        Deals units to folds.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    DataError
        If shapes differ, a value is missing, chances don't add up to 1, or there are fewer units than folds.
    TrainingError
        If the fit of a logistic model doesn't end.
    """
    x, y = as_floats("features", features, 2), as_floats("reward", reward, 1)
    v = np.ones(len(y)) if weights is None else as_floats("weights", weights, 1)
    _check(x, y, v, kind, reg)
    chance = distributions("target", target)
    if chance.ndim != 2 or len(chance) != len(y):
        raise DataError("target holds one row of chances a row.", where="target", value=[list(chance.shape), len(y)])
    fold = deal(len(y), folds, unit, seed)
    models = tuple(fit(x[fold != f], y[fold != f], v[fold != f], kind=kind, reg=reg) for f in range(folds))
    q_logged, q_target = np.empty(len(y)), np.empty(len(y))
    for f, model in enumerate(models):
        rows = np.flatnonzero(fold == f)
        q_logged[rows] = model.predict(x[rows])
        for part in _blocks(rows, chance.shape[1] * x.shape[1]):
            table = np.asarray(actions(part) if callable(actions) else actions[part], np.float64)
            if table.shape != (len(part), chance.shape[1], x.shape[1]):
                wanted = [len(part), chance.shape[1], x.shape[1]]
                raise DataError("features of actions are [n, A, d].", where="actions", value=[list(table.shape), wanted])
            q_target[part] = (chance[part] * model.predict(table)).sum(axis=1)
    if not (np.isfinite(q_logged).all() and np.isfinite(q_target).all()):
        raise DataError("the reward model gives values that are not numbers.", where="actions", remedy="check the features")
    return CrossFitted(q_logged, q_target, fold, models)


def modelled(
    log: Log,
    features: np.ndarray,
    actions: np.ndarray | Features,
    target: np.ndarray,
    *,
    fitted: Fitted = "mean",
    kind: Kind = "ridge",
    reg: float = 1.0,
    folds: int = 3,
    seed: int = 0,
) -> Log:
    """Return a log with a cross-fitted reward model; rows of a unit share a fold.

    Parameters
    ----------
    features, actions, target, kind, reg, folds, seed
        As for :func:`crossfit`.
    fitted
        ``"mean"``, or ``"mrdr"`` for weights of the fit that aim at DR's least variance (:func:`mrdr_weights`); then the
        estimator ``mrdr`` answers, too.
    """
    weights = mrdr_weights(log) if fitted == "mrdr" else None
    shared: dict[str, Any] = {"kind": kind, "reg": reg, "folds": folds, "unit": log.unit, "seed": seed}
    found = crossfit(features, log.reward, actions, target, weights=weights, **shared)
    return log.with_model(found.q_logged, found.q_target, fitted)


def deal(n: int, folds: int, unit: np.ndarray | None, seed: int) -> np.ndarray:
    """Return ``int64[n]``, the fold of each row; units stay together, and folds differ by at most one unit."""
    number = np.arange(n) if unit is None else np.unique(np.asarray(unit), return_inverse=True)[1]
    if number.shape != (n,):
        raise DataError("unit needs one number a row.", where="unit", value=[list(number.shape), n])
    count = int(number.max()) + 1
    if folds < 2:
        raise ConfigError("cross-fitting needs two folds or more.", where="folds", value=folds)
    if count < folds:
        raise DataError("there are fewer units than folds.", where="unit", value=[count, folds], remedy="fewer folds")
    order = generator(seed, "folds").permutation(count)
    of_unit = np.empty(count, np.int64)
    of_unit[order] = np.arange(count) % folds
    return of_unit[number]


def fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray, *, kind: Kind = "ridge", reg: float = 1.0) -> RewardModel:
    """Fit one model to features ``float64[n, d]`` (see the module's text).

    Raises
    ------
    DataError
        If all weights are zero.
    TrainingError
        If the fit of a logistic model doesn't end.
    """
    if not weights.sum() > 0:
        raise DataError("all weights of the fit are zero.", where="weights", remedy="fit without weights, or with other ones")
    v = weights * (len(weights) / weights.sum())
    mean = np.average(x, axis=0, weights=v)
    scale = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=v))
    z = (x - mean) / np.where(scale > 0, scale, 1.0)
    with single_threaded_blas():
        slope, intercept = (_ridge if kind == "ridge" else _logistic)(z, y, v, reg)
    slope = np.where(scale > 0, slope / np.where(scale > 0, scale, 1.0), 0.0)
    return RewardModel(kind, slope, float(intercept - mean @ slope))


def mrdr_weights(log: Log) -> np.ndarray:
    """Return ``float64[n]``, weights ``w² (1 - propensity)`` of the fit that aims at DR's least variance (MRDR).

    They are the diagonal of the quadratic form that the variance of DR is in the model's errors, divided by the chance of being
    logged; for a deterministic candidate that is the whole form. Actions that were certain get no weight.

    Source: Farajtabar, Chow and Ghavamzadeh 2018, "More Robust Doubly Robust Off-policy Evaluation".
    """
    return log.weight**2 * np.maximum(1 - log.propensity, 0.0)


def _ridge(z: np.ndarray, y: np.ndarray, v: np.ndarray, reg: float) -> tuple[np.ndarray, float]:
    mean = np.average(y, weights=v)
    gram = (z * v[:, None]).T @ z + reg * np.eye(z.shape[1])
    return np.linalg.lstsq(gram, z.T @ (v * (y - mean)), rcond=None)[0], float(mean)


def _logistic(z: np.ndarray, y: np.ndarray, v: np.ndarray, reg: float) -> tuple[np.ndarray, float]:
    def loss(beta: np.ndarray) -> tuple[float, np.ndarray]:
        score = z @ beta[:-1] + beta[-1]
        value = v @ (np.logaddexp(0, score) - y * score) + reg / 2 * beta[:-1] @ beta[:-1]
        off = v * (special.expit(score) - y)
        gradient = np.append(z.T @ off + reg * beta[:-1], off.sum())
        return float(value / len(y)), gradient / len(y)

    rate = np.clip(np.average(y, weights=v), 1e-6, 1 - 1e-6)
    start = np.append(np.zeros(z.shape[1]), special.logit(rate))
    from scipy import optimize

    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-8, "ftol": 1e-14})
    if not np.isfinite(found.x).all() or np.abs(found.jac).max() > 1e-4:
        raise TrainingError("the fit of the reward model doesn't end.", where="logistic", value=str(found.message))
    return found.x[:-1], float(found.x[-1])


def _check(x: np.ndarray, y: np.ndarray, v: np.ndarray, kind: str, reg: float) -> None:
    if kind not in ("ridge", "logistic"):
        raise ConfigError("there is no such reward model.", where="kind", value=kind, remedy="ridge or logistic")
    if not reg >= 0:
        raise ConfigError("the penalty is not negative.", where="reg", value=reg)
    if not len(x) == len(y) == len(v):
        raise DataError("features, reward and weights differ in length.", where="reward", value=[len(x), len(y), len(v)])
    for name, column in (("features", x), ("reward", y), ("weights", v)):
        check_bounds(name, column, ~np.isfinite(column), "is missing or not a number")
    check_bounds("weights", v, v < 0, "is negative")
    if kind == "logistic":
        check_bounds("reward", y, (y < 0) | (y > 1), "lies outside 0 to 1", "kind='ridge'")


def _blocks(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    size = max(1, BLOCK_BYTES // (8 * max(width, 1)))
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
