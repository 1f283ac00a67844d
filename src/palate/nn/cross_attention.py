"""Blocks of an encoder and decoder over vectors that are given: cross-attention, sinusoidal places, and the masks between.

    Y = X + drop(A(LN₁ X, LN₁ X) W_o);   Z = Y + drop(A(LN₂ Y, M) W_o);   X ← Z + drop(W₂ drop(gelu(W₁ LN₃ Z)))

    P[p, 2i] = sin(p / 10000^(2i/d)),   P[p, 2i + 1] = cos(p / 10000^(2i/d))

Source: A. Vaswani et al., "Attention Is All You Need", NIPS 2017, sections 3.1 and 3.5, with the norm before each layer.
Differences: GELU in place of ReLU; attention weights themselves are not dropped out; keys and values have no bias.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.nn.attention import CausalAttention
from palate.nn.dropout import OFF, Dropout
from palate.nn.transformer import PreNormBlock


class DecoderBlock(nn.Module):
    """A pre-norm block whose positions see earlier ones, and all of a memory.

    Parameters
    ----------
    dim, heads, hidden
        Width, heads, and inner width.
    """

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.own, self.cross = CausalAttention(dim, heads), CausalAttention(dim, heads)
        self.inner, self.outer = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor, drop: Dropout) -> Tensor:
        """Map ``float[rows, length, dim]`` to the same shape.

        Parameters
        ----------
        memory
            ``float[rows, width, dim]``, what the encoder gave.
        mask
            ``float[rows, 1, 1, width]``: 0 where the memory may be seen, ``-inf`` elsewhere (:func:`shown`).
        """
        normed = self.norm1(x)
        y = x + drop(self.own(normed, normed))
        z = y + drop(self.cross(self.norm2(y), memory, mask))
        return z + drop(self.outer(drop(functional.gelu(self.inner(self.norm3(z))))))


class Encoder(nn.Module):
    """Pre-norm blocks in which a position sees what the mask shows, and a last norm.

    Parameters
    ----------
    blocks, dim, heads, hidden
        How many blocks, width, heads, and inner width.
    bias
        Whether the last norm has one. What a softmax is taken over needs none: it cancels there, and its gradient is rounding.
    """

    def __init__(self, blocks: int, dim: int, heads: int, hidden: int, *, bias: bool = True) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(PreNormBlock(dim, heads, hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim, bias=bias)

    def forward(self, x: Tensor, mask: Tensor, drop: Dropout = OFF) -> Tensor:
        """Map ``float[rows, length, dim]`` to the same shape; ``mask`` is broadcast to ``[rows, heads, length, length]``."""
        for block in self.blocks:
            x = block(x, mask, drop)
        normed: Tensor = self.norm(x)
        return normed


class Decoder(nn.Module):
    """Blocks of :class:`DecoderBlock`, and a last norm."""

    def __init__(self, blocks: int, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DecoderBlock(dim, heads, hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor, drop: Dropout = OFF) -> Tensor:
        """Map ``float[rows, length, dim]`` to the same shape (see :class:`DecoderBlock`)."""
        for block in self.blocks:
            x = block(x, memory, mask, drop)
        normed: Tensor = self.norm(x)
        return normed


def shown(visible: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the additive mask ``[rows, 1, 1, width]`` of ``bool[rows, width]``: 0 where true, ``-inf`` elsewhere."""
    blocked = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, float("-inf"))
    return blocked[:, None, None]


def diagonal(length: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
    """Return the additive mask ``[1, 1, length, length]`` under which each position sees itself alone."""
    mask = torch.full((length, length), float("-inf"), dtype=dtype, device=device)
    return mask.fill_diagonal_(0)[None, None]


def sinusoids(length: int, dim: int) -> Tensor:
    """Return ``float32[length, dim]`` places (see the module's text); ``dim`` is even."""
    if dim % 2:
        raise ValueError(f"sinusoidal places need an even width, not {dim}")
    angles = torch.arange(length)[:, None] * torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, dim)
