"""Shapley values: a prediction as a sum of parts of its fields, for rankers that have no parts of their own.

The fields N of a row x are players. What a set S of them is worth is the mean answer of rows that take the fields of S from x
and all others from a row b of the background (training rows that the ranker keeps)::

    v(S) = mean_b f(x_S, b_{N∖S})
    φ_i  = Σ_{S ⊆ N∖i} |S|! (n-|S|-1)! / n! · [ v(S ∪ i) - v(S) ]
    f(x) = v(∅) + Σ_i φ_i

Up to :data:`EXACT` fields that differ from the background φ is exact. With more, it is what a field adds when it joins those
before it, on average over :data:`ORDERS` random orders of the fields and their reverses; φ is then an estimate (exact where no
more than two fields act together), and the sum is as exact as before. A list, text or sequence is one player, as are sequences
that go together. A cross is none: it follows from the fields that it joins.

Sources: L. Shapley, "A Value for n-Person Games", 1953; E. Štrumbelj and I. Kononenko, "An Efficient Explanation of Individual
Classifications using Game Theory", JMLR 2010 (orders drawn at random); S. Lundberg and S. Lee, "A Unified Approach to
Interpreting Model Predictions", NeurIPS 2017. By the library shap, which may only draw from numpy's global generator: it is
given a seed, and put back as it was.
Limit: fields are taken as independent, so some rows that are asked about never occur.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from palate.data.row_encoder import Encoded, RowEncoder
from palate.extras import require

#: Fields that differ from the background up to which all their subsets are tried; else, how many orders are drawn.
EXACT, ORDERS = 8, 10
#: Rows that are answered at a time.
BLOCK = 8_192

_global_draws = threading.Lock()


@dataclass(frozen=True)
class Parts:
    """A prediction in parts.

    Attributes
    ----------
    values
        ``float64[n]``: the part of each player.
    base
        The mean answer of the background.
    exact
        Whether the parts are exact Shapley values, and no estimates.
    """

    values: np.ndarray
    base: float
    exact: bool


def shapley(
    answer: Callable[[Encoded], np.ndarray],
    encoder: RowEncoder,
    background: Encoded,
    row: Encoded,
    players: Sequence[Sequence[str]],
    *,
    who: str,
    seed: int = 0,
) -> Parts:
    """Return the part of each player in the answer of one row; they add up to the answer less the base.

    Parameters
    ----------
    answer
        Returns ``float64[n]`` of rows.
    background
        The rows that stand for a field that is not known, at least one.
    players
        Names of the fields of each player.
    who
        Who needs the library shap, for the error where it is absent.
    seed
        Fixes the orders that are drawn.

    Raises
    ------
    MissingExtraError
        If shap is not installed.
    """
    shap = require("shap", who)
    pool = Encoded(np.concatenate([background.codes, row.codes]), np.concatenate([background.numbers, row.numbers]))
    columns = [_columns(encoder, names) for names in players]
    sources = np.stack([_first_alike(pool, codes, numbers) for codes, numbers in columns], 1)

    def answers(given: np.ndarray) -> np.ndarray:
        n = len(given)
        made = Encoded(np.zeros((n, pool.codes.shape[1]), np.int32), np.zeros((n, pool.numbers.shape[1]), np.float32))
        for at, (codes, numbers) in enumerate(columns):
            made.codes[:, codes] = pool.codes[given[:, at, None], codes]
            made.numbers[:, numbers] = pool.numbers[given[:, at, None], numbers]
        return np.asarray(answer(encoder.crossed_anew(made)), np.float64)

    mask, x = _Mask(sources[:-1]), sources[-1:]
    differing = int((~mask.invariants(x[0])).any(0).sum())
    if not differing:
        return Parts(np.zeros(len(players)), float(answers(x)[0]), True)
    settings: dict[str, Any] = {"silent": True, "batch_size": max(1, BLOCK // len(background))}
    if differing <= EXACT:
        found = shap.explainers.Exact(answers, mask)(x, max_evals=2**differing, **settings)
    else:
        with _drawing(seed):
            explainer = shap.explainers.Permutation(answers, mask, seed=seed)
            found = explainer(x, max_evals=ORDERS * (2 * differing + 1), **settings)
    return Parts(np.asarray(found.values[0], np.float64), float(found.base_values[0]), differing <= EXACT)


class _Mask:
    """From sets of players to rows of sources: for each player the place in the pool that its values come from."""

    immutable_outputs = True

    def __init__(self, background: np.ndarray) -> None:
        self.background, self.shape = background, background.shape

    def __call__(self, mask: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (np.where(mask, x, self.background),)

    def invariants(self, x: np.ndarray) -> np.ndarray:
        """Return ``bool[b, n]``: where the background has the values of the row itself."""
        return np.asarray(self.background == x)


def _columns(encoder: RowEncoder, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of codes and of numbers that hold some fields."""
    layout, codes, numbers = encoder.layout, list[int](), list[int]()
    spans = {**layout.bags, **layout.sequences}
    for name in names:
        if name in spans:
            codes += range(*spans[name])
        elif name in layout.numbers:
            numbers.append(layout.numbers.index(name))
        else:
            codes.append(layout.single.index(name))
    return np.array(codes, np.int64), np.array(numbers, np.int64)


def _first_alike(pool: Encoded, codes: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return ``int64[n]``: for each row of the pool the first one with the same values in some columns."""
    both = np.concatenate([pool.codes[:, codes].astype(np.float64), pool.numbers[:, numbers]], 1)
    _, first, place = np.unique(both, axis=0, return_index=True, return_inverse=True)
    found: np.ndarray = first[place.reshape(-1)]
    return found


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """Let a library draw from numpy's global generator, one at a time, and put it back as it was."""
    with _global_draws:
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
