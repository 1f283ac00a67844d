"""FinalMLP: two stacks of dense layers, each on its own selection of the input, joined by a product in heads.

    x = [v_1; …; v_m]
    g_s = 2σ(MLP_s(c_s)),  x_s = x ⊙ g_s,   s = 1, 2                                    feature selection
    o_s = stack_s(x_s)
    ŷ = b + w_1·o_1 + w_2·o_2 + Σ_h o_{1,h}ᵀ W_h o_{2,h}                                fusion in H heads

where c_s is the vectors of some chosen fields (such as those of the person for one stack and of the item for the other), or a
learnt vector where none is chosen, and o_{s,h} is the h-th of H equal pieces of o_s. One head is the full bilinear form.

Source: K. Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023, equations 5 to 11.
Differences: gates look at the vectors of the network itself (published code keeps a second table of vectors for them); one rate
of dropout serves both stacks. The last layer of a stack is a layer like the others (activated), as in published code.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from palate.data.row_encoder import Encoded, RowLayout
from palate.errors import ConfigError, nearest
from palate.nn.dropout import Dropout
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP, dense
from palate.rank.neural import NeuralRanker, RankConfig, RowNet


class FinalMLPConfig(RankConfig):
    """Settings of FinalMLP."""

    hidden: tuple[int, ...] = Field((256,), min_length=1, description="widths of the first stack")
    hidden_2: tuple[int, ...] = Field((128,), min_length=1, description="widths of the second stack")
    batch_norm: bool = Field(False, description="normalise dense layers over the batch")
    heads: int = Field(4, ge=1, description="pieces of the product of the stacks; divides both last widths")
    select: bool = Field(True, description="whether each stack has gates on its input")
    gate_hidden: tuple[int, ...] = Field((128,), description="widths of the layers of the gates")
    context: tuple[str, ...] = Field((), description="fields whose vectors open the gates of the first stack (none: learnt)")
    context_2: tuple[str, ...] = Field((), description="likewise of the second stack")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden[-1] % self.heads or self.hidden_2[-1] % self.heads:
            raise ValueError(f"heads={self.heads} must divide the last widths {self.hidden[-1]} and {self.hidden_2[-1]}")
        return self


class FinalMLP(NeuralRanker):
    """Two-stream MLP (see the module's text)."""

    name: ClassVar[str] = "finalmlp"
    title: ClassVar[str] = "FinalMLP"
    Settings = FinalMLPConfig
    config: FinalMLPConfig

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return FinalMLPNet(self.config, layout, tasks, rng)


class FinalMLPNet(RowNet):
    """The network."""

    def __init__(self, config: FinalMLPConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.table = FieldVectors(layout, config.dim, rng)
        names, width = self.table.names, len(self.table.names) * config.dim
        self.gates = nn.ModuleList()
        if config.select:
            for context in (config.context, config.context_2):
                at = tuple(_place(name, names) for name in context)
                self.gates.append(Gate(at, config.dim, config.gate_hidden, width, rng))
        self.stacks = nn.ModuleList(
            MLP(width, hidden, None, rng, batch_norm=config.batch_norm) for hidden in (config.hidden, config.hidden_2)
        )
        self.fusion = Fusion(config.hidden[-1], config.hidden_2[-1], config.heads, tasks, rng)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        vectors = self.table(rows)
        inputs = [vectors.flat * gate(vectors.fields) for gate in self.gates] or [vectors.flat] * 2
        first, second = (stack(x, drop) for stack, x in zip(self.stacks, inputs, strict=True))
        return self.fusion(first, second), vectors.size


class Gate(nn.Module):
    """Weights between 0 and 2 for every number of the input, from the vectors of some fields, or learnt."""

    def __init__(
        self, fields: tuple[int, ...], dim: int, hidden: tuple[int, ...], width: int, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self.fields = fields
        self.own = None if fields else nn.Parameter(torch.from_numpy(rng.standard_normal((1, dim)).astype(np.float32)))
        self.net = MLP(max(1, len(fields)) * dim, hidden, width, rng)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return ``float32[n, w]`` of ``float32[n, f, d]``."""
        context = vectors[:, list(self.fields)].flatten(1) if self.own is None else self.own.expand(len(vectors), -1)
        return 2 * torch.sigmoid(self.net(context, Dropout()))


class Fusion(nn.Module):
    """Both stacks, and their product in heads."""

    def __init__(self, width: int, width_2: int, heads: int, tasks: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = dense(width, tasks, rng), dense(width_2, tasks, rng, bias=False)
        shape = (tasks, heads, width // heads, width_2 // heads)
        start = np.sqrt(2 / (shape[2] + shape[3])) * rng.standard_normal(shape)
        self.product = nn.Parameter(torch.from_numpy(start.astype(np.float32)))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return ``float32[n, t]`` of ``float32[n, a]`` and ``float32[n, b]``."""
        n = len(first)
        mine, other = first.view(n, self.heads, -1), second.view(n, self.heads, -1)
        half = torch.einsum("nha,thab->nthb", mine, self.product)
        return self.first(first) + self.second(second) + torch.einsum("nthb,nhb->nt", half, other)


def _place(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise ConfigError("there is no such field.", where="context", value=name, remedy=nearest(name, names))
    return names.index(name)
