"""Bi-interaction layers over a typed graph: what KGAT propagates with.

    n = Σ_{e of h} p_e x_tail(e)
    y = drop( φ((x + n) W₁ + b₁) + φ((x ∘ n) W₂ + b₂) ),     φ(a) = max(a, 0.2 a)
    out = x⁰ ‖ y¹/|y¹| ‖ … ‖ y^K/|y^K|

A layer takes the undivided ``y`` of the one below. The shares ``p`` have no gradient. Only some rows of the output are asked
for, so the last layer is computed for them alone, and its gradient reads only them. On a CPU a layer is two passes each way:
:mod:`palate.kernels.spmm` for the sums, :mod:`palate.kernels.bi_interaction` for the rest.

Source: X. Wang et al., "KGAT", KDD 2019, equations 3, 8 and 9.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from palate.kernels.bi_interaction import LEAK, mix, mix_back, scale_of
from palate.kernels.shelf import Maker, Shelf
from palate.kernels.spmm import spmm
from palate.nn.dropout import OFF, Dropout, random_bytes
from palate.nn.knowledge import Edges
from palate.nn.unit import TINY, Unit


@dataclass(frozen=True, eq=False)
class Attention:
    """Edges with the share of each in its head.

    Attributes
    ----------
    edges
        The graph.
    shares
        ``float32[m]``.
    """

    edges: Edges
    shares: np.ndarray

    @cached_property
    def back(self) -> np.ndarray:
        """``float32[m]``: the share of the link that leads back, for each edge."""
        return self.shares[self.edges.inverse]

    def gather(self, x: np.ndarray, needed: np.ndarray | None = None, make: Maker = np.empty) -> np.ndarray:
        """Return ``Σ p_e x_tail(e)`` of every head, or of the ``needed`` ones."""
        e, out = self.edges, make((self.edges.rows, x.shape[1]), np.float32)
        return spmm(e.offsets, e.tails, self.shares, x, needed=needed, out=out, spans=e.spans)

    def scatter(
        self, x: np.ndarray, base: np.ndarray | None, filled: np.ndarray | None = None, make: Maker = np.empty
    ) -> np.ndarray:
        """Return ``base`` plus the transposed sum of ``x``, of which only the ``filled`` rows are read."""
        e, out = self.edges, make((self.edges.rows, x.shape[1]), np.float32)
        return spmm(e.offsets, e.tails, self.back, x, base=base, filled=filled, out=out, spans=e.spans)


class BiInteraction(nn.Module):
    """The weights of all layers: ``W₁, b₁, W₂, b₂`` of each, for widths ``dims[0] → dims[1] → …``."""

    def __init__(self, dims: Sequence[int], rng: np.random.Generator) -> None:
        super().__init__()
        self.weights, self._shelf = nn.ParameterList(), Shelf()
        for wide, narrow in itertools.pairwise(dims):
            for _ in range(2):
                edge = np.sqrt(6 / (wide + narrow))
                self.weights.append(torch.from_numpy(rng.uniform(-edge, edge, (wide, narrow)).astype(np.float32)))
                self.weights.append(torch.zeros(narrow))

    @property
    def depth(self) -> int:
        """K."""
        return len(self.weights) // 4

    def forward(self, x: Tensor, attention: Attention, rows: np.ndarray, drop: Dropout = OFF) -> Tensor:
        """Return the output of some distinct rows, ``float32[len(rows), Σ dims]``."""
        masks = self.masks(len(x), len(rows), drop, x.device)
        if x.device.type != "cpu":
            return bi_interaction_reference(x, attention, rows, list(self.weights), masks, drop.cut)
        args = (x, attention, rows, masks, drop.cut, self._shelf, *self.weights)
        out: Tensor = _BiInteraction.apply(*args)  # type: ignore[no-untyped-call]
        return out

    def masks(self, n: int, asked: int, drop: Dropout, device: torch.device) -> list[Tensor | None]:
        """Draw the dropout bytes of each layer (``None`` where nothing is dropped)."""
        if drop.cut == 0:
            return [None] * self.depth
        widths = [len(self.weights[4 * k + 1]) for k in range(self.depth)]
        heights = [n] * (self.depth - 1) + [asked]
        sizes = zip(heights, widths, strict=True)
        return [random_bytes(h * w, drop.generator, device).view(h, w) for h, w in sizes]

    @torch.no_grad()
    def layers(self, x: np.ndarray, attention: Attention) -> list[np.ndarray]:
        """Return ``x⁰, y¹ … y^K`` of all rows, without dropout."""
        found, arrays = [x], [w.detach().cpu().numpy() for w in self.weights]
        for k in range(self.depth):
            below = found[-1]
            y, _ = mix(below, attention.gather(below), arrays[4 * k : 4 * k + 4], None, 0)
            found.append(y)
        return found


def mix_rows(x: np.ndarray, n: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return the layer ``y`` of rows ``x`` with neighbour sums ``n``, without dropout."""
    return mix(x, n, weights, None, 0)[0]


