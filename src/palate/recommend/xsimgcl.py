"""XSimGCL: one noisy propagation gives both the ranking and the contrast, between its end and one of its layers.

    E^(k) = Â E^(k-1) + ε sign(Â E^(k-1)) ∘ u/|u|,  u ~ U[0, 1)^d        z = 1/K Σ_{k=1..K} E^(k),   z* = E^(l*)
    L = L_BPR(z) + λ (L_cl^people + L_cl^items) + reg/(2B) Σ |e⁰|²
    L_cl = -1/B Σ_r ln( exp(cos(z_r, z*_r)/τ) / Σ_s exp(cos(z_r, z*_s)/τ) )

Answers come from the clean propagation. Layer 0 is in no mean, so a person's vector comes from the history alone,
``e_u(H) = 1/√|H| Σ_{i in H} f_i``, and with the training history it is exactly that of the clean propagation
(:mod:`palate.recommend.graph_base`).

Source: J. Yu et al., "XSimGCL: Towards Extremely Simple Graph Contrastive Learning for Recommendation", IEEE TKDE 2024
(arXiv 2209.02544), equations 8 to 10.
Differences: ``against="all"`` lets the denominator run over the whole table, and a batch of more than ``contrast_size`` people
(items) is contrasted in random groups, so that large batches keep the meaning (and the cost) of the paper's; the penalty is
LightGCN's, on layer 0 of the batch's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, model_validator
from torch import Tensor

from palate.nn.graph_views import Passes, Readout
from palate.recommend.graph_base import Part, Setting, Step
from palate.recommend.graph_contrast import NoisyConfig, NoisyPart, NoisyRecommender


class XSimGCLConfig(NoisyConfig):
    """Settings of XSimGCL."""

    contrast_layer: int = Field(1, ge=0, description="l*, the layer that the end is held against, at most K")
    eps: float = Field(0.2, ge=0, description="length of the noise of a node in each layer")
    cl_weight: float = Field(0.2, ge=0, description="λ, weight of the contrast")
    temperature: float = Field(0.15, gt=0, description="cosines are divided by this")

    @model_validator(mode="after")
    def _a_layer_that_there_is(self) -> XSimGCLConfig:
        if self.contrast_layer > self.layers:
            raise ValueError(f"contrast_layer is {self.contrast_layer}, but there are {self.layers} layers")
        return self


class XSimGCL(NoisyRecommender):
    """LightGCN with the contrast of two depths of one noisy propagation (see the module's text)."""

    name: ClassVar[str] = "xsimgcl"
    title: ClassVar[str] = "XSimGCL"
    Settings = XSimGCLConfig
    config: XSimGCLConfig

    def _parts(self, setting: Setting) -> Sequence[Part]:
        return (NoisyDepths(self.config),)


class NoisyDepths(NoisyPart):
    """One noisy pass, and the contrast of its end with one of its layers."""

    config: XSimGCLConfig

    def passes(self, step: Step) -> Passes:
        """Return the noisy pass, read at its end and at the layer."""
        inner = Readout.layer(self.config.contrast_layer, step.layers)
        return Passes((step.mean, inner), (step.seed(),), self.config.eps)

    def loss(self, step: Step) -> Tensor:
        """Return the contrast of the end with the layer."""
        (inner,) = step.views
        return self.contrast(step, step.vectors, inner)
