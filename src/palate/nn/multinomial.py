"""Softmax over the whole catalogue for people with many answers each, in bounded memory.

    L = -1/P Σ_u Σ_{i in row u} ln( exp<q_u, v_i> / Σ_j exp<q_u, v_j> ),   P = number of pairs

One row of scores serves all answers of a person, so the cost is people x items, not pairs x items. Blocks of rows are turned
into their gradient at once, so neither the scores nor their gradient ever exist whole: in float32 by
:mod:`palate.kernels.multinomial`, in other formats by BLAS. Blocks are dealt to a fixed number of parts with sums of their own,
so threads (each with a one-threaded BLAS) never wait for each other, and the bits don't depend on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.data.ragged import offsets_of
from palate.kernels.multinomial import multinomial_rows
from palate.kernels.spans import each_span
from palate.runtime import single_threaded_blas

#: Bytes that a block of scores may take.
BLOCK_BYTES = 2**20
#: Parts that people are dealt into.
PARTS = 4


def multinomial(queries: Tensor, vectors: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """Return the loss of the pairs (``int64[P]`` rows, ascending, and columns), with its gradient, in bounded memory."""
    if queries.device.type != "cpu":
        index = [torch.from_numpy(a.astype(np.int64)).to(queries.device) for a in (rows, columns)]
        return multinomial_reference(queries, vectors, *index)
    loss: Tensor = _Multinomial.apply(queries, vectors, rows, columns)  # type: ignore[no-untyped-call]
    return loss


class _Multinomial(Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, vectors: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
        loss, *slopes = multinomial_pass(queries.detach().numpy(), vectors.detach().numpy(), rows, columns)
        ctx.save_for_backward(*(torch.from_numpy(slope) for slope in slopes))
        return torch.tensor(loss, dtype=queries.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_queries, d_vectors = ctx.saved_tensors
        return d_queries * grad, d_vectors * grad, None, None


def multinomial_reference(queries: Tensor, vectors: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the loss by its plain definition, on any device.

    Parameters
    ----------
    queries, vectors
        ``float32[n, d]`` and ``float32[items, d]``; divide ``queries`` by a temperature first where one is wanted.
    rows, columns
        ``int64[P]`` the pairs, by ascending row; a pair appears once.
    """
    return -torch.log_softmax(queries @ vectors.T, 1)[rows, columns].mean()


def multinomial_pass(
    q: np.ndarray, v: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """As :func:`multinomial_reference`, fast: return the loss and its gradients by ``q`` and ``v``."""
    n, pairs, number = len(q), max(1, len(rows)), np.bincount(rows, minlength=len(q))
    offsets, counts = offsets_of(number), number.astype(q.dtype)
    if len(v) and q.dtype == v.dtype == np.float32:
        return multinomial_rows(q, v, offsets, columns)
    d_q, sums, losses = np.empty_like(q), np.zeros((PARTS, *v.shape), q.dtype), np.zeros(PARTS)
    bounds = np.linspace(0, n, PARTS + 1).astype(np.int64)
    height = max(1, BLOCK_BYTES // (4 * max(1, len(v))))

    def run(low: int, high: int) -> None:
        for part in range(low, high):
            for start in range(bounds[part], bounds[part + 1], height):
                stop = min(start + height, int(bounds[part + 1]))
                own = slice(offsets[start], offsets[stop])
                block = q[start:stop] @ v.T
                losses[part] += _slopes(block, counts[start:stop], (rows[own] - start, columns[own]))
                np.matmul(block, v, out=d_q[start:stop])
                sums[part] += block.T @ q[start:stop]

    with single_threaded_blas():
        each_span(run, np.arange(PARTS + 1), n * len(v) * q.shape[1])
    scale = q.dtype.type(1 / pairs)
    d_q *= scale
    return float(losses.sum() / pairs), d_q, sums.sum(0) * scale


def _slopes(block: np.ndarray, counts: np.ndarray, at: tuple[np.ndarray, np.ndarray]) -> float:
    """Turn scores into the gradient of the summed loss, in place; return the sum."""
    top = block.max(1)
    own = float(block[at].sum(dtype=np.float64))
    block -= top[:, None]
    np.exp(block, out=block)
    mass = block.sum(1)
    block *= (counts / mass)[:, None]
    block[at] -= 1
    return float((counts * (top + np.log(mass))).sum(dtype=np.float64)) - own
