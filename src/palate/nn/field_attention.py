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
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from palate.nn.affine import affine
from palate.nn.dropout import OFF, Dropout
from palate.nn.mlp import dense
from palate.nn.row_softmax import row_softmax

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
        # one product gives all projections; a residual that is only fitted has neither bias nor ReLU
        self.plain = None
        if self.projected:
            rest = dense(width, units, rng, bias=interaction.relu and interaction.residual == "projected")
            if interaction.relu and interaction.residual == "fitting":
                self.plain = rest
            else:
                parts.append(rest)
        self.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
        self.bias = nn.Parameter(torch.zeros(len(self.weight))) if interaction.relu else None
        self.norm = nn.LayerNorm(units) if interaction.norm != "none" else None

    def forward(self, fields: Tensor, drop: Dropout = OFF) -> Tensor:
        """Return ``float32[n, f, units]`` of ``float32[n, f, width]``; ``drop`` sets attention weights to zero."""
        q, k, v, rest = self._projections(fields)
        if drop.cut:
            mixed = drop(self._weights(q, k)) @ v
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v, scale=self._scale)
        return self._finish(mixed, rest)

    def attend(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :meth:`forward` gives without dropout, and ``float32[n, heads, f, f]``: who (row) attends to whom."""
        q, k, v, rest = self._projections(fields)
        weights = self._weights(q, k)
        return self._finish(weights @ v, rest), weights

    @property
    def _scale(self) -> float:
        return float((self.units // self.heads) ** -0.5) if self.interaction.scale else 1.0

    def _weights(self, q: Tensor, k: Tensor) -> Tensor:
        return row_softmax(self._scale * (q @ k.transpose(-1, -2)))

    def _projections(self, fields: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return Q, K, V, each ``float32[n, heads, f, d_head]``, and the residual ``float32[n, f, units]``."""
        n, f, _ = fields.shape
        all_of = affine(fields, self.weight, self.bias)
        if self.interaction.relu:
            all_of = all_of.relu()
        rest = fields if self.as_it_is else None
        if self.plain is not None:
            rest = self.plain(fields)
        elif self.projected:
            rest = all_of[..., 3 * self.units :]
        split = all_of[..., : 3 * self.units].reshape(n, f, 3, self.heads, self.units // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v, rest

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
