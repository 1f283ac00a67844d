"""Three towers over bags of pieces: an encoder of what was, a decoder of what follows, and an encoder of single items.

    b = √d · mean_{t in text} E[t]
    M = Encoder([start, b_1, …, b_T, end] + P)      Q = Decoder([start, b'_1, …, b'_s] + P, M)      v = ItemEncoder(b), alone

Blocks and places are those of :mod:`palate.nn.cross_attention`. Source: the content-based model of the MerRec paper
(arXiv 2402.14230).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.data.ragged import Ragged
from palate.nn.cross_attention import Decoder, Encoder, diagonal, shown, sinusoids
from palate.nn.dropout import OFF, Dropout
from palate.nn.losses import to_unit_ball

#: Which of the marks.
START, END = 0, 1


class ThreeTowers(nn.Module):
    """The tables of pieces and marks, and the three towers.

    Parameters
    ----------
    n_pieces
        Pieces of texts; the marks have vectors of their own after them.
    dim, heads, blocks, hidden
        Width, attention heads, blocks of each tower and their inner width.
    max_len, steps
        Most events of a history, and most items that follow.
    share_table
        Whether the towers share one table.
    """

    places: Tensor

    def __init__(
        self,
        n_pieces: int,
        *,
        dim: int,
        heads: int,
        blocks: int,
        hidden: int,
        max_len: int,
        steps: int,
        share_table: bool,
    ) -> None:
        super().__init__()
        shape = (blocks, dim, heads, hidden)
        self.tables = nn.ModuleList(nn.Embedding(n_pieces + 2, dim) for _ in range(1 if share_table else 3))
        self.person, self.decoder, self.item = Encoder(*shape), Decoder(*shape), Encoder(*shape, bias=False)
        self.register_buffer("places", sinusoids(max(max_len + 2, steps + 1), dim), persistent=False)
        self.n_pieces, self.scale = n_pieces, dim**0.5

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw the starting weights: N(0, 1/d) for pieces and marks, Xavier for matrices, zero for biases."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1 / self.scale, generator=generator)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def shorten(self) -> None:
        """Bring every piece's vector to length one at most."""
        for number in range(len(self.tables)):
            to_unit_ball(self.table(number).detach())

    def table(self, tower: int) -> Tensor:
        """Return the table that a tower reads: 0 the person's, 1 the decoder's, 2 the items'."""
        chosen: nn.Embedding = self.tables[min(tower, len(self.tables) - 1)]  # type: ignore[assignment]
        return chosen.weight

    def bags(self, tower: int, texts: Ragged) -> Tensor:
        """Return ``float32[n, dim]``, a vector a text as one tower reads it (zero for a text without pieces)."""
        weight = self.table(tower)
        values = torch.from_numpy(texts.values.astype(np.int64)).to(weight.device)
        offsets = torch.from_numpy(texts.offsets[:-1]).to(weight.device)
        return functional.embedding_bag(values, weight, offsets, mode="mean") * self.scale

    def mark(self, tower: int, which: int) -> Tensor:
        """Return ``float32[dim]``: the vector of the start or of the end."""
        return self.table(tower)[self.n_pieces + which] * self.scale

    def people(self, events: Tensor, lengths: Tensor, drop: Dropout = OFF) -> tuple[Tensor, Tensor]:
        """Return the memory ``float[n, width + 2, dim]`` of histories and the mask that shows what is no padding.

        Parameters
        ----------
        events
            ``float[n, width, dim]``, oldest first, padding on the right.
        lengths
            ``int64[n]`` events that are real.
        """
        n, width, dim = events.shape
        x = torch.cat([self.mark(0, START).expand(n, 1, dim), events, events.new_zeros(n, 1, dim)], 1)
        place = torch.arange(width + 2, device=x.device)
        at_end = place == lengths[:, None] + 1
        x = torch.where(at_end[:, :, None], self.mark(0, END), x)
        mask = shown(place < lengths[:, None] + 2)
        return self.person(drop(x + self.places[: width + 2]), mask, drop), mask

    def decode(self, memory: Tensor, mask: Tensor, followed: Tensor, drop: Dropout = OFF) -> Tensor:
        """Return ``float[n, s + 1, dim]``: the answers after the start and after each of ``float[n, s, dim]`` vectors."""
        n, s, dim = followed.shape
        x = torch.cat([self.mark(1, START).expand(n, 1, dim), followed], 1)
        found: Tensor = self.decoder(drop(x + self.places[: s + 1]), memory, mask, drop)
        return found

    def items(self, bags: Tensor, drop: Dropout = OFF) -> Tensor:
        """Return ``float[n, dim]``: vectors of items, each seen alone (a row of one under :func:`diagonal`)."""
        alone = diagonal(1, bags.dtype, bags.device)
        found: Tensor = self.item(drop(bags[:, None]), alone, drop)[:, 0]
        return found
