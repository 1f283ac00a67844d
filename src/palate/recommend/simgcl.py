"""SimGCL: LightGCN beside the contrast of two noisy propagations.

    E^(k) = Â E^(k-1) + ε sign(Â E^(k-1)) ∘ u/|u|,  u ~ U[0, 1)^d        z = 1/K Σ_{k=1..K} E^(k)
    L = L_BPR(E) + λ (L_cl^people + L_cl^items) + reg/(2B) Σ |e⁰|²
    L_cl = -1/B Σ_r ln( exp(cos(z'_r, z''_r)/τ) / Σ_s exp(cos(z'_r, z''_s)/τ) )

BPR ranks by the clean propagation ``E = 1/K Σ_{k=1..K} Â^k E^(0)``; layer 0 is in no mean. So a person's vector comes from the
history alone, ``e_u(H) = 1/√|H| Σ_{i in H} f_i``, and with the training history it is exactly the trained one
(:mod:`palate.recommend.graph_base`).

The paper's λ is .5 on Yelp; smaller data want less. With the other defaults Recall@20 on validation of Last.FM (people and
artists with five of the other, seed 0) is .307 with λ = .5, .356 with .2, .364 with .1 and .368 with .02, beside .349 of
LightGCN: .2 is the default, and a search should go down to .001.

Source: J. Yu et al., "Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation", SIGIR 2022,
equations 1, 2, 7 and 8.
Differences: the paper's denominator runs over the batch's distinct people (items), as here by default; ``against="all"`` takes
the whole table, and a batch of more than ``contrast_size`` of them is contrasted in random groups, so that large batches keep
the meaning (and the cost) of the paper's. The penalty is LightGCN's, on layer 0 of the batch's rows. All three propagations
share their first product and their walk back (:mod:`palate.nn.graph_views`), as noise has no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from palate.nn.graph_views import Passes, Readout
from palate.recommend.graph_base import Part, Setting, Step
from palate.recommend.graph_contrast import NoisyConfig, NoisyPart, NoisyRecommender


class SimGCLConfig(NoisyConfig):
    """Settings of SimGCL."""

    cl_weight: float = Field(0.2, ge=0, description="λ, weight of the contrast")


class SimGCL(NoisyRecommender):
    """LightGCN with the contrast of noisy views (see the module's text)."""

    name: ClassVar[str] = "simgcl"
    title: ClassVar[str] = "SimGCL"
    Settings = SimGCLConfig
    config: SimGCLConfig

    def _parts(self, setting: Setting) -> Sequence[Part]:
        return (NoisyViews(self.config),)


class NoisyViews(NoisyPart):
    """Two noisy passes beside the clean one, and their contrast."""

    def passes(self, step: Step) -> Passes:
        """Return a clean pass and two noisy ones."""
        readouts = tuple(Readout(step.mean.weights, at) for at in range(3))
        return Passes(readouts, (None, step.seed(), step.seed()), self.config.eps)

    def loss(self, step: Step) -> Tensor:
        """Return the contrast of the two."""
        first, second = step.views
        return self.contrast(step, first, second)
