"""Layers over typed links: R-GCN and heterogeneous GraphSAGE, on whole graphs or on sampled neighbourhoods.

    R-GCN       h_i' = φ( W₀ h_i + Σ_r mean_{j in N_r(i)} W_r h_j + b ),      W_r = Σ_b a_rb V_b
    GraphSAGE   h_i' = φ( W_self h_i + Σ_r pool_{j in N_r(i)} m(W_r h_j + b_r) ),      pool = mean or max, m = φ or nothing

Both take a :class:`Block`: rows of input, of which the first are those of the output, and for each relation the links from
outputs to inputs. A relation without links adds nothing; a node without neighbours depends on itself alone.

Source: M. Schlichtkrull et al., "Modeling Relational Data with Graph Convolutional Networks", ESWC 2018, equations 2 and 3;
W. Hamilton et al., "Inductive Representation Learning on Large Graphs", NeurIPS 2017, equations 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from palate.data.ragged import offsets_of
from palate.kernels.edge_samples import scatter_max, segment_max
from palate.kernels.spmm import spmm
from palate.nn.knowledge import Edges
from palate.nn.take import take

Pool = Literal["mean", "max"]


@dataclass(frozen=True, eq=False)
class Links:
    """The links of one relation: heads that have any, each with its tails.

    Attributes
    ----------
    heads
        ``int64[k]`` rows of the output, ascending and distinct.
    offsets, tails
        ``int64[k + 1]`` and ``int32[m]`` rows of the input.
    """

    heads: np.ndarray
    offsets: np.ndarray
    tails: np.ndarray

    @cached_property
    def means(self) -> np.ndarray:
        """``float32[m]``: one over the number of links of the head."""
        lengths = np.diff(self.offsets)
        return np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)

    def back(self, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the transposed links over ``rows`` inputs: bounds, places of heads, and the share of each."""
        links = sparse.csr_matrix((self.means, self.tails, self.offsets), shape=(len(self.heads), rows)).tocsc()
        return links.indptr.astype(np.int64), links.indices.astype(np.int32), links.data


@dataclass(frozen=True, eq=False)
class Block:
    """One layer's neighbourhood.

    Attributes
    ----------
    rows
        ``int64[n]`` node of each input row; the first ``n_out`` are those of the output.
    n_out
        Rows of the output.
    links
        By relation; relations without links may be missing.
    """

    rows: np.ndarray
    n_out: int
    links: Mapping[int, Links]

    @classmethod
    def whole(cls, edges: Edges) -> Block:
        """Return the block of all nodes with all edges."""
        found = {}
        for relation, places in enumerate(edges.by_relation):
            if len(places):
                heads, counts = np.unique(edges.heads[places], return_counts=True)
                found[relation] = Links(heads.astype(np.int64), offsets_of(counts), edges.tails[places])
        return cls(np.arange(edges.rows, dtype=np.int64), edges.rows, found)

    def __len__(self) -> int:
        return sum(len(links.tails) for links in self.links.values())


def pool_mean(x: Tensor, links: Links) -> Tensor:
    """Return ``float32[k, d]``: for each head with links, the mean of its tails' rows."""
    if x.device.type != "cpu":
        return pool_reference(x, links, "mean")
    out: Tensor = _Mean.apply(x, links)  # type: ignore[no-untyped-call]
    return out


def pool_max(x: Tensor, links: Links) -> Tensor:
    """Return ``float32[k, d]``: for each head with links, the elementwise maximum of its tails' rows."""
    if x.device.type != "cpu":
        return pool_reference(x, links, "max")
    out: Tensor = _Max.apply(x, links)  # type: ignore[no-untyped-call]
    return out


def pool_reference(x: Tensor, links: Links, pool: Pool) -> Tensor:
    """As :func:`pool_mean` and :func:`pool_max`, head by head, on any device."""
    parts = [
        x[torch.from_numpy(links.tails[a:b].astype(np.int64))] for a, b in zip(links.offsets, links.offsets[1:], strict=False)
    ]
    made = [part.mean(0) if pool == "mean" else part.amax(0) for part in parts]
    return torch.stack(made) if made else x[:0]


