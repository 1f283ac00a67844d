"""MHCN: three hypergraphs of people, one for each way in which three can belong together, and a network that mixes them.

Channels c are sums of motif adjacencies (:mod:`palate.nn.motifs`): triangles of ties (s), friends with an item in common (j),
people with items in common (p). H_c has rows that sum to 1. Each channel, and a plain one r, begins from the free vectors of
people P through a gate of its own::

    P_c⁰ = P ∘ σ(P W_c + b_c)          P_c^(k+1) = H_c P_c^(k)           P_r^(k+1) = R̂ Q^(k)          Q^(k+1) = R̂ᵀ M^(k)
    M^(k) = Σ_c a_c P_c^(k) + P_r^(k)/2,      a = softmax_c(wᵀ W_a P_c^(k))                     R̂ = D_u^-1/2 R D_i^-1/2

    P_c* = mean over k of P_c^(k), and so P_r*, Q*         u = Σ_c a_c* P_c* + P_r*/2          score(u, j) = <u, Q*_j>

Beside BPR, each channel learns to know its own: with Z = u ∘ σ(u V_c + v_c), E = H_c Z, g the mean row of E, Z~ a shuffle of
the rows of Z and E~ one of rows and columns of E, over the people::

    L_c = mean softplus(<Z~, E> - <Z, E>) + softplus(<Z, E~> - <Z~, E>) + softplus(<E~, g> - <E, g>)

    L = BPR + ssl Σ_c L_c + reg/(2B) Σ |e⁰|²

A person's vector is computed from the history of the request: only P_r* depends on a person's own items, and linearly::

    u(H) = r_u + 1/√|H| Σ_{i in H} f_i,     f_i = 1/(2(K+1) √d_i) Σ_{k<K} q_i^(k),     r_u = Σ_c a_c* P_c* + P_r⁰/(2(K+1))

With the training history this is exactly the trained vector. A person without ties takes part through the other channels; one
unknown in training is answered from the history alone (r_u = 0).

Source: J. Yu et al., "Self-Supervised Multi-Channel Hypergraph Convolutional Network for Social Recommendation", WWW 2021,
equations 1 to 13.
Differences: R is normalised on both sides, as in the published code (the paper divides by a row's sum); layers are averaged as
in the paper (the code brings each to length 1); pairs of the purchase channel are pruned (``min_common``, ``max_neighbours``),
and nobody is paired with themselves; one draw of E~ serves both of its comparisons (the code draws two); the self-supervised
part is a mean over people, BPR a mean over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from palate.nn.graph import Adjacency
from palate.nn.motifs import channels
from palate.nn.social import SocialGraph
from palate.nn.sparse import Sparse, row_normalised
from palate.recommend.graph_base import FreeVectors, GraphConfig, Setting
from palate.recommend.social_base import SocialRecommender, ranking_loss
from palate.training.triples import Triples


class MHCNConfig(GraphConfig):
    """Settings of MHCN."""

    layers: int = Field(2, gt=0, description="K, propagation steps")
    ssl: float = Field(0.01, ge=0, description="weight of the self-supervised part")
    min_common: int = Field(4, gt=0, description="fewest items in common that join two people who are not tied")
    max_neighbours: int = Field(100, ge=0, description="most people joined to one by items in common (0 = all)")


class MHCN(SocialRecommender):
    """Multi-channel hypergraph convolution over ties and items (see the module's text)."""

    name: ClassVar[str] = "mhcn"
    title: ClassVar[str] = "MHCN"
    Settings = MHCNConfig
    config: MHCNConfig

    def _fit_social(self, setting: Setting, social: SocialGraph) -> Mapping[str, Any]:
        graphs = Hypergraphs.of(social, setting, self.config)
        network = Network(graphs, self.config, setting.fitting.rng(self.name, "weights")).to(setting.device)
        pairs = setting.pairs(self.config)
        notes = self._descend(setting, network, network.loss, lambda epoch, rng: pairs.epoch(rng))
        return {**notes, "channels": graphs.sizes}

    @torch.no_grad()
    def _finish(self, table: FreeVectors, graph: Adjacency, n_users: int) -> None:
        """Set the arrays that answer."""
        assert isinstance(table, Network)
        found, count = table.propagate(), 2 * (self.config.layers + 1)
        degrees = np.diff(graph.offsets)[:, None]
        people, items = degrees[:n_users], degrees[n_users:]
        below = torch.stack(found.item_layers[:-1]).sum(0).cpu().numpy()
        own = (found.mixed + found.plain / count).cpu().numpy()
        self.item_vectors_ = np.where(items > 0, found.items.cpu().numpy(), np.float32(0))
        roots = np.sqrt(np.maximum(items, 1)).astype(np.float32)
        self.shares_ = np.where(items > 0, below / (np.float32(count) * roots), np.float32(0))
        self.own_ = np.where(people > 0, own, np.float32(0))
        self.common_ = np.zeros(self.config.dim, np.float32)


@dataclass(frozen=True, eq=False)
class Hypergraphs:
    """The channels' H_c, R̂ (people x items), and how many pairs each channel has."""

    channels: tuple[Sparse, Sparse, Sparse]
    items_of: Sparse
    sizes: dict[str, int]

    @classmethod
    def of(cls, social: SocialGraph, setting: Setting, config: MHCNConfig) -> Hypergraphs:
        """Build them from ties and training pairs."""
        found = channels(social, setting.matrix, least=config.min_common, most=config.max_neighbours)
        parts = {"social": found.social, "joint": found.joint, "purchase": found.purchase}
        s, j, p = (Sparse.of(row_normalised(part)) for part in parts.values())
        return cls((s, j, p), items_of_people(setting), {name: int(part.nnz) for name, part in parts.items()})


def items_of_people(setting: Setting) -> Sparse:
    """Return R̂, the upper right block of ``Â``."""
    graph, n = setting.graph, setting.n_users
    last = graph.offsets[n]
    columns = graph.columns[:last] - np.int32(n)
    return Sparse(graph.offsets[: n + 1], columns, graph.weights[:last], len(graph) - n)


@dataclass(frozen=True, eq=False)
class Propagated:
    """What one pass gives.

    Attributes
    ----------
    mixed, plain
        ``float32[n_users, d]``: the mix of the channels, and layer 0 of the plain channel.
    users, items
        Final vectors.
    item_layers
        Layers 0 to K of the items.
    """

    mixed: Tensor
    plain: Tensor
    users: Tensor
    items: Tensor
    item_layers: list[Tensor]


class Network(FreeVectors):
    """Free vectors, gates and attention."""

    def __init__(self, graphs: Hypergraphs, config: MHCNConfig, rng: np.random.Generator) -> None:
        d, items_of = config.dim, graphs.items_of
        super().__init__(len(items_of) + items_of.width, d, config.init, rng)
        self.graphs, self.config, self.n_users = graphs, config, len(items_of)

        def normal(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.from_numpy(rng.standard_normal(shape, np.float32) * np.float32(d**-0.5)))

        self.gates, self.gate_bias = normal(4, d, d), nn.Parameter(torch.zeros(4, d))
        self.own_gates, self.own_bias = normal(3, d, d), nn.Parameter(torch.zeros(3, d))
        self.attention, self.direction = normal(d, d), normal(d)

    def propagate(self) -> Propagated:
        """Return the vectors of all people and items."""
        count, people, items = self.config.layers + 1, self.free[: self.n_users], self.free[self.n_users :]
        parts = [people * torch.sigmoid(people @ self.gates[c] + self.gate_bias[c]) for c in range(4)]
        begun = plain = parts.pop()
        sums, plain_sum, item_layers = parts, plain, [items]
        for _ in range(self.config.layers):
            mixed = self.mix(parts) + plain / 2
            parts = [h.times(part) for h, part in zip(self.graphs.channels, parts, strict=True)]
            plain = self.graphs.items_of.times(items)
            items = self.graphs.items_of.transposed.times(mixed)
            sums = [total + part for total, part in zip(sums, parts, strict=True)]
            plain_sum = plain_sum + plain
            item_layers.append(items)
        mixed = self.mix([total / count for total in sums])
        whole = sum(item_layers[1:], item_layers[0]) / count
        return Propagated(mixed, begun, mixed + plain_sum / (2 * count), whole, item_layers)

    def weights(self, parts: list[Tensor]) -> Tensor:
        """Return ``[n, 3]``: how much each channel counts for each person; rows sum to 1."""
        query = self.attention @ self.direction
        return torch.softmax(torch.stack([part @ query for part in parts], dim=1), dim=1)

    def mix(self, parts: list[Tensor]) -> Tensor:
        """Return the channels' vectors, weighed."""
        weights = self.weights(parts)
        first, second, third = (weights[:, c, None] * part for c, part in enumerate(parts))
        return first + second + third

    def loss(self, batch: Triples, generator: torch.Generator) -> Tensor:
        """Return BPR with both penalties."""
        found, c = self.propagate(), self.config
        total = ranking_loss(self.free, found.users, found.items, batch, c.reg)
        if c.ssl:
            for channel, h in enumerate(self.graphs.channels):
                gate = torch.sigmoid(found.users @ self.own_gates[channel] + self.own_bias[channel])
                total = total + c.ssl * mutual_information(found.users * gate, h, generator)
        return total


def mutual_information(z: Tensor, hypergraph: Sparse, generator: torch.Generator) -> Tensor:
    """Return the hierarchical self-supervised loss of one channel, L_c of the module's text.

    Parameters
    ----------
    z
        ``float32[n, d]`` vectors of people in the channel.
    hypergraph
        H_c.
    generator
        Draws the shuffles.
    """
    around = hypergraph.times(z)
    rows, others = (torch.randperm(len(z), generator=generator, device=z.device) for _ in range(2))
    columns = torch.randperm(z.shape[1], generator=generator, device=z.device)
    strange = functional.embedding(rows, z)
    broken = functional.embedding(others, around)[:, columns]
    near, mid, far = ((a * b).sum(1) for a, b in ((z, around), (strange, around), (z, broken)))
    ranked = functional.softplus(mid - near) + functional.softplus(far - mid)
    return (ranked + functional.softplus((broken - around) @ around.mean(0))).mean()
