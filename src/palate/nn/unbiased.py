"""Losses of relevance from clicks that are missing not at random: the ideal, its unbiased estimate, the error of that.

With ``Y = O R``, ``P(O=1) = θ``, ``P(R=1) = γ``, ``d1`` and ``d0`` the losses of a relevant and an irrelevant pair::

    ideal       L* = 1/|D| Σ_{all u,i} γ d1 + (1-γ) d0
    estimate    L̂  = 1/|D| Σ_{all u,i} Y/θ' d1 + (1 - Y/θ') d0,     θ' = max(θ, M)
                   = 1/|D| [ Σ_{all u,i} d0 + Σ_{clicks} (d1 - d0)/θ' ]
    bias        E L̂ - L* = 1/|D| Σ γ (θ/θ' - 1) (d1 - d0)            zero for M = 0
    variance    1/|D|² Σ (γθ/θ'²) (1 - γθ) (d1 - d0)²                 for M = 0: 1/|D|² Σ γ (1/θ - γ) (d1 - d0)²

``ce``: ``d1 = softplus(-s)``, ``d0 = softplus(s)``, so ``d1 - d0 = -s``, and a click has the gradient ``p - 1/θ'``, any other
pair ``p = σ(s)``. As ``1/θ' > 1``, the loss of a click alone has no minimum: it falls as ``s`` grows without end.
``square``: ``d1 = (1-p)²``, ``d0 = p²``, which is bounded.

Source: Y. Saito et al., WSDM 2020 (the loss, the clipped estimator and its bias).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

#: Pointwise losses of a probability of relevance.
PointLoss = Literal["ce", "square"]


def irrelevant(scores: Tensor, loss: PointLoss) -> Tensor:
    """Return ``d0``, what each score costs where the pair is irrelevant."""
    return functional.softplus(scores) if loss == "ce" else torch.sigmoid(scores).square()


def relevant(scores: Tensor, loss: PointLoss) -> Tensor:
    """Return ``d1``, what each score costs where the pair is relevant."""
    return functional.softplus(-scores) if loss == "ce" else torch.sigmoid(-scores).square()


def click_gain(scores: Tensor, loss: PointLoss) -> Tensor:
    """Return ``d1 - d0``."""
    return -scores if loss == "ce" else 1 - 2 * torch.sigmoid(scores)


def pointwise(scores: Tensor, targets: Tensor, loss: PointLoss) -> Tensor:
    """Return the mean of ``t d1 + (1 - t) d0`` over pairs: plain for ``t = Y``, ideal for ``γ``, unbiased for ``Y/θ``."""
    return (targets * relevant(scores, loss) + (1 - targets) * irrelevant(scores, loss)).mean()


def clipped_bias(scores: Tensor, relevance: Tensor, theta: Tensor, clip: float, loss: PointLoss) -> Tensor:
    """Return ``E L̂ - L*`` of fixed scores."""
    return (relevance * (theta / theta.clamp(min=clip) - 1) * click_gain(scores, loss)).mean()


def clipped_variance(scores: Tensor, relevance: Tensor, theta: Tensor, clip: float, loss: PointLoss) -> Tensor:
    """Return the variance of ``L̂`` of fixed scores over draws of exposure and relevance."""
    clicked, used = relevance * theta, theta.clamp(min=clip)
    return (clicked * (1 - clicked) / used.square() * click_gain(scores, loss).square()).sum() / scores.numel() ** 2


def effective_size(weights: np.ndarray) -> float:
    """Return ``(Σ w)² / Σ w²``: how many equally weighted clicks would be as noisy as these (0 without any)."""
    squares = float(np.square(weights, dtype=np.float64).sum())
    return float(np.sum(weights, dtype=np.float64)) ** 2 / squares if squares > 0 else 0.0
