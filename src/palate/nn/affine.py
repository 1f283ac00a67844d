"""Affine maps x Wᵀ + b with their gradients, and hidden layers: ReLU and dropout in the same passes.

    affine    x Wᵀ + b
    hidden    dropout(ReLU(x Wᵀ + b))

PyTorch takes products of float32 matrices through MKL, which leaves half of the vector unit idle on processors that are not of
its maker. oneDNN, which comes with PyTorch too, compiles a product for the processor at hand: the same float32 arithmetic, on
an AMD core more than twice as fast. Other devices, number formats and autocast, and small products, are left to PyTorch.

A hidden layer keeps its output alone: where that is positive, the gradient passes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from palate.kernels.masking import mask, mask_slope
from palate.nn.dropout import OFF, Dropout, random_bytes

#: Multiplications under which a call of oneDNN costs more than it saves.
SMALL = 1_000_000
#: Columns (half their harmonic mean) under which turning arrays for oneDNN costs more than it saves.
FEW = 32


class Affine(nn.Linear):
    """As :class:`torch.nn.Linear`, by :func:`affine`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``float32[..., out]``."""
        return affine(input, self.weight, self.bias)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x Wᵀ + b``, ``float32[..., out]``, as :func:`torch.nn.functional.linear` does.

    Parameters
    ----------
    x, weight, bias
        ``float32[..., width]``, ``float32[out, width]``, ``float32[out]`` or ``None``.
    """
    if not _covered(x, weight):
        return affine_reference(x, weight, bias)
    if not _graded(x, weight, bias):
        return _product(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))
    found: Tensor = _Affine.apply(x.reshape(-1, x.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    return found.view(*x.shape[:-1], len(weight))


def affine_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As :func:`affine`, in plain torch, on any device."""
    return functional.linear(x, weight, bias)


def hidden(x: Tensor, weight: Tensor, bias: Tensor | None = None, drop: Dropout = OFF) -> Tensor:
    """Return ``dropout(ReLU(x Wᵀ + b))``, ``float32[n, out]``; the parameters are those of :func:`affine`."""
    if not _covered(x, weight) or x.dim() != 2:
        return hidden_reference(x, weight, bias, drop)
    if not _graded(x, weight, bias) and not drop.cut:
        return _product(x, weight, bias, "relu")
    found: Tensor = _Hidden.apply(x, weight, bias, drop)  # type: ignore[no-untyped-call]
    return found


def hidden_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None, drop: Dropout = OFF) -> Tensor:
    """As :func:`hidden`, in plain torch, on any device."""
    return drop(functional.linear(x, weight, bias).relu())


class _Affine(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _slopes(ctx, grad.contiguous())


class _Hidden(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, drop: Dropout) -> Tensor:
        out = _product(x, weight, bias, "relu")
        if drop.cut:
            mask(out.view(-1).numpy(), random_bytes(out.numel(), drop.generator).numpy(), drop.cut, drop.scale)
        ctx.save_for_backward(x, weight, out)
        ctx.biased, ctx.scale = bias is not None, drop.scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        out = ctx.saved_tensors[2]
        slope = torch.empty_like(out)
        given, values, into = (t.detach().view(-1).numpy() for t in (grad.contiguous(), out, slope))
        mask_slope(given, values, into, ctx.scale)
        return (*_slopes(ctx, slope), None)


def _slopes(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients by x, the weights and the bias."""
    x, weight = ctx.saved_tensors[:2]
    by_x = _product(grad, weight.t()) if ctx.needs_input_grad[0] else None
    by_weight = _by_weight(x, grad) if ctx.needs_input_grad[1] else None
    return by_x, by_weight, grad.sum(0) if ctx.biased else None


def _by_weight(x: Tensor, grad: Tensor) -> Tensor:
    """Return ``gradᵀ x``: oneDNN copies what is turned, so under a few columns PyTorch's product is faster."""
    width, out = x.shape[1], grad.shape[1]
    return grad.t() @ x if width * out < FEW * (width + out) else _product(grad.t(), x.t())


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    # oneDNN has no kernel for the columns of a wider matrix, and takes hundreds of times as long.
    x, weight = (a if a.is_contiguous() or a.t().is_contiguous() else a.contiguous() for a in (x, weight))
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "")
    return found


def _graded(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _covered(x: Tensor, weight: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return plain and x.numel() * len(weight) >= SMALL and min(weight.shape) > 1 and _there()


@cache
def _there() -> bool:
    """Say whether this build of PyTorch has the product of oneDNN."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")
