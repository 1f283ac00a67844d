"""Cross-fitting for claims about rows: every row but those of validation is predicted once a seed, by a model not fitted on it.

A tenth of the rows, in the proportions of the labels, is set apart for validation (to tune, and to know when to stop). The
others are cut into five folds likewise; each is predicted by models that were fitted on the other four. Settings are chosen by
fits on the first fold's training rows, judged on validation: rows on which they were judged aren't tested, but those training
rows are, in other folds. An AUC is that of all five folds pooled: it also compares rows of different fits, which costs
systems whose scores differ in level from fit to fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.spaces import Range
from palate.contracts.ranker import Rows
from palate.data.fingerprint import fingerprint
from palate.errors import DataError
from palate.runtime import generator
from palate.study.claims import Trial
from palate.study.row_arms import Arm, fitted_arm, tuned_arm

FOLDS, VALID = 5, 0.1


def folds_of(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return ``int8[n]``: the fold of each row (from 0), or -1 for validation; labels are spread evenly over all of them.

    Raises
    ------
    DataError
        If a label has too few rows for each fold and validation to hold one.
    """
    found, rng = np.empty(len(labels), np.int8), generator(seed, "folds")
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        held = round(VALID * len(rows))
        if not held or len(rows) - held < FOLDS:
            raise DataError("too few rows of a label to cut them into folds.", where="label", value=f"{label:g}: {len(rows)}")
        found[rows[:held]] = -1
        found[rows[held:]] = np.arange(len(rows) - held) % FOLDS
    return found


@dataclass(frozen=True)
class Crossed:
    """Rows that are cut for cross-fitting.

    Attributes
    ----------
    name
        Of the rows.
    parts
        ``train``, ``valid``, ``test`` of each fold.
    people
        ``[n]``: whose each test row is, fold after fold; ``None`` where that is not known.
    """

    name: str
    parts: tuple[Mapping[str, Rows], ...]
    people: np.ndarray | None = None

    @classmethod
    def of(cls, trial: Trial, name: str, table: pa.Table, label: str = "label", *, people: np.ndarray | None = None) -> Crossed:
        """Cut a table, and note the fingerprints of its rows and of the cut; ``people`` says whose each row is."""
        folds = folds_of(table.column(label).to_numpy())
        trial.fingerprints[name] = fingerprint(table)
        trial.fingerprints[f"{name}, folds"] = fingerprint(folds)
        order = generator(0, "order of rows").permutation(len(folds))

        def rows(wanted: np.ndarray) -> Rows:
            return Rows.of_table(table.take(order[wanted[order]]), [label])

        valid = rows(folds == -1)
        each = range(FOLDS)
        whose = None if people is None else np.concatenate([people[order[folds[order] == k]] for k in each])
        parts = ({"train": rows((folds != k) & (folds >= 0)), "valid": valid, "test": rows(folds == k)} for k in each)
        return cls(name, tuple(parts), whose)

    @property
    def truth(self) -> np.ndarray:
        """``float32[n]``: labels of the test rows, fold after fold."""
        return np.concatenate([next(iter(one["test"].labels.values())) for one in self.parts])

    def arm(
        self, trial: Trial, system: str, *, space: Mapping[str, Range], base: Mapping[str, Any], trials: int, name: str = ""
    ) -> Arm:
        """Return an arm, tuned with so many trials on the first fold, whose answers lie in the order of :attr:`truth`.

        Parameters
        ----------
        name
            Of the arm; the system's by default.
        base
            Settings that all trials have.
        """
        first = tuned_arm(
            trial, self._told(0), self.parts[0], system, space=space, base=base, trials=trials, name=name or system
        )
        settings = {**base, **first.settings}
        others = [
            fitted_arm(trial, self._told(k), self.parts[k], system, settings, chosen=tuple(space), name=name or system)
            for k in range(1, FOLDS)
        ]
        return Arm(np.concatenate([first.answers, *(one.answers for one in others)], axis=1), first.settings, first.valid)

    def _told(self, fold: int) -> str:
        return f"{self.name}, fold {fold + 1} of {FOLDS}"
