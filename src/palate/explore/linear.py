"""Linear models of rewards, learnt row by row, in three forms.

With ``x_r = (1, c_r)`` of a request and ``z_i`` of an item (:mod:`palate.explore.features`)::

    shared      E[reward] = θᵀ (x_r ⊗ (1, z_i))                one θ for all items: what is learnt of one helps all like it
    disjoint    E[reward] = θ_iᵀ x_r                           each item by itself
    hybrid      E[reward] = βᵀ (x_r ⊗ z_i) + θ_iᵀ x_r          both

Shared and disjoint are ridge regressions, ``A = λI + Σ x xᵀ``, ``b = Σ reward x``, ``θ̂ = A⁻¹b``, ``width² = xᵀA⁻¹x``; ``A⁻¹``
follows by the Sherman-Morrison formula. Hybrid is one ridge regression over all its weights at once, whose inverse is kept in
blocks: ``A_i⁻¹`` of each item, ``B_i = Σ x zᵀ``, and the inverse of the Schur complement ``S`` of the shared weights. A row
``(z, x, reward)`` of item ``i`` changes ``S`` by rank one, too::

    u = z - B_iᵀA_i⁻¹x,   g = 1 + xᵀA_i⁻¹x          S ← S + u uᵀ / g,   s ← s + u (reward - xᵀA_i⁻¹b_i) / g
    β = S⁻¹s,   θ_i = A_i⁻¹(b_i - B_i β)             width² = xᵀA_i⁻¹x + uᵀS⁻¹u

Source of the forms: L. Li, W. Chu, J. Langford and R. Schapire, WWW 2010, algorithms 1 (disjoint) and 2 (hybrid), whose sums
with ``A_0`` and ``b_0`` are ``S`` and ``s`` here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import numpy as np

from palate.errors import ConfigError
from palate.explore.features import ArmFeatures
from palate.kernels.ridge import ridge_updates, sherman_morrison

Form = Literal["shared", "disjoint", "hybrid"]
#: Numbers that inverses may take in all.
MOST = 2**27
#: Which items are asked about: numbers, or all of them.
Among = np.ndarray | slice
ALL = slice(None)


class Learner(ABC):
    """A linear model of the rewards of all items.

    Attributes
    ----------
    state
        Its arrays by name; written into as it learns.
    """

    def __init__(self, features: ArmFeatures, state: Mapping[str, np.ndarray]) -> None:
        self.features, self.state = features, dict(state)
        self.items = features.items

    @classmethod
    @abstractmethod
    def begin(cls, features: ArmFeatures, reg: float) -> Learner:
        """Return a model that knows nothing."""

    @property
    @abstractmethod
    def numbers(self) -> int:
        """Numbers that one request takes in :meth:`estimates`."""

    @abstractmethod
    def estimates(self, x: np.ndarray, among: Among = ALL) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and width, ``float64[n, l]`` each, of some items for contexts ``float64[n, width]``."""

    @abstractmethod
    def learn(self, x: np.ndarray, items: np.ndarray, rewards: np.ndarray) -> None:
        """Learn from rows, in their order."""

    def weights(self, rng: np.random.Generator, draws: int, spread: float) -> np.ndarray:
        """Draw weights ``float64[D, m, d]`` from ``N(A⁻¹b, spread² A⁻¹)``."""
        raise NotImplementedError

    def sampled(self, x: np.ndarray, weights: np.ndarray, among: Among = ALL) -> np.ndarray:
        """Return ``float64[n, D, l]``: values of some items under drawn weights."""
        raise NotImplementedError


class _Ridge(Learner):
    """Ridge regressions beside each other."""

    @property
    def _theta(self) -> np.ndarray:
        theta: np.ndarray = np.einsum("mde,me->md", self.state["inverses"], self.state["moments"])
        return theta

    def weights(self, rng: np.random.Generator, draws: int, spread: float) -> np.ndarray:
        root = np.linalg.cholesky(self.state["inverses"])
        noise = rng.standard_normal((draws, *self.state["moments"].shape))
        drawn: np.ndarray = self._theta + spread * np.einsum("mde,sme->smd", root, noise)
        return drawn

    @staticmethod
    def _nothing(m: int, d: int, reg: float) -> dict[str, np.ndarray]:
        _check_size(m * d * d, d)
        return {"inverses": np.repeat(np.eye(d)[None] / reg, m, axis=0), "moments": np.zeros((m, d))}


