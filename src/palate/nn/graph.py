"""Graphs in torch: the symmetric normalised adjacency of people and items, and propagation along it.

    Â = D^-1/2 A D^-1/2,   A = [[0, R], [Rᵀ, 0]]        E = 1/(K+1) Σ_{k=0..K} Â^k E⁰

The sum is taken in Horner's form, ``S ← E⁰ + Â S``, so each layer is one sparse product with nothing kept. ``Â`` is
symmetric, so the gradient takes the same path.
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

from palate.kernels.bpr import bpr_gradient
from palate.kernels.spans import even_spans
from palate.kernels.spmm import spmm

#: Above this share of marked rows, reading all is faster than asking.
DENSE = 0.5


@dataclass(frozen=True, eq=False)
class Adjacency:
    """A square sparse matrix that equals its transpose.

    Attributes
    ----------
    offsets, columns, weights
        CSR: ``int64[n + 1]``, ``int32[m]``, ``float32[m]``.
    """

    offsets: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    @classmethod
    def of_matrix(cls, matrix: sparse.csr_matrix) -> Adjacency:
        """Return ``Â`` of a users x items matrix of ones, or of weights that are not negative; items are numbered after users.

        ``D`` holds sums of weights. Rows without links are zero.
        """
        people, items = (np.asarray(matrix.sum(axis, dtype=np.float64)).ravel() for axis in (1, 0))
        degrees = np.concatenate([people, items])
        root = np.sqrt(np.where(degrees > 0, degrees, 1.0))
        whole = sparse.bmat([[None, matrix], [matrix.T, None]], format="csr")
        whole.sort_indices()
        offsets, columns = whole.indptr.astype(np.int64), whole.indices.astype(np.int32)
        rows = np.repeat(np.arange(len(root)), np.diff(offsets))
        return cls(offsets, columns, (whole.data / (root[rows] * root[columns])).astype(np.float32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def spans(self) -> np.ndarray:
        """Row bounds of equal work."""
        return even_spans(self.offsets)

    def product(
        self,
        x: np.ndarray,
        base: np.ndarray | None = None,
        *,
        needed: np.ndarray | None = None,
        filled: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return ``base + Â x`` (see :func:`palate.kernels.spmm.spmm`)."""
        needed, filled = (None if m is None or m.mean() > DENSE else m for m in (needed, filled))
        return spmm(
            self.offsets, self.columns, self.weights, x, base=base, needed=needed, filled=filled, out=out, spans=self.spans
        )

    def horner(self, x: np.ndarray, layers: int, *, needed: np.ndarray | None = None) -> np.ndarray:
        """Return ``Σ_{k=0..layers} Â^k x``; only the ``needed`` rows where given (the others may hold anything)."""
        total = x
        for layer in range(layers):
            total = self.product(total, x, needed=needed if layer == layers - 1 else None)
        return total

    def horner_transposed(self, x: np.ndarray, layers: int, filled: np.ndarray) -> np.ndarray:
        """Return the same sum for an ``x`` whose rows are zero but for the ``filled`` ones."""
        total = x
        for layer in range(layers):
            total = self.product(total, x, filled=filled if layer == 0 else None)
        return total

    def tensor(self, device: torch.device) -> Tensor:
        """Return the matrix as a sparse tensor on a device."""
        offsets, columns, weights = (
            torch.from_numpy(a).to(device) for a in (self.offsets, self.columns.astype(np.int64), self.weights)
        )
        return torch.sparse_csr_tensor(offsets, columns, weights, size=(len(self), len(self)), check_invariants=False)


def propagate(x: Tensor, adjacency: Adjacency, layers: int) -> Tensor:
    """Return ``1/(K+1) Σ_{k=0..K} Â^k x`` (``float32[n, d]``), with its gradient."""
    if x.device.type != "cpu":
        return propagate_reference(x, adjacency, layers)
    out: Tensor = _Propagate.apply(x, adjacency, layers)  # type: ignore[no-untyped-call]
    return out


