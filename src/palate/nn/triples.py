"""Bayesian personalised ranking on rows of vectors: the loss of many triples with its gradient, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.kernels.bpr import bpr_gradient


def triple_bpr(vectors: Tensor, users: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> Tensor:
    """Return ``1/B Σ softplus(<e_u, e_j> - <e_u, e_i>)`` of rows of ``vectors``.

    Parameters
    ----------
    vectors
        ``float32[n, d]``.
    users, positives, negatives
        ``int[B]`` rows of ``vectors``; a negative of -1 leaves its triple out (it still counts in ``B``).
    """
    if vectors.device.type != "cpu":
        return triple_bpr_reference(vectors, users, positives, negatives)
    loss: Tensor = _TripleBPR.apply(vectors, users, positives, negatives)  # type: ignore[no-untyped-call]
    return loss


def triple_bpr_reference(vectors: Tensor, users: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> Tensor:
    """As :func:`triple_bpr`, in plain torch, on any device."""
    kept = negatives >= 0
    u, i, j = (torch.from_numpy(a[kept].astype(np.int64)).to(vectors.device) for a in (users, positives, negatives))
    worse = (vectors[u] * (vectors[j] - vectors[i])).sum(1)
    return torch.nn.functional.softplus(worse).sum() / max(1, len(users))


class _TripleBPR(Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, users: np.ndarray, positives: np.ndarray, negatives: np.ndarray) -> Tensor:
        gradient, rows = np.zeros(vectors.shape, np.float32), vectors.detach().contiguous().numpy()
        total = bpr_gradient(users, positives, negatives, rows, gradient)
        size = max(1, len(users))
        ctx.slope, ctx.size = gradient, size
        return torch.tensor(total / size, dtype=vectors.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return torch.from_numpy(ctx.slope * np.float32(float(grad) / ctx.size)), None, None, None