class RGCNLayer(nn.Module):
    """An R-GCN layer (see the module's text); ``bases=0`` gives each relation a matrix of its own."""

    def __init__(
        self, wide: int, narrow: int, relations: int, bases: int, rng: np.random.Generator, *, act: bool = True
    ) -> None:
        super().__init__()
        count = bases if 0 < bases < relations else relations
        self.act, self.own = act, nn.Parameter(_glorot(rng, wide, narrow))
        self.bias = nn.Parameter(torch.zeros(narrow))
        self.bases = nn.Parameter(_glorot(rng, count, wide, narrow))
        mixes = rng.standard_normal((relations, count), np.float32) / np.float32(np.sqrt(max(1, count)))
        self.mix = nn.Parameter(torch.from_numpy(mixes)) if count < relations else None

    @property
    def matrices(self) -> Tensor:
        """``float32[relations, wide, narrow]``, ``W_r``."""
        return self.bases if self.mix is None else torch.einsum("rb,bij->rij", self.mix, self.bases)

    def forward(self, x: Tensor, block: Block) -> Tensor:
        """Return ``float32[n_out, narrow]``."""
        out, matrices = x[: block.n_out] @ self.own + self.bias, self.matrices.unbind(0)
        for relation, links in block.links.items():
            heads = torch.from_numpy(links.heads).to(x.device)
            out.index_add_(0, heads, pool_mean(x, links) @ matrices[relation])
        return functional.relu(out) if self.act else out


class SAGELayer(nn.Module):
    """A heterogeneous GraphSAGE layer (see the module's text).

    Parameters
    ----------
    pool
        How neighbours are summed up.
    act_messages, act
        Whether messages, and the output, go through the rectifier.
    normalise
        Whether the output's rows are brought to length one.
    """

    def __init__(
        self,
        wide: int,
        narrow: int,
        relations: int,
        rng: np.random.Generator,
        *,
        pool: Pool = "mean",
        act_messages: bool = True,
        act: bool = True,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.pool, self.act_messages, self.act, self.normalise = pool, act_messages, act, normalise
        self.own = nn.Parameter(_glorot(rng, wide, narrow))
        self.matrices = nn.Parameter(_glorot(rng, relations, wide, narrow))
        self.biases = nn.Parameter(torch.zeros(relations, narrow))

    def forward(self, x: Tensor, block: Block) -> Tensor:
        """Return ``float32[n_out, narrow]``."""
        out, matrices, biases = x[: block.n_out] @ self.own, self.matrices.unbind(0), self.biases.unbind(0)
        for relation, links in block.links.items():
            used, places = _used(links.tails, len(x))
            told = take(x, used) @ matrices[relation] + biases[relation]
            told = functional.relu(told) if self.act_messages else told
            near = Links(links.heads, links.offsets, places)
            summed = pool_mean(told, near) if self.pool == "mean" else pool_max(told, near)
            out.index_add_(0, torch.from_numpy(links.heads).to(x.device), summed)
        out = functional.relu(out) if self.act else out
        return functional.normalize(out, dim=1) if self.normalise else out


def _used(tails: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are named, ascending, and ``int32[m]`` which of these each tail is."""
    named = np.zeros(rows, bool)
    named[tails] = True
    return np.flatnonzero(named), (np.cumsum(named, dtype=np.int32) - np.int32(1))[tails]


class _Mean(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, links: Links) -> Tensor:
        ctx.links, ctx.rows = links, len(x)
        return torch.from_numpy(spmm(links.offsets, links.tails, links.means, x.detach().contiguous().numpy()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        bounds, heads, shares = ctx.links.back(ctx.rows)
        return torch.from_numpy(spmm(bounds, heads, shares, grad.contiguous().numpy())), None


class _Max(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, links: Links) -> Tensor:
        values, sources = segment_max(links.offsets, links.tails, x.detach().contiguous().numpy())
        ctx.sources, ctx.rows = sources, len(x)
        return torch.from_numpy(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return torch.from_numpy(scatter_max(grad.contiguous().numpy(), ctx.sources, ctx.rows)), None


def _glorot(rng: np.random.Generator, *shape: int) -> Tensor:
    edge = np.sqrt(6 / (shape[-1] + shape[-2]))
    return torch.from_numpy(rng.uniform(-edge, edge, shape).astype(np.float32))
