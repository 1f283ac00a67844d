"""Bi-interaction layers over a typed graph: what KGAT propagates with.

    n = Σ_{e of h} p_e x_tail(e)
    y = drop( φ((x + n) W₁ + b₁) + φ((x ∘ n) W₂ + b₂) ),     φ(a) = max(a, 0.2 a)
    out = x⁰ ‖ y¹/|y¹| ‖ … ‖ y^K/|y^K|

A layer takes the undivided ``y`` of the one below. The shares ``p`` have no gradient. Only some rows of the output are asked
for, so the last layer is computed for them alone, and its gradient reads only them. Blocks of rows go through sum, product,
activation and dropout while they are in the cache; the gradient makes the sums again instead of keeping them.

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

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span
from palate.kernels.spmm import spmm
from palate.nn.dropout import OFF, Dropout, random_bytes
from palate.nn.knowledge import Edges
from palate.nn.unit import TINY, Unit
from palate.runtime import single_threaded_blas

#: Slope of the activation below zero.
LEAK = 0.2
#: Rows of a block, and the parts that rows are dealt into, each with gradient sums of its own.
ROWS, PARTS = 256, 8


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

    def gather(self, x: np.ndarray, needed: np.ndarray | None = None) -> np.ndarray:
        """Return ``Σ p_e x_tail(e)`` of every head, or of the ``needed`` ones."""
        e = self.edges
        return spmm(e.offsets, e.tails, self.shares, x, needed=needed, spans=e.spans)

    def scatter(self, x: np.ndarray, base: np.ndarray, filled: np.ndarray | None = None) -> np.ndarray:
        """Return ``base`` plus the transposed sum of ``x``, of which only the ``filled`` rows may differ from zero."""
        e = self.edges
        return spmm(e.offsets, e.tails, self.back, x, base=base, filled=filled, spans=e.spans)


class BiInteraction(nn.Module):
    """The weights of all layers: ``W₁, b₁, W₂, b₂`` of each, for widths ``dims[0] → dims[1] → …``."""

    def __init__(self, dims: Sequence[int], rng: np.random.Generator) -> None:
        super().__init__()
        self.weights = nn.ParameterList()
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
        args = (x, attention, rows, masks, drop.cut, *self.weights)
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
            y, _ = _mix(below, attention.gather(below), arrays[4 * k : 4 * k + 4], None, 0)
            found.append(y)
        return found


def mix_rows(x: np.ndarray, n: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return the layer ``y`` of rows ``x`` with neighbour sums ``n``, without dropout."""
    return _mix(x, n, weights, None, 0)[0]


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
        ctx: Any, x: Tensor, attention: Attention, rows: np.ndarray, masks: list[Tensor | None], cut: int, *weights: Tensor
    ) -> Tensor:
        arrays = [w.detach().numpy() for w in weights]
        bytes_ = [None if m is None else m.numpy() for m in masks]
        below, depth = x.detach().numpy(), len(arrays) // 4
        needed = np.zeros(len(below), np.uint8)
        needed[rows] = 1
        out, kept = [below[rows]], []
        for k in range(depth):
            last = k == depth - 1
            n = attention.gather(below, needed if last else None)
            if last:
                below, n = below[rows], n[rows]
            y, flags = _mix(below, n, arrays[4 * k : 4 * k + 4], bytes_[k], cut)
            unit = Unit(y if last else y[rows])
            kept.append((below, n, flags, unit))
            out.append(unit.rows)
            below = y
        ctx.attention, ctx.rows, ctx.needed, ctx.arrays, ctx.kept, ctx.cut = attention, rows, needed, arrays, kept, cut
        return torch.from_numpy(np.concatenate(out, axis=1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept, rows, slope, scale = ctx.kept, ctx.rows, grad.numpy(), _scale(ctx.cut)
        if kept is None:
            raise RuntimeError("the gradient of these layers was taken already; compute them again")
        ctx.kept = None
        bounds = np.cumsum([kept[0][0].shape[1], *(unit.rows.shape[1] for *_, unit in kept)])
        by_weights: list[np.ndarray] = []
        above: np.ndarray | None = None
        for k in range(len(kept) - 1, -1, -1):
            below, n, flags, unit = kept[k]
            dy = unit.back(slope[:, bounds[k] : bounds[k + 1]])
            last = above is None
            if above is not None:
                above[rows] += dy
                dy = above
            dx, dn, own = _mix_back(below, n, flags, dy, ctx.arrays[4 * k : 4 * k + 4], scale)
            by_weights = own + by_weights
            if last:
                dx, dn = (_spread(part, rows, len(ctx.needed)) for part in (dx, dn))
            above = ctx.attention.scatter(dn, dx, ctx.needed if last else None)
        assert above is not None
        above[rows] += slope[:, : bounds[0]]
        return torch.from_numpy(above), None, None, None, None, *(torch.from_numpy(w) for w in by_weights)


def _spread(part: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    whole = np.zeros((n, part.shape[1]), np.float32)
    whole[rows] = part
    return whole


def _scale(cut: int) -> float:
    return 256 / (256 - cut)


def _blocks(rows: int, run: Any, work: int) -> None:
    """Call ``run(part, start, stop)`` for blocks of rows, dealt into parts, in threads with a one-threaded BLAS."""
    bounds = np.linspace(0, rows, PARTS + 1).astype(np.int64)

    def parts(low: int, high: int) -> None:
        for part in range(low, high):
            for start in range(int(bounds[part]), int(bounds[part + 1]), ROWS):
                run(part, start, min(start + ROWS, int(bounds[part + 1])))

    with single_threaded_blas():
        each_span(parts, np.arange(PARTS + 1), work)


def _mix(
    x: np.ndarray, n: np.ndarray, weights: Sequence[np.ndarray], mask: np.ndarray | None, cut: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``y``, and flags of what passed: bit 0 and 1 for a positive first and second term, bit 2 for kept."""
    w1, b1, w2, b2 = weights
    y, flags = np.empty((len(x), w1.shape[1]), np.float32), np.empty((len(x), w1.shape[1]), np.uint8)
    drawn = np.empty((0, 0), np.uint8) if mask is None else mask
    scale = np.float32(_scale(cut))

    def run(part: int, start: int, stop: int) -> None:
        own, near = x[start:stop], n[start:stop]
        first, second = (own + near) @ w1, (own * near) @ w2
        _activate(first, second, b1, b2, drawn, cut, scale, start, y, flags)

    _blocks(len(x), run, x.size * w1.shape[1])
    return y, flags


def _mix_back(
    x: np.ndarray, n: np.ndarray, flags: np.ndarray, dy: np.ndarray, weights: Sequence[np.ndarray], scale: float
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the gradients by ``x`` (but for its way through ``n``), by ``n``, and by the four weights."""
    w1, _, w2, _ = weights
    dx, dn = np.empty_like(x), np.empty_like(x)
    sums = [np.zeros((PARTS, *w.shape), np.float32) for w in weights]
    back1, back2, grown = np.ascontiguousarray(w1.T), np.ascontiguousarray(w2.T), np.float32(scale)

    def run(part: int, start: int, stop: int) -> None:
        own, near = x[start:stop], n[start:stop]
        first, second = (np.empty((stop - start, w1.shape[1]), np.float32) for _ in range(2))
        _slopes(dy, flags, grown, start, first, second)
        product = own * near
        sums[0][part] += (own + near).T @ first
        sums[1][part] += first.sum(0)
        sums[2][part] += product.T @ second
        sums[3][part] += second.sum(0)
        _to_inputs(own, near, first @ back1, second @ back2, dx[start:stop], dn[start:stop])

    _blocks(len(x), run, 2 * x.size * w1.shape[1])
    return dx, dn, [total.sum(0) for total in sums]


@compiled(fast_math=True)
def _activate(first, second, b1, b2, drawn, cut, scale, start, y, flags):  # type: ignore[no-untyped-def]
    leak, dropped = np.float32(LEAK), len(drawn) > 0
    for r in range(first.shape[0]):
        row = start + r
        for c in range(first.shape[1]):
            a, b = first[r, c] + b1[c], second[r, c] + b2[c]
            flag = (np.uint8(1) if a > 0 else np.uint8(0)) | (np.uint8(2) if b > 0 else np.uint8(0)) | np.uint8(4)
            value = (a if a > 0 else leak * a) + (b if b > 0 else leak * b)
            if dropped:
                kept = drawn[row, c] >= cut
                value = value * scale if kept else np.float32(0.0)
                flag = flag if kept else np.uint8(0)
            y[row, c] = value
            flags[row, c] = flag


@compiled(fast_math=True)
def _slopes(dy, flags, scale, start, first, second):  # type: ignore[no-untyped-def]
    leak = np.float32(LEAK)
    for r in range(first.shape[0]):
        for c in range(first.shape[1]):
            flag = flags[start + r, c]
            slope = dy[start + r, c] * scale if flag & 4 else np.float32(0.0)
            first[r, c] = slope if flag & 1 else leak * slope
            second[r, c] = slope if flag & 2 else leak * slope


@compiled(fast_math=True)
def _to_inputs(x, n, ds, dm, dx, dn):  # type: ignore[no-untyped-def]
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            dx[r, c] = ds[r, c] + dm[r, c] * n[r, c]
            dn[r, c] = ds[r, c] + dm[r, c] * x[r, c]
