"""Calibration: probabilities that are met, by a rising function of a ranker's own, learnt on validation rows.

Platt (a > 0, so that the order of rows stays)::

    p' = σ(a · logit p + b),     minimise  -Σ w [t ln p' + (1 - t) ln(1 - p')]
    t = (N⁺ + 1)/(N⁺ + 2) for rows that happened, 1/(N⁻ + 2) for the others

Isotonic: the rising steps nearest to the labels in weighted square (pool adjacent violators), joined by straight lines between
the mean predictions of the steps, and kept within [1/(n + 2), 1 - 1/(n + 2)]. Rows beyond the first and last step tie.

Sources: J. Platt, "Probabilistic Outputs for Support Vector Machines", Advances in Large Margin Classifiers, 1999 (targets:
section 2.2); B. Zadrozny and C. Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", KDD
2002.
Differences: the steps of isotonic regression are joined, so fewer rows tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import optimize, special

from palate.errors import DataError
from palate.rank.tasks import Task

CalibrationKind = Literal["none", "platt", "isotonic"]
#: Probabilities are held this far from 0 and 1.
CLIP = 1e-7
#: Least slope of Platt's line: the order of rows stays even where validation rows say the opposite.
LEAST_SLOPE = 1e-3


@dataclass(frozen=True)
class Calibration:
    """A rising function a task (made by :meth:`learn`); none by default.

    Attributes
    ----------
    kind
        Which.
    curves
        Task number to ``float64[2]`` slope and offset (Platt), or ``float64[2, k]`` predictions and the values that stand for
        them (isotonic). Tasks that are not binary have none.
    """

    kind: CalibrationKind = "none"
    curves: Mapping[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def learn(
        cls,
        kind: CalibrationKind,
        tasks: Sequence[Task],
        predictions: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> Calibration:
        """Learn from rows that the ranker was not fitted on.

        Parameters
        ----------
        predictions, labels
            ``float[n, t]``; labels are NaN where not observed.
        weights
            ``float[n]``, or ``None`` for ones.

        Raises
        ------
        DataError
            If the rows of a binary task are all of one class.
        """
        if kind == "none":
            return cls()
        learner = platt if kind == "platt" else isotonic
        weights = np.ones(len(labels)) if weights is None else weights
        curves = {}
        for at, task in enumerate(tasks):
            if not task.binary:
                continue
            seen = ~np.isnan(labels[:, at])
            truth = labels[seen, at]
            if len(np.unique(truth)) < 2:
                raise DataError(
                    "calibration needs validation rows of both classes.",
                    where=f"labels of {task.name!r}",
                    value=np.unique(truth).tolist(),
                    remedy="add rows, or calibrate='none'",
                )
            curves[at] = learner(predictions[seen, at], truth, weights[seen])
        return cls(kind, curves)

    def __call__(self, predictions: np.ndarray) -> np.ndarray:
        """Return ``float32[n, t]`` predictions, those of binary tasks calibrated."""
        out = np.array(predictions, np.float32)
        for at, curve in self.curves.items():
            apply = on_platt if self.kind == "platt" else on_isotonic
            out[:, at] = np.clip(apply(curve, predictions[:, at]), CLIP, 1 - CLIP)
        return out

    def state(self) -> dict[str, np.ndarray]:
        """Return arrays: what a bundle keeps."""
        return {f"{self.kind}/{at}": curve for at, curve in self.curves.items()}

    @classmethod
    def of_state(cls, arrays: Mapping[str, np.ndarray]) -> Calibration:
        """Read what :meth:`state` gave."""
        kinds = {name.split("/")[0] for name in arrays}
        if not kinds:
            return cls()
        kind: CalibrationKind = "platt" if kinds == {"platt"} else "isotonic"
        return cls(kind, {int(name.split("/")[1]): np.array(curve) for name, curve in sorted(arrays.items())})


def platt(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``float64[2]``: slope and offset on the logit (see the module's text)."""
    z, positive = logit(predicted), truth > 0.5
    target = np.where(positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2))
    share = weights.astype(np.float64) / weights.sum()

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        out = line[0] * z + line[1]
        gap = share * (special.expit(out) - target)
        return float((share * (np.logaddexp(0, out) - target * out)).sum()), np.array([(gap * z).sum(), gap.sum()])

    start, bounds = np.array([1.0, 0.0]), [(LEAST_SLOPE, None), (None, None)]
    tight = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    return np.asarray(optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=tight).x)


def on_platt(line: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return ``float64[n]`` calibrated probabilities."""
    return np.asarray(special.expit(line[0] * logit(predicted) + line[1]))


def isotonic(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return ``float64[2, k]``: mean predictions of the steps, and their values (see the module's text)."""
    kept = weights > 0
    points, place = np.unique(predicted[kept].astype(np.float64), return_inverse=True)
    mass = np.bincount(place, weights[kept])
    rates = np.bincount(place, weights[kept] * truth[kept]) / mass
    found = optimize.isotonic_regression(rates, weights=mass)
    starts = found.blocks[:-1]
    middles = np.add.reduceat(mass * points, starts) / np.add.reduceat(mass, starts)
    edge = 1 / (kept.sum() + 2)
    return np.stack([middles, np.clip(found.x[starts], edge, 1 - edge)])


def on_isotonic(steps: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return ``float64[n]`` calibrated probabilities."""
    return np.interp(predicted.astype(np.float64), steps[0], steps[1])


def logit(probability: np.ndarray) -> np.ndarray:
    """Return ``float64``: ln p/(1 - p), with p held off 0 and 1."""
    return np.asarray(special.logit(np.clip(probability.astype(np.float64), CLIP, 1 - CLIP)))
