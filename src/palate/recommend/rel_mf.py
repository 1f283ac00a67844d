"""Rel-MF: matrix factorisation that learns relevance, not clicks, from clicks that are missing not at random.

    Y_ui = O_ui R_ui,   P(O=1) = θ_ui,   P(R=1) = γ_ui,   P(Y=1) = θ_ui γ_ui
    p_ui = σ(s_ui),     s_ui = <p_u, q_i> + b_u + b_i + b
    L = 1/|D| [ Σ_{all u,i} d0(s) + Σ_{clicks} (d1(s) - d0(s)) / max(θ, M) ] + reg (mean |p_u|² + mean |q_i|²)

``d1, d0`` are the losses of a relevant and an irrelevant pair (:mod:`palate.nn.unbiased`). A click that was unlikely to be seen
counts more, and its loss as an irrelevant pair is taken away (weight ``1 - 1/θ < 0``), so that the mean of ``L`` over draws of
exposure is the loss of the true relevance. ``M`` trades variance for bias: 0 is unbiased, 1 is plain logistic matrix
factorisation of clicks (also ``eta=0``). A weight below 1 of pairs without a click, with ``eta=0``, gives WMF.

People and items are ranked by ``s``: multiplying by θ again would predict clicks, the very thing that exposure bends.
With ``pairs="all"`` a batch holds some people with the whole catalogue, so the sum over all pairs is exact, and the clicks are
added in the sparse form above; with ``"sampled"`` a batch holds clicks and pairs drawn uniformly from all, weighted so that the
loss has the same mean.

A person's vector follows the history of the request; there a click is weighted by its propensity, ``w_i = 1/max(θ_i, M)``
(:mod:`palate.recommend.pair_factors`).

Validation never looks at clicks as they are. Of the clicks a share ``f`` is held out, and a pair without a training click is
held out with the chance ``θ f / (1 - (1-f) θ)`` where it is relevant, so weighting by its inverse estimates, without bias, the
loss of the true relevance over the pairs without a training click (:meth:`RelMF.held_out_loss`).

Source: Y. Saito, S. Yaginuma, Y. Nishino, H. Sakata, K. Nakata, "Unbiased Recommender Learning from Missing-Not-At-Random
Implicit Feedback", WSDM 2020, arXiv 1909.03601. WMF: Y. Hu, Y. Koren, C. Volinsky, ICDM 2008.
Differences: all pairs, not a sample of them, by default; Adam; ridge in means, so it does not depend on the size of the data;
biases by option; the fold-in and the validation loss (the published code weighs held-out clicks by θ alone) are ours. The
popularity propensity holds quality too (:mod:`palate.data.propensities`): known propensities are better, where there are some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy import sparse

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.propensities import COLUMN, Source, by_popularity, of_clicks, of_items
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.nn.unbiased import PointLoss, click_gain, effective_size, irrelevant
from palate.recommend.exposure import ExposureConfig
from palate.recommend.pair_factors import PairFactorsRecommender
from palate.training.all_pairs import PairsConfig, PairTerms, fit_factors

#: Cells of a block of scores when a fitted model is judged.
CELLS = 2**22


class RelMFConfig(PairsConfig, ExposureConfig):
    """Settings of Rel-MF."""

    counts_with: ClassVar[Mapping[str, With]] = {
        "eta": With("propensity", ("popularity",)),
        "column": With("propensity", ("column",)),
    }

    propensity: Source = Field("popularity", description="θ from popularity, from an item column, or from values of events")
    column: str = Field(COLUMN, description="item attribute that holds θ")
    unlabelled: float = Field(1.0, gt=0, description="weight of pairs without a click (below 1, with eta=0: WMF)")


class RelMF(PairFactorsRecommender):
    """Relevance matrix factorisation (see the module's text)."""

    name: ClassVar[str] = "rel_mf"
    Settings = RelMFConfig
    config: RelMFConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        matrix = dataset.matrix()
        clicks = self._click_propensities(dataset, matrix)
        self.theta_ = item_propensities(matrix, clicks) if c.propensity == "value" else self.theta_
        weights = 1 / np.maximum(clicks, c.clip)
        terms = PairTerms.of_clicks(matrix, weights, c.unlabelled)
        active = np.flatnonzero(np.diff(matrix.indptr)).astype(np.int64)
        by_item = 1 / np.maximum(self.theta_, c.clip)
        watched = self._judge(fitting.validation, dataset.histories, by_item)
        factors, record = fit_factors(terms, c, fitting, people=active, evaluate=watched, title="Rel-MF")
        self._take(factors, dataset.histories, by_item)
        return {**record.notes, "effective_clicks": effective_size(weights), "clicks": len(weights)}

    def _click_propensities(self, dataset: Dataset, matrix: sparse.csr_matrix) -> np.ndarray:
        """Return ``float64[clicks]``, and keep those of the items."""
        c = self.config
        if c.propensity == "value":
            return of_clicks(dataset)
        by_item = c.propensity == "column"
        self.theta_ = of_items(dataset, c.column) if by_item else by_popularity(dataset.item_counts, c.eta)
        return self.theta_[matrix.indices]

    def relevance(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float32[n, m]``: the chance ``σ(s)`` that items ``int32[n, m]`` are relevant, seen or not.

        It is NaN for people of whom the model knows nothing, and for items of -1.
        """
        scores = self.score(requests, items).astype(np.float64)
        scores[~self._informed(requests)] = np.nan
        scores[np.asarray(items) < 0] = np.nan
        return (1 / (1 + np.exp(-scores))).astype(np.float32)

    def _held_out_loss(self, held_out: HeldOut, theta: np.ndarray | None = None) -> float:
        vectors, asked, weights = self._weigh_held_out(held_out, theta)
        known = asked.histories.ragged.distinct
        return _unlabelled_loss(vectors, self.item_vectors_, known, asked.truth, weights, self.config.loss)


def item_propensities(matrix: sparse.csr_matrix, clicks: np.ndarray) -> np.ndarray:
    """Return ``float64[n_items]`` from those of clicks: ``n_i / Σ 1/θ`` (the least of all where an item has no click)."""
    counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
    sums = np.bincount(matrix.indices, 1 / clicks, minlength=matrix.shape[1])
    least = float(clicks.min(initial=1.0))
    return np.where(counts > 0, counts / np.maximum(sums, 1e-300), least)


def _unlabelled_loss(
    vectors: np.ndarray, items: np.ndarray, known: Ragged, truth: Ragged, weights: np.ndarray, loss: PointLoss
) -> float:
    """Return the mean over pairs not ``known`` of ``d0``, plus ``(d1 - d0)`` of the answers times their item's weight."""
    total, step = 0.0, max(1, CELLS // max(1, len(items)))
    cells = len(vectors) * len(items) - len(known.values)
    for start in range(0, len(vectors), step):
        scores = torch.from_numpy(vectors[start : start + step] @ items.T)
        total += float(irrelevant(scores, loss).sum(dtype=torch.float64))
        for rows, labelled in ((known.slice(start, start + step), False), (truth.slice(start, start + step), True)):
            own = scores[torch.from_numpy(rows.row_numbers), torch.from_numpy(rows.values.astype(np.int64))].double()
            if labelled:
                total += float((torch.from_numpy(weights[rows.values]) * click_gain(own, loss)).sum())
            else:
                total -= float(irrelevant(own, loss).sum())
    return total / max(1, cells)