def propagate_reference(x: Tensor, adjacency: Adjacency, layers: int) -> Tensor:
    """As :func:`propagate`, in plain torch, layer by layer, on any device."""
    matrix = adjacency.tensor(x.device)
    layer, total = x, x
    for _ in range(layers):
        layer = matrix @ layer
        total = total + layer
    return total / (layers + 1)


class _Propagate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, adjacency: Adjacency, layers: int) -> Tensor:
        ctx.adjacency, ctx.layers = adjacency, layers
        return torch.from_numpy(adjacency.horner(x.detach().numpy(), layers)) / (layers + 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        back = ctx.adjacency.horner(grad.contiguous().numpy(), ctx.layers)
        return torch.from_numpy(back) / (ctx.layers + 1), None, None


def graph_bpr(
    x: Tensor, adjacency: Adjacency, layers: int, users: np.ndarray, positives: np.ndarray, negatives: np.ndarray, reg: float
) -> Tensor:
    """Return the BPR loss of propagated vectors, with its gradient, in one pass.

        1/B Σ softplus(<e_u, e_j> - <e_u, e_i>) + reg/(2B) Σ (|e_u⁰|² + |e_i⁰|² + |e_j⁰|²),   e = propagate(x)

    Parameters
    ----------
    users, positives, negatives
        ``int[B]`` rows of ``x``; a negative of -1 leaves its triple out.

    Notes
    -----
    The last layer is computed for the rows of the batch only, and the first layer of the gradient reads only them.
    """
    if x.device.type != "cpu":
        return graph_bpr_reference(x, adjacency, layers, users, positives, negatives, reg)
    args = (x, adjacency, layers, users, positives, negatives, reg)
    loss: Tensor = _GraphBPR.apply(*args)  # type: ignore[no-untyped-call]
    return loss


def graph_bpr_reference(
    x: Tensor, adjacency: Adjacency, layers: int, users: np.ndarray, positives: np.ndarray, negatives: np.ndarray, reg: float
) -> Tensor:
    """As :func:`graph_bpr`, in plain torch, on any device."""
    kept = negatives >= 0
    u, i, j = (torch.from_numpy(a[kept].astype(np.int64)).to(x.device) for a in (users, positives, negatives))
    e = propagate_reference(x, adjacency, layers)
    fit = torch.nn.functional.softplus(-(e[u] * (e[i] - e[j])).sum(1)).sum()
    size = x[u].square().sum() + x[i].square().sum() + x[j].square().sum()
    return (fit + reg / 2 * size) / len(users)


def spent_gradient(ctx: Any, grad: Tensor) -> Tensor:
    """Return the gradient that a forward pass left in ``ctx.gradient``, times ``grad``, and forget it: it is large."""
    if ctx.gradient is None:
        raise RuntimeError("the gradient of this loss was taken already; compute the loss again")
    scale, gradient = float(grad), ctx.gradient
    ctx.gradient = None
    found: Tensor = gradient if scale == 1.0 else gradient * scale
    return found


class _GraphBPR(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        adjacency: Adjacency,
        layers: int,
        users: np.ndarray,
        positives: np.ndarray,
        negatives: np.ndarray,
        reg: float,
    ) -> Tensor:
        free = x.detach().numpy()
        kept = negatives >= 0
        rows = np.concatenate([users[kept], positives[kept], negatives[kept]])
        counts = np.bincount(rows, minlength=len(free))
        marked = (counts > 0).astype(np.uint8)
        scale = np.float32(1 / (layers + 1))
        vectors = adjacency.horner(free, layers, needed=marked)
        if layers:
            vectors *= scale
        gradient = np.zeros_like(free)
        total = bpr_gradient(users, positives, negatives, vectors, gradient)
        gradient *= scale / np.float32(len(users))
        back = adjacency.horner_transposed(gradient, layers, marked)
        touched = np.flatnonzero(marked)
        own = free[touched]
        weight = counts[touched].astype(np.float32)[:, None]
        back[touched] += np.float32(reg / len(users)) * weight * own
        size = float((weight * own * own).sum(dtype=np.float64))
        ctx.gradient = torch.from_numpy(back)
        return torch.tensor((total + reg / 2 * size) / len(users))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return spent_gradient(ctx, grad), None, None, None, None, None, None
