"""Popularity: the same list for everybody, by how often items were chosen.

    score(j) = Σ_{events e of j} w(age of e)

with ``w = 1`` (all time), ``w = 1`` inside the last ``window_days`` and 0 before, or ``w = 2^(-age / half_life_days)``.
Ages are counted back from the last training event. Items never chosen score 0 and rank by the tie rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from palate.contracts.config import Config
from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import DataError

DAY = 86_400


class PopularityConfig(Config):
    """Settings of Popularity; with neither a window nor a half-life it counts all time."""

    window_days: float | None = Field(None, gt=0, description="count only the last days of training")
    half_life_days: float | None = Field(None, gt=0, description="an event this old counts half")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.window_days is not None and self.half_life_days is not None:
            raise ValueError("set window_days or half_life_days, not both")
        return self


class Popularity(Recommender):
    """Most chosen items (see the module's text)."""

    name: ClassVar[str] = "popularity"
    can_update: ClassVar[bool] = True  # counting anew is exact, and takes no longer
    Settings = PopularityConfig
    config: PopularityConfig

    weight_: np.ndarray  # float32[n_items]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        events = dataset.interactions
        weights = self._event_weights(events.time, len(events))
        self.weight_ = np.bincount(events.item, weights, minlength=dataset.n_items).astype(np.float32)
        fitting.report("Popularity", 1, 1)

    def _event_weights(self, time: np.ndarray | None, n: int) -> np.ndarray:
        window, half_life = self.config.window_days, self.config.half_life_days
        if window is None and half_life is None:
            return np.ones(n)
        if time is None:
            raise DataError(
                "recent popularity needs times.", where="interactions", remedy="give a time column, or drop the setting"
            )
        age = (time.max(initial=0) - time) / DAY
        return (age <= window).astype(float) if window is not None else np.exp2(-age / half_life)

    def _scores(self, requests: Requests) -> np.ndarray:
        return np.tile(self.weight_, (len(requests), 1))

    def _informed(self, requests: Requests) -> np.ndarray:
        return np.ones(len(requests), bool)

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the item's count: the whole reason."""
        self._check_question(request, item)
        score = float(self.weight_[item])
        return Explanation(item, score, (Evidence("popularity", "chosen by others", score),), exact=True, method="count")

    def _state(self) -> dict[str, np.ndarray]:
        return {"weight": self.weight_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.weight_ = state["weight"]
