"""Vectors of the fields of rows: one table and one look-up for all codes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.data.row_encoder import Encoded, RowLayout
from palate.kernels.pair_sums import pair_slopes, pair_sums
from palate.nn.take import take_sized


@dataclass(frozen=True)
class RowVectors:
    """What a network reads of ``n`` rows.

    Attributes
    ----------
    fields
        ``float32[n, f, d]``: a vector a field, in the order of :attr:`FieldVectors.names`.
    sequences
        Name to ``float32[n, t, d]`` vectors and ``bool[n, t]`` which of them are values, of the sequences kept whole.
    size
        Mean over rows of the summed squares of all vectors that were looked up: what an embedding penalty weighs.
    """

    fields: Tensor
    sequences: Mapping[str, tuple[Tensor, Tensor]]
    size: Tensor

    @property
    def flat(self) -> Tensor:
        """``float32[n, f * d]``."""
        return self.fields.flatten(1)


class FieldVectors(nn.Module):
    """Vectors of fields: of a code its row; of a bag the mean; of a number x the vector of its field times x.

    Parameters
    ----------
    layout
        Which column is what.
    dim
        Length of the vectors.
    rng
        Draws the start, from a normal distribution.
    scale
        Its standard deviation. Under dense layers it is next to nothing, so that rare values, whose vectors hardly move, add no
        noise; products of vectors alone (FM) need more, or their gradients begin at nothing.
    whole
        Sequences that are given whole instead of as a mean.
    """

    def __init__(
        self, layout: RowLayout, dim: int, rng: np.random.Generator, *, scale: float = 1e-4, whole: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.layout, self.dim, self.whole = layout, dim, tuple(name for name in layout.sequences if name in set(whole))
        start = scale * rng.standard_normal((layout.n_codes, dim))
        start[0] = 0.0
        self.table = nn.Parameter(torch.from_numpy(start.astype(np.float32)))
        self.numbers = nn.Parameter(
            torch.from_numpy((scale * rng.standard_normal((len(layout.numbers), dim))).astype(np.float32))
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields with one vector, in order."""
        return tuple(name for name in self.layout.names if name not in self.whole)

    def forward(self, rows: Encoded) -> RowVectors:
        """Return the vectors of rows.

        Without gradients, a whole sequence that all rows share is looked up once: its vectors have stride 0 over rows.
        """
        n, width = rows.codes.shape
        spans = {**self.layout.bags, **self.layout.sequences}
        alike = self._alike(rows.codes)
        kept = np.ones(width, bool)
        for name in alike:
            kept[slice(*spans[name])] = False
        place = np.cumsum(kept) - kept
        found, size = self._look_up(rows.codes[:, kept] if alike else rows.codes)
        size = size / max(1, n)
        parts, sequences = [found[:, : len(self.layout.single)]], {}
        for name, (start, stop) in spans.items():
            codes = rows.codes[: 1 if name in alike else n, start:stop]
            mask = torch.from_numpy(codes > 0).to(found.device)
            if name in alike:
                own, more = self._look_up(codes)
                size = size + more
            else:
                own = found[:, place[start] : place[start] + stop - start]
            own = own * mask[:, :, None]
            if name in self.whole:
                sequences[name] = (own.expand(n, -1, -1), mask.expand(n, -1))
            else:
                parts.append((own.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))[:, None])
        if len(self.layout.numbers):
            numbers = torch.from_numpy(np.ascontiguousarray(rows.numbers)).to(found.device)
            parts.append(numbers[:, :, None] * self.numbers)
        fields = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return RowVectors(fields, sequences, size)

    def _look_up(self, codes: np.ndarray) -> tuple[Tensor, Tensor]:
        found, size = take_sized(self.table, codes.reshape(-1).astype(np.int64))
        return found.view(*codes.shape, self.dim), size

    def _alike(self, codes: np.ndarray) -> tuple[str, ...]:
        """Return the whole sequences that are the same in all rows; none while learning."""
        if torch.is_grad_enabled() or len(codes) < 2:
            return ()
        parts = {name: codes[:, slice(*self.layout.sequences[name])] for name in self.whole}
        return tuple(name for name, own in parts.items() if (own == own[0]).all())


def pair_products(fields: Tensor) -> Tensor:
    """Return ``float32[n, d]``: the sum over pairs of fields of their products, ½[(Σ v)² - Σ v²], in time linear in fields.

    Source: S. Rendle, "Factorization Machines", ICDM 2010, lemma 3.1.
    """
    if fields.device.type != "cpu" or fields.dtype != torch.float32:
        return 0.5 * (fields.sum(1).square() - fields.square().sum(1))
    found: Tensor = _PairProducts.apply(fields)  # type: ignore[no-untyped-call]
    return found


class _PairProducts(Function):
    @staticmethod
    def forward(ctx: Any, fields: Tensor) -> Tensor:
        out, sums = pair_sums(fields.detach().contiguous().numpy())
        ctx.save_for_backward(fields, torch.from_numpy(sums))
        return torch.from_numpy(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        fields, sums = (t.detach().contiguous().numpy() for t in ctx.saved_tensors)
        return torch.from_numpy(pair_slopes(grad.contiguous().numpy(), fields, sums))


def pair_products_reference(fields: Tensor) -> Tensor:
    """As :func:`pair_products`, pair by pair."""
    pairs = [(i, j) for j in range(fields.shape[1]) for i in range(j)]
    return sum((fields[:, i] * fields[:, j] for i, j in pairs), torch.zeros_like(fields[:, 0]))
