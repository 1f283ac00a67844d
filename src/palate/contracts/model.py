"""Model: what systems that learn from a data set share: fit, update, forget; settings and bundles are those of Fitted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from palate.contracts.bundle import Bundle
from palate.contracts.fitted import FitRecord, Fitted
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.split import HeldOut
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.progress import Progress, ProgressEvent, silent
from palate.runtime import generator


@dataclass(frozen=True)
class Former:
    """What a model had learnt before it learns on, in numbers that the new data set keeps.

    Attributes
    ----------
    state
        Its arrays, as saved in a bundle. They must not be written into.
    histories, item_counts
        Of the data that it had learnt from; people and items that came since are missing.
    """

    state: Mapping[str, np.ndarray]
    histories: Histories
    item_counts: np.ndarray

    @property
    def users(self) -> np.ndarray:
        """``int64[n]`` numbers of people from whose events it had learnt."""
        return np.flatnonzero(self.histories.lengths > 0)

    @property
    def items(self) -> np.ndarray:
        """``int64[n]`` numbers of items from whose events it had learnt."""
        return np.flatnonzero(self.item_counts > 0)

    def carry_items(self, name: str, fresh: np.ndarray) -> np.ndarray:
        """Put the rows of an array of items, as far as learnt, into the fresh one of the new data; return it."""
        fresh[self.items] = self.state[name][self.items]
        return fresh


@dataclass(frozen=True)
class Fitting:
    """What a model is handed while it fits, beside the data.

    Attributes
    ----------
    seed
        Fixes every random choice.
    device
        Where torch models train (``"cpu"``, ``"cuda"``…).
    progress
        Called with every step.
    validation
        Held-out questions for early stopping, or ``None``.
    checkpoint
        Folder for checkpoints of long fits, or ``None``; a fit that finds one there goes on from it exactly.
    data
        Fingerprint of the training data; a checkpoint of other data is refused.
    callbacks
        Called after each epoch by models that learn in epochs (:mod:`palate.training.callbacks`).
    former
        What the model had learnt before, where it learns on (:meth:`Model.update`); ``None`` where it starts anew.
    """

    seed: int = 0
    device: str = "cpu"
    progress: Progress = silent
    validation: HeldOut | None = None
    checkpoint: Path | None = None
    data: str = ""
    callbacks: Sequence[Callable[[Any], None]] = ()
    former: Former | None = None

    def rng(self, *names: str | int) -> np.random.Generator:
        """Return the generator of one purpose (independent streams, never global)."""
        return generator(self.seed, *names)

    def report(self, stage: str, done: int, total: int | None = None, **metrics: float) -> None:
        """Report progress."""
        self.progress(ProgressEvent(stage, done, total, metrics))


class Model(Fitted):
    """Base of all systems that learn from a data set.

    A subclass names itself, gives a :class:`Config` and implements ``_fit``, ``_state`` and ``_restore``. One that can learn on
    says ``can_update``, and begins its ``_fit`` from ``fitting.former`` where there is one.
    """

    #: Whether :meth:`update` works.
    can_update: ClassVar[bool] = False

    users_: Entities
    items_: Entities
    histories_: Histories
    item_counts_: np.ndarray

    def fit(
        self,
        dataset: Dataset,
        validation: HeldOut | None = None,
        *,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: str | Path | None = None,
        callbacks: Sequence[Callable[[Any], None]] = (),
    ) -> Self:
        """Learn from a data set; return self.

        Parameters
        ----------
        dataset
            Training data. Users and items with no event in it are part of the catalogue all the same.
        validation
            Held-out questions for early stopping; models that need none ignore it.
        seed
            Fixes every random choice.
        device
            Where torch models train.
        progress
            Called with every step.
        checkpoint
            Folder from which a fit that was killed goes on, to the bit; models that learn in one go need none.
        callbacks
            Called after each epoch, such as ``palate.training.callbacks.JsonLog("log.jsonl")``.
        """
        folder = None if checkpoint is None else Path(checkpoint)
        return self._take_up(
            dataset, Fitting(seed, device, progress, validation, folder, dataset.fingerprint, tuple(callbacks))
        )

    def update(self, dataset: Dataset, *, seed: int = 0, device: str = "cpu", progress: Progress = silent) -> Self:
        """Learn on from what was learnt before, with everything that is known now; return self.

        Settings stay as they are, but for ``epochs``, in whose place stands ``update_epochs`` where the system has it. After an
        error the model is as it was.

        Parameters
        ----------
        dataset
            All data, old and new. Its vocabularies begin with the model's own, in their order
            (:func:`palate.contracts.growth.grown` brings them into it); people and items that came since follow.
        seed, device, progress
            As in :meth:`fit`.

        Raises
        ------
        UnsupportedError
            If the system can only be fitted anew.
        DataError
            If the vocabularies don't begin with the model's own.
        """
        self._check_fitted()
        if not self.can_update:
            raise self._refuse("learn on from what it learnt before", "fit it anew on all data")
        for what, own, all_ in (("users", self.users_, dataset.users), ("items", self.items_, dataset.items)):
            _check_grown(own.ids, all_.ids, what)
        before, updates = dict(self.__dict__), int(self.record_.notes.get("updates", 0))
        former = Former(self._state(), self.histories_, self.item_counts_)
        try:
            self._take_up(dataset, Fitting(seed, device, progress, data=dataset.fingerprint, former=former))
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        self.record_ = replace(self.record_, notes={**self.record_.notes, "updates": updates + 1})
        return self

    def _take_up(self, dataset: Dataset, fitting: Fitting) -> Self:
        """Take over people, items and histories of the data, learn, and write the record."""
        self.__dict__.pop("record_", None)  # a fit that fails leaves no mixture of old and new behind
        self.users_, self.items_ = dataset.users, dataset.items
        self.histories_, self.item_counts_ = dataset.histories, dataset.item_counts
        started = time.perf_counter()
        notes = self._fit(dataset, fitting) or {}
        data = {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "users": dataset.n_users,
            "items": dataset.n_items,
            "interactions": len(dataset),
            "spec": [dict(step) for step in dataset.spec],
        }
        self.record_ = FitRecord(fitting.seed, time.perf_counter() - started, data, notes)
        return self

    def _bundle(self, manifest: Mapping[str, Any]) -> Bundle:
        state = {**self._state(), "item_counts": self.item_counts_}
        return Bundle(manifest, state, self.users_, self.items_, self.histories_)

    def _take_back(self, bundle: Bundle) -> None:
        state = dict(bundle.state)
        self.users_, self.items_, self.histories_ = bundle.users, bundle.items, bundle.histories
        self.item_counts_ = state.pop("item_counts")
        self._restore(state)

    def forget(self, users: Sequence[Any]) -> int:
        """Remove people from a fitted model; return how many it knew.

        Their raw ids, attributes, stored histories, and whatever is kept for them alone go. What the model learnt from them
        about items stays until it is fitted again without them. Numbers of other people don't change.

        Parameters
        ----------
        users
            Raw ids; unknown ones are passed over.
        """
        self._check_fitted()
        found = np.unique(np.array([self.users_.ids.number(user) for user in users], np.int64))
        numbers = found[found >= 0]
        if len(numbers):
            kept = np.arange(len(self.users_))
            kept[numbers] = -1
            self.histories_ = self.histories_.take(kept)
            self.users_ = self.users_.without(numbers)
            self._forget(numbers)
        return len(numbers)

    def knows(self, user: Any) -> bool:
        """Say whether the model knows a person by raw id."""
        return self.users_.ids.number(user) >= 0

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any] | None:
        """Learn; return notes for the record (best epoch, final loss), or nothing."""
        raise NotImplementedError

    def _forget(self, numbers: np.ndarray) -> None:
        """Drop what is kept for some people alone, by user number (a model that keeps no such thing needs nothing here)."""


def _check_grown(own: Vocabulary, whole: Vocabulary, what: str) -> None:
    """Refuse a vocabulary that doesn't begin with another, and name the first place where it differs."""
    if not len(own) or whole.raw[: len(own)].equals(own.raw):
        return
    first = next((at for at, raw in enumerate(own.raw) if at >= len(whole) or not raw.equals(whole.raw[at])), 0)
    raise DataError(
        f"the data set's {what} don't begin with those that the model knows.",
        where=f"{what}, number {first}",
        value=own.raw[first].as_py(),
        remedy="renumber it: palate.contracts.growth.grown(dataset, model)",
    )
