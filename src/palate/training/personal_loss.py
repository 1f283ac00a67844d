"""Personal loss sampling: train on the interactions that cost a person least among a few of their own.

For a person, a pool ``C_u`` of ``k`` items that they had, drawn without replacement, and one item ``j`` that they had not::

    l_uc = softplus(s_uj - s_uc)        p_uc = exp(-l_uc/τ) / Σ_{c' in C_u} exp(-l_uc'/τ)        c* ~ p_u

The step is then taken on ``(u, c*, j)``. Clicks by mistake cost more than others *of the same person*, while across people the
losses overlap; so no threshold over a batch tells them apart. Where losses of a person are normal, ``N(m1, v)`` for true and
``N(m2, v)`` for false interactions, the odds of choosing one of the false rather than one of the true are about
``exp(-(m2 - m1)/τ)``. ``τ = ∞`` or ``k = 1`` is plain sampling, ``τ = 0`` takes the least. What stays unchosen is the noise
report: the mean of ``k p_uc`` over the pools of an interaction is 1 for plain sampling, near 0 for what hardly fits its person.

People are drawn uniformly, not by their number of interactions, before and after the warm-up alike: a comparison with plain
training needs this sampler with ``tau=inf``, else it confounds the two.

Source: K. Zhang et al., "Personalized Denoising Implicit Feedback for Robust Recommender System", WWW 2025, arXiv 2502.00348.
Differences: the losses of the pool come from the same propagation as the step, instead of one more. A person with fewer than
``k`` interactions has a pool drawn with replacement, as in the published code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from palate.errors import ConfigError
from palate.training.samplers import Unseen
from palate.training.triples import Triples

Loss = Literal["bpr", "bce"]


@dataclass(frozen=True, eq=False)
class Pools:
    """A batch: people, pools of what they had, and what they had not.

    Attributes
    ----------
    users
        ``int32[m]``.
    places
        ``int64[m, k]`` places of the pool's interactions among all training pairs, people by people.
    candidates
        ``int32[m, k]`` their items.
    negatives
        ``int32[m]`` (-1 for a person who has had everything).
    chances
        ``float32[m]`` in [0, 1), what decides between the candidates.
    """

    users: np.ndarray
    places: np.ndarray
    candidates: np.ndarray
    negatives: np.ndarray
    chances: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


class PersonalLossSampler(nn.Module):
    """Draws pools, chooses from them by loss, and keeps how likely each interaction was to be chosen.

    Parameters
    ----------
    k
        Interactions of a pool.
    tau
        τ; infinity chooses uniformly, 0 the least loss.
    warmup
        Epochs of plain training before (losses say nothing at first): pools of one.

    Notes
    -----
    It is a torch module: its sums are saved with checkpoints and with the best epoch. Call :meth:`bind` first.
    """

    total: Tensor
    drawn: Tensor

    def __init__(self, k: int = 5, tau: float = 0.1, warmup: int = 5) -> None:
        super().__init__()
        for name, value, good in (("k", k, k >= 1), ("tau", tau, tau >= 0), ("warmup", warmup, warmup >= 0)):
            if not good:
                raise ConfigError("a pool needs k >= 1, tau >= 0 and warmup >= 0.", where=name, value=value)
        self.k, self.tau, self.warmup = k, tau, warmup

    def bind(self, matrix: sparse.csr_matrix) -> PersonalLossSampler:
        """Take the training pairs (users x items); return self."""
        self.unseen = Unseen(matrix)
        self.people = np.flatnonzero(np.diff(self.unseen.offsets)).astype(np.int32)
        n = len(self.unseen.columns)
        self.register_buffer("total", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("drawn", torch.zeros(n, dtype=torch.int64))
        return self

    def epoch(self, number: int, batch_size: int, rng: np.random.Generator) -> PoolEpoch:
        """Return the batches of an epoch (from 1): as many draws as there are training pairs."""
        return PoolEpoch(self, 1 if number <= self.warmup else self.k, batch_size, rng)

    def draw(self, users: np.ndarray, k: int, rng: np.random.Generator) -> Pools:
        """Return pools of people who have had something."""
        starts = self.unseen.offsets[users]
        places = starts[:, None] + positions(self.unseen.offsets[users + 1] - starts, k, rng)
        negatives = self.unseen.sample_for(rng, users)
        return Pools(users, places, self.unseen.columns[places], negatives, rng.random(len(users), np.float32))

    @torch.no_grad()
    def choose(self, losses: Tensor, pools: Pools) -> np.ndarray:
        """Return ``int64[m]``, the column of the candidate that each pool trains on, given ``[m, k]`` losses; note the chances.

        Pools of one and people without a negative are not noted: there was no choice.
        """
        p = selection(losses, self.tau)
        edges = p.cumsum(1)
        aim = torch.from_numpy(pools.chances).to(p)[:, None] * edges[:, -1:]
        found = (edges <= aim).sum(1).clamp(max=p.shape[1] - 1)
        if p.shape[1] > 1:
            told = torch.from_numpy(pools.negatives >= 0)
            places = torch.from_numpy(pools.places)[told].reshape(-1).to(self.total.device)
            weights = (p.double() * p.shape[1])[told.to(p.device)].reshape(-1).to(self.total.device)
            self.total.index_add_(0, places, weights)
            self.drawn.index_add_(0, places, torch.ones_like(places))
        chosen: np.ndarray = found.cpu().numpy()
        return chosen

    @torch.no_grad()
    def triples(self, pools: Pools, vectors: Tensor, n_users: int, loss: Loss = "bpr") -> Triples:
        """Return what the pools train on, judged by final vectors ``float32[nodes, d]`` (people first); note the chances."""
        device, n = vectors.device, np.int64(n_users)
        nodes, others = pools.candidates + n, np.maximum(pools.negatives, 0) + n
        own = vectors[torch.from_numpy(pools.users.astype(np.int64)).to(device)]
        rival = (own * vectors[torch.from_numpy(others).to(device)]).sum(1)
        scores = torch.einsum("md,mkd->mk", own, vectors[torch.from_numpy(nodes).to(device)])
        chosen = self.choose(loss_of(loss)(scores, rival[:, None]), pools)
        return Triples(pools.users, pools.candidates[np.arange(len(pools)), chosen], pools.negatives)

    @property
    def weights(self) -> np.ndarray:
        """``float32`` by training pair: the mean of ``k p`` over its pools; 1 is neutral, NaN was in none."""
        total, drawn = self.total.cpu().numpy(), self.drawn.cpu().numpy()
        return np.where(drawn > 0, total / np.maximum(drawn, 1), np.nan).astype(np.float32)


def loss_of(kind: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of items that a person had, given the score of one that they had not."""
    if kind == "bpr":
        return lambda scores, other: functional.softplus(other - scores)
    return lambda scores, other: functional.softplus(-scores)


