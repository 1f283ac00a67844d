"""SGL: LightGCN beside the contrast of two propagations over graphs with links or nodes left out.

    E' and E'': LightGCN's vectors over two dropped graphs, each normalised anew, drawn every epoch
    L = L_BPR(E) + λ (L_cl^people + L_cl^items) + reg/(2B) Σ |e⁰|²
    L_cl = -1/B Σ_r ln( exp(cos(e'_r, e''_r)/τ) / Σ_s exp(cos(e'_r, e''_s)/τ) )

BPR ranks by the whole graph. What is left out: ``edges`` (each link with chance ρ), ``nodes`` (each person and item with all
their links), or ``walks`` (links, drawn anew for each layer). Answers are LightGCN's (:mod:`palate.recommend.graph_base`).

Source: J. Wu et al., "Self-supervised Graph Learning for Recommendation", SIGIR 2021, equations 5 to 11.
Differences: the denominator runs over the distinct people (items) of the batch by default, as in the published code;
``against="all"`` is the paper's, over everybody. A batch of more than ``contrast_size`` people (items) is contrasted in random
groups. Layers are averaged. In a widely used reimplementation ``walks`` never run, because its test for the other two kinds is
always true; here each layer does have a graph of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy import sparse
from torch import Tensor

from palate.nn.graph_drop import dropped
from palate.nn.graph_views import Graphs
from palate.recommend.graph_base import GraphRecommender, Part, Setting, Step
from palate.recommend.graph_contrast import ContrastConfig, weighted_contrast

Kind = Literal["edges", "nodes", "walks"]


class SGLConfig(ContrastConfig):
    """Settings of SGL."""

    drop: Kind = Field("edges", description="what a view leaves out: links, nodes, or other links in each layer")
    drop_rate: float = Field(0.1, ge=0, lt=1, description="ρ, the chance to be left out")


class SGL(GraphRecommender):
    """LightGCN with the contrast of dropped graphs (see the module's text)."""

    name: ClassVar[str] = "sgl"
    title: ClassVar[str] = "SGL"
    Settings = SGLConfig
    config: SGLConfig

    def _parts(self, setting: Setting) -> Sequence[Part]:
        return (DroppedViews(setting.matrix, self.config),)


class DroppedViews(Part):
    """Two dropped graphs an epoch, and the contrast of the vectors over them."""

    def __init__(self, matrix: sparse.csr_matrix, config: SGLConfig) -> None:
        super().__init__()
        self.matrix, self.config = matrix, config
        self.graphs: tuple[Graphs, Graphs] | None = None

    def begin(self, epoch: int, rng: np.random.Generator) -> None:
        """Draw the graphs of an epoch."""
        self.graphs = self._draw(rng), self._draw(rng)

    def loss(self, step: Step) -> Tensor:
        """Return the contrast over the two graphs."""
        assert self.graphs is not None
        c, n = self.config, step.n_users
        own = np.unique(np.concatenate([step.batch.users, step.batch.positives + np.int64(n)]))
        (first,) = step.propagate(graph=self.graphs[0], rows=own)
        (second,) = step.propagate(graph=self.graphs[1], rows=None if c.against == "all" else own)
        return weighted_contrast(c, step, first, second)

    def _draw(self, rng: np.random.Generator) -> Graphs:
        c = self.config
        if c.drop == "walks":
            return [dropped(self.matrix, c.drop_rate, rng) for _ in range(c.layers)]
        return dropped(self.matrix, c.drop_rate, rng, c.drop)
