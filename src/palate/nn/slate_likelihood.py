"""Which place of a slate is clicked, the option of no click included, given that just this slate was shown.

    p(no click) = e^{b_L} / (e^{b_L} + Σ_i e^{s_i}),    p(i) = e^{s_i} / (e^{b_L} + Σ_j e^{s_j})

``s_i`` is the score of a shown item, ``b_L`` the logit of no click on a slate of ``L`` slots. Empty places have the probability
0 exactly (they are left out of the sum, not given a low score).

Source: S. Eide, D. Leslie, A. Frigessi, "Dynamic Slate Recommendation with Gated Recurrent Units and Thompson Sampling", Data
Mining and Knowledge Discovery 36, 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor


def negative_distance(states: Tensor, vectors: Tensor) -> Tensor:
    """Return ``-‖z_r - v_ri‖``: ``float[s, w]`` for ``float[s, d]`` and ``float[s, w, d]`` (the gradient at 0 is 0)."""
    return -((states[:, None] - vectors).square().sum(-1) + 1e-12).sqrt()


def slate_log_probabilities(scores: Tensor, no_click: Tensor, used: Tensor) -> Tensor:
    """Return ``float[s, 1 + w]``: log probabilities of no click (slot 0) and of a click at each place.

    Parameters
    ----------
    scores
        ``float[s, w]`` of the items shown; anything at empty places.
    no_click
        ``float[s]`` logit of no click.
    used
        ``bool[s, w]``: does a place hold an item? Empty places get ``-inf``.
    """
    logits = torch.cat([no_click[:, None], scores.masked_fill(~used, -torch.inf)], 1)
    return logits - logits.logsumexp(1, keepdim=True)


def slate_log_likelihood(scores: Tensor, no_click: Tensor, used: Tensor, slot: Tensor) -> Tensor:
    """Return ``float[s]``: the log probability of what happened; ``slot`` is 0 for no click, else the place from 1."""
    return slate_log_probabilities(scores, no_click, used).gather(1, slot[:, None])[:, 0]
