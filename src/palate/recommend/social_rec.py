"""SocialRS: the plainest system of the survey's taxonomy, one graph of people and items with the ties in it.

Of each column the cheapest choice: ties and interactions in one graph, an encoder without weights, a dot product, BPR::

    E^(k+1) = (Â + τ Ŝ) E^(k),      Ŝ = D_S^-1/2 (S ∨ Sᵀ) D_S^-1/2 between people,  Â between people and items
    E = 1/(K+1) Σ_{k=0..K} E^(k)         score(u, j) = <e_u, e_j>         L = BPR + reg/(2B) Σ |e⁰|²

``tie`` is τ, how much a person's friends count beside their items; at 0 this is LightGCN. It is the measure of the five systems
of the survey that do more: MHCN, SEPT, DSL, DiffNet++ and GraphRec.

A person's vector is computed from the history of the request, and from the ties that it names (``Requests.ties``); without any
it has those of training, and somebody unknown in training has none::

    e_u(H, F) = r_u + 1/√|H| Σ_{i in H} f_i + 1/√|F| Σ_{v in F} g_v
    f_i = 1/((K+1) √d_i) Σ_{k<K} e_i^(k),    g_v = τ/((K+1) √s_v) Σ_{k<K} e_v^(k),    r_u: what is left of the trained e_u

with ``s_v`` the ties of ``v``. So friends answer for somebody who had nothing yet, and with history and ties of training the
vector is the trained one.

Source: K. Sharma et al., "A Survey of Graph Neural Networks for Social Recommender Systems", ACM Computing Surveys 2024,
arXiv 2212.04481: sections on inputs, encoders, decoders and losses; the encoder is LightGCN (X. He et al., SIGIR 2020) on the
graph of users and items with ties.
Differences: a survey fixes no system; this one is its guidance for low cost. Each block of the graph is normalised by its own
degrees, so a person without ties is treated as LightGCN treats them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy import sparse

from palate.contracts.requests import Requests
from palate.data.ragged import Ragged
from palate.kernels.rows import sum_rows
from palate.nn.graph import Adjacency
from palate.nn.graph_views import Graphs
from palate.nn.social import SocialGraph, people_graph
from palate.nn.sparse import symmetric_normalised
from palate.recommend.graph_base import Part, PositivesConfig, Setting, Step
from palate.recommend.social_base import SocialRecommender, informed, without_people


class SocialRecConfig(PositivesConfig):
    """Settings of SocialRS."""

    patience: int = Field(15, ge=0, description="validation looks without improvement before stopping (0 = never)")
    tie: float = Field(0.3, ge=0, description="how much friends count beside items in a step of propagation")


class SocialRec(SocialRecommender):
    """LightGCN on one graph of people, items and ties (see the module's text)."""

    name: ClassVar[str] = "social_rec"
    title: ClassVar[str] = "SocialRS"
    reads_ties: ClassVar[bool] = True
    Settings = SocialRecConfig
    config: SocialRecConfig

    friends_: Ragged
    tie_shares_: np.ndarray  # float32[n_users, d], g

    def _fit_social(self, setting: Setting, social: SocialGraph) -> Mapping[str, Any]:
        self.friends_ = Ragged(social.either.indptr.astype(np.int64), social.either.indices.astype(np.int32))
        return super()._fit_social(setting, social)

    def _keep(self, below: np.ndarray, n_users: int) -> None:
        roots = np.sqrt(np.maximum(self.friends_.lengths, 1))[:, None] * (self.config.layers + 1)
        self.tie_shares_ = np.asarray(self.config.tie * below[:n_users] / roots, np.float32)

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``, one vector a request (zero where neither history nor named ties say anything)."""
        out = super().request_vectors(requests)
        if requests.ties is None:
            return out
        known, silent = requests.users >= 0, self._known_items(requests) == 0
        out[known & silent] = self.own_[requests.users[known & silent]]
        out += self._told(requests.ties.distinct) - self._told(self.friends_.take(requests.users))
        out[~self._informed(requests)] = 0
        return out

    def _told(self, ties: Ragged) -> np.ndarray:
        """Return ``float32[n, d]``: what the people of each row tell of somebody tied to them."""
        told: np.ndarray = sum_rows(ties.offsets, ties.values, self.tie_shares_)
        return told / np.sqrt(np.maximum(ties.lengths, 1)).astype(np.float32)[:, None]

    def _informed(self, requests: Requests) -> np.ndarray:
        return informed(requests, self._known_items(requests))

    def _state(self) -> dict[str, np.ndarray]:
        ties = {"tie_offsets": self.friends_.offsets, "tie_tails": self.friends_.values, "tie_shares": self.tie_shares_}
        return {**super()._state(), **ties}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.friends_, self.tie_shares_ = Ragged(state["tie_offsets"], state["tie_tails"]), state["tie_shares"]

    def _forget(self, numbers: np.ndarray) -> None:
        super()._forget(numbers)
        self.friends_, self.tie_shares_ = without_people(self.friends_, numbers), self.tie_shares_.copy()
        self.tie_shares_[numbers] = 0

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
