"""A space of items placed by what is told of them, with a part of their own; people stand at weighted means of items.

    f(x) = to the ball( W_2 relu( W_1 t + mean_{c in x} E_c + W_3 z + b ) + b_2 )        q = to the ball( f(x) + δ )

``slope`` holds the two numbers of a probability on the distance, ``σ(a - softplus(b) d)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.nn.dropout import OFF, Dropout


def ball(vectors: Tensor) -> Tensor:
    """Return the vectors, those longer than one shortened to one (with gradient)."""
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1)


class ReleaseSpace(nn.Module):
    """The network ``f`` and the parts ``δ``.

    Parameters
    ----------
    sizes
        Width of the text vectors, number of codes, of plain numbers (all 0: no ``f``).
    n_items
        Items with a part of their own (0: none has).
    dim, hidden
        Widths of the space and of the hidden layer.
    rng
        Draws the weights; the own parts begin at zero, or at random where there is no ``f``.
    """

    def __init__(self, sizes: tuple[int, int, int], n_items: int, dim: int, hidden: int, rng: np.random.Generator) -> None:
        super().__init__()
        text, codes, numbers = sizes
        self.told = any(sizes)
        wide = hidden if self.told else 0

        def table(rows: int, columns: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.from_numpy(rng.standard_normal((rows, columns), np.float32) * np.float32(scale)))

        self.text = table(wide, text, 1.0)  # rows of t have length one: outputs of variance one
        self.codes = table(codes, wide, 1.0)
        self.numbers = table(wide, numbers, numbers**-0.5 if numbers else 0.0)
        self.out = table(dim, wide, 0.5 * (dim * wide) ** -0.5 if wide else 0.0)  # well inside the ball
        self.bias, self.bias_out = nn.Parameter(torch.zeros(wide)), nn.Parameter(torch.zeros(dim if self.told else 0))
        self.slope = nn.Parameter(torch.tensor([0.0, 2.0]))
        self.own = table(n_items, dim, 0.0 if self.told else dim**-0.5)

    def placed(self, inputs: Any, dropout: Dropout = OFF) -> Tensor:
        """Return ``f(x)``, ``[n, dim]``."""
        device, n, features = self.own.device, len(inputs.text), inputs.features
        x = functional.linear(torch.from_numpy(inputs.text).to(device), self.text) + self.bias
        if len(self.codes):
            bags = features.bags
            where = torch.from_numpy(bags.offsets[: -1 : features.n_fields].copy()).to(device)
            codes = torch.from_numpy(bags.values.astype(np.int64)).to(device)
            x = x + functional.embedding_bag(codes, self.codes, where, mode="mean")
        if self.numbers.shape[1]:
            x = x + functional.linear(torch.from_numpy(features.dense).to(device), self.numbers)
        return ball(functional.linear(dropout(torch.relu(x)), self.out, self.bias_out)).view(n, -1)

    def forward(self, inputs: Any, dropout: Dropout = OFF) -> Tensor:
        """Return ``q``, ``[n, dim]``, of all items."""
        if not self.told:
            return ball(self.own)
        found = self.placed(inputs, dropout)
        return ball(found + self.own) if len(self.own) else found

    def answer(self, inputs: Any, trained: np.ndarray) -> np.ndarray:
        """Return ``float32[n, dim]``: ``q`` of trained items, ``f`` of others (zero where there is no ``f``)."""
        with torch.inference_mode():
            n, dim = len(trained), self.own.shape[1]
            found = self.placed(inputs) if self.told else torch.zeros(n, dim, device=self.own.device)
            if len(self.own) and trained.any():
                rows = torch.from_numpy(np.flatnonzero(trained)).to(found.device)
                found[rows] = ball(found[rows] + self.own[rows])
            whole: np.ndarray = found.cpu().numpy()
        return whole.astype(np.float32)
