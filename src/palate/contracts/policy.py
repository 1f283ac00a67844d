"""Policy: which slate to show now, so as to earn and to learn?"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from palate.contracts.bundle import Bundle
from palate.contracts.fitted import FitRecord, Fitted
from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.contracts.shapes import check_distinct, check_rows, check_shape
from palate.data.dataset import Dataset, Entities
from palate.errors import UnsupportedError
from palate.progress import Progress, silent

#: The chances of the candidates of one request while a slate is filled. It is called once for each position, in order, with the
#: place (among the candidates) of the one that was taken before, -1 where none was, and with the places ``int64[m]`` that are
#: left; it returns ``float64[m]``: the chance of each to come next.
NextChances = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Slate:
    """What was shown, and how likely it was to be shown: without that, nothing can be learnt from a log without bias.

    Attributes
    ----------
    items
        ``int32[n, k]``, first position first; -1 where fewer were shown.
    propensities
        ``float64[n, k]`` probability of each item at its position given the positions before it, in (0, 1]; 1 where the item
        is -1. Their product along a row is the probability of the slate.
    marginals
        ``float64[n, k]`` probability of each item at its position whatever stands before it, or ``None`` where it is not
        known. Estimators that take positions as independent need it.
    """

    items: np.ndarray
    propensities: np.ndarray
    marginals: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_shape(self.items, (None, None), "slate items")
        check_distinct(self.items, "slate items")
        for name, column in (("propensities", self.propensities), ("marginals", self.marginals)):
            if column is None:
                continue
            check_shape(column, self.items.shape, name)
            good = (column > 0) & (column <= 1)
            check_rows(good, column, "a propensity must lie above 0 and not above 1.", name, "log what the policy really did")
            check_rows((self.items >= 0) | (column == 1), column, "an empty position has the propensity 1.", name)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def joint(self) -> np.ndarray:
        """``float64[n]`` probability of each whole slate."""
        whole: np.ndarray = self.propensities.prod(axis=1)
        return whole

    @property
    def prefix(self) -> np.ndarray:
        """``float64[n, k]`` probability of each slate's first positions up to and with this one."""
        return np.cumprod(self.propensities, axis=1)

    def take(self, rows: np.ndarray) -> Slate:
        """Return some of the slates."""
        marginals = None if self.marginals is None else self.marginals[rows]
        return Slate(self.items[rows], self.propensities[rows], marginals)


@dataclass(frozen=True, eq=False)
class Feedback:
    """What happened with slates.

    Attributes
    ----------
    slate
        What was shown.
    rewards
        ``float64[n, k]`` reward of each position, such as clicks (0 where the item is -1); NaN where it was not observed.
    examined
        ``bool[n, k]``: was the position looked at? ``None`` where that is not known (a policy that needs it infers it).
    """

    slate: Slate
    rewards: np.ndarray
    examined: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_shape(self.rewards, self.slate.items.shape, "rewards")
        check_rows(~np.isinf(self.rewards), self.rewards, "a reward is infinite.", "rewards")
        empty = self.slate.items < 0
        check_rows(~empty | (self.rewards == 0), self.rewards, "an empty position has no reward.", "rewards")
        if self.examined is not None:
            check_shape(self.examined, self.slate.items.shape, "examined")

    def __len__(self) -> int:
        return len(self.slate)

    @property
    def total(self) -> np.ndarray:
        """``float64[n]`` observed reward of each slate."""
        total: np.ndarray = np.nansum(self.rewards, axis=1)
        return total


