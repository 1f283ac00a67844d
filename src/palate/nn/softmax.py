"""Softmax cross-entropy over many candidates in bounded memory: the loss and its gradients in one pass of three products.

For queries ``q_i`` and shared vectors ``v_j``::

    L = 1/P Σ_i [ log( e^{s_i} + Σ_j e^{<q_i, v_j> - c_j} ) - s_i ]

where ``s_i`` is the score of the positive, given apart (sampled softmax; ``c`` is the logQ correction), or is one of the
products (full softmax). Blocks of rows stay in the cache: product, exponential, and both gradient products follow at once in
the same memory, so neither the ``P x K`` scores nor their gradient ever exist whole.

The plain definitions are :func:`shared_softmax_reference` and ``torch.nn.functional.cross_entropy``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

#: Bytes that a block of scores may take: a share of a core's own cache and of the next one.
BLOCK_BYTES = 2 * 2**20


def shared_softmax(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    hits: Tensor | None = None,
    correction: Tensor | None = None,
    bfloat16: bool = False,
) -> Tensor:
    """Return the sampled-softmax loss of positives against negatives that all rows share, averaged over rows.

    Parameters
    ----------
    queries, positives
        ``float32[p, d]`` states, and ``float32[p]`` scores of their own targets (corrected already, where they are).
    negatives
        ``float32[k, d]``.
    hits
        ``int64[p]`` column that is the row's own target (an accidental hit, left out of the sum), or -1; ``None``: no hits.
    correction
        ``float32[k]``, ``log(K q_j)``, taken from the scores; ``None`` for none.
    bfloat16
        Whether products are taken in bfloat16 (sums and exponentials stay float32).
    """
    if hits is None:
        hits = torch.full((len(queries),), -1, dtype=torch.int64, device=queries.device)
    loss: Tensor = _Softmax.apply(queries, negatives, positives, hits, correction, bfloat16)  # type: ignore[no-untyped-call]
    return loss


def whole_softmax(queries: Tensor, vectors: Tensor, targets: Tensor, *, bfloat16: bool = False) -> Tensor:
    """Return the softmax cross-entropy over all ``vectors`` (``float32[n, d]``), averaged over rows.

    ``targets`` is ``int64[p]``.
    """
    loss: Tensor = _Softmax.apply(queries, vectors, None, targets, None, bfloat16)  # type: ignore[no-untyped-call]
    return loss


def shared_softmax_reference(
    queries: Tensor, positives: Tensor, negatives: Tensor, hits: Tensor | None = None, correction: Tensor | None = None
) -> Tensor:
    """As :func:`shared_softmax`, by the plain definition."""
    scores = queries @ negatives.T
    if correction is not None:
        scores = scores - correction
    if hits is not None:
        rows = torch.nonzero(hits >= 0)[:, 0]
        scores = scores.index_put((rows, hits[rows]), torch.tensor(float("-inf")))
    return (torch.logsumexp(torch.cat([positives[:, None], scores], 1), 1) - positives).mean()


class _Softmax(Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        vectors: Tensor,
        positives: Tensor | None,
        columns: Tensor,
        correction: Tensor | None,
        bfloat16: bool,
    ) -> Tensor:
        n, width = len(queries), len(vectors)
        rows = max(16, min(n, BLOCK_BYTES // (4 * max(1, width))))
        kind = torch.bfloat16 if bfloat16 else queries.dtype
        low_queries, low_vectors = queries.to(kind), vectors.to(kind)
        d_queries, d_vectors = torch.empty_like(queries), torch.zeros_like(vectors)
        d_positives = None if positives is None else torch.empty_like(positives)
        buffer = torch.empty(rows * width, dtype=queries.dtype, device=queries.device)
        total = torch.zeros((), dtype=torch.float64, device=queries.device)
        for start in range(0, n, rows):
            part = slice(start, min(start + rows, n))
            block = buffer[: (part.stop - start) * width].view(-1, width)
            if bfloat16:
                block.copy_(low_queries[part] @ low_vectors.T)
            else:
                torch.mm(queries[part], vectors.T, out=block)
            if correction is not None:
                block.sub_(correction)
            if positives is None:
                total += _whole_rows(block, columns[part])
            else:
                assert d_positives is not None
                total += _shared_rows(block, positives[part], columns[part], d_positives[part])
            low = block.to(kind)
            d_queries[part] = (low @ low_vectors).to(queries.dtype)
            if bfloat16:
                d_vectors.add_((low.T @ low_queries[part]).to(queries.dtype))
            else:
                d_vectors.addmm_(block.T, queries[part])
        ctx.save_for_backward(d_queries.div_(n), d_vectors.div_(n), None if d_positives is None else d_positives.div_(n))
        return (total / n).to(queries.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_queries, d_vectors, d_positives = ctx.saved_tensors
        return d_queries * grad, d_vectors * grad, None if d_positives is None else d_positives * grad, None, None, None


def _shared_rows(block: Tensor, positives: Tensor, hits: Tensor, d_positives: Tensor) -> Tensor:
    """Turn scores into their gradient in place; return the sum of the losses."""
    found = torch.nonzero(hits >= 0)[:, 0]
    block[found, hits[found]] = float("-inf")
    top = torch.maximum(block.amax(1), positives)
    own = torch.exp(positives - top)
    mass = block.sub_(top[:, None]).exp_().sum(1).add_(own)
    block.div_(mass[:, None])
    d_positives.copy_(own / mass - 1)
    return (top + mass.log() - positives).double().sum()


def _whole_rows(block: Tensor, targets: Tensor) -> Tensor:
    rows = torch.arange(len(block), device=block.device)
    own = block[rows, targets]
    top = block.amax(1)
    mass = block.sub_(top[:, None]).exp_().sum(1)
    block.div_(mass[:, None])
    block[rows, targets] -= 1
    return (top + mass.log() - own).double().sum()