def selection(losses: Tensor, tau: float) -> Tensor:
    """Return ``p``: ``[m, k]`` chances to be chosen, ``softmax(-l/τ)`` within each row; τ = 0 gives the least all."""
    if math.isinf(tau):
        return torch.full_like(losses, 1 / losses.shape[1])
    if tau == 0:
        return torch.zeros_like(losses).scatter_(1, losses.argmin(1, keepdim=True), 1.0)
    return torch.softmax(-losses / tau, 1)


def positions(lengths: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``int64[m, k]``: of rows of these lengths (at least 1), ``k`` places without replacement; with it in shorter rows.

    Every ordered sample is equally likely: draws that repeat within a row are drawn again, all of the row.
    """
    out = (rng.random((len(lengths), k)) * lengths[:, None]).astype(np.int64)
    again = np.flatnonzero(lengths >= k)
    dense = again[lengths[again] < k * k]  # where repeats are likely, a random order is quicker
    for length in np.unique(lengths[dense]):
        rows = dense[lengths[dense] == length]
        out[rows] = rng.random((len(rows), length)).argsort(1)[:, :k]
    again = again[lengths[again] >= k * k]
    while len(again) and k > 1:
        drawn = np.sort(out[again], 1)
        again = again[(drawn[:, 1:] == drawn[:, :-1]).any(1)]
        out[again] = (rng.random((len(again), k)) * lengths[again, None]).astype(np.int64)
    return out


class PoolEpoch:
    """The batches of an epoch, drawn when they are due."""

    def __init__(self, sampler: PersonalLossSampler, k: int, batch_size: int, rng: np.random.Generator) -> None:
        self.sampler, self.k, self.batch_size, self.rng = sampler, k, batch_size, rng

    def __len__(self) -> int:
        return -(-len(self.sampler.unseen.columns) // self.batch_size)

    def __iter__(self) -> Iterator[Pools]:
        people, left = self.sampler.people, len(self.sampler.unseen.columns)
        while left > 0:
            size = min(self.batch_size, left)
            yield self.sampler.draw(people[self.rng.integers(len(people), size=size)], self.k, self.rng)
            left -= size
