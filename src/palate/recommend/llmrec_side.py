"""What LLMRec knows of people and items beside their links: texts as vectors, spread along the links, added to final vectors.

A block is one kind of text: what the catalogue says of an item, one attribute, or a person's profile. Its vectors live on one
side and reach the other along the links (``R_u = D_u^-1/2 R``, ``R_i = D_i^-1/2 Rᵀ``)::

    of items (x_i):      s_i = x_i              t_i = (R_i R_u x)_i
    of people (p_u):     s_i = (R_i p)_i        t_i = s_i
    both:                people  σ_b(u) = 1/√|H_u| Σ_{i in H_u} s_i M        items  σ_b(i) = t_i M        added: w_b σ_b/|σ_b|

``M`` is learnt: one for the catalogue's texts, one for all attributes, one for profiles. What a person gets is made of their
history alone, so that of somebody unseen is made in the same way.

*Mask and restore.* Each epoch a share of the nodes has its attributes and profiles replaced by the mean, before they spread.
From what such a node gets in the end, a decoder restores what was there: ``1/|V~| Σ (1 - cos(decoded, original))^γ``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from palate.data.ragged import take_rows
from palate.kernels.rows import sum_rows
from palate.recommend.graph_base import Part

#: Rows that are spread or projected at once.
BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Block:
    """Vectors of one kind of text.

    Attributes
    ----------
    name, space
        What it says, and whose map it is projected by.
    side
        ``"items"`` or ``"users"``: whose texts they are.
    vectors
        ``float32[n, t]``; zero where nothing is known.
    weight
        What it counts in the final vectors.
    masked
        Whether the mask takes it.
    """

    name: str
    space: str
    side: str
    vectors: np.ndarray
    weight: float
    masked: bool


@dataclass(eq=False)
class Spread:
    """A block along the links: ``float32[items, t]`` each.

    Attributes
    ----------
    shares
        ``s``, what an item gives to those who had it.
    items
        ``t``, what an item gets.
    hidden
        Nodes of the block's own side that were masked, as ``bool[n]``.
    """

    shares: np.ndarray
    items: np.ndarray
    hidden: np.ndarray


class Links:
    """The training pairs, and how vectors spread along them."""

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        self.offsets, self.columns = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self.n_users, self.n_items = matrix.shape
        counts = np.bincount(self.columns, minlength=self.n_items)
        self.to_items = sparse.diags_array((1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32)) @ matrix.T.tocsr()
        self.had = counts > 0

    def people(self, users: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return ``float32[m, t]``: ``1/√|H| Σ`` of the rows of each person's items."""
        offsets, items = take_rows(self.offsets, users, self.columns)
        found = sum_rows(offsets, items, shares)
        found /= np.sqrt(np.maximum(np.diff(offsets), 1))[:, None]
        return found

    def items(self, people: np.ndarray) -> np.ndarray:
        """Return ``float32[items, t]``: ``R_i`` times vectors of all people."""
        return np.asarray(self.to_items @ people, np.float32)

    def there_and_back(self, x: np.ndarray) -> np.ndarray:
        """Return ``R_i R_u x`` by blocks of people."""
        out = np.zeros_like(x)
        columns = self.to_items.tocsc()
        for low in range(0, self.n_users, BLOCK):
            users = np.arange(low, min(low + BLOCK, self.n_users))
            out += columns[:, low : low + BLOCK] @ self.people(users, x)
        return out

    def spread(self, block: Block, hidden: np.ndarray | None = None) -> Spread:
        """Return a block along the links, some of its nodes replaced by the mean."""
        x = block.vectors
        if hidden is not None and hidden.any():
            x = x.copy()
            known = np.abs(x).max(axis=1) > 0
            x[hidden] = x[known].mean(axis=0) if known.any() else 0
        if block.side == "users":
            shares = items = self.items(x)
        else:
            shares, items = np.where(self.had[:, None], x, np.float32(0)), self.there_and_back(x)
        return Spread(shares, items, np.zeros(len(x), bool) if hidden is None else hidden)


