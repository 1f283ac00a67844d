"""The gate of Category-MoE: experts are weighed by the category asked for, the best few of them alone.

    p = softmax(W v_c),   S = the k largest of p,   g = p on S, scaled to sum to 1          own category c
    q = softmax(U v_t)                                                                      top category t
    hierarchy      L_h = mean over rows of |p - q|²                     so that children of one parent share experts
    disagreement   L_d = mean over rows and i in S of (σ(s_i) - σ(s_j))²,   j one expert outside S, drawn by row
    loss           L + λ_h L_h - λ_d L_d

Source: "Adversarial Mixture Of Experts with Category Hierarchy Soft Constraint", arXiv 2007.12349. In the style of it: what is
sure is a gate of categories whose largest weights are kept, a second gate of the top category that holds it by a squared
distance, and a random expert that was not chosen pushed away from those that were. Chosen here: squares of chances, not of
log-odds, so that the term that is raised has a bound; the sizes of λ.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from palate.nn.mlp import dense


class CategoryGate(nn.Module):
    """Weights of experts by category (see the module's text).

    Parameters
    ----------
    width, top_width
        Lengths of the vectors of the own and of the top category (0: there is no top category).
    experts, kept
        How many there are, and how many a row keeps.
    rng
        Draws the start.
    """

    def __init__(self, width: int, top_width: int, experts: int, kept: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.kept = min(kept, experts)
        self.own = dense(width, experts, rng, bias=False)
        self.top = dense(top_width, experts, rng, bias=False) if top_width else None

    def forward(self, own: Tensor) -> Tensor:
        """Return ``float32[n, k]`` weights, 0 for experts that are not kept, of the vectors of categories."""
        scores: Tensor = self.own(own)
        return scores.masked_fill(~self._chosen(scores), -torch.inf).softmax(1)

    def hierarchy(self, own: Tensor, top: Tensor) -> Tensor:
        """Return the mean squared distance between the weights by the own and by the top category (0 without one)."""
        if self.top is None:
            return own.new_zeros(())
        return ((self.own(own).softmax(1) - self.top(top).softmax(1)) ** 2).sum(1).mean()

    def disagreement(self, scores: Tensor, gate: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return how far an expert that is not kept stands from those that are, of scores ``float32[n, k, t]``."""
        kept = gate > 0
        if bool(kept.all()):
            return scores.new_zeros(())
        drawn = torch.rand(kept.shape, generator=generator, device=kept.device).masked_fill(kept, -1.0).argmax(1)
        chances = scores.sigmoid()
        other = chances[torch.arange(len(chances)), drawn][:, None]
        return (((chances - other) ** 2).mean(2) * kept).sum(1).div(self.kept).mean()

    def _chosen(self, scores: Tensor) -> Tensor:
        found = torch.zeros_like(scores, dtype=torch.bool)
        return found.scatter_(1, scores.topk(self.kept, 1).indices, True)
