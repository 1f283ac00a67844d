"""Several views of one propagation, with one gradient: clean and noisy passes, and sums over any of their layers.

A pass is ``E^(k) = Â_k E^(k-1) + noise``, ``k = 1..K``, from ``E^(0) = x``; the noise of a pass, where it has any, has length ε
in each row and the signs of ``Â_k E^(k-1)`` (:mod:`palate.kernels.perturb`). A readout is ``Σ_k w_k E^(k)`` of one pass, for
some rows. The noise has no gradient, so all passes have the same Jacobian, and one walk back serves all readouts::

    ∂L/∂x = T_0,    T_K = Σ_r w_rK G_r,    T_k = Σ_r w_rk G_r + Â_{k+1} T_{k+1}

where ``G_r`` is the gradient by readout ``r``. The first product is shared by all passes, the last one is computed for the rows
that are read only, and the first of the way back reads only them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.kernels.draws import uniform_reference
from palate.kernels.gather import gather, scatter
from palate.kernels.perturb import perturb, row_keys
from palate.nn.graph import Adjacency

#: One graph for all layers, or one for each.
Graphs = Adjacency | Sequence[Adjacency]


@dataclass(frozen=True)
class Readout:
    """A weighted sum of the layers of a pass.

    Attributes
    ----------
    weights
        Of layers ``0..K``.
    at
        Which pass.
    """

    weights: tuple[float, ...]
    at: int = 0

    @classmethod
    def mean(cls, layers: int, lowest: int = 0, at: int = 0) -> Readout:
        """Return the mean of layers ``lowest..layers``."""
        share = 1 / (layers + 1 - lowest)
        return cls((0.0,) * lowest + (share,) * (layers + 1 - lowest), at)

    @classmethod
    def layer(cls, number: int, layers: int, at: int = 0) -> Readout:
        """Return one layer alone."""
        return cls(tuple(float(k == number) for k in range(layers + 1)), at)


@dataclass(frozen=True)
class Passes:
    """What to propagate and what to read.

    Attributes
    ----------
    readouts
        Outputs, in order.
    seeds
        One a pass: the seed of its noise, or ``None`` for a clean one.
    eps
        ε, length of the noise of a row in each layer.
    """

    readouts: tuple[Readout, ...]
    seeds: tuple[int | None, ...] = (None,)
    eps: float = 0.0

    @property
    def layers(self) -> int:
        """K."""
        return len(self.readouts[0].weights) - 1


def views(x: Tensor, graphs: Graphs, passes: Passes, rows: np.ndarray | None = None) -> tuple[Tensor, ...]:
    """Return the readouts ``float32[m, d]`` of the ``rows`` (``int64[m]``, distinct; ``None`` for all), with their gradient.

    Parameters
    ----------
    x
        ``float32[n, d]``, layer 0.
    graphs
        ``Â``, or one for each layer.
    """
    layered = _each_layer(graphs, passes.layers)
    if x.device.type != "cpu":
        return views_reference(x, layered, passes, rows)
    out: tuple[Tensor, ...] = _Views.apply(x, layered, passes, rows)  # type: ignore[no-untyped-call]
    return out


def views_reference(x: Tensor, graphs: Graphs, passes: Passes, rows: np.ndarray | None = None) -> tuple[Tensor, ...]:
    """As :func:`views`, in plain torch, pass by pass and layer by layer, on any device."""
    matrices = [g.tensor(x.device) for g in _each_layer(graphs, passes.layers)]
    layers = [_layers_reference(x, matrices, seed, passes.eps) for seed in passes.seeds]
    index = slice(None) if rows is None else torch.from_numpy(np.asarray(rows, np.int64)).to(x.device)
    found = []
    for readout in passes.readouts:
        total = torch.zeros_like(x)
        for weight, layer in zip(readout.weights, layers[readout.at], strict=True):
            total = total + weight * layer
        found.append(total[index])
    return tuple(found)


def _layers_reference(x: Tensor, matrices: list[Tensor], seed: int | None, eps: float) -> list[Tensor]:
    layers = [x]
    for number, matrix in enumerate(matrices, 1):
        layer = matrix @ layers[-1]
        if seed is not None:
            u = torch.from_numpy(uniform_reference(row_keys(layer_seed(seed, number), len(x)), x.shape[1])).to(x.device)
            layer = layer + eps * torch.sign(layer.detach()) * torch.nn.functional.normalize(u, dim=1)
        layers.append(layer)
    return layers


def layer_seed(seed: int, layer: int) -> int:
    """Return the seed of the noise of a layer of a pass."""
    return (seed * 1_000_003 + layer * 0x9E3779B97F4A7C15) % 2**64


def _each_layer(graphs: Graphs, layers: int) -> tuple[Adjacency, ...]:
    if isinstance(graphs, Adjacency):
        return (graphs,) * layers
    if len(graphs) != layers:
        raise ValueError(f"{len(graphs)} graphs were given for {layers} layers")
    return tuple(graphs)


class _Views(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, graphs: tuple[Adjacency, ...], passes: Passes, rows: np.ndarray | None
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        marked = None
        if rows is not None:
            rows = np.asarray(rows, np.int64)
            marked = np.zeros(len(x), np.uint8)
            marked[rows] = 1
        ctx.graphs, ctx.passes, ctx.rows, ctx.marked, ctx.shape = graphs, passes, rows, marked, x.shape
        return tuple(torch.from_numpy(v) for v in _forward(x.detach().contiguous().numpy(), graphs, passes, rows, marked))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [(r.weights, g.contiguous().numpy()) for r, g in zip(ctx.passes.readouts, grads, strict=True) if g is not None]
        total = None
        for k in range(len(ctx.graphs), -1, -1):
            if total is not None:
                # Only the rows that were read are filled when the way back begins.
                filled = ctx.marked if k == len(ctx.graphs) - 1 else None
                total = ctx.graphs[k].product(total, filled=filled)
            for weights, slope in given:
                total = _spread(total, slope, weights[k], ctx.rows, ctx.shape)
        return None if total is None else torch.from_numpy(total), None, None, None


def _forward(
    x: np.ndarray, graphs: tuple[Adjacency, ...], passes: Passes, rows: np.ndarray | None, marked: np.ndarray | None
) -> list[np.ndarray]:
    layers = len(graphs)
    totals: list[np.ndarray | None] = [None] * len(passes.readouts)
    first = graphs[0].product(x, needed=marked if layers == 1 else None) if layers else x
    for at, seed in enumerate(passes.seeds):
        wanted = [n for n, readout in enumerate(passes.readouts) if readout.at == at]
        layer = x
        for k in range(layers + 1):
            needed = marked if k == layers else None
            if k == 1:
                layer = first
            elif k > 1:
                layer = graphs[k - 1].product(layer, needed=needed)
            if k and seed is not None:
                # The first product belongs to all passes.
                layer = perturb(layer, layer_seed(seed, k), passes.eps, needed, out=None if k == 1 else layer)
            for n in wanted:
                totals[n] = _read(totals[n], passes.readouts[n].weights[k], layer, rows)
    shape = (len(x) if rows is None else len(rows), x.shape[1])
    return [np.zeros(shape, np.float32) if total is None else total for total in totals]


def _read(total: np.ndarray | None, weight: float, layer: np.ndarray, rows: np.ndarray | None) -> np.ndarray | None:
    """Add ``weight`` times the rows that are read; ``None`` stands for nothing yet."""
    if weight == 0:
        return total
    return gather(layer, np.arange(len(layer)) if rows is None else rows, weight, total)


def _spread(
    total: np.ndarray | None, slope: np.ndarray, weight: float, rows: np.ndarray | None, shape: tuple[int, int]
) -> np.ndarray | None:
    """Add ``weight`` times the gradient of the rows that were read to the whole; ``None`` stands for zero."""
    if weight == 0:
        return total
    if rows is None:
        return gather(slope, np.arange(shape[0]), weight, total)
    if total is None:
        total = np.zeros(shape, np.float32)
    scatter(total, rows, slope, weight)
    return total
