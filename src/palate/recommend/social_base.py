"""What recommenders on a social network share: the ties are read once, asked for clearly, and counted in the fit's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.nn.social import SocialGraph
from palate.nn.triples import triple_bpr
from palate.recommend.graph_base import GraphRecommender, Objective, Part, Setting
from palate.training.triples import Triples


class SocialRecommender(GraphRecommender):
    """Base of recommenders on the graph of people and items that add parts made of ties.

    The data must hold ties between people of training, else :class:`palate.errors.DataError` says what is missing. The record
    of the fit tells under ``"ties"`` how many were given, kept, and left out, and why (:attr:`SocialGraph.counts`).
    """

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        social = SocialGraph.of(dataset, self.title)
        return {**self._fit_social(Setting.of(dataset, fitting), social), "ties": social.counts}

    def _fit_social(self, setting: Setting, social: SocialGraph) -> Mapping[str, Any]:
        """Train; return the notes of the fit."""
        table = self._table(setting, self._social_parts(setting, social))
        objective = Objective(table, setting, self.config, self._lowest)
        return self._descend(setting, table, objective.loss, objective.batches)

    def _social_parts(self, setting: Setting, social: SocialGraph) -> Sequence[Part]:
        """Return what the system adds."""
        raise NotImplementedError


def friends_of(requests: Requests, known: Ragged) -> Ragged:
    """Return the distinct people whom each person is tied to: those that the request names, else those known from training."""
    return known.take(requests.users) if requests.ties is None else requests.ties.distinct


def informed(requests: Requests, known_items: np.ndarray) -> np.ndarray:
    """Say who had something known, or has ties in the request."""
    named = np.zeros(len(requests), bool) if requests.ties is None else requests.ties.lengths > 0
    return np.asarray((known_items > 0) | named)


def without_people(ties: Ragged, numbers: np.ndarray) -> Ragged:
    """Return the ties but for those of some people, and those to them."""
    gone = np.isin(np.arange(len(ties)), numbers)
    rows, tails = ties.row_numbers, ties.values
    kept = ~(gone[rows] | gone[tails])
    return Ragged.group(rows[kept], tails[kept], len(ties))


def ranking_loss(free: Tensor, users: Tensor, items: Tensor, batch: Triples, reg: float) -> Tensor:
    """Return ``1/B Σ softplus(<u, j> - <u, i>) + reg/(2B) Σ |e⁰|²`` over a batch of triples.

    Parameters
    ----------
    free
        ``float32[n_users + n_items, d]`` free vectors e⁰, people first.
    users, items
        ``float32[n_users, f]`` and ``float32[n_items, f]`` final vectors.
    batch
        Triples; one whose negative is -1 adds nothing, but counts in B.
    reg
        Weight of the penalty.
    """
    n, kept = len(users), np.flatnonzero(batch.negatives >= 0)
    u, i, j = (batch.users[kept].astype(np.int64), *(a[kept].astype(np.int64) + n for a in (batch.positives, batch.negatives)))
    counts = torch.from_numpy(np.bincount(np.concatenate([u, i, j]), minlength=len(free)).astype(np.float32)).to(free.device)
    fit = triple_bpr(torch.cat([users, items]), u, i, j) * (len(kept) / len(batch))
    return fit + reg / (2 * len(batch)) * (free.square().sum(1) * counts).sum()
