"""Causal self-attention over rows that may hold several packed sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalAttention(nn.Module):
    """Multi-head attention in which a position sees itself and earlier positions of its own sequence.

        A = softmax(Q Kᵀ / √d_head + mask) V,   out = concat(heads) W_o

    Parameters
    ----------
    dim, heads
        Width, and into how many heads it is cut.
    project
        Whether ``W_o`` is there (the original SASRec has none).
    bias
        Whether Q and ``W_o`` have one. K and V never do: softmax cancels a bias of K, whose gradient is then rounding noise.
    """

    def __init__(self, dim: int, heads: int, *, project: bool = True, bias: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} can't be cut into {heads} heads")
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=bias) if project else nn.Identity()

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Parameters
        ----------
        queries, context
            ``float[rows, length, dim]`` inputs of Q, and of K and V (which may have another length where a mask is given).
        mask
            ``float[rows, 1, length, length]`` of 0 and ``-inf`` (see :func:`packed_mask`), or ``None``: one sequence a row.
            A mask alone says who sees whom, so that one without a future blocked makes attention look both ways.

        Returns
        -------
        Tensor
            ``float[rows, length, dim]``.
        """
        rows, length, dim = queries.shape
        split = (rows, length, self.heads, dim // self.heads)
        q = self.query(queries).view(split).transpose(1, 2)
        k, v = self.key_value(context).chunk(2, dim=-1)
        other = (rows, context.shape[1], *split[2:])
        k, v = k.reshape(other).transpose(1, 2), v.reshape(other).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(rows, length, dim))
        return out


def packed_mask(segments: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the additive mask ``[rows, 1, length, length]``: 0 where a position may look, ``-inf`` elsewhere.

    Parameters
    ----------
    segments
        ``int[rows, length]``: which sequence of its row each position belongs to. Padding has a number of its own, so
        it sees only padding, and no row of the mask is empty.
    """
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    allowed = (segments[:, :, None] == segments[:, None, :]) & causal
    blocked = torch.zeros(allowed.shape, dtype=dtype, device=segments.device).masked_fill_(~allowed, float("-inf"))
    return blocked[:, None]