class _Shared(_Ridge):
    """One regression over ``x_r ⊗ (1, z_i)``."""

    @classmethod
    def begin(cls, features: ArmFeatures, reg: float) -> _Shared:
        return cls(features, cls._nothing(1, features.width * features.items.shape[1], reg))

    @property
    def numbers(self) -> int:
        return len(self.items) * self.state["moments"].shape[1]

    def estimates(self, x: np.ndarray, among: Among = ALL) -> tuple[np.ndarray, np.ndarray]:
        d = self.state["moments"].shape[1]
        mean = self.sampled(x, self._theta[None], among)[:, 0]
        rows = np.einsum("na,lb->nlab", x, self.items[among]).reshape(-1, d)
        square = ((rows @ self.state["inverses"][0]) * rows).sum(axis=1)
        return mean, np.sqrt(np.maximum(square, 0.0)).reshape(mean.shape)

    def sampled(self, x: np.ndarray, weights: np.ndarray, among: Among = ALL) -> np.ndarray:
        grid = weights[:, 0].reshape(len(weights), x.shape[1], self.items.shape[1])
        found: np.ndarray = np.einsum("na,sab->nsb", x, grid, optimize=True) @ self.items[among].T
        return found

    def learn(self, x: np.ndarray, items: np.ndarray, rewards: np.ndarray) -> None:
        rows = np.einsum("na,nb->nab", x, self.items[items]).reshape(len(x), self.state["moments"].shape[1])
        ridge_updates(self.state["inverses"], self.state["moments"], np.zeros(len(x), np.int64), rows, rewards)


class _Disjoint(_Ridge):
    """A regression an item."""

    @classmethod
    def begin(cls, features: ArmFeatures, reg: float) -> _Disjoint:
        return cls(features, cls._nothing(len(features.table), features.width, reg))

    @property
    def numbers(self) -> int:
        return self.state["moments"].size

    def estimates(self, x: np.ndarray, among: Among = ALL) -> tuple[np.ndarray, np.ndarray]:
        inverses = self.state["inverses"][among]
        square = ((x @ inverses) * x).sum(axis=2).T
        theta = np.einsum("mde,me->md", inverses, self.state["moments"][among])
        return x @ theta.T, np.sqrt(np.maximum(square, 0.0))

    def sampled(self, x: np.ndarray, weights: np.ndarray, among: Among = ALL) -> np.ndarray:
        found: np.ndarray = np.einsum("na,sla->nsl", x, weights[:, among], optimize=True)
        return found

    def learn(self, x: np.ndarray, items: np.ndarray, rewards: np.ndarray) -> None:
        ridge_updates(self.state["inverses"], self.state["moments"], items, x, rewards)


class _Hybrid(Learner):
    """Weights that all items share, and weights of each."""

    @classmethod
    def begin(cls, features: ArmFeatures, reg: float) -> _Hybrid:
        m, d = len(features.table), features.width
        h = d * features.table.shape[1]
        _check_size(h * h + m * d * (d + h), h)
        return cls(
            features,
            {
                "shared_inverse": np.eye(h) / reg,
                "shared_moment": np.zeros(h),
                "inverses": np.repeat(np.eye(d)[None] / reg, m, axis=0),
                "moments": np.zeros((m, d)),
                "cross": np.zeros((m, d, h)),
            },
        )

    @property
    def numbers(self) -> int:
        return len(self.items) * len(self.state["shared_moment"])

    def estimates(self, x: np.ndarray, among: Among = ALL) -> tuple[np.ndarray, np.ndarray]:
        s, z = self.state, self.features.table[among]
        inverses, cross = s["inverses"][among], s["cross"][among]
        beta = s["shared_inverse"] @ s["shared_moment"]
        theta = np.einsum("lde,le->ld", inverses, s["moments"][among] - cross @ beta)
        solved = x @ inverses  # [l, n, d]
        shared = np.einsum("na,lb->nlab", x, z).reshape(len(x), len(z), len(beta))
        mean = shared @ beta + x @ theta.T
        apart = shared - np.einsum("lnd,ldh->nlh", solved, cross, optimize=True)
        square = (solved * x).sum(axis=2).T + ((apart @ s["shared_inverse"]) * apart).sum(axis=2)
        return mean, np.sqrt(np.maximum(square, 0.0))

    def learn(self, x: np.ndarray, items: np.ndarray, rewards: np.ndarray) -> None:
        s = self.state
        for own, item, reward in zip(x, items.tolist(), rewards.tolist(), strict=True):
            z = np.outer(own, self.features.table[item]).ravel()
            solved = s["inverses"][item] @ own
            apart, growth = z - solved @ s["cross"][item], 1.0 + float(own @ solved)
            s["shared_moment"] += apart * ((reward - float(solved @ s["moments"][item])) / growth)
            sherman_morrison(s["shared_inverse"], apart, 1.0 / growth)
            sherman_morrison(s["inverses"][item], own)
            s["cross"][item] += np.outer(own, z)
            s["moments"][item] += reward * own


def _check_size(numbers: int, dim: int) -> None:
    if numbers > MOST:
        raise ConfigError(
            f"the inverses would hold {numbers:,} numbers, more than {MOST:,}.",
            where="features",
            value=dim,
            remedy="take fewer features (item_features, context), vectors of fewer columns, or another form",
        )


#: Class of each form.
FORMS: dict[str, type[Learner]] = {"shared": _Shared, "disjoint": _Disjoint, "hybrid": _Hybrid}
