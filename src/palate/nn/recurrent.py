"""Gated recurrent layers over sequences laid side by side in time order: no padding, and a fresh state for each."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from palate.nn.dropout import OFF, Dropout


class RecurrentEncoder(nn.Module):
    """Item vectors to states of the same width.

    Parameters
    ----------
    n_items, dim, hidden, layers
        Catalogue, width of item vectors, width of the recurrent state, and how many layers.
    """

    def __init__(self, n_items: int, dim: int, hidden: int, *, layers: int = 1) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, dim)
        self.cells = nn.ModuleList(nn.GRU(hidden if at else dim, hidden, batch_first=True) for at in range(layers))
        self.out = nn.Linear(hidden, dim, bias=False) if hidden != dim else nn.Identity()

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw the starting weights: N(0, .02²) for items, Xavier for input, orthogonal for recurrent matrices."""
        nn.init.normal_(self.items.weight, std=0.02, generator=generator)
        for name, weight in self.named_parameters():
            if name.startswith("items."):
                continue
            if weight.ndim < 2:
                nn.init.zeros_(weight)
            elif "weight_hh" in name:
                for gate in weight.chunk(3):
                    nn.init.orthogonal_(gate, generator=generator)
            else:
                nn.init.xavier_uniform_(weight, generator=generator)

    def forward(self, vectors: Tensor, active: Tensor, drop: Dropout = OFF) -> Tensor:
        """Return the state at every position.

        Parameters
        ----------
        vectors
            ``float[p, dim]`` in time order: first events of all sequences (longest sequence first), then second ones…
        active
            ``int64[steps]``, not rising: how many sequences have an event at each step; they sum to ``p``.
        """
        x = drop(vectors)
        for cell in self.cells:
            x = drop(cell(PackedSequence(x, active.cpu()))[0].data)
        out: Tensor = self.out(x)
        return out

    def last(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return ``float[rows, dim]``: the state after each row of ``vectors`` ``[rows, width, dim]``, padded on the right."""
        x = vectors
        for cell in self.cells:
            x = cell(x)[0]
        out: Tensor = self.out(x[torch.arange(len(x), device=x.device), lengths - 1])
        return out
