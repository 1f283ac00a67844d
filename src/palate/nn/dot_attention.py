"""Attention over ragged lists by inner products, with its gradient, and never a padded list.

    out_r = Σ_j p_rj v_j,   p_r = softmax over the columns j of row r of <k_r, v_j>

A row without columns gives zero. On the CPU all is passes over edges sorted by row (:mod:`palate.kernels.segments`).
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
from palate.nn.additive_attention import Neighbours


def dot_attention(keys: Tensor, values: Tensor, lists: Neighbours) -> Tensor:
    """Return ``float32[n, d]`` averages of the listed values, weighted by the softmax of their product with the row's key.

    Parameters
    ----------
    keys, values
        ``float32[n, d]`` of rows and ``float32[columns, d]``.
    lists
        The columns of each row.
    """
    if values.device.type != "cpu":
        return dot_attention_reference(keys, values, lists)
    out: Tensor = _Attention.apply(keys, values, lists)  # type: ignore[no-untyped-call]
    return out


def dot_attention_reference(keys: Tensor, values: Tensor, lists: Neighbours) -> Tensor:
    """As :func:`dot_attention`, edge by edge in plain torch, on any device."""
    rows, columns = (torch.from_numpy(x.astype(np.int64)).to(values.device) for x in (lists.rows, lists.columns))
    scores = (keys[rows] * values[columns]).sum(1)
    top = torch.full((len(lists),), float("-inf"), dtype=values.dtype, device=values.device)
    top = top.scatter_reduce(0, rows, scores.detach(), "amax")
    mass = torch.exp(scores - top[rows])
    total = torch.zeros(len(lists), dtype=values.dtype, device=values.device).index_add(0, rows, mass)
    out = torch.zeros((len(lists), values.shape[1]), dtype=values.dtype, device=values.device)
    return out.index_add(0, rows, (mass / total[rows])[:, None] * values[columns])


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, keys: Tensor, values: Tensor, lists: Neighbours) -> Tensor:
        k, v = (t.detach().contiguous().numpy() for t in (keys, values))
        shares = segment_softmax(lists.offsets, edge_inner(lists.offsets, lists.columns, k, v))
        ctx.lists = lists
        ctx.save_for_backward(keys, values, torch.from_numpy(shares))
        return torch.from_numpy(spmm(lists.offsets, lists.columns, shares, v))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        k, v, shares, slope = (t.detach().contiguous().numpy() for t in (*ctx.saved_tensors, grad))
        offsets, columns = ctx.lists.offsets, ctx.lists.columns
        by_score = segment_softmax_slope(offsets, shares, edge_inner(offsets, columns, slope, v))
        by_keys = torch.from_numpy(spmm(offsets, columns, by_score, v))
        starts, rows, places = ctx.lists.back
        by_values = spmm(starts, rows, shares[places], slope, base=spmm(starts, rows, by_score[places], k))
        return by_keys, torch.from_numpy(by_values), None
