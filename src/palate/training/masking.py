"""Two complementary views of an item: some fields in one, the others in the other (self-supervised two towers).

``correlated``: a field is drawn as the seed; it and the ``⌊k/2⌋`` fields with the highest mutual information with it form one
view, the rest the other, so that neither view can be read off the other through a field that says the same. ``random``: a
random half of the fields. In what is left, each value of a field with several is dropped with a probability.

Source: T. Yao et al., "Self-supervised Learning for Large-scale Item Recommendations", CIKM 2021, section 3.2 and 3.3.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from palate.data.features import Features

Pattern = Literal["correlated", "random"]


def correlated_fields(information: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return ``bool[k]``: a random seed field and those that tell most of it.

    Parameters
    ----------
    information
        ``float64[k, k]`` of :func:`palate.data.mutual_information.mutual_information`.

    Notes
    -----
    With the seed the set has ``min(k - 1, 1 + ⌊k/2⌋)`` fields: the paper's number, but never all, as the other view would be
    empty (which happens for two fields alone). Fields that tell equally much are taken in order of their number.
    """
    k = len(information)
    seed = int(rng.integers(k))
    order = np.argsort(-information[seed], kind="stable")
    nearest = order[order != seed][: max(0, min(k // 2, k - 2))]
    masked = np.zeros(k, bool)
    masked[nearest] = True
    masked[seed] = True
    return masked


def random_fields(k: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``bool[k]``: a random half of the fields (rounded down, at least one)."""
    masked = np.zeros(k, bool)
    masked[rng.choice(k, max(1, k // 2), replace=False)] = True
    return masked


def kept_values(features: Features, fields: np.ndarray, dropout: float, rng: np.random.Generator) -> np.ndarray:
    """Return ``bool[values]``: the values of a view.

    Parameters
    ----------
    features
        Codes of ``n`` entities in ``k`` fields.
    fields
        ``bool[k]``: those that are in the view.
    dropout
        Chance that a value of a field with several is dropped; one value of each field stays.
    """
    bags = features.bags
    row = bags.row_numbers
    kept: np.ndarray = np.asarray(fields, bool)[row % features.n_fields]
    if not dropout or not len(row):
        return kept
    stays = rng.random(len(row)) >= dropout
    drawn = rng.random(len(row))
    best = np.full(len(bags), -1.0)
    np.maximum.at(best, row, drawn)
    return kept & (stays | (drawn == best[row]))
