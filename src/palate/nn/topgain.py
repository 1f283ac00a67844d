"""The top-gain losses of GRU4Rec: negatives weigh by how near they come to the top.

Source: B. Hidasi, A. Karatzoglou, "Recurrent Neural Networks with Top-k Gains for Session-based Recommendations", CIKM 2018,
sections 3.2 and 3.3. In each, ``w`` is the softmax over the row's negatives alone; a score of ``-inf`` leaves its column out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def bpr_max(positives: Tensor, negatives: Tensor, reg: float = 1.0) -> Tensor:
    """Return ``mean( -log Σ_j w_j σ(s - s_j) + reg Σ_j w_j s_j² )``.

    Parameters
    ----------
    positives, negatives
        ``float[p]`` and ``float[p, k]`` scores.
    """
    weights_log, kept = _weights(negatives)
    gain = torch.logsumexp(weights_log + functional.logsigmoid(positives[:, None] - kept), dim=1)
    return (-gain + reg * (weights_log.exp() * kept.square()).sum(1)).mean()


def top1_max(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return ``mean( Σ_j w_j ( σ(s_j - s) + σ(s_j²) ) )``."""
    weights_log, kept = _weights(negatives)
    terms = torch.sigmoid(kept - positives[:, None]) + torch.sigmoid(kept.square())
    return (weights_log.exp() * terms).sum(1).mean()


def _weights(negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-softmax weights, and the scores with ``-inf`` set to zero (their weight is zero)."""
    absent = torch.isneginf(negatives)
    kept = negatives.masked_fill(absent, 0.0)
    low = torch.finfo(negatives.dtype).min / 4
    return torch.log_softmax(negatives.masked_fill(absent, low), dim=1), kept
