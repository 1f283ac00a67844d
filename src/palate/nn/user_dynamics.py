"""How the state of a person moves with each click: linear, by a gated recurrent unit without biases, Markov, or a mean of two.

    linear       h' = γ h + (1 - γ) v,                                       z = h
    gru          r = σ(W_ir v + W_hr h),  d = σ(W_id v + W_hd h),
                 n = tanh(W_in v + r ∘ (W_hn h)),  h' = (1 - d) ∘ n + d ∘ h,   z = W_z h
    markov       h' = v,                                                     z = h
    linear_gru   z = (z_linear + z_gru) / 2

``v`` is the vector of the clicked item; what isn't clicked moves nothing.
Source: as :mod:`palate.nn.slate_likelihood`; the unit is that of K. Cho et al., EMNLP 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Dynamics = Literal["linear", "gru", "markov", "linear_gru"]
#: Matrices of the unit, in order: input and recurrent ones of reset, update and new state; the output.
MATRICES = ("ir", "id", "in", "hr", "hd", "hn", "z")


@dataclass(frozen=True)
class Weights:
    """Weights of one draw.

    Attributes
    ----------
    gamma
        Scalar γ.
    matrices
        ``float[7, d, d]``, as :data:`MATRICES`; they act on column vectors.
    """

    gamma: Tensor
    matrices: Tensor


def state_path(kind: Dynamics, start: Tensor, vectors: Tensor, lengths: Tensor, weights: Weights) -> Tensor:
    """Return ``float[b, c + 1, d]``: the state ``z`` before any click, and after each.

    Parameters
    ----------
    start
        ``float[b, d]`` start states ``h_0``.
    vectors
        ``float[b, c, d]`` of the items clicked, oldest first; anything after the last.
    lengths
        ``int64[b]`` clicks of each person; beyond them the state stays.
    """
    if kind == "linear_gru":
        linear = state_path("linear", start, vectors, lengths, weights)
        return (linear + state_path("gru", start, vectors, lengths, weights)) / 2
    step = {"linear": _linear, "gru": _gated, "markov": _markov}[kind]
    state, path = start, [start]
    for at in range(vectors.shape[1]):
        moved = step(state, vectors[:, at], weights)
        state = torch.where((at < lengths)[:, None], moved, state)
        path.append(state)
    hidden = torch.stack(path, 1)
    return hidden @ weights.matrices[6].T if kind == "gru" else hidden


def _linear(h: Tensor, v: Tensor, weights: Weights) -> Tensor:
    return weights.gamma * h + (1 - weights.gamma) * v


def _markov(h: Tensor, v: Tensor, weights: Weights) -> Tensor:
    return v


def _gated(h: Tensor, v: Tensor, weights: Weights) -> Tensor:
    w = weights.matrices
    from_v, from_h = (x @ w[at : at + 3].flatten(0, 1).T for x, at in ((v, 0), (h, 3)))
    i_reset, i_keep, i_new = from_v.chunk(3, 1)
    h_reset, h_keep, h_new = from_h.chunk(3, 1)
    keep = torch.sigmoid(i_keep + h_keep)
    new = torch.tanh(i_new + torch.sigmoid(i_reset + h_reset) * h_new)
    return (1 - keep) * new + keep * h


def amortised_start(
    means: Tensor, scales: Tensor, lengths: Tensor, gain: Tensor, prior_scale: float, decay: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Return mean and scale ``float[b, d]`` of the posterior of ``h_0``, from the items that a person clicked.

    The n-th click weighs ``n^-decay``. The mean is the weighted mean of the items' posterior means; the scale is ``gain`` times
    the square root of the variance of that mixture of posteriors (spread of the means, and the items' own variance). Without
    clicks it is the prior ``N(0, prior_scale²)``.

    Parameters
    ----------
    means, scales
        ``float[b, c, d]`` posteriors of the items clicked, oldest first; anything after the last.
    lengths
        ``int64[b]`` clicks that count.
    gain
        Scalar.
    """
    place = torch.arange(1, means.shape[1] + 1, device=means.device)
    weight = torch.where(place <= lengths[:, None], place.to(means.dtype) ** -decay, 0.0)
    weight = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[:, :, None]
    mean = (weight * means).sum(1)
    variance = (weight * ((means - mean[:, None]).square() + scales.square())).sum(1)
    none = (lengths == 0)[:, None]
    scale = gain * (variance + 1e-12).sqrt()
    return mean, torch.where(none, prior_scale, scale)
