"""SocialRS: the plainest system of the survey's taxonomy, one graph of people and items with the ties in it.

Of each column the cheapest choice: ties and interactions in one graph, an encoder without weights, a dot product, BPR::

    E^(k+1) = (Â + τ Ŝ) E^(k),      Ŝ = D_S^-1/2 (S ∨ Sᵀ) D_S^-1/2 between people,  Â between people and items
    E = 1/(K+1) Σ_{k=0..K} E^(k)         score(u, j) = <e_u, e_j>         L = BPR + reg/(2B) Σ |e⁰|²

``tie`` is τ, how much a person's friends count beside their items; at 0 this is LightGCN. It is the measure of the five systems
of the survey that do more: MHCN, SEPT, DSL, DiffNet++ and GraphRec.

A person's vector is computed from the history of the request; what friends add stays as training left it, and somebody unknown
in training is answered from the history alone::

    e_u(H) = r_u + 1/√|H| Σ_{i in H} f_i,    f_i = 1/((K+1) √d_i) Σ_{k<K} e_i^(k),    r_u = e_u - 1/√|H_u| Σ_{i in H_u} f_i

Source: K. Sharma et al., "A Survey of Graph Neural Networks for Social Recommender Systems", ACM Computing Surveys 2024,
arXiv 2212.04481: sections on inputs, encoders, decoders and losses; the encoder is LightGCN (X. He et al., SIGIR 2020) on the
graph of users and items with ties.
Differences: a survey fixes no system; this one is its guidance for low cost. Each block of the graph is normalised by its own
degrees, so a person without ties is treated as LightGCN treats them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy import sparse

from palate.nn.graph import Adjacency
from palate.nn.graph_views import Graphs
from palate.nn.social import SocialGraph, people_graph
from palate.nn.sparse import symmetric_normalised
from palate.recommend.graph_base import GraphConfig, Part, Setting, Step
from palate.recommend.social_base import SocialRecommender


class SocialRecConfig(GraphConfig):
    """Settings of SocialRS."""

    patience: int = Field(15, ge=0, description="validation looks without improvement before stopping (0 = never)")
    tie: float = Field(0.3, ge=0, description="how much friends count beside items in a step of propagation")


class SocialRec(SocialRecommender):
    """LightGCN on one graph of people, items and ties (see the module's text)."""

    name: ClassVar[str] = "social_rec"
    title: ClassVar[str] = "SocialRS"
    Settings = SocialRecConfig
    config: SocialRecConfig

    def _social_parts(self, setting: Setting, social: SocialGraph) -> Sequence[Part]:
        return [Tied(joined(setting.graph, social, self.config.tie))] if self.config.tie else []


class Tied(Part):
    """Propagates on the graph with ties."""

    def __init__(self, graph: Adjacency) -> None:
        super().__init__()
        self.joined = graph

    def graph(self, graph: Graphs, step: Step | None) -> Graphs:
        """Return the graph with ties."""
        return self.joined


def joined(graph: Adjacency, social: SocialGraph, weight: float) -> Adjacency:
    """Return ``Â + weight Ŝ``."""
    size = len(graph)
    ties = symmetric_normalised(social.either) * np.float32(weight)
    ties.resize(size, size)
    whole = sparse.csr_matrix((graph.weights, graph.columns, graph.offsets), shape=(size, size)) + ties
    return people_graph(whole)
