"""Additive attention over the neighbours in a sparse graph, with its gradient (:mod:`palate.kernels.additive_attention`).

out_r = Σ_e p_e v_j,   p = softmax over the edges of row r of  wᵀ relu(a_r + b_j)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.data.ragged import offsets_of
from palate.kernels.additive_attention import attend, attend_slope


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Who is near whom: for each row, some columns.

    Attributes
    ----------
    offsets, columns
        ``int64[n + 1]`` and ``int32[m]`` (CSR).
    width
        Number of columns.
    """

    offsets: np.ndarray
    columns: np.ndarray
    width: int

    @classmethod
    def of(cls, matrix: sparse.csr_matrix) -> Neighbours:
        """Return the places of the entries of a matrix."""
        matrix = sparse.csr_matrix(matrix)
        matrix.sort_indices()
        return cls(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), int(matrix.shape[1]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def rows(self) -> np.ndarray:
        """``int32[m]`` row of each edge."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def back(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The edges by column: offsets, rows, and their places by row."""
        places = np.argsort(self.columns, kind="stable")
        return offsets_of(np.bincount(self.columns, minlength=self.width)), self.rows[places], places.astype(np.int64)


def additive_attention(a: Tensor, b: Tensor, w: Tensor, v: Tensor, near: Neighbours) -> Tensor:
    """Return ``float32[n, d]`` averages of the neighbours' vectors (zero for a row without any).

    Parameters
    ----------
    a, b
        ``float32[n, h]`` of rows, ``float32[columns, h]`` of columns: the first layer of the scoring network, applied apart.
    w
        ``float32[h]``, its second layer.
    v
        ``float32[columns, d]``.
    near
        The edges.
    """
    if v.device.type != "cpu":
        return additive_attention_reference(a, b, w, v, near)
    out: Tensor = _Attention.apply(a, b, w, v, near)  # type: ignore[no-untyped-call]
    return out


def additive_attention_reference(a: Tensor, b: Tensor, w: Tensor, v: Tensor, near: Neighbours) -> Tensor:
    """As :func:`additive_attention`, edge by edge in plain torch, on any device."""
    rows, columns = (torch.from_numpy(x.astype(np.int64)).to(v.device) for x in (near.rows, near.columns))
    scores = torch.relu(a[rows] + b[columns]) @ w
    top = torch.full((len(near),), float("-inf"), dtype=v.dtype, device=v.device)
    top = top.scatter_reduce(0, rows, scores.detach(), "amax")
    mass = torch.exp(scores - top[rows])
    total = torch.zeros(len(near), dtype=v.dtype, device=v.device).index_add(0, rows, mass)
    out = torch.zeros((len(near), v.shape[1]), dtype=v.dtype, device=v.device)
    return out.index_add(0, rows, (mass / total[rows])[:, None] * v[columns])


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, w: Tensor, v: Tensor, near: Neighbours) -> Tensor:
        plain = [t.detach().contiguous().numpy() for t in (a, b, w, v)]
        out, shares = attend(near.offsets, near.columns, *plain)
        ctx.near = near
        ctx.save_for_backward(a, b, w, v, torch.from_numpy(shares))
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, w, v, shares, slope = (t.detach().contiguous().numpy() for t in (*ctx.saved_tensors, grad))
        near = ctx.near
        found = attend_slope(near.offsets, near.columns, a, b, w, v, shares, slope, near.back)
        return (*(torch.from_numpy(part) for part in found), None)
