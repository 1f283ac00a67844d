"""Recommenders made of :class:`palate.training.all_pairs.Factors`: vectors and biases, with one fold-in for all people.

    score(u, j) = <v_u(H), q_j> + b_j + b_u(H)
    v_u(H) = v_u - F(H_u) + F(H),     F(H) = c + 1/√|H| Σ_{i in H} W w_i q_i

``w_i`` weighs a click on item ``i``; ``W`` and ``c`` are the ridge regression of what was trained for people (vectors and
biases) on the weighted sums of their histories. With the training history the vector is the trained one; an unseen person gets
``F(H)``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from palate.contracts.requests import Requests
from palate.data.histories import Histories
from palate.data.split import HeldOut
from palate.errors import DataError
from palate.recommend.folded import FoldedRecommender, fold, ridge
from palate.training.all_pairs import Factors

#: Propensities of held-out clicks below this are raised to it, so that one click can't decide a validation.
FLOOR = 1e-3


class PairFactorsRecommender(FoldedRecommender):
    """Base of these; ``_fit`` sets ``theta_``, trains factors, and calls :meth:`_take`.

    Attributes
    ----------
    theta_
        ``float64[n_items]``, propensities before clipping.
    """

    theta_: np.ndarray

    def _take(self, factors: Factors, histories: Histories, weights: np.ndarray) -> None:
        """Set the arrays that answer: columns are the vector, the item's bias, and the person's bias with the whole's.

        Parameters
        ----------
        weights
            ``float[n_items]``, ``w``.
        """
        people, items, by_person, by_item, whole = factors.arrays()
        own = np.hstack([people, np.zeros((len(people), 1)), by_person[:, None]])
        active = histories.lengths > 0
        weighted = np.where(self.item_counts_ > 0, weights, 0)[:, None] * items
        inputs = np.hstack([fold(histories, weighted.astype(np.float32)), np.ones((len(people), 1), np.float32)])
        best = ridge(inputs[active], own[active]) if active.any() else np.zeros((inputs.shape[1], own.shape[1]))
        self.item_vectors_ = np.hstack([items, by_item[:, None], np.ones((len(items), 1))]).astype(np.float32)
        self.shares_ = (weighted @ best[:-1]).astype(np.float32)
        rest = own - best[-1] - fold(histories, self.shares_)
        self.own_ = np.where(active[:, None], rest, 0).astype(np.float32)
        self.common_ = best[-1].astype(np.float32)
        self.common_[-2:] += np.array([1.0, whole], np.float32)

    @property
    def _directions(self) -> np.ndarray:
        """Item vectors without the biases."""
        return self.item_vectors_[:, :-2]

    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "theta": self.theta_}

    def _restore(self, state: dict[str, np.ndarray]) -> None:  # type: ignore[override]
        super()._restore(state)
        self.theta_ = state["theta"]

    def held_out_loss(self, held_out: HeldOut, theta: np.ndarray | None = None) -> float:
        """Return the unbiased estimate of the mean loss over pairs without a training click, from held-out clicks.

        Parameters
        ----------
        held_out
            Clicks left out at random.
        theta
            ``float[n_items]`` propensities; by default those that the model was trained with, before clipping.

        Raises
        ------
        DataError
            If the model knows none of the people asked about, or the propensities have another length.
        """
        self._check_fitted()
        return self._held_out_loss(held_out, theta)

    def _held_out_loss(self, held_out: HeldOut, theta: np.ndarray | None = None) -> float:
        """Return that of the arrays as they are."""
        raise NotImplementedError

    def _judge(self, held_out: HeldOut | None, histories: Histories, weights: np.ndarray) -> Callable[[Factors], float] | None:
        """Return what judges factors by held-out clicks, higher is better; nothing where none are held out."""
        if held_out is None or not len(held_out):
            return None

        def judged(factors: Factors) -> float:
            self._take(factors, histories, weights)
            return -self._held_out_loss(held_out)

        return judged

    def _weigh_held_out(self, held_out: HeldOut, theta: np.ndarray | None) -> tuple[np.ndarray, HeldOut, np.ndarray]:
        """Return vectors of the people whom the model knows, their questions, and ``float64[n_items]`` weights of answers."""
        used = self.theta_ if theta is None else np.asarray(theta, np.float64)
        if used.shape != (self.n_items,):
            raise DataError("propensities have one number an item.", where="theta", value=list(used.shape))
        requests = Requests.of_held_out(held_out)
        rows = np.flatnonzero(self._informed(requests))
        if not len(rows):
            raise DataError("the model knows none of the people asked about.", where="held_out")
        asked = held_out.take(rows)
        weights = 1 / held_out_propensity(np.maximum(used, FLOOR), held_out_share(asked))
        return self.request_vectors(requests.take(rows)), asked, weights


def held_out_share(held_out: HeldOut) -> float:
    """Return ``f``, the share of the clicks of these people that is held out."""
    answers, known = len(held_out.truth.values), len(held_out.histories.ragged.distinct.values)
    return answers / max(1, answers + known)


def held_out_propensity(theta: np.ndarray, share: float) -> np.ndarray:
    """Return ``θ f / (1 - (1-f) θ)``: the chance that a relevant pair without a training click is among those held out."""
    found: np.ndarray = theta * share / (1 - (1 - share) * theta)
    return found
