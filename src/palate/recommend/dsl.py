"""DSL: ties are believed as far as people's interests bear them out.

One LightGCN over people and items gives u and i; a second one over the ties, on the same free vectors of people, gives t. Three
losses, with pairs (a, b) of people of the batch drawn at random, v a friend of a and w nobody tied to a::

    BPR(u, i)                                                                           what people had
    social · mean softplus(<t_a, t_w> - <t_a, t_v>)                                     whom they are tied to
    align · mean max(0, 1 - z_ab <t_a, t_b>),                                           denoising
        z_ab = σ(w · drop(lrelu(W [u_a; u_b] + b) + u_a + u_b) + c)

So social vectors are drawn together where interests agree (z near 1), and left alone where they don't (z = 0: a constant 1, no
gradient to t). The score is <u, i>: ties teach the shared vectors, and no tie is asked for when answering. With ``social`` and
``align`` at 0 this is LightGCN.

Source: T. Wang, L. Xia, C. Huang, "Denoised Self-Augmented Learning for Social Recommendation", IJCAI 2023, equations 1 to 9.
Differences: both graphs are normalised without self-loops and layers are averaged (the published code adds the identity and
sums), so answers for unseen people are exact; a tie in one direction propagates both ways; the losses are means over the batch
(the code's sum of 1e-5 over 4,096 pairs is 0.04 of a mean); ties are drawn with replacement, as many as a batch has pairs; no
decay of the step size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from palate.nn.dropout import Dropout
from palate.nn.graph import propagate
from palate.nn.social import SocialGraph, people_graph
from palate.nn.sparse import symmetric_normalised
from palate.nn.triples import triple_bpr
from palate.recommend.graph_base import Part, PositivesConfig, Setting, Step
from palate.recommend.social_base import SocialRecommender
from palate.training.samplers import Unseen


class DSLConfig(PositivesConfig):
    """Settings of DSL."""

    patience: int = Field(15, ge=0, description="validation looks without improvement before stopping (0 = never)")
    social_layers: int = Field(2, gt=0, description="propagation steps over the ties")
    social: float = Field(0.1, ge=0, description="weight of predicting ties")
    align: float = Field(0.02, ge=0, description="weight of the denoised alignment")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of the similarity network's hidden units left out")


class DSL(SocialRecommender):
    """LightGCN with denoised social self-augmentation (see the module's text)."""

    name: ClassVar[str] = "dsl"
    title: ClassVar[str] = "DSL"
    Settings = DSLConfig
    config: DSLConfig

    def _social_parts(self, setting: Setting, social: SocialGraph) -> Sequence[Part]:
        return [Denoised(social, self.config, setting.fitting.rng(self.name, "similarity"))]


class Denoised(Part):
    """The two social losses, and the network that says how far interests agree."""

    def __init__(self, social: SocialGraph, config: DSLConfig, rng: np.random.Generator) -> None:
        super().__init__()
        self.config, d = config, config.dim
        self.heads, self.tails = social.pairs()
        self.graph_of_ties = people_graph(symmetric_normalised(social.either))
        self.strangers = Unseen(sparse.csr_matrix(social.ties + sparse.identity(social.n_users, np.float32)))

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.from_numpy((rng.random(shape, np.float32) * 2 - 1) * np.float32(shape[0] ** -0.5)))

        self.hidden, self.hidden_bias = uniform(2 * d, d), nn.Parameter(torch.zeros(d))
        self.out, self.out_bias = uniform(d), nn.Parameter(torch.zeros(()))

    def similarity(self, a: Tensor, b: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return ``[m]``: z, how far the interests of two people agree, from 0 to 1 (with dropout if there is a generator)."""
        hidden = functional.leaky_relu(torch.cat([a, b], 1) @ self.hidden + self.hidden_bias) + a + b
        hidden = Dropout(self.config.dropout, generator)(hidden)
        return torch.sigmoid(hidden @ self.out + self.out_bias)

    def loss(self, step: Step) -> Tensor | None:
        """Return the weighted social losses of a step."""
        c = self.config
        if c.social == c.align == 0:
            return None
        ties = propagate(step.layer0[: step.n_users], self.graph_of_ties, c.social_layers)
        total = ties.sum() * 0
        if c.social:
            total = total + c.social * self._ties(ties, step)
        if c.align:
            total = total + c.align * self._alignment(ties, step)
        return total

    def _ties(self, vectors: Tensor, step: Step) -> Tensor:
        rng = np.random.default_rng(step.seed())
        drawn = rng.integers(len(self.heads), size=len(step.batch))
        people = self.heads[drawn]
        return triple_bpr(vectors, people, self.tails[drawn], self.strangers.sample_for(rng, people))

    def _alignment(self, vectors: Tensor, step: Step) -> Tensor:
        first = step.batch.users
        order = torch.randperm(len(first), generator=step.generator, device=step.generator.device)
        second = first[order.cpu().numpy()]
        z = self.similarity(step.vectors.users(first), step.vectors.users(second), step.generator)
        a, b = (functional.embedding(torch.from_numpy(p.astype(np.int64)).to(vectors.device), vectors) for p in (first, second))
        return alignment(z, (a * b).sum(1))


def alignment(z: Tensor, y: Tensor) -> Tensor:
    """Return ``mean max(0, 1 - z y)``: interests agree to ``z``, social vectors to ``y`` (each ``[m]``)."""
    return functional.relu(1 - z * y).mean()
