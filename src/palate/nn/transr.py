"""TransR: entities as points, moved by relations inside spaces of their own.

    g(h, r, t) = |W_r e_h + e_r - W_r e_t|²        L = 1/B Σ softplus( g(h, r, t) - g(h, r, t') )
                                                       + reg/(2B) Σ (|e_h|² + |e_t|² + |e_t'|² + |e_r|²)

and the attention that KGAT reads from it, ``s(h, r, t) = (W_r e_t)ᵀ tanh(W_r e_h + e_r)``.

A batch is sorted by relation, so each matrix is used once, on all its triples (:mod:`palate.kernels.transr`).

Source: Y. Lin et al., AAAI 2015, equations 8 and 10; X. Wang et al., "KGAT", KDD 2019, equations 1, 2 and 4.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from palate.kernels.segments import edge_inner
from palate.kernels.transr import transr_pass
from palate.nn.knowledge import Edges
from palate.runtime import single_threaded_blas


def transr_loss(
    x: Tensor,
    moves: Tensor,
    matrices: Tensor,
    head: np.ndarray,
    relation: np.ndarray,
    tail: np.ndarray,
    other: np.ndarray,
    reg: float,
) -> Tensor:
    """Return the loss of triples against corrupted ones.

    Parameters
    ----------
    x
        ``float32[n, d]`` points.
    moves, matrices
        ``float32[R, k]`` and ``float32[R, k, d]``, ``e_r`` and ``W_r``.
    head, relation, tail, other
        ``int[B]``; ``other`` stands in the tail's place.
    """
    args = (x, moves, matrices, head, relation, tail, other, reg)
    if x.device.type != "cpu":
        return transr_loss_reference(*args)
    loss: Tensor = _TransR.apply(*args)  # type: ignore[no-untyped-call]
    return loss


def transr_loss_reference(
    x: Tensor,
    moves: Tensor,
    matrices: Tensor,
    head: np.ndarray,
    relation: np.ndarray,
    tail: np.ndarray,
    other: np.ndarray,
    reg: float,
) -> Tensor:
    """As :func:`transr_loss`, by the plain definition, on any device."""
    h, r, t, o = (torch.from_numpy(a.astype(np.int64)).to(x.device) for a in (head, relation, tail, other))
    ends = [torch.einsum("bkd,bd->bk", matrices[r], x[rows]) for rows in (h, t, o)]
    near, far = ((ends[0] + moves[r] - end).square().sum(1) for end in ends[1:])
    size = sum(part.square().sum() for part in (x[h], x[t], x[o], moves[r]))
    return functional.softplus(near - far).mean() + reg / (2 * max(1, len(head))) * size


def attention_scores_reference(x: np.ndarray, moves: np.ndarray, matrices: np.ndarray, edges: Edges) -> np.ndarray:
    """Return ``float32[m]``: ``s(h, r, t)`` of every edge, one by one."""
    out = np.empty(len(edges), np.float32)
    for at, (h, r, t) in enumerate(zip(edges.heads, edges.relations, edges.tails, strict=True)):
        out[at] = (matrices[r] @ x[t]) @ np.tanh(matrices[r] @ x[h] + moves[r])
    return out


def attention_scores(x: np.ndarray, moves: np.ndarray, matrices: np.ndarray, edges: Edges) -> np.ndarray:
    """As :func:`attention_scores_reference`, fast: a row is taken through a relation once, however many edges need it.

    A row that relation ``r`` leaves is one that its inverse reaches, so the same runs of edges ask and offer.
    """
    bounds, run = edges.groups
    asked, offered = (np.empty((len(bounds) - 1, moves.shape[1]), np.float32) for _ in range(2))
    heads, relations = edges.heads[bounds[:-1]], edges.relations[bounds[:-1]]
    order = np.argsort(relations, kind="stable")
    with single_threaded_blas():
        for low, high in pairwise([*np.searchsorted(relations[order], np.arange(len(moves) + 1)).tolist()]):
            places = order[low:high]
            if len(places):
                r = int(relations[places[0]])
                points = x[heads[places]]
                asked[places] = points @ matrices[r].T + moves[r]
                offered[places] = points @ matrices[r ^ 1].T
    return edge_inner(bounds, run[edges.inverse], np.tanh(asked, out=asked), offered)


class _TransR(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        moves: Tensor,
        matrices: Tensor,
        head: np.ndarray,
        relation: np.ndarray,
        tail: np.ndarray,
        other: np.ndarray,
        reg: float,
    ) -> Tensor:
        order = np.argsort(relation, kind="stable")
        triples = tuple(np.asarray(a[order], np.int32) for a in (head, relation, tail, other))
        arrays = [a.detach().contiguous().numpy() for a in (x, moves, matrices)]
        total, *ctx.slopes = transr_pass(arrays[0], arrays[1], arrays[2], triples, reg, 1 / max(1, len(head)))
        return torch.tensor(total, dtype=x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.slopes is None:
            raise RuntimeError("the gradient of this loss was taken already; compute the loss again")
        slopes, scale = ctx.slopes, float(grad)
        ctx.slopes = None  # the largest is as large as x
        by_weights = [torch.from_numpy(slope if scale == 1 else slope * np.float32(scale)) for slope in slopes]
        return (*by_weights, None, None, None, None, None)
