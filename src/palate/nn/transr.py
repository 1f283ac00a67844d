"""TransR: entities as points, moved by relations inside spaces of their own.

    g(h, r, t) = |W_r e_h + e_r - W_r e_t|²        L = 1/B Σ softplus( g(h, r, t) - g(h, r, t') )
                                                       + reg/(2B) Σ (|e_h|² + |e_t|² + |e_t'|² + |e_r|²)

and the attention that KGAT reads from it, ``s(h, r, t) = (W_r e_t)ᵀ tanh(W_r e_h + e_r)``.

A batch is sorted by relation, so each matrix is used once, on all its triples.

Source: Y. Lin et al., AAAI 2015, equations 8 and 10; X. Wang et al., "KGAT", KDD 2019, equations 1, 2 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from palate.nn.knowledge import Edges


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
    """As :func:`attention_scores_reference`, fast: a row is taken through a relation once, however many edges need it."""
    out = np.empty(len(edges), np.float32)
    for r, places in enumerate(edges.by_relation):
        heads, at = np.unique(edges.heads[places], return_inverse=True)
        tails, to = np.unique(edges.tails[places], return_inverse=True)
        asked = np.tanh(x[heads] @ matrices[r].T + moves[r])
        offered = x[tails] @ matrices[r].T
        out[places] = np.einsum("ek,ek->e", asked[at], offered[to])
    return out


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
        order, size = np.argsort(relation, kind="stable"), max(1, len(head))
        head, relation, tail, other = (a[order] for a in (head, relation, tail, other))
        e, shift, w = x.detach().numpy(), moves.detach().numpy(), matrices.detach().numpy()
        h, t, o = e[head], e[tail], e[other]
        by_moves, by_matrices = np.zeros_like(shift), np.zeros_like(w)
        by_h, by_t, by_o = (np.empty_like(h) for _ in range(3))
        total = 0.0
        for r, part in _runs(relation):
            near, far = h[part] - t[part], h[part] - o[part]
            d, d_other = near @ w[r].T + shift[r], far @ w[r].T + shift[r]
            gap = (np.square(d) - np.square(d_other)).sum(1)
            total += float(np.logaddexp(0, gap).sum(dtype=np.float64))
            slope = (2 / size * np.exp(-np.logaddexp(0, -gap)))[:, None].astype(np.float32)
            d, d_other = slope * d, slope * d_other
            by_moves[r] = (d - d_other).sum(0)
            by_matrices[r] = d.T @ near - d_other.T @ far
            by_t[part], by_o[part] = -(d @ w[r]), d_other @ w[r]
            by_h[part] = -by_t[part] - by_o[part]
        scale = np.float32(reg / size)
        squares = sum(float(np.square(a).sum(dtype=np.float64)) for a in (h, t, o, shift[relation]))
        by_moves += scale * np.bincount(relation, minlength=len(shift)).astype(np.float32)[:, None] * shift
        gradient = torch.zeros(e.shape)
        for rows, own, slope in ((head, h, by_h), (tail, t, by_t), (other, o, by_o)):
            gradient.index_add_(0, torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(slope + scale * own))
        ctx.save_for_backward(gradient, torch.from_numpy(by_moves), torch.from_numpy(by_matrices))
        return torch.tensor(total / size + reg / (2 * size) * squares, dtype=x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        by_x, by_moves, by_matrices = ctx.saved_tensors
        return by_x * grad, by_moves * grad, by_matrices * grad, None, None, None, None, None


def _runs(relation: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Yield each relation of a sorted column, and where it stands."""
    cuts = np.flatnonzero(np.diff(relation)) + 1
    for low, high in pairwise([0, *cuts.tolist(), len(relation)]):
        if low < high:
            yield int(relation[low]), slice(low, high)