class Side(Part):
    """All blocks, what projects and what restores them.

    Parameters
    ----------
    blocks
        Those that count; none leaves the vectors as they are.
    links
        The training pairs.
    dim
        Width of the final vectors.
    mask
        Share of nodes that an epoch hides.
    power
        γ, of the restoring loss.
    rng
        Draws the first weights.
    """

    def __init__(
        self, blocks: Sequence[Block], links: Links, dim: int, mask: float, power: float, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.blocks, self.links, self.mask, self.power = list(blocks), links, mask, power
        widths = {block.space: block.vectors.shape[1] for block in self.blocks}
        self.maps = nn.ParameterDict({space: _weights(rng, width, dim) for space, width in widths.items()})
        restored = {block.space for block in self.blocks if block.masked} if mask > 0 else set()
        self.decoders = nn.ParameterDict({s: _weights(rng, dim, widths[s]) for s in sorted(restored)})
        self.clean = [links.spread(block) for block in self.blocks]
        self.spread = self.clean

    def begin(self, epoch: int, rng: np.random.Generator) -> None:
        """Hide some nodes for an epoch."""
        if not self.decoders:
            return
        hidden = {side: rng.random(n) < self.mask for side, n in (("items", self.links.n_items), ("users", self.links.n_users))}
        self.spread = [
            self.links.spread(block, hidden[block.side]) if block.masked else clean
            for block, clean in zip(self.blocks, self.clean, strict=True)
        ]

    def projected(self, users: np.ndarray, items: np.ndarray) -> list[Tensor]:
        """Return for each block ``float32[m, d]`` of some people, then of some items, with gradient."""
        found = []
        for block, spread in zip(self.blocks, self.spread, strict=True):
            rows = np.concatenate([self.links.people(users, spread.shares), spread.items[items]])
            weights = self.maps[block.space]
            found.append(torch.from_numpy(rows).to(weights.device) @ weights)
        return found

    def fused(self, vectors: Tensor, projected: Sequence[Tensor]) -> Tensor:
        """Return final vectors: those of the graph, and every block at length 1 times its weight."""
        for block, own in zip(self.blocks, projected, strict=True):
            vectors = vectors + block.weight * functional.normalize(own, dim=1)
        return vectors

    def restoring(self, users: np.ndarray, items: np.ndarray, projected: Sequence[Tensor]) -> Tensor | None:
        """Return the restoring loss over the hidden nodes among these, or ``None`` where there are none."""
        total, count = None, 0
        for block, spread, own in zip(self.blocks, self.spread, projected, strict=True):
            if block.space not in self.decoders:
                continue
            nodes, start = (users, 0) if block.side == "users" else (items, len(users))
            at = np.flatnonzero(spread.hidden[nodes] & (np.abs(block.vectors[nodes]).max(axis=1, initial=0) > 0))
            if not len(at):
                continue
            target = torch.from_numpy(block.vectors[nodes[at]]).to(own.device)
            decoded = own[torch.from_numpy(at + start).to(own.device)] @ self.decoders[block.space]
            sum_ = restore_loss(decoded, target, self.power).sum()
            total, count = sum_ if total is None else total + sum_, count + len(at)
        return None if total is None else total / count

    @torch.no_grad()
    def answers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what answers need: shares ``float32[blocks, items, d]``, weights, and what is added to items."""
        n, d = self.links.n_items, next(iter(self.maps.values())).shape[1] if self.blocks else 0
        shares = np.zeros((len(self.blocks), n, d), np.float32)
        added = np.zeros((n, d), np.float32)
        for at, (block, clean) in enumerate(zip(self.blocks, self.clean, strict=True)):
            weights = self.maps[block.space].detach().cpu().numpy()
            shares[at] = clean.shares @ weights
            own = clean.items @ weights
            added += np.float32(block.weight) * unit(own)
        return shares, np.array([block.weight for block in self.blocks], np.float32), added


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows at length 1 (zero stays zero)."""
    out: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return out


def restore_loss(decoded: Tensor, target: Tensor, power: float) -> Tensor:
    """Return ``float32[n]``: ``(1 - cos)^power`` of each row."""
    return (1 - functional.cosine_similarity(decoded, target, dim=1)).clamp_min(0) ** power


def _weights(rng: np.random.Generator, rows: int, columns: int) -> nn.Parameter:
    drawn = rng.standard_normal((rows, columns), np.float32) / np.float32(np.sqrt(rows))
    return nn.Parameter(torch.from_numpy(drawn.astype(np.float32)))
