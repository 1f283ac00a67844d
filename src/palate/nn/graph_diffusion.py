"""Diffusion over the rows of a graph's adjacency: a denoising network that says which links of a row are to be expected.

    z_t = √ᾱ_t z_0 + √(1 - ᾱ_t) ε,     ᾱ_t = Π_{s<=t} (1 - β_s)
    ẑ = f(z_t, t) = W₂ tanh(W₁ [drop(z_t/|z_t|) ‖ W_τ τ(t)])
    ELBO_t = w_t mean (z_0 - ẑ)²,     w_t = SNR(t-1) - SNR(t),  w_0 = 1,  SNR = ᾱ/(1 - ᾱ)
    back:  z_{t-1} = c₁ f(z_t, t) + c₂ z_t,     c₁ = β_t √ᾱ_{t-1}/(1 - ᾱ_t),  c₂ = (1 - ᾱ_{t-1}) √α_t/(1 - ᾱ_t)

Rows are kept sparse, and a block of them is made dense when it is worked on.

Source: Y. Jiang et al., "DiffKG", WSDM 2024, equations 5 to 11, after J. Ho et al., NeurIPS 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from palate.nn.affine import affine
from palate.nn.dropout import OFF, Dropout

#: Share of a row's numbers that a training step drops before the network sees them.
DROP = 0.5
#: Width of the encoding of a step.
TIME = 10
#: The first step's β, whatever the schedule says.
FIRST_BETA = 1e-4


@dataclass(frozen=True)
class Schedule:
    """How much noise each of ``T`` steps adds.

    Attributes
    ----------
    betas, alpha_bars
        ``float64[T]``, β_t and ᾱ_t.
    """

    betas: np.ndarray
    alpha_bars: np.ndarray

    @classmethod
    def linear(cls, steps: int, low: float, high: float) -> Schedule:
        """Let the variance ``1 - ᾱ`` rise evenly from ``low`` to ``high``; the first β is :data:`FIRST_BETA`."""
        wanted = 1 - np.linspace(low, high, steps)
        betas = np.append(FIRST_BETA, 1 - wanted[1:] / wanted[:-1])
        return cls(betas, np.cumprod(1 - betas))

    def __len__(self) -> int:
        return len(self.betas)

    @property
    def loss_weights(self) -> np.ndarray:
        """``float64[T]``: ``w_t``."""
        ratio = self.alpha_bars / (1 - self.alpha_bars)
        return np.append(1.0, ratio[:-1] - ratio[1:])

    @property
    def back(self) -> tuple[np.ndarray, np.ndarray]:
        """``c₁`` and ``c₂`` of each step, ``float64[T]``."""
        before, rest = np.append(1.0, self.alpha_bars[:-1]), 1 - self.alpha_bars
        return self.betas * np.sqrt(before) / rest, (1 - before) * np.sqrt(1 - self.betas) / rest


class Denoiser(nn.Module):
    """f: a row with noise, and how much of it, to the row without."""

    def __init__(self, width: int, hidden: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.time, self.first, self.second = (
            _linear(rng, wide, narrow) for wide, narrow in ((TIME, TIME), (width + TIME, hidden), (hidden, width))
        )

    def forward(self, z: Tensor, steps: Tensor, drop: Dropout = OFF) -> Tensor:
        """Return ``float32[n, width]``: the rows as they should be; ``steps`` is ``int64[n]``."""
        reads, own = self.reads
        told = self.timed(steps) @ own.T + self.first.bias
        hidden = torch.tanh(affine(drop(functional.normalize(z, dim=1)), reads) + told)
        return affine(hidden, self.second.weight, self.second.bias)

    @property
    def reads(self) -> tuple[Tensor, Tensor]:
        """W₁ for the row, and for the step."""
        first: Tensor = self.first.weight
        return first[:, :-TIME], first[:, -TIME:]

    def timed(self, steps: Tensor) -> Tensor:
        """Return what the network is told of steps."""
        out: Tensor = self.time(encoded(steps))
        return out


def _linear(rng: np.random.Generator, wide: int, narrow: int) -> nn.Linear:
    # Made without torch's own first weights: those would come from the global generator.
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, wide, narrow)  # type: ignore[no-untyped-call]
    spread = np.float32(math.sqrt(2 / (wide + narrow)))
    layer.weight.data = torch.from_numpy(rng.standard_normal((narrow, wide), np.float32) * spread)
    layer.bias.data = torch.from_numpy(rng.standard_normal(narrow, np.float32) * np.float32(0.001))
    return layer


def encoded(steps: Tensor) -> Tensor:
    """Return ``float32[n, TIME]``: cosines and sines of a step at falling frequencies."""
    half = TIME // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=steps.device) / half)
    angles = steps[:, None].float() * rates
    return torch.cat([torch.cos(angles), torch.sin(angles)], 1)


def noisy(z: Tensor, steps: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Return ``z_t``."""
    level = torch.from_numpy(schedule.alpha_bars.astype(np.float32)).to(z.device)[steps][:, None]
    noise = torch.randn(z.shape, generator=generator, device=z.device)
    return level.sqrt() * z + (1 - level).sqrt() * noise


