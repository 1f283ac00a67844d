"""Replay: a policy that learns is judged by a log whose items were chosen evenly by lot.

    for each logged row: the policy chooses; where it chooses the logged item, the reward counts and the policy learns from it,
    else the row is passed over

    value = Σ rewards of the rows kept / number of rows kept

Because the log was made evenly by lot, the rows kept are what the policy would have met had it run for so many rounds: the
value is unbiased for the policy that learns along the way. Of a log over ``L`` items about one row in ``L`` is kept.

Source: L. Li, W. Chu, J. Langford and X. Wang, "Unbiased Offline Evaluation of Contextual-bandit-based News Article
Recommendation Algorithms", WSDM 2011, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.contracts.policy import Feedback, Policy, Slate
from palate.contracts.requests import Requests
from palate.contracts.shapes import check_shape
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.errors import DataError, UnsupportedError
from palate.evaluation.bootstrap import bootstrap_ci
from palate.progress import Progress, ProgressEvent, silent
from palate.runtime import generator

#: Relative difference between propensities of a log that still counts as even.
EVEN = 1e-6


@dataclass(frozen=True, eq=False)
class LoggedRounds:
    """A log of single items.

    Attributes
    ----------
    requests
        Who was asked, in order of time.
    items, rewards, propensities
        ``int32[n]``, ``float64[n]``, ``float64[n]``: what was shown, what came of it, how likely it was to be shown.
    """

    requests: Requests
    items: np.ndarray
    rewards: np.ndarray
    propensities: np.ndarray

    def __post_init__(self) -> None:
        for name in ("items", "rewards", "propensities"):
            check_shape(getattr(self, name), (len(self.requests),), name)

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of_impressions(cls, dataset: Dataset, context: Sequence[str] = ()) -> LoggedRounds:
        """Take the impressions of a data set: columns ``item``, ``click``, ``propensity``, one row a round.

        Parameters
        ----------
        context
            Columns that become context: numbers as they are, text as one column of 0 and 1 a value (:func:`dummies`).
        """
        table = dataset.impressions
        if table is None:
            raise DataError("the data set holds no impressions.", where=repr(dataset))
        n = table.num_rows
        told = dummies(table.select(list(context))) if context else None
        requests = Requests(np.full(n, -1, np.int32), Histories.empty(n), context=told)
        items = table.column("item").to_numpy().astype(np.int32)
        rewards = table.column("click").to_numpy().astype(np.float64)
        return cls(requests, items, rewards, table.column("propensity").to_numpy().astype(np.float64))


@dataclass(frozen=True)
class Replayed:
    """The value of a policy by replay.

    Attributes
    ----------
    value, low, high
        Mean reward of a kept round, and its 95% interval (bootstrap over kept rounds).
    kept, rounds
        Rows kept, and rows of the log.
    logged
        Mean reward of all rows: what choosing evenly by lot earned.
    """

    value: float
    low: float
    high: float
    kept: int
    rounds: int
    logged: float


def replay(
    policy: Policy, dataset: Dataset, log: LoggedRounds, *, seed: int = 0, most: int | None = None, progress: Progress = silent
) -> Replayed:
    """Fit a policy on a catalogue anew and judge it by a log.

    Parameters
    ----------
    most
        Stop after so many kept rounds (to compare policies after equally long lives).

    Raises
    ------
    UnsupportedError
        If the log was not made evenly by lot; estimators with weights are in :mod:`palate.evaluation.offpolicy`.
    DataError
        If no row was kept.
    """
    chances = log.propensities
    if not len(chances) or not np.allclose(chances, chances[0], rtol=EVEN, atol=0.0):
        raise UnsupportedError(
            "replay needs a log whose items were chosen evenly by lot.",
            where="propensities",
            value=[float(chances.min()), float(chances.max())] if len(chances) else [],
            remedy="weigh by propensities: palate.evaluation.offpolicy",
        )
    policy.fit(dataset, seed=seed)
    rng = generator(seed, "replay", "act")
    kept: list[float] = []
    for row in range(len(log)):
        asked = log.requests.take(np.array([row]))
        slate = policy.act(asked, 1, rng)
        if slate.items[0, 0] != log.items[row]:
            continue
        kept.append(float(log.rewards[row]))
        shown = Slate(slate.items, slate.propensities)
        policy.update(asked, Feedback(shown, np.array([[kept[-1]]]), np.ones((1, 1), bool)))
        progress(ProgressEvent(f"{policy.name}: replay", row + 1, len(log)))
        if len(kept) == most:
            break
    if not kept:
        raise DataError("the policy never chose what was logged.", where="replay", value=len(log))
    found = bootstrap_ci(np.array(kept), seed=seed)
    return Replayed(float(found.value), float(found.low), float(found.high), len(kept), len(log), float(np.mean(log.rewards)))


def dummies(table: pa.Table) -> pa.Table:
    """Return numbers as they are, and for a text column one of 0 and 1 (``name=value``) for each value but the commonest."""
    columns: dict[str, np.ndarray] = {}
    for name in table.column_names:
        column = table.column(name)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            columns[name] = column.cast(pa.float64()).to_numpy()
            continue
        counts = pc.value_counts(column.drop_null()).to_pylist()
        ranked = sorted((-row["counts"], row["values"]) for row in counts)
        for _, value in sorted(ranked[1:], key=lambda pair: pair[1]):
            columns[f"{name}={value}"] = pc.fill_null(pc.equal(column, value), False).to_numpy().astype(np.float64)
    return pa.table(columns)
