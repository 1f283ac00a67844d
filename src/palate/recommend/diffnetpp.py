"""DiffNet++: influence among friends and interest in items, diffused together and weighed by attention.

    u^(k+1) = u^(k) + g_S s^(k) + g_R c^(k)           i^(k+1) = i^(k) + b^(k)
    s_u = Σ_{v in S_u} a_uv v^(k)        c_u = Σ_{i in R_u} a_ui i^(k)        b_i = Σ_{u in Rᵀ_i} a_iu u^(k)

Weights of neighbours are a softmax over them, a_xy = softmax_y(wᵀ relu(W x + V y + z)), with a network for each of S, R, Rᵀ
and layer. Friends and items are weighed against each other, g = softmax(m(u, s), m(u, c)), m(x, y) = wᵀ tanh(W x + V y + z); a
person without friends (or items) has the other alone. The score is the inner product of all layers side by side::

    score(u, j) = <[u^(0); …; u^(K)], [j^(0); …; j^(K)]>          L = BPR + reg/(2B) Σ |e⁰|²

A person's layers are computed from the history of the request, with what training left of their friends; so with the training
history they are exactly the trained ones. Somebody unknown in training has u^(0) = 0 and the friends that the request names
(``Requests.ties``): with friends and no history they are answered by their friends, without any by the history alone.

Source: L. Wu et al., "DiffNet++: A Neural Influence and Interest Diffusion Network for Social Recommendation", TKDE 2022, arXiv
2002.00844, equations 3 to 16 (after DiffNet, SIGIR 2019).
Differences: DiffNet, which weighs neighbours alike, is not a system of its own; free vectors alone enter (the fusion layer
wants review vectors, which data seldom have); the loss is BPR, as in the paper (the published code takes squared errors of a
sigmoid); the constants that the code adds to the weights (+0.7, +0.3) and its halves are not in the paper, nor here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.contracts.explanation import Explanation
from palate.contracts.requests import Requests
from palate.data.ragged import Ragged
from palate.nn.additive_attention import Neighbours, additive_attention
from palate.nn.graph import Adjacency
from palate.nn.social import SocialGraph
from palate.recommend.graph_base import FreeVectors, GraphConfig, Setting
from palate.recommend.left_out import explain_left_out
from palate.recommend.social_base import SocialRecommender, friends_of, informed, ranking_loss, without_people
from palate.training.triples import Triples

#: The kinds of neighbours: friends, items of people, people of items.
FRIENDS, ITEMS, PEOPLE = range(3)


class DiffNetPPConfig(GraphConfig):
    """Settings of DiffNet++."""

    layers: int = Field(2, gt=0, description="K, diffusion steps")
    attention_dim: int = Field(16, gt=0, description="width of the networks that weigh neighbours")


class DiffNetPP(SocialRecommender):
    """Influence and interest diffusion (see the module's text)."""

    name: ClassVar[str] = "diffnetpp"
    title: ClassVar[str] = "DiffNet++"
    reads_ties: ClassVar[bool] = True
    Settings = DiffNetPPConfig
    config: DiffNetPPConfig

    friends_: Ragged
    weights_: dict[str, np.ndarray]

    def _fit_social(self, setting: Setting, social: SocialGraph) -> Mapping[str, Any]:
        rng = setting.fitting.rng(self.name, "weights")
        network = Network(setting, social, self.config, rng).to(setting.device)
        pairs = setting.pairs(self.config)
        return self._descend(setting, network, network.loss, lambda epoch, rng: pairs.epoch(rng))

    @torch.no_grad()
    def _finish(self, table: FreeVectors, graph: Adjacency, n_users: int) -> None:
        """Keep what answers: layers of people and items, whom people are tied to, and the networks."""
        assert isinstance(table, Network)
        people, items = table.propagate()
        degrees = np.diff(graph.offsets)
        silent = torch.from_numpy(degrees == 0)
        for rows, mask in ((people, silent[:n_users]), (items, silent[n_users:])):
            for layer in rows:
                layer[mask.to(layer.device)] = 0
        self.item_vectors_ = torch.cat(items, 1).cpu().numpy()
        self.own_ = torch.cat(people, 1).cpu().numpy()
        self.friends_ = Ragged(table.friends.offsets, table.friends.columns)
        self.weights_ = {name: array.cpu().numpy().copy() for name, array in table.diffusion.state_dict().items()}

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, (K + 1) d]``, one vector a request (zero where the history says nothing)."""
        seen = requests.histories.ragged.distinct
        kept = self.item_counts_[seen.values] > 0
        counts = self._known_items(requests)
        histories = Neighbours(np.concatenate([[0], np.cumsum(counts)]), seen.values[kept], self.n_items)
        ties = friends_of(requests, self.friends_)
        friends = Neighbours(ties.offsets, ties.values, len(self.own_))
        out = self._diffuse(requests.users, histories, friends)
        out[~self._informed(requests)] = 0
        return out

    def _informed(self, requests: Requests) -> np.ndarray:
        return informed(requests, self._known_items(requests))

    def explain(self, request: Requests, item: int) -> Explanation:
        """Say how far the score falls when each item of the history is left out."""
        return explain_left_out(self, request, item)

    @torch.no_grad()
    def _diffuse(self, users: np.ndarray, histories: Neighbours, friends: Neighbours) -> np.ndarray:
        d = self.config.dim
        network = Diffusion(self.config)
        network.load_state_dict({name: torch.from_numpy(array) for name, array in self.weights_.items()})
        people, items = (torch.split(torch.from_numpy(x), d, 1) for x in (self.own_, self.item_vectors_))
        known = torch.from_numpy(users >= 0)
        vectors = [torch.where(known[:, None], people[0][torch.from_numpy(np.maximum(users, 0).astype(np.int64))], 0.0)]
        for k in range(self.config.layers):
            vectors.append(network.person(k, vectors[-1], people[k], items[k], friends, histories))
        return torch.cat(vectors, 1).numpy()

    def _state(self) -> dict[str, np.ndarray]:
        arrays = {"items": self.item_vectors_, "own": self.own_}
        ties = {"tie_offsets": self.friends_.offsets, "tie_tails": self.friends_.values}
        return arrays | ties | {f"network/{name}": array for name, array in self.weights_.items()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.item_vectors_, self.own_ = state["items"], state["own"]
        self.friends_ = Ragged(state["tie_offsets"], state["tie_tails"])
        self.weights_ = {n.removeprefix("network/"): a for n, a in state.items() if n.startswith("network/")}

    def _forget(self, numbers: np.ndarray) -> None:
        super()._forget(numbers)
        self.friends_ = without_people(self.friends_, numbers)


class Diffusion(nn.Module):
    """The networks that weigh neighbours, and friends against items; one of each for every layer."""

    def __init__(self, config: DiffNetPPConfig, rng: np.random.Generator | None = None) -> None:
        super().__init__()
        layers, d, h = config.layers, config.dim, config.attention_dim

        def made(*shape: int) -> nn.Parameter:
            start = np.zeros(shape, np.float32) if rng is None else rng.standard_normal(shape, np.float32)
            return nn.Parameter(torch.from_numpy(start * np.float32(max(shape[-2], h) ** -0.5)))

        self.rows, self.columns, self.out = made(layers, 3, d, h), made(layers, 3, d, h), made(layers, 3, h)
        self.own, self.other, self.mix = made(layers, d, h), made(layers, d, h), made(layers, h)
        self.bias, self.mix_bias = nn.Parameter(torch.zeros(layers, 3, h)), nn.Parameter(torch.zeros(layers, h))

    def gather(self, kind: int, k: int, x: Tensor, y: Tensor, near: Neighbours) -> Tensor:
        """Return ``[n, d]``: for each row of ``x``, the weighed mean of its neighbours' rows of ``y``."""
        a, b = x @ self.rows[k, kind] + self.bias[k, kind], y @ self.columns[k, kind]
        return additive_attention(a, b, self.out[k, kind], y, near)

    def person(self, k: int, own: Tensor, people: Tensor, items: Tensor, friends: Neighbours, histories: Neighbours) -> Tensor:
        """Return layer ``k + 1`` of some people, from their layer ``k`` and that of everybody and of all items."""
        social, interest = self.gather(FRIENDS, k, own, people, friends), self.gather(ITEMS, k, own, items, histories)
        shares = self.shares(k, own, social, interest, friends, histories)
        return own + shares[:, :1] * social + shares[:, 1:] * interest

    def shares(
        self, k: int, own: Tensor, social: Tensor, interest: Tensor, friends: Neighbours, histories: Neighbours
    ) -> Tensor:
        """Return ``[n, 2]``: how much friends and items count; rows sum to 1, and what a person lacks counts nothing."""
        base = own @ self.own[k] + self.mix_bias[k]
        scores = torch.stack([torch.tanh(base + part @ self.other[k]) @ self.mix[k] for part in (social, interest)], 1)
        tied, active = (torch.from_numpy(np.diff(near.offsets) > 0).to(own.device) for near in (friends, histories))
        lacking = torch.stack([~tied & active, ~active & tied], 1)
        return torch.softmax(scores.masked_fill(lacking, float("-inf")), 1)

    def item(self, k: int, own: Tensor, people: Tensor, near: Neighbours) -> Tensor:
        """Return layer ``k + 1`` of the items."""
        return own + self.gather(PEOPLE, k, own, people, near)


class Network(FreeVectors):
    """Free vectors and the diffusion."""

    def __init__(self, setting: Setting, social: SocialGraph, config: DiffNetPPConfig, rng: np.random.Generator) -> None:
        super().__init__(len(setting.graph), config.dim, config.init, rng)
        self.config, self.n_users = config, setting.n_users
        self.diffusion = Diffusion(config, rng)
        self.friends, self.histories = Neighbours.of(social.ties), Neighbours.of(setting.matrix)
        self.audience = Neighbours.of(setting.matrix.T)

    def propagate(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return layers 0 to K of people and of items."""
        people, items = [self.free[: self.n_users]], [self.free[self.n_users :]]
        for k in range(self.config.layers):
            u, i = people[-1], items[-1]
            people.append(self.diffusion.person(k, u, u, i, self.friends, self.histories))
            items.append(self.diffusion.item(k, i, u, self.audience))
        return people, items

    def loss(self, batch: Triples, generator: torch.Generator) -> Tensor:
        """Return BPR with the penalty."""
        people, items = self.propagate()
        return ranking_loss(self.free, torch.cat(people, 1), torch.cat(items, 1), batch, self.config.reg)
