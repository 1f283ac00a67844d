"""The model behind SlateTS: posteriors of items, groups, dynamics and no-click, and their likelihood on a batch of slates.

Equations are in :mod:`palate.explore.slate_thompson`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from palate.nn.gaussian import MIN_SCALE, Gaussian, normal_kl
from palate.nn.slate_likelihood import negative_distance, slate_log_likelihood
from palate.nn.user_dynamics import MATRICES, Dynamics, Weights, amortised_start, state_path
from palate.training.slates import SlateBatch

#: Least, largest and first factor of the scale of a start state.
GAIN = (1e-3, 5.0, 0.2)


@dataclass(frozen=True)
class Priors:
    """Standard deviations of the priors.

    Attributes
    ----------
    group
        κ_μ of groups' means; of items where they have no groups.
    spread
        κ_σ of groups' spreads.
    weights
        κ of the unit's matrices.
    start
        Of start states.
    """

    group: float
    spread: float
    weights: float
    start: float


class SlateModel(nn.Module):
    """Posteriors and likelihood.

    Parameters
    ----------
    group
        ``int64[n_items]`` group of each item.
    n_groups, n_slots, dim
        Groups; most slots of a slate, that of no click included; length of vectors.
    priors, max_scale
        Standard deviations of priors; largest one of posteriors.
    flat
        Whether items have no groups (and go through tanh).
    """

    group: Tensor

    def __init__(
        self, group: np.ndarray, n_groups: int, n_slots: int, dim: int, priors: Priors, max_scale: float, flat: bool
    ) -> None:
        super().__init__()
        self.priors, self.flat = priors, flat
        self.register_buffer("group", torch.from_numpy(np.asarray(group, np.int64)))
        self.items = Gaussian(len(group), dim, max_scale=max_scale)
        self.group_mean = Gaussian(n_groups, dim, max_scale=max_scale)
        self.group_scale = Gaussian(n_groups, dim, max_scale=max_scale)
        self.no_click = Gaussian(n_slots, max_scale=max_scale)
        self.gamma = Gaussian(1, max_scale=max_scale)
        self.matrices = Gaussian(len(MATRICES), dim, dim, max_scale=max_scale)
        self.gain_raw = nn.Parameter(torch.zeros(()))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Give every posterior its start."""
        n, dim = self.items.mean.shape
        self.items.reset(0.1 * torch.randn(n, dim, generator=generator), min(0.3, self.items.max_scale / 2))
        self.group_mean.reset(0.0, min(0.3, self.items.max_scale / 2))
        self.group_scale.reset(self.priors.spread, min(0.1, self.items.max_scale / 2))
        self.no_click.reset(0.0, min(0.1, self.items.max_scale / 2))
        self.gamma.reset(0.5, min(0.05, self.items.max_scale / 2))
        start = torch.zeros_like(self.matrices.mean)
        start[MATRICES.index("in")] = start[MATRICES.index("z")] = torch.eye(dim)
        start += 0.1 / dim**0.5 * torch.randn(start.shape, generator=generator)
        self.matrices.reset(start, min(0.05, self.items.max_scale / 2))
        low, high, first = GAIN
        self.gain_raw.fill_(float(np.log((first - low) / (high - first))))

    @property
    def gain(self) -> Tensor:
        """Factor of the scale of start states."""
        low, high, _ = GAIN
        return low + (high - low) * torch.sigmoid(self.gain_raw)

    def vectors(self, generator: torch.Generator, rows: Tensor | None = None, noise: float = 1.0) -> Tensor:
        """Return a joint draw ``float[m, d]`` of the vectors of some items, as they are used."""
        drawn = self.items.draw(generator, rows, noise)
        return torch.tanh(drawn) if self.flat else drawn

    def weights(self, generator: torch.Generator, noise: float = 1.0) -> Weights:
        """Return a joint draw of what moves states."""
        return Weights(self.gamma.draw(generator, noise=noise), self.matrices.draw(generator, noise=noise))

    def start(self, rows: Tensor, clicks: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale ``float[b, d]`` of start states, from clicks ``int64[b, c]`` (places in ``rows``)."""
        mean, scale = self.items.mean[rows], self.items.scale_of(rows)
        if self.flat:  # the variance behind tanh, by its slope
            mean = torch.tanh(mean)
            scale = scale * (1 - mean.square())
        return amortised_start(mean[clicks], scale[clicks], known, self.gain, self.priors.start)

    def log_likelihood(
        self, batch: SlateBatch, kind: Dynamics, generator: torch.Generator, noise: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return ``float[s]`` log probabilities of a batch's events under one joint draw, and the start states' divergence."""
        rows, clicks = torch.from_numpy(batch.rows), torch.from_numpy(batch.clicks)
        lengths, known = torch.from_numpy(batch.lengths), torch.from_numpy(batch.known)
        vectors = self.vectors(generator, rows, noise)
        mean, scale = self.start(rows, clicks, known)
        start = mean if noise == 0 else mean + noise * scale * torch.randn(mean.shape, generator=generator)
        path = state_path(kind, start, vectors[clicks], lengths, self.weights(generator, noise))
        states = path[torch.from_numpy(batch.window), torch.from_numpy(batch.state)]
        scores = negative_distance(states, vectors[torch.from_numpy(batch.items)])
        slots = torch.from_numpy(batch.slots).clamp_max(len(self.no_click.mean) - 1)
        silent = self.no_click.draw(generator, noise=noise)[slots]
        found = slate_log_likelihood(scores, silent, torch.from_numpy(batch.used), torch.from_numpy(batch.slot))
        return found, normal_kl(mean, scale, 0.0, self.priors.start).sum()

    def item_divergence(self, rows: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return the divergence of some items from their prior, under one draw of the groups (a scalar)."""
        at = torch.from_numpy(rows)
        if self.flat:
            return self.items.kl(0.0, self.priors.group, at)
        own = self.group[at]
        mean = self.group_mean.draw(generator)[own]
        scale = self.group_scale.draw(generator).abs().clamp_min(MIN_SCALE)[own]
        return self.items.kl(mean, scale, at)

    def other_divergence(self, kind: Dynamics) -> Tensor:
        """Return the divergence of groups, no-click logits and dynamics from their priors (a scalar)."""
        total = self.no_click.kl(0.0, 1.0)
        if not self.flat:
            total = total + self.group_mean.kl(0.0, self.priors.group) + self.group_scale.kl(0.0, self.priors.spread)
        if kind in ("linear", "linear_gru"):
            total = total + self.gamma.kl(0.5, 0.3)
        if kind in ("gru", "linear_gru"):
            total = total + self.matrices.kl(0.0, self.priors.weights)
        return total

    def learn(self, part: Literal["all", "items", "people"], kind: Dynamics) -> list[nn.Parameter]:
        """Say which parameters are to be learnt, and return them: items with what they need, the people's side, or both."""
        gated, mixed = kind in ("gru", "linear_gru"), kind in ("linear", "linear_gru")
        chosen = {
            "items": part != "people",
            "group_mean": part != "people" and not self.flat,
            "group_scale": part != "people" and not self.flat,
            "no_click": True,
            "gain_raw": True,
            "gamma": mixed,
            "matrices": gated,
        }
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(chosen[name.split(".")[0]])
        return [p for p in self.parameters() if p.requires_grad]

    @torch.no_grad()
    def settle(self, rows: np.ndarray) -> None:
        """Put the posteriors of items of which nothing is known at what their prior says, given the groups' posteriors."""
        at = torch.from_numpy(np.asarray(rows, np.int64))
        if self.flat:
            shape = (len(at), self.items.mean.shape[1])
            self.items.assign(at, torch.zeros(shape), torch.full(shape, self.priors.group))
            return
        own = self.group[at]
        mean, spread = self.group_mean, self.group_scale
        variance = mean.scale.square() + spread.mean.square() + spread.scale.square()
        self.items.assign(at, mean.mean[own], variance.sqrt()[own])

    @torch.no_grad()
    def scales(self, new: np.ndarray) -> dict[str, float]:
        """Return means of posterior standard deviations (``new``: ``bool[n_items]`` never shown), and a distance of items."""
        means, own, never = self.items.mean.double(), self.items.scale.mean(1), torch.from_numpy(new)
        found = {"item": own.mean(), "matrices": self.matrices.scale.mean(), "gamma": self.gamma.scale.mean()}
        found["distance between items"] = (2 * means.var(0, correction=0).sum()).sqrt()
        if new.any():
            found["never shown"] = own[never].mean()
        return {name: float(value) for name, value in found.items()}

    # -- choosing -------------------------------------------------------------------------------

    @torch.no_grad()
    def states(
        self,
        rows: np.ndarray,
        vectors: Tensor,
        clicks: np.ndarray,
        lengths: np.ndarray,
        kind: Dynamics,
        generator: torch.Generator,
        noise: float,
    ) -> Tensor:
        """Return ``float32[n, d]``: states after all clicks (``int64[n, c]``, places in ``rows`` and in their ``vectors``)."""
        at, n = torch.from_numpy(clicks), torch.from_numpy(lengths)
        mean, scale = self.start(torch.from_numpy(rows), at, n)
        start = mean if noise == 0 else mean + noise * scale * torch.randn(mean.shape, generator=generator)
        path = state_path(kind, start, vectors[at], n, self.weights(generator, noise))
        return path[torch.arange(len(n)), n]

    @torch.no_grad()
    def values(
        self,
        pool: np.ndarray,
        clicks: np.ndarray,
        lengths: np.ndarray,
        kind: Dynamics,
        draws: int,
        generator: torch.Generator,
        noise: float,
    ) -> np.ndarray:
        """Return ``float32[n, D, p]``: ``<z, v> - ‖v‖²/2`` under every joint draw, which ranks as ``-‖z - v‖``.

        Parameters
        ----------
        pool
            ``int32[n, p]`` items, -1 last (anything may stand there in the answer).
        clicks, lengths
            ``int64[n, c]`` items of the histories, and how many of each row count.
        """
        rows = np.unique(np.concatenate([pool[pool >= 0], clicks.ravel()])).astype(np.int64)
        places = torch.from_numpy(np.searchsorted(rows, np.maximum(pool, rows[0])))
        at, found = np.searchsorted(rows, clicks), np.empty((len(pool), draws, pool.shape[1]), np.float32)
        few = len(rows) <= 4 * pool.shape[1]
        for number in range(draws):
            vectors = self.vectors(generator, torch.from_numpy(rows), noise)
            states = self.states(rows, vectors, at, lengths, kind, generator, noise)
            if few:
                inner = (states @ vectors.T).gather(1, places)
            else:
                inner = torch.bmm(vectors[places], states[:, :, None])[:, :, 0]
            found[:, number] = (inner - half_norms(vectors)[places]).numpy()
        return found


def half_norms(vectors: Tensor) -> Tensor:
    """Return ``‖v‖²/2`` of each row."""
    return vectors.square().sum(1) / 2
