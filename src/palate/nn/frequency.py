"""How often each item stands in a batch, estimated from the stream of batches in fixed memory.

For every batch ``t`` and every distinct item ``y`` in it, in each of several tables with its own hash ``h``::

    B[h(y)] ← (1 - α) B[h(y)] + α (t - A[h(y)]),     A[h(y)] ← t,       Q(y) = 1 / max over tables of B[h(y)]

``A`` holds the last batch in which an item was seen, ``B`` the mean number of batches between two sightings. Collisions make an
item look more frequent, so the longest gap of all tables counts (of an item never seen: all batches so far).

Source: X. Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019,
algorithms 2 and 3. Differences: the first sighting sets ``B`` to the batch number (the paper starts from any constant), which
halves the time to forget the start; a table as long as the catalogue has no collisions, as its hash is the item number.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StreamingFrequency(nn.Module):
    """The estimate; its tables are buffers, so checkpoints hold them.

    Parameters
    ----------
    n_items
        Size of the catalogue.
    size
        Length of each table; 0 or at least ``n_items`` gives one table without collisions.
    tables
        Number of tables.
    alpha
        α, step of the moving mean.
    """

    last: Tensor
    gap: Tensor
    step: Tensor

    def __init__(self, n_items: int, *, size: int = 0, tables: int = 1, alpha: float = 0.01) -> None:
        super().__init__()
        self.exact = size == 0 or size >= n_items
        self.size, self.tables = (max(1, n_items), 1) if self.exact else (size, tables)
        self.alpha = alpha
        self.register_buffer("last", torch.zeros((self.tables, self.size), dtype=torch.int64))
        self.register_buffer("gap", torch.zeros((self.tables, self.size)))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def see(self, items: Tensor) -> None:
        """Take in the items of one batch, ``int64[n]``, each once."""
        self.step += 1
        places = self._places(items)
        for table in range(self.tables):
            at = torch.unique(places[table])
            passed = (self.step - self.last[table, at]).to(self.gap.dtype)
            first = self.last[table, at] == 0
            moved = (1 - self.alpha) * self.gap[table, at] + self.alpha * passed
            self.gap[table, at] = torch.where(first, passed, moved)
            self.last[table, at] = self.step

    @torch.no_grad()
    def log_q(self, items: Tensor) -> Tensor:
        """Return ``float32[n]``: the log of the share of batches that hold each item (never seen: once in all so far)."""
        gaps = torch.gather(self.gap, 1, self._places(items))
        unseen = self.step.to(gaps.dtype)
        return -torch.log(torch.where(gaps > 0, gaps, unseen).amax(0).clamp(min=1))

    def _places(self, items: Tensor) -> Tensor:
        """Return ``int64[tables, n]``: where each item stands in each table."""
        if self.exact:
            return items[None]
        seeds = torch.arange(1, self.tables + 1, device=items.device)[:, None]
        mixed = (items[None] + seeds * 0x9E3779B1) * 0x5BD1E995 % (2**31 - 1)
        mixed = (mixed ^ (mixed >> 15)) * 0x27D4EB2F % (2**31 - 1)
        return (mixed ^ (mixed >> 13)) % self.size
