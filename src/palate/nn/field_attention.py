"""Field attention: the fields of a row attend to each other; there are no positions, so their order doesn't matter.

Per head h and field m, over all fields k of the row::

    α_mk = softmax_k( s <q_m, k_k> )      ẽ_m = [ Σ_k α_mk v_k ]_h      e'_m = ReLU( ẽ_m + r_m )

where q, k, v, r are projections of e. Three forms are in use, and they differ in four places:

=============  ==================  ===========  =====================  =====================
form           q, k, v, r          s            r                      layer normalisation
=============  ==================  ===========  =====================  =====================
``paper``      W e                 1            W e                    none
``original``   ReLU(W e + b)       1/√d_head    ReLU(W e + b)          after the last ReLU
``fuxictr``    W e                 1/√d_head    e where sizes match,   before the last ReLU
                                                else W e
=============  ==================  ===========  =====================  =====================

Source: W. Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks", CIKM 2019,
equations 5 to 8 (``paper``); the authors' code (``original``); the FuxiCTR library (``fuxictr``; scale and normalisation are
options there, here both on).

On a CPU, in float32, attention and all that follows it go in one pass each way (:mod:`palate.kernels.field_attention`), which
keeps no maps of attention; other devices and formats, and very many fields, go by plain torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from palate.kernels.field_attention import AFTER, BEFORE, EPS, NONE, Attended, Sizes, attend, attend_slope, random_size
from palate.nn.affine import affine, hidden
from palate.nn.dropout import OFF, Dropout, random_bytes
from palate.nn.mlp import dense
from palate.nn.row_softmax import row_softmax

#: Fields up to which the fused way is taken: what a head needs of a tile must fit a core's cache.
FIELDS = 64
#: Numbers of a head up to which it is.
SIZE = 64

Form = Literal["paper", "original", "fuxictr"]
Residual = Literal["projected", "fitting", "none"]
Norm = Literal["none", "before", "after"]


@dataclass(frozen=True)
class Interaction:
    """How a layer is made.

    Attributes
    ----------
    relu
        Whether projections have a bias and a ReLU.
    scale
        Whether scores are divided by the root of the size of a head.
    residual
        ``projected``: through a projection; ``fitting``: as it is where sizes match, else through a projection without bias and
        ReLU; ``none``.
    norm
        Layer normalisation of each field: none, ``before`` or ``after`` the last ReLU.
    """

    relu: bool = False
    scale: bool = False
    residual: Residual = "projected"
    norm: Norm = "none"


#: The forms in use (see the module's text).
FORMS: dict[Form, Interaction] = {
    "paper": Interaction(),
    "original": Interaction(relu=True, scale=True, norm="after"),
    "fuxictr": Interaction(scale=True, residual="fitting", norm="before"),
}


class FieldAttention(nn.Module):
    """One interacting layer (see the module's text).

    Parameters
    ----------
    width
        Length of the vectors that come in.
    units
        Length of those that go out, all heads together.
    heads
        How many heads they are cut into.
    rng
        Draws the start (Glorot normal; biases 0).
    interaction
        How the layer is made.
    """

    def __init__(
        self, width: int, units: int, heads: int, rng: np.random.Generator, interaction: Interaction = FORMS["paper"]
    ) -> None:
        super().__init__()
        if units % heads:
            raise ValueError(f"{units} units can't be cut into {heads} heads")
        self.width, self.units, self.heads, self.interaction = width, units, heads, interaction
        parts = [dense(width, units, rng, bias=interaction.relu) for _ in range(3)]
        self.as_it_is = interaction.residual == "fitting" and width == units
        self.projected = interaction.residual != "none" and not self.as_it_is
        # a residual that is only fitted has neither bias nor ReLU beside projections that have
        self.plain = None
        if self.projected:
            rest = dense(width, units, rng, bias=interaction.relu and interaction.residual == "projected")
            if interaction.relu and interaction.residual == "fitting":
                self.plain = rest
            else:
                parts.append(rest)
        self.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
        self.bias = nn.Parameter(torch.zeros(len(self.weight))) if interaction.relu else None
        self.norm = nn.LayerNorm(units, eps=EPS) if interaction.norm != "none" else None

    def forward(self, fields: Tensor, drop: Dropout = OFF) -> Tensor:
        """Return ``float32[n, f, units]`` of ``float32[n, f, width]``; ``drop`` sets attention weights to zero."""
        qkv, rest = self._projections(fields)
        if _covered(qkv, self.heads):
            return self._fused(qkv, rest, drop)
        q, k, v = self._heads(qkv)
        return self._finish(drop(self._weights(q, k)) @ v, rest)

    def attend(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :meth:`forward` gives without dropout, and ``float32[n, heads, f, f]``: who (row) attends to whom."""
        qkv, rest = self._projections(fields)
        q, k, v = self._heads(qkv)
        weights = self._weights(q, k)
        return self._finish(weights @ v, rest), weights

    @property
    def _scale(self) -> float:
        return float((self.units // self.heads) ** -0.5) if self.interaction.scale else 1.0

    def _weights(self, q: Tensor, k: Tensor) -> Tensor:
        return row_softmax(self._scale * (q @ k.transpose(-1, -2)))

    def _projections(self, fields: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return q, k and v side by side, ``float32[n, f, 3 units]``, and the residual ``float32[n, f, units]``."""
        cut, flat = 3 * self.units, fields.reshape(-1, self.width)

        def projected(low: int, high: int) -> Tensor:
            if self.bias is None:
                return affine(flat, self.weight[low:high])
            return hidden(flat, self.weight[low:high], self.bias[low:high])

        qkv, rest = projected(0, cut), None
        if self.as_it_is:
            rest = flat
        elif self.plain is not None:
            rest = self.plain(flat)
        elif self.projected:
            rest = projected(cut, cut + self.units)
        shape = fields.shape[:2]
        return qkv.view(*shape, cut), None if rest is None else rest.view(*shape, self.units)

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return Q, K and V, each ``float32[n, heads, f, d_head]``."""
        split = qkv.view(*qkv.shape[:2], 3, self.heads, self.units // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def _fused(self, qkv: Tensor, rest: Tensor | None, drop: Dropout) -> Tensor:
        n, f, _ = qkv.shape
        place = {"none": NONE, "before": BEFORE, "after": AFTER}[self.interaction.norm]
        sizes = Sizes(f, self.heads, self.units // self.heads, place, drop.cut)
        drawn = random_bytes(random_size(n, f, self.heads) if drop.cut else 0, drop.generator)
        gamma, beta = (qkv.new_empty(0), qkv.new_empty(0)) if self.norm is None else (self.norm.weight, self.norm.bias)
        found: Tensor = _Attention.apply(qkv, rest, gamma, beta, sizes, self._scale, drawn)  # type: ignore[no-untyped-call]
        return found

    def _finish(self, mixed: Tensor, rest: Tensor | None) -> Tensor:
        n, _, f, _ = mixed.shape
        out = mixed.transpose(1, 2).reshape(n, f, self.units)
        if rest is not None:
            out = out + rest
        if self.norm is not None and self.interaction.norm == "before":
            out = self.norm(out)
        out = out.relu()
        if self.norm is not None and self.interaction.norm == "after":
            out = self.norm(out)
        return out


class _Attention(Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, rest: Tensor | None, gamma: Tensor, beta: Tensor, sizes: Sizes, scale: float, drawn: Tensor
    ) -> Tensor:
        given = [None if t is None else t.detach().contiguous().numpy() for t in (qkv, rest, gamma, beta)]
        found = attend(given[0], given[1], given[2], given[3], sizes, scale, drawn.numpy())  # type: ignore[arg-type]
        out, sums, masses = (torch.from_numpy(a) for a in found)
        ctx.save_for_backward(qkv, out, sums if sizes.norm != NONE else None, masses, gamma, beta, drawn)
        ctx.sizes, ctx.scale, ctx.residual = sizes, scale, rest is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, out, sums, masses, gamma, beta, drawn = ctx.saved_tensors
        found = Attended(*(t.detach().numpy() for t in (out, out if sums is None else sums, masses)))
        given, slope, *factors = (t.detach().contiguous().numpy() for t in (qkv, grad, gamma, beta))
        slopes = attend_slope(given, found, slope, factors[0], factors[1], ctx.sizes, ctx.scale, drawn.numpy())
        by_qkv, by_rest, by_gamma, by_beta = (torch.from_numpy(a) for a in slopes)
        return by_qkv, by_rest if ctx.residual else None, by_gamma, by_beta, None, None, None


def _covered(qkv: Tensor, heads: int) -> bool:
    plain = qkv.device.type == "cpu" and qkv.dtype == torch.float32
    return plain and 0 < qkv.shape[1] <= FIELDS and qkv.shape[2] <= 3 * SIZE * heads and len(qkv) > 0


def field_attention_reference(
    fields: np.ndarray, weights: list[np.ndarray], heads: int, *, scale: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the layer of form ``paper`` field by field and head by head, with its attention, of one row.

    Parameters
    ----------
    fields
        ``float64[f, width]``.
    weights
        ``[W_Q, W_K, W_V, W_Res]``, each ``float64[units, width]``.

    Returns
    -------
    out, attention
        ``float64[f, units]`` and ``float64[heads, f, f]``.
    """
    q, k, v, rest = (fields @ w.T for w in weights)
    f, units = q.shape
    size = units // heads
    out, attention = np.zeros((f, units)), np.zeros((heads, f, f))
    for h in range(heads):
        own = slice(h * size, (h + 1) * size)
        for m in range(f):
            scores = np.array([q[m, own] @ k[j, own] for j in range(f)]) / (np.sqrt(size) if scale else 1.0)
            chances = np.exp(scores - scores.max())
            attention[h, m] = chances / chances.sum()
            out[m, own] = sum(attention[h, m, j] * v[j, own] for j in range(f))
    return np.maximum(out + rest, 0), attention
