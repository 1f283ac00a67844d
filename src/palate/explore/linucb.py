"""LinUCB: upper confidence bounds of rewards that are linear in features of person and item.

    U_ri = mean_ri + α width_ri,     width² = xᵀA⁻¹x,     A = λI + Σ x xᵀ

with one regression for all items (``shared``), one for each (``disjoint``), or both at once (``hybrid``), see
:mod:`palate.explore.linear`. The slate is the ``k`` highest bounds, in their order; propensities are 1. With ``epsilon > 0`` a
position goes, in that share of cases, to an item by lot, which the propensities tell: so a log can be judged by other policies,
and with ``alpha = 0`` this is the linear epsilon-greedy.

Source: L. Li, W. Chu, J. Langford and R. Schapire, "A Contextual-Bandit Approach to Personalized News Article Recommendation",
WWW 2010, algorithms 1 and 2. Differences: slates of several items, of which those that were looked at are learnt from; the
regularisation λ is a setting (1 in the paper).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.explore.base import SlatePolicy
from palate.explore.features import ArmFeatures, FeatureConfig
from palate.explore.linear import ALL, FORMS, Among, Form, Learner


class LinUCBConfig(FeatureConfig):
    """Settings of LinUCB."""

    form: Form = Field("shared", description="weights: shared by all items, of each item (disjoint), or both (hybrid)")
    alpha: float = Field(1.0, ge=0, description="widths that are added to the mean")
    reg: float = Field(1.0, gt=0, description="λ of the ridge regression")
    epsilon: float = Field(0.0, ge=0, le=1, description="share of even choice at each position")


class LinearPolicy(SlatePolicy):
    """Base of policies with a linear model of rewards.

    Attributes
    ----------
    learner_
        The model.
    """

    config: FeatureConfig
    learner_: Learner

    @property
    def _form(self) -> Form:
        return "shared"

    @property
    def _reg(self) -> float:
        return 1.0

    @property
    def _numbers(self) -> int:
        return self.learner_.numbers

    @property
    def context_columns(self) -> tuple[str, ...]:
        """Columns of the setting ``context``."""
        return self.config.context

    @property
    def reads_histories(self) -> bool:
        """By the setting ``history``."""
        return self.config.history

    @abstractmethod
    def _valued(self, x: np.ndarray, among: Among) -> np.ndarray:
        """Return ``float64[n, D, l]``: draws of the values of some items for contexts ``float64[n, width]``."""

    def _values(self, requests: Requests) -> np.ndarray:
        return self._valued(self.learner_.features.of_requests(requests), ALL)

    def _values_among(self, request: Requests, items: np.ndarray) -> np.ndarray:
        return self._valued(self.learner_.features.of_requests(request), items)[0]

    def _clear(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, object]:
        features = ArmFeatures.of(dataset, self.config)
        self.learner_ = FORMS[self._form].begin(features, self._reg)
        return {"item features": features.table.shape[1], "context": features.width}

    def _learn(self, requests: Requests, rows: np.ndarray, items: np.ndarray, rewards: np.ndarray) -> None:
        self.learner_.learn(self.learner_.features.of_requests(requests)[rows], items, rewards)

    def _state(self) -> dict[str, np.ndarray]:
        return {"rounds": self.rounds_, "features": self.learner_.features.table, **self.learner_.state}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        own = dict(state)
        self.rounds_ = own.pop("rounds")
        features = ArmFeatures(own.pop("features"), self.config.context, self.config.history)
        fresh = FORMS[self._form].begin(features, self._reg).state
        self.learner_ = FORMS[self._form](features, {n: np.array(own[n]).reshape(a.shape) for n, a in fresh.items()})


class LinUCB(LinearPolicy):
    """Linear upper confidence bounds (see the module's text)."""

    name: ClassVar[str] = "linucb"
    Settings = LinUCBConfig
    config: LinUCBConfig

    @property
    def _form(self) -> Form:
        return self.config.form

    @property
    def _reg(self) -> float:
        return self.config.reg

    @property
    def _epsilon(self) -> float:
        return self.config.epsilon

    def _valued(self, x: np.ndarray, among: Among) -> np.ndarray:
        mean, width = self.learner_.estimates(x, among)
        return (mean + self.config.alpha * width)[:, None]
