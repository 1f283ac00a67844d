"""Two towers: embeddings of fields, a network on top of them, and the softmax whose negatives are the batch itself.

    x = [ mean_{v in field 1} E[v], …, mean_{v in field k} E[v], numbers ]        z = MLP(x) / |MLP(x)|

A field without a value, or one that is masked, has a learnt vector of its own. Sources: P. Covington et al., "Deep Neural
Networks for YouTube Recommendations", RecSys 2016; X. Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus
Item Recommendations", RecSys 2019, equations 2 to 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.data.features import Features
from palate.nn.softmax import shared_softmax


class FieldEmbedding(nn.Module):
    """One table for the codes of all fields; each field's vector is the mean over its values.

    Parameters
    ----------
    n_codes
        Codes of all fields together.
    n_fields
        k.
    dim
        Width of a field's vector.
    rng, scale
        Draws the first vectors, normal with this standard deviation.
    """

    def __init__(self, n_codes: int, n_fields: int, dim: int, rng: np.random.Generator, scale: float = 0.1) -> None:
        super().__init__()
        self.table = nn.Parameter(_normal(rng, (n_codes, dim), scale))
        self.missing = nn.Parameter(_normal(rng, (n_fields, dim), scale))
        self.n_fields, self.dim = n_fields, dim

    def forward(self, features: Features, *, kept: Tensor | None = None) -> Tensor:
        """Return ``float32[n, k * dim]``.

        Parameters
        ----------
        features
            Codes of ``n`` entities.
        kept
            ``bool[values]``: which values count (those of ``features.bags.values``); ``None``: all.
        """
        n, device = len(features), self.table.device
        if not self.n_fields:
            return self.table.new_zeros((n, 0))
        lengths = torch.from_numpy(features.bags.lengths).to(device)
        values = torch.from_numpy(features.bags.values.astype(np.int64)).to(device)
        if kept is not None:
            rows = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)[kept]
            values, lengths = values[kept], torch.bincount(rows, minlength=len(lengths))
        offsets = torch.cumsum(lengths, 0) - lengths
        means = functional.embedding_bag(values, self.table, offsets, mode="mean")
        empty = (lengths == 0)[:, None]
        return torch.where(empty, self.missing.repeat(n, 1), means).view(n, self.n_fields * self.dim)


class Tower(nn.Module):
    """Layers of ReLU and a last linear one, whose output has length one.

    Parameters
    ----------
    width, hidden, dim
        Width of the input, of each hidden layer, and of the output.
    dropout
        Of the hidden layers.
    rng
        Draws the weights: normal with standard deviation ``√(2 / inputs)`` below a ReLU, ``√(1 / inputs)`` at the end.
    """

    def __init__(self, width: int, hidden: Sequence[int], dim: int, rng: np.random.Generator, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = [width, *hidden, dim]
        gains = [2.0] * len(hidden) + [1.0]
        self.weights = nn.ParameterList(
            nn.Parameter(_normal(rng, (out, into), (gain / max(1, into)) ** 0.5))
            for into, out, gain in zip(sizes[:-1], sizes[1:], gains, strict=True)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(out)) for out in sizes[1:])
        self.dropout = dropout

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return ``float32[n, dim]`` of length one; dropout needs a generator, and is left out without."""
        last = len(self.weights) - 1
        for at, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = functional.linear(x, weight, bias)
            if at < last:
                x = functional.relu(x)
                if self.dropout and generator is not None:
                    kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.dropout
                    x = x * kept / (1 - self.dropout)
        return functional.normalize(x, dim=1)


