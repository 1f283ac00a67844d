"""Losses of recommenders: scores or vectors in, a scalar out (the mean over the rows).

A score of ``-inf`` takes a negative out: it adds nothing to any loss here and has no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from palate.nn.contrast import contrast
from palate.nn.softmax import whole_softmax


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Return ``mean softplus(negative - positive)`` (Rendle et al., UAI 2009).

    Parameters
    ----------
    positive, negative
        ``[p]`` and ``[p]`` or ``[p, n]`` scores.
    """
    return functional.softplus(negative - _beside(positive, negative)).mean()


def bce(positive: Tensor, negative: Tensor) -> Tensor:
    """Return binary cross-entropy, ``-1/(1+n) [ln σ(s⁺) + Σ ln(1 - σ(s⁻))]``, averaged over rows.

    Parameters
    ----------
    positive, negative
        ``[p]`` and ``[p]`` or ``[p, n]`` scores.
    """
    return gbce(positive, negative, 0.0, 1.0)


def gbce(positive: Tensor, negative: Tensor, t: float, sampling_rate: float) -> Tensor:
    """Return generalised binary cross-entropy: the positive's probability is ``σ(s⁺)^β``.

        β = α (t (1 - 1/α) + 1/α),   α = sampling rate

    Parameters
    ----------
    positive, negative
        ``[p]`` and ``[p]`` or ``[p, n]`` scores.
    t
        Calibration: 0 gives plain BCE (β = 1), 1 gives calibrated scores (β = α).
    sampling_rate
        α, negatives drawn divided by the items that could be (``n / (items - 1)``), above 0 and at most 1.

    Notes
    -----
    Source: A. Petrov, C. Macdonald, "gSASRec", RecSys 2023, equations 9 to 12.
    """
    if not 0 < sampling_rate <= 1 or not 0 <= t <= 1:
        raise ValueError(f"t must be in [0, 1] and the sampling rate in (0, 1], not {t} and {sampling_rate}")
    beta = sampling_rate * (t * (1 - 1 / sampling_rate) + 1 / sampling_rate)
    others = negative.unsqueeze(1) if negative.ndim == 1 else negative
    total = beta * functional.softplus(-positive) + functional.softplus(others).sum(1)
    return total.mean() / (1 + others.shape[1])


def full_softmax(queries: Tensor, vectors: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Return softmax cross-entropy over all vectors, without ever holding all scores.

    Parameters
    ----------
    queries, vectors, targets
        ``[p, d]``, ``[items, d]`` and ``int64[p]``.
    temperature
        Scores are divided by this.

    Notes
    -----
    Rows are taken in blocks of :data:`palate.nn.softmax.BLOCK_BYTES` (at least 16 rows); the gradient is made in the same
    pass.
    """
    return whole_softmax(queries / temperature, vectors, targets)


def sampled_softmax(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    targets: Tensor | None = None,
    negative_ids: Tensor | None = None,
    log_q: Tensor | None = None,
    target_log_q: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Return softmax cross-entropy of each positive against negatives that all rows share.

    Parameters
    ----------
    queries, positives
        ``[p, d]`` states and the vectors of their own targets.
    negatives
        ``[n, d]`` vectors of the shared negatives.
    targets, negative_ids
        ``int64[p]`` and ``int64[n]`` items; where given, a negative that is the row's own target is left out.
    log_q
        ``[n]`` log probability that each negative is drawn; subtracting it makes the sum over draws stand for the sum over
        all items (``Σ exp(s_j)/(n q_j)`` is unbiased for ``Σ_j exp(s_j)``). ``None``: no correction.
    target_log_q
        ``[p]`` the same for the positives; give it where the positives are part of the sample (in-batch negatives).
    temperature
        Scores are divided by this.

    Notes
    -----
    With ``log_q`` the ``n`` draws estimate the whole catalogue: their terms are divided by ``n q_j``. A target in ``log_q``
    form is corrected by ``q`` alone, as it stands for itself.
    """
    own = (queries * positives).sum(1) / temperature
    scores = queries @ negatives.T / temperature
    if target_log_q is not None:
        own = own - target_log_q
    if log_q is not None:
        scores = scores - log_q
        if target_log_q is None:
            scores = scores - torch.log(torch.tensor(float(len(negatives)), device=scores.device))
    if targets is not None and negative_ids is not None:
        scores = scores.masked_fill(targets[:, None] == negative_ids[None, :], float("-inf"))
    return (torch.logsumexp(torch.cat([own[:, None], scores], 1), 1) - own).mean()


def info_nce(first: Tensor, second: Tensor, temperature: float = 0.2) -> Tensor:
    """Return the contrast of two views: row ``r`` of one should be nearest to row ``r`` of the other.

        -1/B Σ_r ln( exp(cos(a_r, b_r)/τ) / Σ_s exp(cos(a_r, b_s)/τ) )

    Source: van den Oord et al., arXiv 1807.03748, equation 4, on cosines (:mod:`palate.nn.contrast`).
    """
    return contrast(first, second, temperature)


def cml(people: Tensor, positive: Tensor, negatives: Tensor, n_items: int, margin: float = 1.5) -> Tensor:
    """Return the weighted hinge of collaborative metric learning, on squared distances.

        ln(1 + I M / W) [m + d(u, i) - min_j d(u, j)]₊,   M = number of negatives with d(u, j) < d(u, i) + m

    Parameters
    ----------
    people, positive, negatives
        ``[p, d]``, ``[p, d]``, ``[p, W, d]`` vectors.
    n_items
        I, items in the catalogue.
    margin
        m.

    Notes
    -----
    Source: Hsieh et al., "Collaborative Metric Learning", WWW 2017, equations 2 and 3; the weight has no gradient. After each
    step vectors belong inside the unit ball (:func:`to_unit_ball`).
    """
    near = (people - positive).square().sum(1)
    far = (people[:, None, :] - negatives).square().sum(2)
    intruders = (far < near[:, None] + margin).sum(1)
    weight = torch.log1p(n_items * intruders / negatives.shape[1])
    return (weight * torch.relu(margin + near - far.amin(1))).mean()


def decorrelation(vectors: Tensor) -> Tensor:
    """Return ``(Σ C² - Σ diag(C)²) / n`` of the covariance ``C`` of ``[n, d]`` vectors (the regulariser of CML, equation 5)."""
    centred = vectors - vectors.mean(0)
    covariance = centred.T @ centred / len(vectors)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / len(vectors)


@torch.no_grad()
def to_unit_ball(vectors: Tensor) -> None:
    """Shorten, in place, every row that is longer than one."""
    vectors.div_(vectors.norm(dim=1, keepdim=True).clamp(min=1))


def _beside(positive: Tensor, negative: Tensor) -> Tensor:
    return positive.unsqueeze(1) if negative.ndim == 2 else positive
