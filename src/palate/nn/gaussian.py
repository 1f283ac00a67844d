"""Mean-field normal posteriors: parameters with a mean and a scale each, drawn by reparameterisation.

    θ = m + s ∘ ε,  ε ~ N(0, 1),      s = s_min + (s_max - s_min) σ(ρ)

    KL( N(m, s²) ‖ N(m₀, s₀²) ) = log(s₀ / s) + (s² + (m - m₀)²) / (2 s₀²) - 1/2        summed over entries

Source: D. Kingma, M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014; C. Blundell et al., "Weight Uncertainty in Neural
Networks", ICML 2015.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Smallest scale of a posterior.
MIN_SCALE = 1e-3


def normal_kl(mean: Tensor, scale: Tensor, prior_mean: Tensor | float, prior_scale: Tensor | float) -> Tensor:
    """Return ``KL(N(mean, scale²) ‖ N(prior_mean, prior_scale²))`` entry by entry (all of them broadcast)."""
    ratio = scale / prior_scale
    gap = (mean - prior_mean) / prior_scale
    return 0.5 * (ratio.square() + gap.square() - 1) - ratio.log()


class Gaussian(nn.Module):
    """An array of independent normals.

    Parameters
    ----------
    shape
        Of the array; rows may be drawn alone.
    max_scale
        Scales lie between :data:`MIN_SCALE` and this.
    """

    def __init__(self, *shape: int, max_scale: float) -> None:
        super().__init__()
        self.max_scale = max_scale
        self.mean = nn.Parameter(torch.zeros(shape))
        self.raw = nn.Parameter(torch.zeros(shape))

    @torch.no_grad()
    def reset(self, mean: Tensor | float, scale: float) -> None:
        """Start from a mean and one scale for all."""
        self.mean.copy_(torch.as_tensor(mean, dtype=self.mean.dtype).expand_as(self.mean))
        self.raw.fill_(self._raw(torch.tensor(float(scale), dtype=torch.float64)).item())

    @torch.no_grad()
    def assign(self, rows: Tensor, mean: Tensor, scale: Tensor) -> None:
        """Give some rows (``int64[m]``) a mean and a scale, entry by entry."""
        self.mean[rows] = mean
        self.raw[rows] = self._raw(scale.double()).to(self.raw.dtype)

    @property
    def scale(self) -> Tensor:
        """Standard deviation of every entry."""
        return self.scale_of(None)

    def scale_of(self, rows: Tensor | None) -> Tensor:
        """Return the standard deviations of some rows (``int64[m]``; ``None`` for all)."""
        raw = self.raw if rows is None else self.raw[rows]
        return MIN_SCALE + (self.max_scale - MIN_SCALE) * torch.sigmoid(raw)

    def draw(self, generator: torch.Generator, rows: Tensor | None = None, noise: float = 1.0) -> Tensor:
        """Return one joint draw, of some rows or of all.

        Parameters
        ----------
        noise
            Factor of the standard deviations; 0 gives the means.
        """
        mean = self.mean if rows is None else self.mean[rows]
        if noise == 0:
            return mean
        eps = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + noise * self.scale_of(rows) * eps

    def kl(self, prior_mean: Tensor | float, prior_scale: Tensor | float, rows: Tensor | None = None) -> Tensor:
        """Return the divergence from independent normals, summed over entries, of some rows or of all (a scalar)."""
        mean = self.mean if rows is None else self.mean[rows]
        return normal_kl(mean, self.scale_of(rows), prior_mean, prior_scale).sum()

    def _raw(self, scale: Tensor) -> Tensor:
        """Return ρ of scales; those at or beyond the ends are brought just inside."""
        span = self.max_scale - MIN_SCALE
        share = ((scale - MIN_SCALE) / span).clamp(math.exp(-16), 1 - math.exp(-16))
        return torch.logit(share)
