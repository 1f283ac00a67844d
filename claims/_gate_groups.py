"""Groups of gates for the claim on AW-MoE: are people whose experts are weighed alike of one type?"""

from __future__ import annotations

import numpy as np
from scipy.cluster.vq import kmeans2

from palate.runtime import generator
from palate.study.claims import Effect
from palate.study.effects import seed_shares


def rand_index(first: np.ndarray, second: np.ndarray) -> float:
    """Return the adjusted Rand index of two groupings (Hubert and Arabie 1985): 0 by chance, 1 where they are the same."""
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)
    pairs = [(x * (x - 1) / 2).sum() for x in (table, table.sum(1), table.sum(0))]
    chance = pairs[1] * pairs[2] / (len(first) * (len(first) - 1) / 2)
    return float((pairs[0] - chance) / ((pairs[1] + pairs[2]) / 2 - chance))


def gates_against_types(gates: np.ndarray, kinds: np.ndarray, known: np.ndarray, resamples: int) -> Effect:
    """Return how well groups of gates are the types of people, a mean over seeds, with an interval over people and seeds.

    Parameters
    ----------
    gates
        ``float64[seeds, people, k]``: weights of experts.
    kinds
        ``int64[people]``: types; as many groups are made.
    known
        ``bool[people]``: the people who are grouped.
    resamples
        Draws of people; groups stay as they are.
    """
    scaled = (gates - gates.mean(1, keepdims=True)) / np.maximum(gates.std(1, keepdims=True), 1e-9)
    k = len(np.unique(kinds))
    groups = [kmeans2(own[known], k, minit="++", rng=generator(0, "groups", at))[1] for at, own in enumerate(scaled)]
    truth, rng = kinds[known], generator(0, "bootstrap")
    drawn = [rng.integers(len(truth), size=len(truth)) for _ in range(resamples)]
    values = [[rand_index(own[rows], truth[rows]) for own in groups] for rows in drawn]
    shares = seed_shares(len(groups), resamples, rng)
    low, high = np.percentile((np.array(values) * shares).sum(1), [2.5, 97.5])
    each = [rand_index(own, truth) for own in groups]
    return Effect(float(np.mean(each)), float(low), float(high), {"by seed": each, "people": len(truth)})
