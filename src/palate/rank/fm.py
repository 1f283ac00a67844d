"""FM: main effects of values, and products of their vectors.

    ŷ = b + Σ_i w_i + Σ_{i<j} <v_i, v_j>,      Σ_{i<j} <v_i, v_j> = ½ Σ_f [ (Σ_i v_if)² - Σ_i v_if² ]

over the fields of a row; a number x has ``w·x`` and ``v·x``, a bag the mean of its values. A prediction is the sum of the parts
of its fields and of their pairs, and is explained by them exactly.

Source: S. Rendle, "Factorization Machines", ICDM 2010, equations 1 and lemma 3.1.
Differences: trained by Adam on batches, with early stopping; the penalty is on what a batch looks up.
"""

from __future__ import annotations

import itertools
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from palate.contracts.explanation import Explanation
from palate.contracts.ranker import Rows
from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors, pair_products
from palate.rank.linear import MainEffects
from palate.rank.neural import NeuralRanker, RowNet
from palate.rank.reasons import additive, one_row, task_number
from palate.retrieval.tokens import tokens


class FM(NeuralRanker):
    """Factorisation machine (see the module's text)."""

    name: ClassVar[str] = "fm"
    title: ClassVar[str] = "FM"
    background_rows: ClassVar[int] = 0

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return FMNet(layout, self.config.dim, tasks, rng)

    @torch.no_grad()
    def explain_row(self, row: Rows, task: str | None = None) -> Explanation:
        """Return the parts of fields and of pairs of fields, exactly: they add up to the logit (or to the value).

        ``rest`` is the bias. Calibration comes after, and is not explained.
        """
        self._check_fitted()
        at, net = task_number(self, task), self.net_
        assert isinstance(net, FMNet)
        encoded = self.encoder_.encode(one_row(row).features, tokens)
        own = net.main.weights(encoded).fields[0, :, at]
        vectors = net.table(encoded).fields[0]
        products = ((vectors * net.weights[:, at]) @ vectors.T).tolist()
        unit, zero = self.kinds_[at].unit
        names = net.table.names
        parts: list[tuple[tuple[str, ...], float]]
        parts = [((name,), unit * part) for name, part in zip(names, own.tolist(), strict=True)]
        pairs = itertools.combinations(range(len(names)), 2)
        parts += [((names[i], names[j]), unit * products[i][j]) for i, j in pairs]
        return additive(self.encoder_, row, parts, zero + unit * float(net.main.bias[at]), "weights, and products of vectors")


class FMNet(RowNet):
    """The network; vectors are shared by tasks, each of which weighs their products dimension by dimension."""

    def __init__(self, layout: RowLayout, dim: int, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.main, self.table = MainEffects(layout, tasks, rng), FieldVectors(layout, dim, rng, scale=0.01)
        self.weights = nn.Parameter(torch.ones(dim, tasks), requires_grad=tasks > 1)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        main, size = self.main(rows)
        vectors = self.table(rows)
        return main + pair_products(vectors.fields) @ self.weights, size + vectors.size
