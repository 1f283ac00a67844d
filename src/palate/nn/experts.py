"""Experts and gates: several dense stacks on one input, and their mixture by weights that a gate draws from an input.

    Expert_e(x) = MLP_e(x)        g(x) = softmax(W x)        f(x) = Σ_e g_e(x) Expert_e(x)

Source: R. A. Jacobs et al., "Adaptive Mixtures of Local Experts", Neural Computation 1991; J. Ma et al., "Modeling Task
Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018, equations 5 to 7.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from palate.nn.dropout import Dropout
from palate.nn.mlp import MLP, dense


class Experts(nn.Module):
    """Dense stacks of the same shape, a ReLU after every layer.

    Parameters
    ----------
    count, width, hidden
        How many, the length of the input, and the widths of the layers; the last is what comes out (no layers: the input).
    rng
        Draws the start.
    batch_norm
        Whether layers are normalised over the batch.
    """

    def __init__(
        self, count: int, width: int, hidden: Sequence[int], rng: np.random.Generator, *, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(MLP(width, hidden, None, rng, batch_norm=batch_norm) for _ in range(count))
        self.width = hidden[-1] if hidden else width

    def forward(self, x: Tensor, drop: Dropout) -> Tensor:
        """Return ``float32[n, e, out]`` of ``float32[n, width]``."""
        if not len(self.stacks):
            return x.new_zeros(len(x), 0, self.width)
        return torch.stack([stack(x, drop) for stack in self.stacks], 1)


class Gate(nn.Module):
    """Weights of experts, by a softmax.

    Parameters
    ----------
    width, count
        Length of the input, and how many experts.
    rng
        Draws the start.
    """

    def __init__(self, width: int, count: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.scores = dense(width, count, rng, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """Return ``float32[n, e]``, summing to 1."""
        scores: Tensor = self.scores(x)
        return scores.softmax(1)

    def forward(self, x: Tensor, experts: Tensor) -> Tensor:
        """Return ``float32[n, out]``: the mixture of ``float32[n, e, out]``."""
        return torch.bmm(self.weights(x)[:, None], experts)[:, 0]