def bi_interaction_reference(
    x: Tensor, attention: Attention, rows: np.ndarray, weights: Sequence[Tensor], masks: Sequence[Tensor | None], cut: int
) -> Tensor:
    """As :class:`BiInteraction`, in plain torch, on any device."""
    e = attention.edges
    index = torch.from_numpy(np.stack([e.heads, e.tails]).astype(np.int64)).to(x.device)
    shares = torch.from_numpy(attention.shares).to(x.device)
    wanted = torch.from_numpy(np.asarray(rows, np.int64)).to(x.device)
    out, depth = [x[wanted]], len(weights) // 4
    for k in range(depth):
        n = torch.zeros_like(x).index_add(0, index[0], shares[:, None] * x[index[1]])
        if k == depth - 1:
            x, n = x[wanted], n[wanted]
        w1, b1, w2, b2 = weights[4 * k : 4 * k + 4]
        x = functional.leaky_relu((x + n) @ w1 + b1, LEAK) + functional.leaky_relu((x * n) @ w2 + b2, LEAK)
        mask = masks[k]
        if mask is not None:
            x = x * (mask >= cut) * (256 / (256 - cut))
        out.append(functional.normalize(x if k == depth - 1 else x[wanted], dim=1, eps=TINY))
    return torch.cat(out, 1)


class _BiInteraction(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        attention: Attention,
        rows: np.ndarray,
        masks: list[Tensor | None],
        cut: int,
        shelf: Shelf,
        *weights: Tensor,
    ) -> Tensor:
        arrays = [w.detach().numpy() for w in weights]
        bytes_ = [None if m is None else m.numpy() for m in masks]
        below, depth = x.detach().numpy(), len(arrays) // 4
        needed = np.zeros(len(below), np.uint8)
        needed[rows] = 1
        out, kept = [below[rows]], []
        for k in range(depth):
            last = k == depth - 1
            n = attention.gather(below, needed if last else None, shelf.take)
            if last:
                _give(shelf, k, below, n)
                below, n = below[rows], n[rows]
            y, passed = mix(below, n, arrays[4 * k : 4 * k + 4], bytes_[k], cut, np.empty if last else shelf.take)
            unit = Unit(y if last else y[rows])
            kept.append((below, n, passed, unit))
            out.append(unit.rows)
            below = y
        ctx.attention, ctx.rows, ctx.needed, ctx.arrays, ctx.kept = attention, rows, needed, arrays, kept
        ctx.shelf, ctx.scale = shelf, scale_of(cut)
        return torch.from_numpy(np.concatenate(out, axis=1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept, rows, slope, shelf = ctx.kept, ctx.rows, grad.numpy(), ctx.shelf
        if kept is None:
            raise RuntimeError("the gradient of these layers was taken already; compute them again")
        ctx.kept = None
        bounds = np.cumsum([kept[0][0].shape[1], *(unit.rows.shape[1] for *_, unit in kept)])
        by_weights: list[np.ndarray] = []
        above: np.ndarray | None = None
        for k in range(len(kept) - 1, -1, -1):
            below, n, passed, unit = kept[k]
            dy = unit.back(slope[:, bounds[k] : bounds[k + 1]])
            weights = ctx.arrays[4 * k : 4 * k + 4]
            make = shelf.take if k else np.empty  # the last one is the fit's
            if above is None:
                dx, dn, own = mix_back(below, n, passed, dy, weights, ctx.scale)
                spread = shelf.take((len(ctx.needed), dn.shape[1]))
                spread[rows] = dn
                above = ctx.attention.scatter(spread, None, ctx.needed, make)
                above[rows] += dx
                shelf.give(spread)
            else:
                above[rows] += dy
                dx, dn, own = mix_back(below, n, passed, above, weights, ctx.scale, shelf.take)
                shelf.give(above)
                above = ctx.attention.scatter(dn, dx, None, make)
                _give(shelf, k, below, dx, dn, passed)
            by_weights = own + by_weights
        assert above is not None
        above[rows] += slope[:, : bounds[0]]
        return torch.from_numpy(above), None, None, None, None, None, *(torch.from_numpy(w) for w in by_weights)


def _give(shelf: Shelf, layer: int, below: np.ndarray, *others: np.ndarray) -> None:
    """Put away what a layer read; layer 0 belongs to whom it came from."""
    shelf.give(*others, *((below,) if layer else ()))
