"""Rows of a tensor, and their weighted size, with their gradients, by kernels that don't wait for each other's threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.kernels.gather import gather, scatter, scatter_pulled


def take(x: Tensor, rows: np.ndarray) -> Tensor:
    """Return ``float32[m, d]``: rows (``int64[m]``) of ``x``, as ``x[rows]``, with its gradient."""
    if x.device.type != "cpu":
        return take_reference(x, rows)
    found: Tensor = _Take.apply(x, rows)  # type: ignore[no-untyped-call]
    return found


def take_reference(x: Tensor, rows: np.ndarray) -> Tensor:
    """As :func:`take`, in plain torch, on any device."""
    return x.index_select(0, torch.from_numpy(np.asarray(rows, np.int64)).to(x.device))


def take_sized(x: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return rows as :func:`take` does, and the sum of their squares (a row named twice counts twice), in one backward pass."""
    if x.device.type != "cpu":
        return take_sized_reference(x, rows)
    found: tuple[Tensor, Tensor] = _TakeSized.apply(x, rows)  # type: ignore[no-untyped-call]
    return found


def take_sized_reference(x: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """As :func:`take_sized`, in plain torch, on any device."""
    found = take_reference(x, rows)
    return found, found.square().sum()


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


class _TakeSized(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        ctx.rows = np.asarray(rows, np.int64)
        ctx.save_for_backward(x)
        found = gather(x.detach().numpy(), ctx.rows)
        flat = found.reshape(-1)
        return torch.from_numpy(found), torch.tensor(float(flat @ flat), dtype=x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, pull: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        total = np.zeros(x.shape, np.float32)
        scatter_pulled(total, ctx.rows, grad.contiguous().numpy(), x.detach().numpy(), 2 * float(pull))
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
