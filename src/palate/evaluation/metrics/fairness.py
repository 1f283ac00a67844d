"""Fairness: does exposure follow merit, and do groups of people fare alike? Plain arrays in."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from palate.errors import DataError

__all__ = ["exposure_ratio", "group_gap"]


def exposure_ratio(exposure: ArrayLike, merit: ArrayLike, group: ArrayLike) -> dict[object, float]:
    """Exposure of each group of items against its merit: ``(E_g / E) / (M_g / M)``; 1 is in proportion.

    ``exposure`` is ``Σ 1 / log2(1 + rank)`` of each item (:meth:`~palate.evaluation.metrics.catalogue.Tally.exposures`),
    ``merit`` for instance its relevance or its sales. NaN for a group without merit.
    """
    shown, earned, groups = _amounts(exposure), _amounts(merit), np.asarray(group)
    if not len(shown) == len(earned) == len(groups):
        raise DataError("exposure, merit and group need one value an item.", value=[len(shown), len(earned), len(groups)])
    ratio = {}
    for key in np.unique(groups).tolist():
        own = groups == key
        given = _share(float(shown[own].sum()), float(shown.sum()))
        ratio[key] = _share(given, _share(float(earned[own].sum()), float(earned.sum())))
    return ratio


def group_gap(values: ArrayLike, group: ArrayLike) -> tuple[float, dict[object, float]]:
    """Gap of any metric between groups of people: largest minus smallest group mean (NaN values left out), and the means."""
    table, groups = np.asarray(values, np.float64), np.asarray(group)
    if len(table) != len(groups):
        raise DataError("one group is needed for each value.", value=[len(table), len(groups)])
    known = ~np.isnan(table)
    means = {key: float(table[known & (groups == key)].mean()) for key in np.unique(groups[known]).tolist()}
    return (max(means.values()) - min(means.values()) if means else float("nan")), means


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _amounts(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, np.float64).ravel()
    if not (np.isfinite(array) & (array >= 0)).all():
        raise DataError("exposure and merit are finite and not below 0.")
    return array
