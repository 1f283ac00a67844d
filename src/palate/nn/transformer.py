"""The causal transformer of next-item models: SASRec blocks, pre-norm blocks, and the LiGR blocks of eSASRec.

    X⁰ = drop(E[x] √d + P)

    sasrec    Q = LN₁(X);  Y = Q + drop(A(Q, X, X));  Z = LN₂(Y);  X ← Z + drop(W₂ drop(relu(W₁ Z)))
    prenorm   Y = X + drop(A(LN₁ X) W_o);             X ← Y + drop(W₂ drop(gelu(W₁ LN₂ Y))),  inner width 4d
    ligr      Y = X + σ(X W_a + b_a) ⊙ drop(A(LN₁ X) W_o);
              X ← Y + σ(Y W_b + b_b) ⊙ drop(SwiGLU(LN₂ Y)),  inner width 4d, no bias

and a last layer norm. Sources: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, section III; LiGR:
Borisyuk et al. 2025, and the eSASRec study (RecSys 2025). Differences: attention weights themselves are not dropped out.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.nn.attention import CausalAttention
from palate.nn.dropout import OFF, Dropout

Layer = Literal["sasrec", "prenorm", "ligr"]
Positions = Literal["end", "start", "none"]


class SASRecBlock(nn.Module):
    """The block of the paper: the residual starts from the normalised query, and attention has no output matrix."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = CausalAttention(dim, heads, project=False)
        self.inner, self.outer = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None, drop: Dropout) -> Tensor:
        """Map ``float[rows, length, dim]`` to the same shape."""
        query = self.norm1(x)
        z = self.norm2(query + drop(self.attention(query, x, mask)))
        return z + drop(self.outer(drop(functional.relu(self.inner(z)))))


class PreNormBlock(nn.Module):
    """The usual pre-norm block with GELU and an inner width of 4d (or ``hidden``)."""

    def __init__(self, dim: int, heads: int, hidden: int | None = None) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = CausalAttention(dim, heads)
        width = 4 * dim if hidden is None else hidden
        self.inner, self.outer = nn.Linear(dim, width), nn.Linear(width, dim)

    def forward(self, x: Tensor, mask: Tensor | None, drop: Dropout) -> Tensor:
        """Map ``float[rows, length, dim]`` to the same shape."""
        normed = self.norm1(x)
        y = x + drop(self.attention(normed, normed, mask))
        return y + drop(self.outer(drop(functional.gelu(self.inner(self.norm2(y))))))


class LiGRBlock(nn.Module):
    """Gated residuals: the gate reads the input before normalisation, so a closed gate passes the input through."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = CausalAttention(dim, heads)
        self.gate1, self.gate2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.inner, self.outer = nn.Linear(dim, 8 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None, drop: Dropout) -> Tensor:
        """Map ``float[rows, length, dim]`` to the same shape."""
        normed = self.norm1(x)
        y = x + torch.sigmoid(self.gate1(x)) * drop(self.attention(normed, normed, mask))
        left, right = self.inner(self.norm2(y)).chunk(2, dim=-1)
        swiglu = self.outer(drop(functional.silu(left) * right))
        return y + torch.sigmoid(self.gate2(y)) * drop(swiglu)


BLOCKS: dict[str, type[nn.Module]] = {"sasrec": SASRecBlock, "prenorm": PreNormBlock, "ligr": LiGRBlock}


class CausalTransformer(nn.Module):
    """Item numbers to a state at every position; the item table is also the output table.

    Parameters
    ----------
    n_items, dim, max_len
        Catalogue, width and longest sequence.
    blocks, heads, layer
        How many blocks, heads in each, and which kind.
    positions
        Learnt position vectors counted from the most recent item (``"end"``, as a left-padded SASRec has it), from the
        oldest (``"start"``), or none.
    """

    def __init__(
        self,
        n_items: int,
        dim: int,
        max_len: int,
        *,
        blocks: int = 2,
        heads: int = 2,
        layer: Layer = "sasrec",
        positions: Positions = "end",
    ) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, dim)
        self.places = nn.Embedding(max_len, dim) if positions != "none" else None
        self.blocks = nn.ModuleList(BLOCKS[layer](dim, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.positions, self.scale = positions, dim**0.5

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw the starting weights: N(0, .02²) for items and positions, Xavier for matrices, zero for biases."""
        nn.init.normal_(self.items.weight, std=0.02, generator=generator)
        if self.places is not None:
            nn.init.normal_(self.places.weight, std=0.02, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, vectors: Tensor, places: Tensor, mask: Tensor | None = None, drop: Dropout = OFF) -> Tensor:
        """Return the state at every position.

        Parameters
        ----------
        vectors
            ``float[rows, length, dim]``, the rows of the item table (looked up by the caller).
        places
            ``int[rows, length]`` place of each position, counted as ``positions`` says.
        mask
            See :func:`palate.nn.attention.packed_mask`; ``None`` for one sequence a row.
        drop
            Dropout of a training step.
        """
        x = vectors * self.scale
        if self.places is not None:
            x = x + self.places(places)
        x = drop(x)
        for block in self.blocks:
            x = block(x, mask, drop)
        normed: Tensor = self.norm(x)
        return normed
