"""SEPT: three views of people teach each other whom to count as alike.

The preference view is LightGCN over people and items. Two more propagate people's free vectors over triangles of ties::

    friends  F = (S S) ∘ S + I          sharing  G = (R Rᵀ) ∘ S + I          each normalised on both sides

and an unlabelled one, Z~, is LightGCN on a graph that lacks some edges, drawn anew each epoch. For the people of a batch, each
view x says who in Z~ is most like them, ``Prob_x = softmax(cos(Z_x, Z~))``; the ``k`` best by the mean of the other two views
are pseudo-positives P_x(u), and the view learns to pick them out::

    L_x = -mean_u ln( Σ_{p in P_x(u)} exp(cos(z_u, z~_p)/τ) / Σ_{v in batch} exp(cos(z_u, z~_v)/τ) )

    L = BPR + ssl (L_preference + L_friends + L_sharing) + reg/(2B) Σ |e⁰|²

The self-supervised part begins after ``warm_epochs``, once the views say something. The score is that of the preference view,
so no tie is asked for when answering. With ``ssl`` at 0 this is LightGCN.

Source: J. Yu et al., "Socially-Aware Self-Supervised Tri-Training for Recommendation", KDD 2021, equations 2 to 10.
Differences: S holds mutual ties, as the paper says (the published code squares the directed matrix and keeps one-way ties;
``ties="any"`` turns every tie round first, for networks without mutual ones); layers are averaged without bringing each to
length 1, so answers for unseen people are exact; a person may be their own pseudo-positive, as in the code (``own``); at most
``people`` of a batch take part; losses are means; the warm-up is a number of epochs (the code waits for a third of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from palate.nn.graph import Adjacency
from palate.nn.graph_views import Passes, Readout, views
from palate.nn.social import SocialGraph, masked_product, people_graph
from palate.nn.sparse import symmetric_normalised
from palate.recommend.graph_base import Part, PositivesConfig, Setting, Step
from palate.recommend.social_base import SocialRecommender


class SEPTConfig(PositivesConfig):
    """Settings of SEPT."""

    layers: int = Field(2, gt=0, description="K, propagation steps of every view")
    ssl: float = Field(0.005, ge=0, description="weight of the self-supervised part")
    warm_epochs: int = Field(5, ge=0, description="epochs before the self-supervised part begins")
    drop: float = Field(0.3, ge=0, lt=1, description="share of edges that the unlabelled view lacks")
    k: int = Field(10, gt=0, description="pseudo-positives of a person in each view")
    temperature: float = Field(0.1, gt=0, description="cosines are divided by this")
    people: int = Field(1024, gt=1, description="most people of a batch in the self-supervised part")
    own: bool = Field(True, description="whether a person may be their own pseudo-positive")
    ties: Literal["mutual", "any"] = Field(
        "mutual", description="ties that make triangles: answered ones, or all, turned round"
    )


class SEPT(SocialRecommender):
    """Socially-aware self-supervised tri-training (see the module's text)."""

    name: ClassVar[str] = "sept"
    title: ClassVar[str] = "SEPT"
    Settings = SEPTConfig
    config: SEPTConfig

    def _social_parts(self, setting: Setting, social: SocialGraph) -> Sequence[Part]:
        return [TriTraining(setting.matrix, social_views(social, setting.matrix, self.config.ties), self.config)]


def social_views(
    social: SocialGraph, matrix: sparse.csr_matrix, kind: Literal["mutual", "any"] = "mutual"
) -> tuple[Adjacency, Adjacency]:
    """Return the normalised friend and sharing views, ``(S S) ∘ S + I`` and ``(R Rᵀ) ∘ S + I``.

    Parameters
    ----------
    social, matrix
        Ties; users x items, ones.
    kind
        S is made of mutual ties, or of ``any``, each turned round.
    """
    ties, own = social.symmetric(kind), sparse.identity(social.n_users, np.float32, format="csr")
    triangles = masked_product(ties, ties, ties)
    sharing = masked_product(matrix, sparse.csr_matrix(matrix.T), ties)
    friends, shared = (people_graph(symmetric_normalised(part + own)) for part in (triangles, sharing))
    return friends, shared


class TriTraining(Part):
    """The self-supervised part of the loss."""

    def __init__(self, matrix: sparse.csr_matrix, people_views: tuple[Adjacency, Adjacency], config: SEPTConfig) -> None:
        super().__init__()
        self.matrix, self.views, self.config = matrix, people_views, config
        self.epoch = 0
        self.thinned: Adjacency | None = None

    def begin(self, epoch: int, rng: np.random.Generator) -> None:
        """Draw the graph that the unlabelled view sees."""
        self.epoch = epoch
        if self.config.ssl and epoch > self.config.warm_epochs:
            kept = rng.random(self.matrix.nnz) >= self.config.drop
            rows = np.repeat(np.arange(self.matrix.shape[0]), np.diff(self.matrix.indptr))[kept]
            ones = np.ones(len(rows), np.float32)
            thinner = sparse.csr_matrix((ones, (rows, self.matrix.indices[kept])), shape=self.matrix.shape)
            self.thinned = Adjacency.of_matrix(thinner)

    def loss(self, step: Step) -> Tensor | None:
        """Return the weighted loss of the three views."""
        c = self.config
        if not c.ssl or self.epoch <= c.warm_epochs:
            return None
        people = np.unique(step.batch.users).astype(np.int64)
        if len(people) > c.people:
            order = torch.randperm(len(people), generator=step.generator, device=step.generator.device)
            people = np.sort(people[order[: c.people].cpu().numpy()])
        free, passes = step.layer0[: step.n_users], Passes((Readout.mean(c.layers),))
        social = [views(free, graph, passes, people)[0] for graph in self.views]
        (other,) = step.propagate(graph=self.thinned, rows=people)
        labelled = [step.vectors.users(people), *social]
        return c.ssl * tri_training(labelled, other.users(people), c.k, c.temperature, own=c.own)


def tri_training(labelled: Sequence[Tensor], unlabelled: Tensor, k: int, temperature: float, *, own: bool = True) -> Tensor:
    """Return the sum of L_x over the three views.

    Parameters
    ----------
    labelled
        Three views ``float32[m, d]`` of the same people.
    unlabelled
        Z~ of these people.
    k, temperature, own
        As in the settings.
    """
    away = functional.normalize(unlabelled, dim=1)
    cosines = [functional.normalize(view, dim=1) @ away.T for view in labelled]
    chances = [torch.softmax(cosine.detach(), dim=1) for cosine in cosines]
    total = unlabelled.sum() * 0
    for at, cosine in enumerate(cosines):
        first, second = (chances[other] for other in range(len(chances)) if other != at)
        chosen = pseudo_positives(first, second, k, own=own)
        logits = cosine / temperature
        total = total + (torch.logsumexp(logits, 1) - torch.logsumexp(logits.gather(1, chosen), 1)).mean()
    return total


def pseudo_positives(first: Tensor, second: Tensor, k: int, *, own: bool = True) -> Tensor:
    """Return ``int64[m, k]``: the highest of the mean of two views' probabilities ``[m, m]`` (fewer if there are fewer people).

    ``own`` says whether a person may be their own.
    """
    mean = (first + second) / 2
    if not own:
        mean = mean.clone().fill_diagonal_(-1.0)
    return torch.topk(mean, min(k, max(1, mean.shape[1] - (not own))), dim=1).indices
