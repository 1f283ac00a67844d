"""Sparse matrices in torch: rectangular products with their gradients, through the kernels of :mod:`palate.kernels.spmm`.

    Y = M X,   ∂L/∂X = Mᵀ ∂L/∂Y

The transpose is laid out once, so the backward pass reads rows as the forward pass does. On other devices than the CPU both
products are torch's own.
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

from palate.kernels.spans import even_spans
from palate.kernels.spmm import spmm


@dataclass(frozen=True, eq=False)
class Sparse:
    """A sparse matrix of ``n`` rows.

    Attributes
    ----------
    offsets, columns, weights
        CSR: ``int64[n + 1]``, ``int32[m]`` ascending in a row, ``float32[m]``.
    width
        Number of columns.
    """

    offsets: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    width: int

    @classmethod
    def of(cls, matrix: sparse.spmatrix) -> Sparse:
        """Take over a scipy matrix (entries that stand twice are added)."""
        rows = sparse.csr_matrix(matrix)
        rows.sum_duplicates()
        rows.sort_indices()
        weights = rows.data.astype(np.float32)
        return cls(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), weights, int(rows.shape[1]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def spans(self) -> np.ndarray:
        """Row bounds of equal work."""
        return even_spans(self.offsets)

    @cached_property
    def transposed(self) -> Sparse:
        """The transpose."""
        back = Sparse.of(self.scipy().T)
        back.__dict__["transposed"] = self
        return back

    def scipy(self) -> sparse.csr_matrix:
        """Return it as scipy has it."""
        return sparse.csr_matrix((self.weights, self.columns, self.offsets), shape=(len(self), self.width))

    def product(self, x: np.ndarray) -> np.ndarray:
        """Return ``M x`` (``float32[n, d]``)."""
        return spmm(self.offsets, self.columns, self.weights, np.ascontiguousarray(x, np.float32), spans=self.spans)

    def times(self, x: Tensor) -> Tensor:
        """Return ``M x`` (``float32[n, d]``), with its gradient in ``x``."""
        if x.device.type != "cpu":
            return self.tensor(x.device) @ x
        out: Tensor = _Times.apply(x, self)  # type: ignore[no-untyped-call]
        return out

    def tensor(self, device: torch.device) -> Tensor:
        """Return the matrix as a sparse tensor on a device."""
        offsets, columns, weights = (
            torch.from_numpy(a).to(device) for a in (self.offsets, self.columns.astype(np.int64), self.weights)
        )
        return torch.sparse_csr_tensor(offsets, columns, weights, size=(len(self), self.width), check_invariants=False)


class _Times(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Sparse) -> Tensor:
        ctx.matrix = matrix
        return torch.from_numpy(matrix.product(x.detach().numpy()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return torch.from_numpy(ctx.matrix.transposed.product(grad.contiguous().numpy())), None


def row_normalised(matrix: sparse.spmatrix) -> sparse.csr_matrix:
    """Return ``D^-1 M`` (``float32``): rows sum to 1; a row without entries stays zero."""
    rows = sparse.csr_matrix(matrix, dtype=np.float64)
    totals = np.asarray(rows.sum(1)).ravel()
    return _scaled(rows, np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0))


def symmetric_normalised(matrix: sparse.spmatrix) -> sparse.csr_matrix:
    """Return ``D^-1/2 M D^-1/2`` of a symmetric matrix (``float32``); rows without entries stay zero."""
    rows = sparse.csr_matrix(matrix, dtype=np.float64)
    totals = np.asarray(rows.sum(1)).ravel()
    roots = np.divide(1.0, np.sqrt(np.maximum(totals, 0)), out=np.zeros_like(totals), where=totals > 0)
    return _scaled(rows, roots, roots)


def _scaled(rows: sparse.csr_matrix, left: np.ndarray, right: np.ndarray | None = None) -> sparse.csr_matrix:
    data = rows.data * np.repeat(left, np.diff(rows.indptr))
    if right is not None:
        data *= right[rows.indices]
    return sparse.csr_matrix((data.astype(np.float32), rows.indices, rows.indptr), shape=rows.shape)
