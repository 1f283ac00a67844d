"""Purchase head: from a distance and a few facts about a person to the probability that the person buys.

    P = g( σ( w_0 - w_1 d + Σ_k w_k x_k ) ),     w_1 ≥ 0,     g monotone (isotonic)

A logistic regression with a small ridge, fitted by Newton's method on weighted rows, and an isotonic map ``g`` of its logit,
fitted on other rows. A weight that would make people who are farther away likelier to buy is set to zero (no step here ranks
against the distance).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from palate.errors import DataError

#: Newton steps at most.
STEPS = 50


@dataclass(frozen=True)
class PurchaseHead:
    """A fitted head.

    Attributes
    ----------
    weights
        ``float64[1 + k]``: the constant, then one a column of the facts; the first column is the distance.
    knots
        ``float64[2, m]``: logits, and the probabilities there (isotonic); ``m`` = 0 where it isn't calibrated.
    rate
        Share of buyers among all rows that it was fitted on: the answer where nothing is known of a person.
    """

    weights: np.ndarray
    knots: np.ndarray
    rate: float

    def logits(self, facts: np.ndarray) -> np.ndarray:
        """Return ``float64[...]`` of facts ``[..., k]``."""
        found: np.ndarray = self.weights[0] + np.asarray(facts, np.float64) @ self.weights[1:]
        return found

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities ``float64[...]`` of logits."""
        if not self.knots.shape[1]:
            return sigmoid(logits)
        found: np.ndarray = np.interp(logits, self.knots[0], self.knots[1])
        return found

    def calibrate(self, facts: np.ndarray, bought: np.ndarray, weight: np.ndarray) -> PurchaseHead:
        """Return it with the isotonic map of other rows (arguments as in :func:`fit_head`).

        Equal logits are one knot. The outermost probabilities lie strictly between 0 and 1: half a buyer is added to both
        sides of the whole.
        """
        from scipy.optimize import isotonic_regression

        facts, bought, weight = _checked(facts, bought, weight)
        logits, back = np.unique(self.logits(facts), return_inverse=True)
        mass = np.bincount(back, weight)
        found = isotonic_regression(np.bincount(back, weight * bought) / mass, weights=mass).x
        low, high = 0.5 / (mass.sum() + 1), 1 - 0.5 / (mass.sum() + 1)
        level = np.clip(found, low, high)
        edge = np.concatenate([[True], level[1:] != level[:-1]])
        kept = edge | np.concatenate([edge[1:], [True]])
        return replace(self, knots=np.stack([logits[kept], level[kept]]))

    def state(self) -> dict[str, np.ndarray]:
        """Return everything as arrays; :meth:`of_state` takes them back."""
        return {"weights": self.weights, "knots": self.knots, "rate": np.array([self.rate])}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> PurchaseHead:
        """Restore from what :meth:`state` gave."""
        return cls(state["weights"], state["knots"], float(state["rate"][0]))


def fit_head(facts: np.ndarray, bought: np.ndarray, weight: np.ndarray, *, ridge: float = 1e-3) -> PurchaseHead:
    """Fit the logistic regression.

    Parameters
    ----------
    facts
        ``float[n, k]``; the first column is the distance. Columns that don't vary get no weight.
    bought
        ``bool[n]``.
    weight
        ``float[n]``, how many pairs a row stands for.
    ridge
        Weight of the squares of the weights of standardised columns, for a row of mean weight.

    Raises
    ------
    DataError
        If the rows hold only buyers, or none.
    """
    facts, bought, weight = _checked(facts, bought, weight)
    rate = float((weight * bought).sum() / weight.sum())
    if not 0 < rate < 1:
        raise DataError("a head needs rows of people who bought and of people who did not.", value=rate)
    mean = (facts * weight[:, None]).sum(0) / weight.sum()
    spread = np.sqrt((np.square(facts - mean) * weight[:, None]).sum(0) / weight.sum())
    told = spread > 1e-9
    scaled = np.where(told, (facts - mean) / np.where(told, spread, 1), 0)
    found = _newton(scaled, bought, weight, ridge)
    if found[1] > 0:  # farther people would buy more: the distance is of no use
        scaled[:, 0], told[0] = 0, False
        found = _newton(scaled, bought, weight, ridge)
    own = np.where(told, found[1:] / np.where(told, spread, 1), 0)
    return PurchaseHead(np.concatenate([[found[0] - own @ mean], own]), np.empty((2, 0)), rate)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return ``1 / (1 + e^-x)``."""
    from scipy.special import expit

    return np.asarray(expit(x))


def _newton(x: np.ndarray, y: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    rows = np.column_stack([np.ones(len(x)), x])
    rate = (weight * y).sum() / weight.sum()
    found = np.zeros(rows.shape[1])
    found[0] = np.log(rate / (1 - rate))
    penalty = np.full(rows.shape[1], ridge * weight.sum())
    penalty[0] = 1e-12 * weight.sum()
    for _ in range(STEPS):
        p = sigmoid(rows @ found)
        slope = rows.T @ (weight * (p - y)) + penalty * found
        bend = (rows * (weight * np.maximum(p * (1 - p), 1e-9))[:, None]).T @ rows + np.diag(penalty)
        step = np.linalg.solve(bend, slope)
        found = found - step * min(1.0, 4 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    return found


def _checked(facts: np.ndarray, bought: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    facts, bought, weight = (np.asarray(a, np.float64) for a in (facts, bought, weight))
    if facts.ndim != 2 or not len(facts) or bought.shape != (len(facts),) or weight.shape != bought.shape:
        raise DataError("facts, buyers and weights need one row each.", value=[facts.shape, bought.shape, weight.shape])
    if not np.isfinite(facts).all() or (weight <= 0).any():
        raise DataError("facts must be finite, and weights above zero.", where="purchase head")
    return facts, bought, weight
