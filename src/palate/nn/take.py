"""Rows of a tensor, and their weighted size, with their gradients, by kernels that don't wait for each other's threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.kernels.gather import gather, scatter


def take(x: Tensor, rows: np.ndarray) -> Tensor:
    """Return ``float32[m, d]``: rows (``int64[m]``) of ``x``, as ``x[rows]``, with its gradient."""
    if x.device.type != "cpu":
        return take_reference(x, rows)
    found: Tensor = _Take.apply(x, rows)  # type: ignore[no-untyped-call]
    return found


def take_reference(x: Tensor, rows: np.ndarray) -> Tensor:
    """As :func:`take`, in plain torch, on any device."""
    return x.index_select(0, torch.from_numpy(np.asarray(rows, np.int64)).to(x.device))


def weighted_size(x: Tensor, weights: np.ndarray) -> Tensor:
    """Return ``Σ_r w_r |x_r|²`` for ``float32[m]`` weights, with its gradient."""
    if x.device.type != "cpu":
        return weighted_size_reference(x, weights)
    size: Tensor = _Size.apply(x, weights)  # type: ignore[no-untyped-call]
    return size


def weighted_size_reference(x: Tensor, weights: np.ndarray) -> Tensor:
    """As :func:`weighted_size`, in plain torch, on any device."""
    return (x.square().sum(1) * torch.from_numpy(weights).to(x.device)).sum()


class _Take(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: np.ndarray) -> Tensor:
        ctx.rows, ctx.shape = np.asarray(rows, np.int64), x.shape
        return torch.from_numpy(gather(x.detach().numpy(), ctx.rows))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        total = np.zeros(ctx.shape, np.float32)
        scatter(total, ctx.rows, grad.contiguous().numpy())
        return torch.from_numpy(total), None


class _Size(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: np.ndarray) -> Tensor:
        rows = x.detach().numpy()
        ctx.rows, ctx.weights = rows, weights
        return torch.tensor(float(np.einsum("nd,nd,n->", rows, rows, weights)), dtype=x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return torch.from_numpy(ctx.rows * (np.float32(2 * float(grad)) * ctx.weights)[:, None]), None
