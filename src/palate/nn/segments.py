"""Attention over the edges of a graph in torch: softmax by head, and weighted sums of tails, with their gradients.

    p = softmax of scores over the edges of each head        out_h = Σ_{e of h} p_e x_tail(e)

On the CPU both are passes over edges sorted by head (:mod:`palate.kernels.segments`). The gradient of the sum by ``x`` walks
the inverse edges, so it needs no scatter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.kernels.segments import edge_inner, segment_softmax, segment_softmax_slope
from palate.kernels.spmm import spmm
from palate.nn.knowledge import Edges


def edge_softmax(scores: Tensor, edges: Edges) -> Tensor:
    """Return ``float32[m]``: the softmax of the scores of each head's edges (they sum to 1 for a head that has any)."""
    if scores.device.type != "cpu":
        return edge_softmax_reference(scores, edges)
    out: Tensor = _Softmax.apply(scores, edges)  # type: ignore[no-untyped-call]
    return out


def edge_softmax_reference(scores: Tensor, edges: Edges) -> Tensor:
    """As :func:`edge_softmax`, by scatters in plain torch, on any device."""
    heads = _index(edges.heads, scores.device)
    top = torch.full((edges.rows,), float("-inf"), dtype=scores.dtype, device=scores.device)
    top = top.scatter_reduce(0, heads, scores.detach(), "amax")
    mass = torch.exp(scores - top[heads])
    total = torch.zeros(edges.rows, dtype=scores.dtype, device=scores.device).index_add(0, heads, mass)
    return mass / total[heads]


def edge_sum(weights: Tensor, x: Tensor, edges: Edges) -> Tensor:
    """Return ``float32[n, d]``: for each head, the sum of its tails' rows of ``x``, times the weights of the edges."""
    if x.device.type != "cpu":
        return edge_sum_reference(weights, x, edges)
    out: Tensor = _Sum.apply(weights, x, edges)  # type: ignore[no-untyped-call]
    return out


def edge_sum_reference(weights: Tensor, x: Tensor, edges: Edges) -> Tensor:
    """As :func:`edge_sum`, by scatters in plain torch, on any device."""
    heads, tails = _index(edges.heads, x.device), _index(edges.tails, x.device)
    out = torch.zeros((edges.rows, x.shape[1]), dtype=x.dtype, device=x.device)
    return out.index_add(0, heads, weights[:, None] * x[tails])


class _Softmax(Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, edges: Edges) -> Tensor:
        out = torch.from_numpy(segment_softmax(edges.offsets, scores.detach().numpy()))
        ctx.edges = edges
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (shares,) = ctx.saved_tensors
        slope = segment_softmax_slope(ctx.edges.offsets, shares.numpy(), grad.contiguous().numpy())
        return torch.from_numpy(slope), None


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor, edges: Edges) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(weights, x)
        w, rows = weights.detach().numpy(), x.detach().contiguous().numpy()
        return torch.from_numpy(spmm(edges.offsets, edges.tails, w, rows, spans=edges.spans))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, x = (t.detach() for t in ctx.saved_tensors)
        edges, slope = ctx.edges, grad.contiguous().numpy()
        by_weights = by_x = None
        if ctx.needs_input_grad[0]:
            by_weights = torch.from_numpy(edge_inner(edges.offsets, edges.tails, slope, x.contiguous().numpy()))
        if ctx.needs_input_grad[1]:
            back = weights.numpy()[edges.inverse]
            by_x = torch.from_numpy(spmm(edges.offsets, edges.tails, back, slope, spans=edges.spans))
        return by_weights, by_x, None


def _index(numbers: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(numbers.astype(np.int64)).to(device)
