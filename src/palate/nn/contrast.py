"""InfoNCE: the contrast of two views, against the other rows of the batch or against all rows of a table.

    L = -1/B Σ_r ln( exp(cos(a_r, b_{t_r})/τ) / Σ_s exp(cos(a_r, b_s)/τ) )

Against the batch, ``b`` holds the second view of the rows of ``a`` (``t_r = r``), and a large batch may be cut into groups that
are told apart within themselves; against all rows ``b`` holds the whole table and ``t_r`` is the row's place in it. Scores are
made in blocks that turn into their gradient at once, so ``B x n`` numbers never exist whole; lengths are divided out, and their
gradient taken, in the same pass.

Source: A. van den Oord et al., arXiv 1807.03748, equation 4, on cosines; J. Wu et al., "SGL", SIGIR 2021, equation 10.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from palate.nn.multinomial import multinomial_pass
from palate.nn.unit import TINY, Unit


def contrast(
    first: Tensor, second: Tensor, temperature: float, targets: Tensor | None = None, *, group: int | None = None
) -> Tensor:
    """Return the loss of two views, averaged over the rows of the first.

    Parameters
    ----------
    first
        ``float32[B, d]``.
    second
        ``float32[n, d]``: the same rows in the other view (``n = B``), or, with ``targets``, all rows that count as negatives.
    temperature
        τ; cosines are divided by it.
    targets
        ``int64[B]``: the row of ``second`` that belongs to each row of ``first``; ``None``: its own number.
    group
        Without targets: rows are told apart from those of their own group only, and groups are runs of about so many rows
        (of equal length, up to one), so the cost is ``B x group``; ``None`` for one group. Give the rows in a random order.

    Notes
    -----
    A vector of length zero has cosine 0 with all others, and no gradient to speak of. No rows give 0.
    """
    if first.device.type != "cpu" or not len(first):
        return contrast_reference(first, second, temperature, targets)
    loss: Tensor = _Contrast.apply(first, second, temperature, targets, group)  # type: ignore[no-untyped-call]
    return loss


def contrast_reference(
    first: Tensor, second: Tensor, temperature: float, targets: Tensor | None = None, *, group: int | None = None
) -> Tensor:
    """As :func:`contrast`, by the plain definition, on any device."""
    if not len(first):
        return first.sum() * 0
    if targets is None and group is not None:
        parts = [slice(a, b) for a, b in pairwise(_bounds(len(first), group))]
        losses = [contrast_reference(first[p], second[p], temperature) * (p.stop - p.start) for p in parts]
        return torch.stack(losses).sum() / len(first)
    own = torch.arange(len(first), device=first.device) if targets is None else targets
    a, b = (functional.normalize(v, dim=1, eps=TINY) for v in (first, second))
    return functional.cross_entropy(a @ b.T / temperature, own)


class _Contrast(Function):
    @staticmethod
    def forward(
        ctx: Any, first: Tensor, second: Tensor, temperature: float, targets: Tensor | None, group: int | None
    ) -> Tensor:
        a, b = Unit(first.detach().numpy()), Unit(second.detach().numpy())
        n, scale = len(first), a.rows.dtype.type(1 / temperature)
        if targets is None:
            total, by_a, by_b = _within(a.rows * scale, b.rows, _bounds(n, group or n))
        else:
            total, by_a, by_b = multinomial_pass(a.rows * scale, b.rows, np.arange(n), targets.numpy())
        ctx.slopes = a.back(by_a * scale), b.back(by_b)
        return torch.tensor(total, dtype=first.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        by_first, by_second = (torch.from_numpy(slope * slope.dtype.type(grad)) for slope in ctx.slopes)
        return by_first, by_second, None, None, None


def _within(a: np.ndarray, b: np.ndarray, bounds: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the loss of groups of rows, and its gradients by the scaled unit rows."""
    total, by_a, by_b = 0.0, np.empty_like(a), np.empty_like(b)
    for low, high in pairwise(bounds):
        own, share = np.arange(high - low), a.dtype.type((high - low) / len(a))
        value, *slopes = multinomial_pass(a[low:high], b[low:high], own, own)
        total += value * float(share)
        for out, slope in zip((by_a, by_b), slopes, strict=True):
            np.multiply(slope, share, out=out[low:high])
    return total, by_a, by_b


def _bounds(n: int, group: int) -> np.ndarray:
    """Return the bounds of groups of at most ``group`` rows, as equal as can be."""
    return np.linspace(0, n, max(1, -(-n // group)) + 1).round().astype(np.int64)
