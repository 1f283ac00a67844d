"""Softmax over the whole catalogue on the cosines of propagated vectors, with its gradient, in one pass.

L = -1/B Σ ln( exp(cos(e_u, e_i)/τ) / Σ_j exp(cos(e_u, e_j)/τ) ) + reg/(2B) Σ (|e_u⁰|² + |e_i⁰|²),   e = propagate(x)

A batch holds all pairs of its people, so one row of scores serves all answers of a person (:mod:`palate.nn.multinomial`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from palate.nn.graph import Adjacency, propagate_reference, spent_gradient
from palate.nn.multinomial import multinomial_pass, multinomial_reference
from palate.nn.unit import TINY, Unit


def graph_softmax(
    x: Tensor,
    adjacency: Adjacency,
    layers: int,
    users: np.ndarray,
    positives: np.ndarray,
    first_item: int,
    temperature: float,
    reg: float,
) -> Tensor:
    """Return the loss of a batch that holds all pairs of its people.

    Parameters
    ----------
    x
        ``float32[n, d]`` free vectors, people first.
    users, positives
        ``int[B]`` rows of ``x``, by ascending user; a pair appears once.
    first_item
        Row of the first item; all rows from there on are the catalogue.
    """
    if x.device.type != "cpu":
        return graph_softmax_reference(x, adjacency, layers, users, positives, first_item, temperature, reg)
    args = (x, adjacency, layers, users, positives, first_item, temperature, reg)
    loss: Tensor = _GraphSoftmax.apply(*args)  # type: ignore[no-untyped-call]
    return loss


def graph_softmax_reference(
    x: Tensor,
    adjacency: Adjacency,
    layers: int,
    users: np.ndarray,
    positives: np.ndarray,
    first_item: int,
    temperature: float,
    reg: float,
) -> Tensor:
    """As :func:`graph_softmax`, in plain torch, on any device."""
    people, rows = np.unique(users, return_inverse=True)
    index = [torch.from_numpy(a.astype(np.int64)).to(x.device) for a in (people, rows, positives, users)]
    unit = functional.normalize(propagate_reference(x, adjacency, layers), dim=1, eps=TINY)
    loss = multinomial_reference(unit[index[0]] / temperature, unit[first_item:], index[1], index[2] - first_item)
    size = x[index[3]].square().sum() + x[index[2]].square().sum()
    return loss + reg / (2 * len(users)) * size


class _GraphSoftmax(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        adjacency: Adjacency,
        layers: int,
        users: np.ndarray,
        positives: np.ndarray,
        first_item: int,
        temperature: float,
        reg: float,
    ) -> Tensor:
        free, batch = x.detach().numpy(), max(1, len(users))
        people, rows = np.unique(users, return_inverse=True)
        needed = np.zeros(len(free), np.uint8)
        needed[first_item:], needed[people] = 1, 1
        # The scale 1/(K+1) of e cancels in its direction, and comes back in the gradient by the length.
        whole = adjacency.horner(free, layers, needed=needed)
        asked, offered = Unit(whole[people]), Unit(whole[first_item:])
        queries = asked.rows / np.float32(temperature)
        total, d_queries, d_vectors = multinomial_pass(queries, offered.rows, rows, positives - first_item)
        slope = np.zeros_like(free)
        slope[people] = asked.back(d_queries / np.float32(temperature))
        slope[first_item:] = offered.back(d_vectors)
        gradient = adjacency.horner_transposed(slope, layers, needed)
        counts = np.bincount(np.concatenate([users, positives]), minlength=len(free))
        touched = np.flatnonzero(counts)
        weighted = counts[touched].astype(np.float32)[:, None] * free[touched]
        gradient[touched] += np.float32(reg / batch) * weighted
        size = float((weighted * free[touched]).sum(dtype=np.float64))
        ctx.gradient = torch.from_numpy(gradient)
        return torch.tensor(total + reg / (2 * batch) * size, dtype=x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return spent_gradient(ctx, grad), None, None, None, None, None, None, None
