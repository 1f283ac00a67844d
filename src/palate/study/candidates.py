"""Sampled candidates, for those who ask: answers among a few negatives, with the label that every output then carries.

Ranking a sample is quick, and may order systems otherwise than ranking the catalogue does
(:func:`palate.evaluation.metrics.sampling.sampled_hit_probability`), so nothing here happens unless asked for.
"""

from __future__ import annotations

import numpy as np

from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import ConfigError, DataError
from palate.training.samplers import Popularity, Uniform

#: Rounds of drawing and rejecting before the items left are weighed one by one.
ROUNDS = 16


def sample_candidates(
    held_out: HeldOut,
    n_items: int,
    n: int,
    rng: np.random.Generator,
    *,
    item_counts: np.ndarray | None = None,
    power: float = 1.0,
) -> tuple[Ragged, str]:
    """Draw ``n`` distinct negatives a question, and put the answers among them.

    Parameters
    ----------
    held_out
        Questions; negatives are neither answers nor items of the history.
    n_items
        Size of the catalogue.
    item_counts
        Training interactions: negatives are then drawn by ``count ** power``, one after another; ``None`` draws uniformly.

    Returns
    -------
    candidates, sampled
        What :func:`palate.study.evaluate.evaluate` takes under these names. Items of a row are in ascending order.

    Raises
    ------
    DataError
        If a question has fewer than ``n`` items to draw from.
    """
    if n < 1:
        raise ConfigError("there must be a negative.", where="n", value=n)
    sampler = Uniform(n_items) if item_counts is None else Popularity(item_counts, power)
    taken = np.zeros(n_items, bool)
    rows = []
    for row in range(len(held_out)):
        answers = held_out.truth[row]
        taken[:] = False
        taken[answers] = taken[held_out.histories.ragged[row]] = True
        free = int(np.count_nonzero(~taken & (sampler.q > 0)))
        if free < n:
            raise DataError("there are too few items to draw from.", where=f"question {row}", value=free, remedy=f"lower n={n}")
        rows.append(np.union1d(answers, _draw(sampler, taken, n, free, rng)).astype(np.int32))
    kind = "uniform" if item_counts is None else f"popularity^{power:g}"
    return Ragged.from_rows(rows), f"{n} {kind} negatives"


def _draw(sampler: Uniform | Popularity, taken: np.ndarray, n: int, free: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``n`` distinct items that are not taken, in the chances of the sampler; marks them as taken."""
    found = np.empty(0, np.int32)
    for _ in range(ROUNDS if free >= 2 * n else 0):
        drawn = sampler.sample(rng, (2 * n,))
        drawn = drawn[~taken[drawn]]
        _, first = np.unique(drawn, return_index=True)
        fresh = drawn[np.sort(first)][: n - len(found)]
        taken[fresh] = True
        found = np.concatenate([found, fresh])
        if len(found) == n:
            return found
    left = np.flatnonzero(~taken & (sampler.q > 0))
    rest = rng.choice(left, n - len(found), replace=False, p=sampler.q[left] / sampler.q[left].sum())
    return np.concatenate([found, rest])
