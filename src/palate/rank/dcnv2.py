"""DCN-v2: cross layers, each of which multiplies the input once more, beside or before a stack of dense layers.

    x_0 = [v_1; …; v_m]
    x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l                                              full matrix
    x_{l+1} = Σ_e g_e(x_l) · x_0 ⊙ (U_e φ(C_e φ(V_eᵀ x_l)) + b_l) + x_l                mixture of low rank
    g(x) = softmax(G_l x),  φ = tanh

After L layers x_L holds the products of up to L + 1 inputs. Three structures::

    cross        ŷ = w·x_L + c
    stacked      ŷ = MLP(x_L)
    parallel     ŷ = w·[x_L; MLP(x_0)] + c

Source: R. Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to Rank Systems",
WWW 2021, equations 1 (full), 3 and 4 (mixture), figure 1.
Differences: x_0 is held within ±10³, so that numbers far beyond those of training stay finite; a gate of experts a layer
(published code shares one among all layers, the paper's symbol has no layer); gates are softmax; one bias a layer is shared by
its experts.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.data.row_encoder import Encoded, RowLayout
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP, dense
from palate.rank.deepfm import DeepConfig
from palate.rank.neural import NeuralRanker, RowNet

#: Inputs stay within this distance of 0.
BOUND = 1e3


class DCNv2Config(DeepConfig):
    """Settings of DCN-v2."""

    structure: Literal["cross", "stacked", "parallel"] = Field("parallel", description="how cross and dense layers are joined")
    cross_layers: int = Field(3, ge=1, description="cross layers; products of one input more than that")
    rank: int = Field(0, ge=0, description="rank of the matrices of an expert (0 = one full matrix, no experts)")
    experts: int = Field(4, ge=1, description="experts of a cross layer, where rank is given")


class DCNv2(NeuralRanker):
    """Deep and cross network, second version (see the module's text)."""

    name: ClassVar[str] = "dcnv2"
    title: ClassVar[str] = "DCN-v2"
    Settings = DCNv2Config
    config: DCNv2Config

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return DCNv2Net(self.config, layout, tasks, rng)


class DCNv2Net(RowNet):
    """The network."""

    def __init__(self, config: DCNv2Config, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.structure = config.structure
        self.table = FieldVectors(layout, config.dim, rng)
        width = len(self.table.names) * config.dim
        self.crosses = nn.ModuleList(
            MixedCross(width, config.rank, config.experts, rng) if config.rank else Cross(width, rng)
            for _ in range(config.cross_layers)
        )
        self.deep: MLP | None = None
        if self.structure != "cross":
            out = tasks if self.structure == "stacked" else None
            self.deep = MLP(width, config.hidden, out, rng, batch_norm=config.batch_norm)
        wide = width + (self.deep.width if self.structure == "parallel" and self.deep is not None else 0)
        self.last = None if self.structure == "stacked" else dense(wide, tasks, rng)

    def crossed(self, first: Tensor) -> Tensor:
        """Return ``float32[n, w]`` x_L of ``float32[n, w]`` x_0."""
        x = first
        for layer in self.crosses:
            x = layer(first, x)
        return x

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        vectors = self.table(rows)
        first = vectors.flat.clamp(-BOUND, BOUND)
        x = self.crossed(first)
        if self.structure == "parallel" and self.deep is not None:
            x = torch.cat([x, self.deep(first, drop)], dim=1)
        elif self.deep is not None:
            x = self.deep(x, drop)
        return x if self.last is None else self.last(x), vectors.size


class Cross(nn.Module):
    """A cross layer with a full matrix."""

    def __init__(self, width: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.line = dense(width, width, rng)

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        """Return x_{l+1} of x_0 and x_l."""
        return first * self.line(x) + x


class MixedCross(nn.Module):
    """A cross layer whose matrix is a mixture of experts of low rank."""

    def __init__(self, width: int, rank: int, experts: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.down = _experts(experts, width, rank, rng)
        self.within = _experts(experts, rank, rank, rng)
        self.up = _experts(experts, rank, width, rng)
        self.bias = nn.Parameter(torch.zeros(width))
        self.gate = dense(width, experts, rng, bias=False)

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        """Return x_{l+1} of x_0 and x_l."""
        low = torch.tanh(torch.tanh(x @ self.down) @ self.within)  # experts, n, rank
        each = low @ self.up + self.bias
        mixed = torch.einsum("ne,enw->nw", torch.softmax(self.gate(x), dim=1), each)
        return first * mixed + x


def _experts(experts: int, width: int, out: int, rng: np.random.Generator) -> nn.Parameter:
    """Return a matrix an expert, drawn from a Glorot normal distribution."""
    start = np.sqrt(2 / (width + out)) * rng.standard_normal((experts, width, out))
    return nn.Parameter(torch.from_numpy(start.astype(np.float32)))