def elbo(z: Tensor, predicted: Tensor, steps: Tensor, schedule: Schedule) -> Tensor:
    """Return the weighted squared error, averaged over the rows."""
    weights = torch.from_numpy(schedule.loss_weights.astype(np.float32)).to(z.device)[steps]
    return (weights * (z - predicted).square().mean(1)).mean()


@torch.no_grad()
def denoised_reference(network: Denoiser, z: Tensor, schedule: Schedule) -> Tensor:
    """Walk back from ``z``, without adding noise, and return the end: step by step on whole rows."""
    first, second = schedule.back
    for t in range(len(schedule) - 1, -1, -1):
        steps = torch.full((len(z),), t, dtype=torch.int64, device=z.device)
        z = float(first[t]) * network(z, steps) + float(second[t]) * z
    return z


class Walk:
    """The walk back of sparse rows, in the width of the hidden layer.

    Every state of the walk is ``z = a z₀ + W₂ h + b b₂`` with one ``a`` and ``b`` for all rows, so ``W₁ z`` and ``|z|`` follow
    from ``h`` and small products that are made once; whole rows appear at the end only.
    """

    @torch.no_grad()
    def __init__(self, network: Denoiser, schedule: Schedule) -> None:
        self.network, self.schedule = network, schedule
        reads, own = network.reads
        self.w2, self.b2 = network.second.weight, network.second.bias
        self.reads, self.through = reads, reads @ self.w2
        self.gram, self.cross = self.w2.T @ self.w2, self.w2.T @ self.b2
        steps = torch.arange(len(schedule), device=reads.device)
        self.told = network.timed(steps) @ own.T + network.first.bias

    @torch.no_grad()
    def __call__(self, rows: sparse.csr_matrix) -> Tensor:
        """Return ``float32[n, width]``, as :func:`denoised_reference` does from the dense rows."""
        device = self.reads.device
        seen, met, offset = (
            torch.from_numpy(np.asarray(rows @ m.cpu().numpy(), np.float32)).to(device)
            for m in (self.reads.T, self.w2, self.b2[:, None])
        )
        size = torch.from_numpy(np.asarray(rows.multiply(rows).sum(1), np.float32)).to(device)
        a, b, h = 1.0, 0.0, torch.zeros((rows.shape[0], self.w2.shape[1]), device=device)
        first, second = self.schedule.back
        for t in range(len(self.schedule) - 1, -1, -1):
            mixed = (h * affine(h, self.gram)).sum(1, keepdim=True) + 2 * b * (h @ self.cross)[:, None]
            crossed = (met * h).sum(1, keepdim=True) + b * offset
            length = a * a * size + 2 * a * crossed + mixed + b * b * (self.b2 @ self.b2)
            z = a * seen + affine(h, self.through) + b * (self.reads @ self.b2)
            hidden = torch.tanh(z / length.clamp(min=1e-24).sqrt() + self.told[t])
            c1, c2 = float(first[t]), float(second[t])
            a, b, h = c2 * a, c2 * b + c1, c2 * h + c1 * hidden
        out = affine(h, self.w2, b * self.b2)
        if a:
            out += a * torch.from_numpy(rows.toarray()).to(device)
        return out
