"""SSL two-tower: two towers whose item tower also learns to recognise an item by either half of its fields.

    L = L_main( pairs ) + α L_self( items drawn evenly from the catalogue )

    L_self = -1/N Σ_i ln e^{<z_i, z'_i>/τ'} / Σ_j e^{<z_i, z'_j>/τ'},     z_i = g(view 1 of x_i),   z'_i = g(view 2 of x_i)

The views are complementary: a set of fields is masked in one and alone in the other. By default the set is a random seed field
and the fields with the highest mutual information with it (correlated feature masking, ``cfm``), so that the task can't be
solved through fields that say the same; ``rfm`` masks a random half. In what is left, values of fields with several are dropped
at random. ``spread_out`` pushes items apart instead, without views: ``α/N Σ_{i≠j} <z_i, z_j>²``. All else, new items and unseen
people too, is :mod:`palate.recommend.two_tower`; with ``alpha=0`` the two are the same to the bit.

Source: T. Yao et al., "Self-supervised Learning for Large-scale Item Recommendations", CIKM 2021, arXiv 2007.12865; main loss,
L_self, section 3.3 for the masks, and the sum of the two with their own samples. Published code (LibRecommender) masks the
fields nearest to the seed without the seed itself, and counts items as often as they were chosen; here the seed is masked as
the paper defines it, and items count once.
Differences: a query is a person with a history (the paper's is an item); the id of an item is masked in both views, as its
mutual information with any field is that field's entropy and one view with it would say all (``ids_in_views`` gives it to one
view drawn by lot); dense numbers are masked too; of a field's values one always stays, and never are all fields in one view
(:mod:`palate.training.masking`); items with an empty view take no part; items of a batch are distinct. Data
with fewer than two fields of attributes have no complementary views: the task is then left out, which the record's notes say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.data.features import Features
from palate.data.mutual_information import mutual_information
from palate.nn.losses import info_nce
from palate.nn.towers import spread_out
from palate.recommend.two_tower import TwoTower, TwoTowerConfig
from palate.runtime import generator
from palate.training.masking import correlated_fields, kept_values, random_fields


class SSLTwoTowerConfig(TwoTowerConfig):
    """Settings of self-supervised two towers."""

    counts_with: ClassVar[Mapping[str, With]] = {
        **dict.fromkeys(("ssl_temperature", "view_dropout", "ids_in_views"), With("task", ("cfm", "rfm"))),
        "normalise": With("task", ("cfm",)),
    }

    task: Literal["cfm", "rfm", "spread_out"] = Field("cfm", description="how views are masked; or plain spreading of items")
    alpha: float = Field(0.1, ge=0, description="weight of the auxiliary task")
    ssl_temperature: float = Field(0.1, gt=0, description="cosines of two views are divided by this")
    ssl_batch_size: int = Field(1024, gt=1, description="items of a batch of the auxiliary task")
    view_dropout: float = Field(
        0.1, ge=0, lt=1, description="chance that a value of a field with several is left out of a view"
    )
    item_sampling: Literal["uniform", "popularity"] = Field("uniform", description="how items of the auxiliary task are drawn")
    normalise: bool = Field(False, description="whether mutual information is divided by the mean of the entropies")
    ids_in_views: bool = Field(False, description="whether the id stands in one of the two views, drawn by lot")


class SSLTwoTower(TwoTower):
    """Two towers with an auxiliary contrast of masked views (see the module's text).

    Attributes
    ----------
    mutual_information_
        ``float64[k, k]`` between the fields of attributes, in nats (or normalised).
    """

    name: ClassVar[str] = "ssl_two_tower"
    Settings = SSLTwoTowerConfig
    config: SSLTwoTowerConfig
    mutual_information_: np.ndarray

    def _prepare(self, features: Features, fitting: Fitting) -> dict[str, Any]:
        k = self._n_attributes
        whole = mutual_information(features, normalise=self.config.normalise, seed=fitting.seed)
        self.mutual_information_ = whole[:k, :k].copy()
        possible = k >= 2 or self.config.task == "spread_out"
        return {"task": self.config.task if possible else "left out: fewer than two fields of attributes"}

    def _draw(self, features: Features, rng: np.random.Generator) -> _Views | None:
        c, n = self.config, len(features)
        if not c.alpha or (c.task != "spread_out" and self._n_attributes < 2):
            return None
        size = min(c.ssl_batch_size, n)
        if c.item_sampling == "popularity":
            weights = self.item_counts_ / self.item_counts_.sum()
            rows = np.unique(rng.choice(n, size, p=weights))
        else:
            rows = rng.choice(n, size, replace=False, shuffle=False)
        own = features.take(rows)
        if c.task == "spread_out":
            return _Views(own, np.ones(len(own.bags.values), bool), None)
        return self._two_views(own, rng, c.task)

    def _two_views(self, own: Features, rng: np.random.Generator, task: str) -> _Views | None:
        """Return complementary views of the items of which both have a value; ``None`` where fewer than two items are left."""
        c, k = self.config, self._n_attributes
        chosen = np.zeros(own.n_fields, bool)
        chosen[:k] = correlated_fields(self.mutual_information_, rng) if task == "cfm" else random_fields(k, rng)
        sets = [~chosen, chosen]
        for fields in sets:
            fields[k:] = False
        has = own.bags.lengths.reshape(-1, own.n_fields) > 0
        whole = np.flatnonzero((has & sets[0]).any(axis=1) & (has & sets[1]).any(axis=1))
        if c.ids_in_views and own.n_fields > k:
            sets[int(rng.integers(2))][k] = True
        if len(whole) < 2:
            return None
        own = own.take(whole)
        return _Views(own, *(kept_values(own, fields, c.view_dropout, rng) for fields in sets))

    def self_loss(self, task: Literal["cfm", "rfm"], *, draws: int = 8, seed: int = 0) -> float:
        """Return ``L_self`` of a fitted model, without its weight, whatever the model was trained with.

        Parameters
        ----------
        task
            How views are masked.
        draws
            Batches of items, drawn evenly from the catalogue, over which the loss is averaged.
        seed
            Fixes items and views: models of the same data are asked about the same ones.

        Returns
        -------
        float
            In nats; NaN where no batch has two items with complementary views.
        """
        self._check_fitted()
        n, rng, losses = len(self.items_), generator(seed, "ssl_two_tower", "self_loss"), []
        if self._n_attributes < 2:
            return float("nan")
        features = self._item_features(self.items_.attributes, n, self.item_counts_ > 0)
        self.net_.eval()
        for _ in range(draws):
            rows = rng.choice(n, min(self.config.ssl_batch_size, n), replace=False, shuffle=False)
            views = self._two_views(features.take(rows), rng, task)
            if views is not None:
                with torch.inference_mode():
                    losses.append(float(self._auxiliary(views, None, weight=1.0)))
        return float(np.mean(losses)) if losses else float("nan")

    def _auxiliary(self, drawn: _Views, stream: torch.Generator | None, weight: float | None = None) -> Tensor:
        c, net = self.config, self.net_
        device, alpha = net.profile.device, c.alpha if weight is None else weight

        def view(kept: np.ndarray, *, dense: bool) -> Tensor:
            x = net.item_inputs(drawn.features, torch.from_numpy(kept).to(device), dense=dense)
            found: Tensor = net.item_tower(x, stream)
            return found

        if drawn.second is None:
            return alpha * spread_out(view(drawn.first, dense=True))
        first, second = (view(kept, dense=False) for kept in (drawn.first, drawn.second))
        return alpha * info_nce(first, second, c.ssl_temperature)

    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "mutual_information": self.mutual_information_}

    def _restore(self, state: Any) -> None:
        super()._restore(state)
        self.mutual_information_ = state["mutual_information"]


@dataclass(frozen=True)
class _Views:
    """Items of a batch, and which of their values are in each view (no second one: spread out)."""

    features: Features
    first: np.ndarray
    second: np.ndarray | None
