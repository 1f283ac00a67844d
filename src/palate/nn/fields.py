"""Vectors of the fields of rows: one table and one look-up for all codes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.take import take


@dataclass(frozen=True)
class RowVectors:
    """What a network reads of ``n`` rows.

    Attributes
    ----------
    fields
        ``float32[n, f, d]``: a vector a field, in the order of :attr:`FieldVectors.names`.
    sequences
        Name to ``float32[n, t, d]`` vectors and ``bool[n, t]`` which of them are values, of the sequences kept whole.
    size
        Mean over rows of the summed squares of all vectors that were looked up: what an embedding penalty weighs.
    """

    fields: Tensor
    sequences: Mapping[str, tuple[Tensor, Tensor]]
    size: Tensor

    @property
    def flat(self) -> Tensor:
        """``float32[n, f * d]``."""
        return self.fields.flatten(1)


class FieldVectors(nn.Module):
    """Vectors of fields: of a code its row; of a bag the mean; of a number x the vector of its field times x.

    Parameters
    ----------
    layout
        Which column is what.
    dim
        Length of the vectors.
    rng
        Draws the start, from a normal distribution.
    scale
        Its standard deviation.
    whole
        Sequences that are given whole instead of as a mean.
    """

    def __init__(
        self, layout: RowLayout, dim: int, rng: np.random.Generator, *, scale: float = 0.01, whole: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.layout, self.dim, self.whole = layout, dim, tuple(name for name in layout.sequences if name in set(whole))
        start = scale * rng.standard_normal((layout.n_codes, dim))
        start[0] = 0.0
        self.table = nn.Parameter(torch.from_numpy(start.astype(np.float32)))
        self.numbers = nn.Parameter(
            torch.from_numpy((scale * rng.standard_normal((len(layout.numbers), dim))).astype(np.float32))
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields with one vector, in order."""
        return tuple(name for name in self.layout.names if name not in self.whole)

    def forward(self, rows: Encoded) -> RowVectors:
        """Return the vectors of rows."""
        n, width = rows.codes.shape
        found = take(self.table, rows.codes.reshape(-1).astype(np.int64)).view(n, width, self.dim)
        at = len(self.layout.single)
        parts, sequences = [found[:, :at]], {}
        for name, (start, stop) in {**self.layout.bags, **self.layout.sequences}.items():
            mask = torch.from_numpy(rows.codes[:, start:stop] > 0).to(found.device)
            own = found[:, start:stop] * mask[:, :, None]
            if name in self.whole:
                sequences[name] = (own, mask)
            else:
                parts.append((own.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))[:, None])
        if len(self.layout.numbers):
            numbers = torch.from_numpy(np.ascontiguousarray(rows.numbers)).to(found.device)
            parts.append(numbers[:, :, None] * self.numbers)
        fields = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return RowVectors(fields, sequences, found.square().sum() / max(1, n))


def pair_products(fields: Tensor) -> Tensor:
    """Return ``float32[n, d]``: the sum over pairs of fields of their products, ½[(Σ v)² - Σ v²], in time linear in fields.

    Source: S. Rendle, "Factorization Machines", ICDM 2010, lemma 3.1.
    """
    return 0.5 * (fields.sum(1).square() - fields.square().sum(1))


def pair_products_reference(fields: Tensor) -> Tensor:
    """As :func:`pair_products`, pair by pair."""
    pairs = [(i, j) for j in range(fields.shape[1]) for i in range(j)]
    return sum((fields[:, i] * fields[:, j] for i, j in pairs), torch.zeros_like(fields[:, 0]))
