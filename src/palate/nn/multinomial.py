"""Softmax over the whole catalogue for people with many answers each, in bounded memory.

    L = -1/P Σ_u Σ_{i in row u} ln( exp<q_u, v_i> / Σ_j exp<q_u, v_j> ),   P = number of pairs

One row of scores serves all answers of a person, so the cost is people x items, not pairs x items. Blocks of rows are turned
into their gradient at once, so neither the scores nor their gradient ever exist whole.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

#: Bytes that a block of scores may take.
BLOCK_BYTES = 2**22


def multinomial(queries: Tensor, vectors: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the loss, averaged over pairs.

    Parameters
    ----------
    queries, vectors
        ``float32[n, d]`` and ``float32[items, d]``; divide ``queries`` by a temperature first where one is wanted.
    rows, columns
        ``int64[P]`` the pairs, by ascending row; a pair appears once.
    """
    loss: Tensor = _Multinomial.apply(queries, vectors, rows, columns)  # type: ignore[no-untyped-call]
    return loss


def multinomial_reference(queries: Tensor, vectors: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """As :func:`multinomial`, by the plain definition."""
    return -torch.log_softmax(queries @ vectors.T, 1)[rows, columns].mean()


class _Multinomial(Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, vectors: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        n, width, pairs = len(queries), len(vectors), max(1, len(rows))
        counts = torch.bincount(rows, minlength=n)
        ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).tolist()
        height = max(16, min(n, BLOCK_BYTES // (4 * max(1, width))))
        d_queries, d_vectors = torch.empty_like(queries), torch.zeros_like(vectors)
        buffer = torch.empty(height * width, dtype=queries.dtype, device=queries.device)
        total = torch.zeros((), dtype=torch.float64, device=queries.device)
        for start in range(0, n, height):
            stop = min(start + height, n)
            block = buffer[: (stop - start) * width].view(-1, width)
            torch.mm(queries[start:stop], vectors.T, out=block)
            own = slice(ends[start], ends[stop])
            at = rows[own] - start, columns[own]
            many = counts[start:stop].to(queries.dtype)
            top = block.amax(1)
            total -= block[at].double().sum()
            mass = block.sub_(top[:, None]).exp_().sum(1)
            total += (many * (top + mass.log())).double().sum()
            block.mul_((many / mass)[:, None])
            block[at] -= 1
            torch.mm(block, vectors, out=d_queries[start:stop])
            d_vectors.addmm_(block.T, queries[start:stop])
        ctx.save_for_backward(d_queries.div_(pairs), d_vectors.div_(pairs))
        return (total / pairs).to(queries.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_queries, d_vectors = ctx.saved_tensors
        return d_queries * grad, d_vectors * grad, None, None
