"""What systems share that contrast views of the graph of people and items: settings, and noisy passes.

    L = L_BPR + λ (L_cl^people + L_cl^items) + reg/(2B) Σ |e⁰|²

``L_cl`` is InfoNCE on cosines over τ, between two vectors of each person (item) of the batch
(:func:`palate.recommend.graph_parts.contrast_of_batch`); :mod:`palate.recommend.graph_base` says the rest.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from torch import Tensor

from palate.recommend.graph_base import Against, GraphRecommender, Part, PositivesConfig, Step, Vectors, contrast_of_batch
from palate.training.triples import Triples


class ContrastConfig(PositivesConfig):
    """Settings of systems with a contrast of views."""

    layers: int = Field(2, gt=0, description="K, propagation steps")
    cl_weight: float = Field(0.1, ge=0, description="λ, weight of the contrast")
    temperature: float = Field(0.2, gt=0, description="cosines are divided by this")
    against: Against = Field("batch", description="whom a node is told apart from")
    contrast_size: int = Field(2048, gt=0, description="a larger batch is contrasted in random groups of at most so many")


class NoisyConfig(ContrastConfig):
    """Settings of systems whose views are noisy passes."""

    eps: float = Field(0.1, ge=0, description="length of the noise of a node in each layer")


class NoisyRecommender(GraphRecommender):
    """Base of systems with noisy passes; layer 0 is in no mean."""

    config: NoisyConfig

    @property
    def _lowest(self) -> int:
        return 1


class NoisyPart(Part):
    """Base of their parts, which say what is passed (``passes``) and which vectors are held against each other (``loss``)."""

    def __init__(self, config: NoisyConfig) -> None:
        super().__init__()
        self.config = config

    def rows(self, batch: Triples) -> np.ndarray | None:
        """Return nothing more than the batch, or everything."""
        return None if self.config.against == "all" else super().rows(batch)

    def contrast(self, step: Step, first: Vectors, second: Vectors) -> Tensor:
        """Return the weighted contrast of two views."""
        return weighted_contrast(self.config, step, first, second)


def weighted_contrast(config: ContrastConfig, step: Step, first: Vectors, second: Vectors) -> Tensor:
    """Return ``λ (L_cl^people + L_cl^items)`` of two views, as the settings say."""
    c = config
    return c.cl_weight * contrast_of_batch(step, first, second, c.temperature, c.against, c.contrast_size)
