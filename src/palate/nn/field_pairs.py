"""Vectors of pairs of fields: remembered value by value, or made of vectors of the two fields."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from palate.data.row_encoder import Encoded, RowLayout
from palate.data.row_part import RowPart
from palate.nn.fields import FieldVectors

#: Spread of vectors at the start: of remembered pairs, and of fields, whose products begin with the same spread.
SPREAD = 0.01
Pair = tuple[str, str]


def cross_name(pair: Pair) -> str:
    """Return the name of the cross field of a pair."""
    return f"{pair[0]} & {pair[1]}"


class PairVectors(nn.Module):
    """Vectors of pairs; tables are made for what is asked for, and nothing else.

        memorised (i, j)     m_ij[x_i, x_j]              a row of the table of the pair's cross field
        factorised (i, j)    v_i[x_i] ⊙ v_j[x_j]         of rows of one table of the fields that stand in such pairs

    Parameters
    ----------
    layout
        Has a cross field (:func:`cross_name`) of every memorised pair.
    memorised, factorised
        The pairs; one may stand in both.
    dim
        Length of the vectors.
    rng
        Draws the start.
    """

    def __init__(
        self, layout: RowLayout, memorised: Sequence[Pair], factorised: Sequence[Pair], dim: int, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.dim = dim
        crosses = RowPart.of(layout, [cross_name(pair) for pair in memorised])
        fields = RowPart.of(layout, {name for pair in factorised for name in pair})
        self.crosses, self.fields = crosses, fields
        self.memory = FieldVectors(crosses.layout, dim, rng, scale=SPREAD) if memorised else None
        self.additions = FieldVectors(fields.layout, dim, rng, scale=SPREAD**0.5) if factorised else None
        self.order = [crosses.layout.single.index(cross_name(pair)) for pair in memorised]
        where = [[fields.layout.single.index(name) for name in pair] for pair in factorised]
        self.left, self.right = (torch.tensor([pair[at] for pair in where], dtype=torch.int64) for at in (0, 1))

    def forward(self, rows: Encoded) -> tuple[Tensor | None, Tensor | None]:
        """Return ``float32[n, p, dim]`` of memorised and of factorised pairs (``None`` without any)."""
        memorised = factorised = None
        if self.memory is not None:
            memorised = self.memory(self.crosses.take(rows)).fields
            if self.order != list(range(len(self.order))):
                memorised = memorised[:, self.order]
        if self.additions is not None:
            turned = self.additions(self.fields.take(rows)).fields.transpose(0, 1)  # rows of the first axis are one run
            device = turned.device
            pairs = turned.index_select(0, self.left.to(device)) * turned.index_select(0, self.right.to(device))
            factorised = pairs.transpose(0, 1)
        return memorised, factorised

    def squares(self) -> Tensor | float:
        """Return the sum of squares of all vectors."""
        return sum((p.square().sum() for p in self.parameters()), 0.0)


def annealed(alpha: Tensor, temperature: float) -> Tensor:
    """Return ``softmax(α / temperature)`` over the last axis: near one-hot where the temperature is low."""
    return (alpha / temperature).softmax(-1)
