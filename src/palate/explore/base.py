"""What policies on slates share: checks, candidates, drawing with exact propensities, and what feedback can teach.

A policy gives values of all items: one number an item (then the slate is the items in the order of these numbers, and its
propensities are 1), or ``D`` joint draws of all of them (then positions are drawn, see :mod:`palate.kernels.slate_draws`).
Draws belong to what was learnt: they are made anew after each update, from the seed of the fit and the number of rounds
learnt from, and stand until the next. So the propensities that are logged are exact, and can be stated again for any slate.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from palate.contracts.config import Config
from palate.contracts.model import Fitting
from palate.contracts.policy import Feedback, NextChances, Policy, Slate
from palate.contracts.requests import Requests
from palate.contracts.shapes import check_distinct, check_shape
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.errors import DataError
from palate.explore.user_models import UserModel, looked_at
from palate.kernels.slate_draws import SlateFilling, draw_slates, slate_chances
from palate.runtime import generator

#: Numbers that a block of requests may take (values of all items in all draws).
BLOCK = 2**22


class SlateConfig(Config):
    """Settings of every policy on slates."""

    user_model: UserModel = Field(
        "cascade",
        description="positions that were looked at, where feedback doesn't say: up to the first click (cascade), up to the "
        "last (dependent_click), or all",
    )


class SlatePolicy(Policy):
    """Base of policies that rank items by values (see the module's text)."""

    Settings = SlateConfig
    config: SlateConfig
    #: Whether rewards must lie from 0 to 1.
    unit_rewards: ClassVar[bool] = False
    #: Whether a slate follows one draw.
    joint: ClassVar[bool] = False

    rounds_: np.ndarray  # int64[1]: slates learnt from

    # -- what a subclass gives ------------------------------------------------------------------

    @abstractmethod
    def _values(self, requests: Requests) -> np.ndarray:
        """Return ``float64[m, D, n_items]``: draws of values for each request, or (``m = 1``) for all alike."""

    @abstractmethod
    def _learn(self, requests: Requests, rows: np.ndarray, items: np.ndarray, rewards: np.ndarray) -> None:
        """Learn from items that were looked at (``items[j]`` in answer to request ``rows[j]``), in this order."""

    @abstractmethod
    def _clear(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, object] | None:
        """Set up what is learnt."""

    def _values_among(self, request: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float64[D, l]``: the values of some items for one request."""
        values: np.ndarray = self._values(request)[0][:, items]
        return values

    @property
    def _epsilon(self) -> float:
        """Share of even choice."""
        return 0.0

    @property
    def _numbers(self) -> int:
        """Numbers that one request takes in :meth:`_values`."""
        return self.n_items

    # -- the contract ---------------------------------------------------------------------------

    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        """Choose slates (see :meth:`palate.contracts.policy.Policy.act`); items of equal value rank by a fixed hash."""
        self._check_requests(requests)
        if k < 1:
            raise DataError("k must be at least 1.", where="act", value=k)
        uniforms = rng.random((len(requests), k))
        items, chances = np.full((len(requests), k), -1, np.int32), np.ones((len(requests), k))
        start = 0
        for block in self._blocks(requests):
            own = slice(start, start + len(block))
            items[own], chances[own] = draw_slates(
                self._values(block), self._allowed(block), self._epsilon, uniforms[own], joint=self.joint
            )
            start += len(block)
        return Slate(items, chances)

    def propensities(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float64[n, k]``: how likely these slates are now, each position given those before it.

        After a position that can't come all are 0. An empty position (-1) has chance 1 where nothing is left to show, else 0.
        """
        self._check_requests(requests)
        items = np.asarray(items)
        check_shape(items, (len(requests), None), "items")
        check_distinct(items, "items")
        self._check_items(items, "items")
        out = np.zeros(items.shape)
        start = 0
        for block in self._blocks(requests):
            own = slice(start, start + len(block))
            out[own] = slate_chances(self._values(block), self._allowed(block), self._epsilon, items[own], joint=self.joint)
            start += len(block)
        return out

    def next_chances(self, request: Requests) -> NextChances:
        """Return the chances of one request's candidates (:meth:`palate.contracts.policy.Policy.next_chances`)."""
        self._check_requests(request)
        if len(request) != 1 or request.candidates is None:
            raise DataError("one request with candidates is needed.", where="next_chances", value=len(request))
        items = request.candidates.values
        check_distinct(items[None], "requests.candidates")
        return SlateFilling(self._values_among(request, items), items, self._epsilon, joint=self.joint)

    def update(self, requests: Requests, feedback: Feedback) -> None:
        """Learn from what was looked at, row by row; after an error the policy is as it was."""
        self._check_requests(requests)
        if len(requests) != len(feedback):
            raise DataError(
                "there is not one slate of feedback a request.", where="update", value=[len(requests), len(feedback)]
            )
        self._check_items(feedback.slate.items, "feedback.slate.items")
        rows, positions = np.nonzero(looked_at(feedback, self.config.user_model))
        rewards = feedback.rewards[rows, positions].astype(np.float64)
        wrong = np.flatnonzero((rewards < 0) | (rewards > 1))
        if self.unit_rewards and len(wrong):
            where, remedy = f"rewards, row {rows[wrong[0]]}", "scale rewards, or take a policy without this need (linucb)"
            raise DataError("a reward lies outside 0 to 1.", where=where, value=float(rewards[wrong[0]]), remedy=remedy)
        self._learn(requests, rows, feedback.slate.items[rows, positions].astype(np.int64), rewards)
        self.rounds_ = self.rounds_ + len(feedback)

    def _begin(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, object] | None:
        self.rounds_ = np.zeros(1, np.int64)
        self.__dict__.pop("_drawn", None)
        notes = self._clear(dataset, fitting)
        fitting.report(self.name, 1, 1)
        return notes

    # -- parts ----------------------------------------------------------------------------------

    def _draws_of_now(self) -> np.random.Generator:
        """Return the generator of the draws that belong to what is known now."""
        return generator(self.record_.seed, self.name, int(self.rounds_[0]))

    def _drawn_once(self) -> np.ndarray:
        """Return what :meth:`_draw` gives, made once between two updates."""
        kept = self.__dict__.get("_drawn")
        if kept is None or kept[0] != int(self.rounds_[0]):
            kept = (int(self.rounds_[0]), self._draw(self._draws_of_now()))
            self._drawn: tuple[int, np.ndarray] = kept
        return kept[1]

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw from the posterior."""
        raise NotImplementedError

    def _blocks(self, requests: Requests) -> list[Requests]:
        return list(requests.blocks(max(1, BLOCK // max(1, self._numbers)))) if len(requests) else []

    def _allowed(self, requests: Requests) -> np.ndarray:
        """Return ``bool[n, n_items]`` (``[1, n_items]`` where all may be shown to all)."""
        if requests.candidates is None and requests.exclude is None:
            return np.ones((1, self.n_items), bool)
        allowed = np.full((len(requests), self.n_items), requests.candidates is None)
        if requests.candidates is not None:
            allowed[requests.candidates.row_numbers, requests.candidates.values] = True
        if requests.exclude is not None:
            allowed[requests.exclude.row_numbers, requests.exclude.values] = False
        return allowed

    def _check_requests(self, requests: Requests) -> None:
        self._check_fitted()
        parts: list[tuple[str, Ragged | None]] = [
            ("histories", requests.histories.ragged),
            ("exclude", requests.exclude),
            ("candidates", requests.candidates),
        ]
        for name, rows in parts:
            if rows is not None and len(rows.values):
                self._check_items(rows.values, f"requests.{name}", lowest=0)

    def _check_items(self, items: np.ndarray, where: str, lowest: int = -1) -> None:
        if items.size and not (lowest <= items.min() and items.max() < self.n_items):
            wrong = items.min() if items.min() < lowest else items.max()
            raise DataError(f"an item number lies outside the catalogue of {self.n_items:,}.", where=where, value=int(wrong))


class CountedPolicy(SlatePolicy):
    """Base of policies that keep, for each item, how often it was looked at and what it gave.

    Attributes
    ----------
    trials_, gains_
        ``float64[n_items]``: times looked at, and the sum of rewards.
    """

    trials_: np.ndarray
    gains_: np.ndarray

    @property
    def reads_histories(self) -> bool:
        """Not: counts are those of items."""
        return False

    @property
    def means(self) -> np.ndarray:
        """``float64[n_items]``: mean reward, 0 where nothing is known."""
        return self.gains_ / np.maximum(self.trials_, 1.0)

    def _clear(self, dataset: Dataset, fitting: Fitting) -> None:
        self.trials_, self.gains_ = np.zeros(dataset.n_items), np.zeros(dataset.n_items)

    def _learn(self, requests: Requests, rows: np.ndarray, items: np.ndarray, rewards: np.ndarray) -> None:
        trials, gains = self.trials_.copy(), self.gains_.copy()
        np.add.at(trials, items, 1.0)
        np.add.at(gains, items, rewards)
        self.trials_, self.gains_ = trials, gains

    def _state(self) -> dict[str, np.ndarray]:
        return {"trials": self.trials_, "gains": self.gains_, "rounds": self.rounds_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.trials_, self.gains_, self.rounds_ = state["trials"], state["gains"], state["rounds"]