class Policy(Fitted, ABC):
    """Base of systems that choose under uncertainty.

    A policy never draws from a global generator: the caller passes one, so a run can be repeated. What it learnt stands in its
    bundle; updates are applied in the order of the rows. A subclass names itself, gives a
    :class:`~palate.contracts.config.Config` and implements ``_begin``, ``act``, ``update``, ``_state`` and ``_restore``.
    """

    #: Whether :meth:`update` learns; else only :meth:`fit` does.
    can_update: ClassVar[bool] = True
    #: Whether chances follow from what was learnt and the request alone. Else :meth:`act` makes draws anew with its generator;
    #: what it logs is exact given these, and :meth:`propensities` is an estimate over such draws.
    fixed_draws: ClassVar[bool] = True

    items_: Entities

    @property
    def n_items(self) -> int:
        """Number of items that can be shown."""
        return len(self.items_)

    @property
    def context_columns(self) -> tuple[str, ...]:
        """Columns of a request's context that :meth:`next_chances` can't do without; each holds numbers."""
        return ()

    @property
    def reads_histories(self) -> bool:
        """Whether what is learnt and chosen depends on the histories of requests."""
        return True

    def knows(self, user: Any) -> bool:
        """Say whether a person's raw id stands in what was learnt; a policy keeps nothing but items."""
        return False

    def forget(self, users: Sequence[Any]) -> int:
        """Remove the raw ids of people; return how many it knew (see :meth:`knows`)."""
        return 0

    def fit(
        self,
        dataset: Dataset,
        *,
        seed: int = 0,
        progress: Progress = silent,
        checkpoint: str | Path | None = None,
        callbacks: Sequence[Callable[[Any], None]] = (),
    ) -> Self:
        """Take up a catalogue and begin anew; return self.

        Parameters
        ----------
        dataset
            Items that can be shown; a policy that starts from knowledge (ratings, features, graphs, logged slates in
            ``impressions``) says which.
        seed
            Fixes every random choice of the beginning; :meth:`act` has a generator of its own.
        progress
            Called with every step.
        checkpoint
            Folder from which a fit that was killed goes on, to the bit. Policies that begin in one go (those that learn in
            :meth:`update` alone) need none: their state is their bundle.
        callbacks
            Called after each epoch by policies that learn in epochs.
        """
        self.__dict__.pop("record_", None)
        started = time.perf_counter()
        self.items_ = dataset.items
        folder = None if checkpoint is None else Path(checkpoint)
        fitting = Fitting(seed, progress=progress, checkpoint=folder, data=dataset.fingerprint, callbacks=tuple(callbacks))
        notes = self._begin(dataset, fitting) or {}
        data = {"name": dataset.name, "fingerprint": dataset.fingerprint, "items": dataset.n_items}
        self.record_ = FitRecord(seed, time.perf_counter() - started, data, notes)
        return self

    @abstractmethod
    def _begin(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any] | None:
        """Set up what is learnt; return notes for the record, or nothing."""

    def _bundle(self, manifest: Mapping[str, Any]) -> Bundle:
        return replace(super()._bundle(manifest), items=self.items_)

    def _take_back(self, bundle: Bundle) -> None:
        self.items_ = bundle.items
        self._restore(bundle.state)

    @abstractmethod
    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        """Choose a slate for each request, and say how likely each choice was.

        Parameters
        ----------
        requests
            Who is asked, with history, context features and, where only some items may be shown, ``candidates``; items in
            ``exclude`` are never shown.
        k
            Positions of the slate.
        rng
            The only source of chance.
        """

    @abstractmethod
    def update(self, requests: Requests, feedback: Feedback) -> None:
        """Learn from what happened; row ``r`` of the feedback answers request ``r``."""

    def propensities(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float64[n, k]``: how likely this policy would show these slates now, position by position.

        Off-policy estimators ask this of the policy that is to be judged. Zero is a right answer here. A policy that can't say
        refuses.
        """
        raise UnsupportedError(
            f"{type(self).__name__} can't say how likely it would show a given slate.",
            remedy="judge it by simulation, or by a policy with propensities",
        )

    def next_chances(self, request: Requests) -> NextChances:
        """Return the chances of one request's candidates to come next, for a caller who fills the slate.

        The caller may leave out of a position whatever doesn't fit (limits of exposure, items that are excluded), draws from
        these very chances, and so knows exactly how likely each position was. A policy whose choices can't be told so refuses.

        Parameters
        ----------
        request
            A single one, with ``candidates``, each of them once.
        """
        raise UnsupportedError(
            f"{type(self).__name__} can't say what is likely to come next while others fill the slate.",
            remedy="take a policy that ranks items by values, such as linucb, lin_ts, thompson or epsilon_greedy",
        )