class TwoTowers(nn.Module):
    """An item tower, and a person tower that reads the history through the items' own fields.

        z_i = g(x_i)        z_u = f( [ mean_{j in H} W x_j, fields of u ] )

    ``x`` is the vector of all fields of :class:`FieldEmbedding`; an empty history has a learnt vector.

    Parameters
    ----------
    items, people
        Number of codes, of fields and of dense numbers of each side.
    dim, field_dim, history_dim, hidden, dropout
        Widths, and dropout of the hidden layers.
    rng
        Draws the weights.
    """

    def __init__(
        self,
        items: tuple[int, int, int],
        people: tuple[int, int, int],
        *,
        dim: int,
        field_dim: int,
        history_dim: int,
        hidden: Sequence[int],
        dropout: float,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        codes, fields, numbers = items
        width = fields * field_dim + numbers
        self.item_fields = FieldEmbedding(codes, fields, field_dim, rng)
        self.item_tower = Tower(width, hidden, dim, rng, dropout)
        self.profile = nn.Parameter(_normal(rng, (history_dim, width), 1 / max(1, fields) ** 0.5))
        self.no_history = nn.Parameter(torch.zeros(history_dim))
        codes, fields, numbers = people
        self.person_fields = FieldEmbedding(codes, fields, field_dim, rng)
        self.person_tower = Tower(history_dim + fields * field_dim + numbers, hidden, dim, rng, dropout)

    def item_inputs(self, features: Features, kept: Tensor | None = None, *, dense: bool = True) -> Tensor:
        """Return ``x``, ``float32[n, width]``; without ``dense`` the numbers count as unknown."""
        return _beside(self.item_fields(features, kept=kept), features, dense)

    def profiles(self, inputs: Tensor) -> Tensor:
        """Return ``W x``, ``float32[n, history_dim]``: what an item says of somebody who had it."""
        return functional.linear(inputs, self.profile)

    def person(
        self, history: Tensor, features: Features, kept: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return ``z_u``, ``float32[n, dim]``, of mean profiles ``float32[n, history_dim]`` and the fields of people."""
        own = _beside(self.person_fields(features, kept=kept), features, True)
        found: Tensor = self.person_tower(torch.cat([history, own], 1), generator)
        return found

    def pooled(self, profiles: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return the mean profile of each history: ``int64[m]`` rows of ``profiles``, cut at ``int64[n + 1]`` offsets."""
        means = functional.embedding_bag(rows, profiles, offsets[:-1], mode="mean")
        return torch.where((offsets.diff() == 0)[:, None], self.no_history, means)


def in_batch_softmax(
    queries: Tensor,
    vectors: Tensor,
    rows: Tensor,
    counts: Tensor,
    temperature: float,
    log_q: Tensor | None = None,
) -> Tensor:
    """Return the softmax of each query's own item against all items of the batch, with the logQ correction.

        -1/B Σ_b ln e^{s_bb} / (e^{s_bb} + Σ_{c: item c ≠ item b} e^{s_bc}),   s_bc = <q_b, z_c>/τ - ln Q_c

    Items are given once each with their number of rows, which is the same sum with less work. Rows of the batch with the
    query's own item are no negatives (accidental hits).

    Parameters
    ----------
    queries
        ``[B, d]``.
    vectors
        ``[U, d]``, the distinct items of the batch.
    rows
        ``int64[B]``: which of them is each query's own.
    counts
        ``[U]``: how often each stands in the batch as a negative.
    temperature
        τ.
    log_q
        ``[U]``: ln Q, the log probability that a row of the batch holds the item; ``None``: no correction.
    """
    scaled = queries / temperature
    own = (scaled * vectors[rows]).sum(1)
    correction = -torch.log(counts.to(queries.dtype))
    if log_q is not None:
        own = own - log_q[rows]
        correction = correction + log_q
    return shared_softmax(scaled, own, vectors, hits=rows, correction=correction)


def spread_out(vectors: Tensor) -> Tensor:
    """Return ``1/n Σ_i Σ_{j≠i} <z_i, z_j>²`` of ``[n, d]`` unit vectors (X. Zhang et al., ICCV 2017, second moment).

    Notes
    -----
    ``Σ_ij <z_i, z_j>²`` is the squared size of ``ZᵀZ``, so no ``n x n`` matrix is made.
    """
    return ((vectors.T @ vectors).square().sum() - vectors.square().sum(1).square().sum()) / len(vectors)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, np.float32) * np.float32(scale))


def _beside(fields: Tensor, features: Features, dense: bool) -> Tensor:
    numbers = torch.from_numpy(features.dense).to(fields.device)
    return torch.cat([fields, numbers if dense else torch.zeros_like(numbers)], 1)
