"""Logs for off-policy estimation: what was earned, how likely the logged choice was, how likely the candidate makes it.

A log is arrays and nothing else. Its making checks every row, because one wrong chance is enough to spoil an estimate:

    0 < propensity ≤ 1      an action of chance 0 can't have been logged
    0 ≤ target ≤ 1          the candidate may well never take the logged action
    reward finite

A weight is ``target / propensity``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from palate.errors import DataError, UnsupportedError

#: What chances may exceed 1 by, for the rounding of float32.
ROUNDING = 1e-6

Chances = Literal["conditional", "marginal", "both"]
#: What a reward model was fitted for: to be right about rewards, or for the least variance of DR.
Fitted = Literal["mean", "mrdr"]


@dataclass(frozen=True, eq=False)
class Log:
    """Rows of one action each.

    Attributes
    ----------
    reward
        ``float64[n]``.
    propensity
        ``float64[n]``: chance of the logged action under the policy that logged it.
    target
        ``float64[n]``: chance of the same action under the candidate policy.
    q_logged
        ``float64[n]``: a reward model at the logged action. A row's value must not come from a model that saw the row's own
        reward (see :mod:`palate.evaluation.offpolicy.crossfit`).
    q_target
        ``float64[n]``: the model's mean over the candidate's actions, ``Σ_a π(a | x) q(x, a)``.
    unit
        ``int64[n]``: person, session or other cluster of each row. Rows of different units are independent; intervals and
        effective sample sizes count units.
    fitted
        What the model was fitted for: ``"mean"``, or ``"mrdr"`` (see :func:`palate.evaluation.offpolicy.crossfit.modelled`).

    Raises
    ------
    DataError
        If there are no rows, lengths differ, only half of the model is given, or a row is impossible; the row is named.
    """

    reward: np.ndarray
    propensity: np.ndarray
    target: np.ndarray
    q_logged: np.ndarray | None = None
    q_target: np.ndarray | None = None
    unit: np.ndarray | None = None
    fitted: Fitted = "mean"

    def __post_init__(self) -> None:
        if self.fitted not in get_args(Fitted):
            raise DataError(
                "a reward model is fitted for something else.", where="fitted", value=self.fitted, remedy="mean or mrdr"
            )
        _check(self, dims=1)

    def __len__(self) -> int:
        return len(self.reward)

    @cached_property
    def weight(self) -> np.ndarray:
        """``float64[n]``: ``target / propensity``."""
        return self.target / self.propensity

    def with_model(self, q_logged: np.ndarray, q_target: np.ndarray, fitted: Fitted = "mean") -> Log:
        """Return the same log with the values of a reward model."""
        return replace(self, q_logged=q_logged, q_target=q_target, fitted=fitted)


@dataclass(frozen=True, eq=False)
class SlateLog:
    """Rows of one slate each, all of width ``K``.

    Attributes
    ----------
    reward
        ``float64[n, K]``: reward of each position; the value of a policy is the mean of their sum. A discount by position, if
        wanted, is put into the rewards.
    propensity, target
        ``float64[n, K]``: chance of the logged action at each position under the logging and the candidate policy.
    q_logged, q_target
        ``float64[n, K]``: a reward model at the logged action, and its mean over the candidate's actions at that position
        after the logged earlier ones.
    unit
        ``int64[n]``: person or cluster of each slate.
    chances
        What ``propensity`` and ``target`` are: ``"conditional"`` on the earlier positions (their product is the chance of the
        slate), ``"marginal"`` chances of the position by itself, or ``"both"`` where positions are filled independently.

    Raises
    ------
    DataError
        As for :class:`Log`; the row and the position (from 0) are named.
    """

    reward: np.ndarray
    propensity: np.ndarray
    target: np.ndarray
    q_logged: np.ndarray | None = None
    q_target: np.ndarray | None = None
    unit: np.ndarray | None = None
    chances: Chances = "conditional"

    def __post_init__(self) -> None:
        if self.chances not in ("conditional", "marginal", "both"):
            raise DataError(
                "chances are of another kind.", where="chances", value=self.chances, remedy="conditional, marginal or both"
            )
        _check(self, dims=2)

    def __len__(self) -> int:
        return len(self.reward)

    @cached_property
    def ratio(self) -> np.ndarray:
        """``float64[n, K]``: ``target / propensity`` of each position."""
        return self.target / self.propensity

    def require(self, kind: Literal["conditional", "marginal"], who: str) -> None:
        """Refuse with an :class:`~palate.errors.UnsupportedError` if the chances are of another kind."""
        if self.chances not in (kind, "both"):
            raise UnsupportedError(
                f"{who} needs chances that are {kind}.",
                where="SlateLog.chances",
                value=self.chances,
                remedy=f"give a log of {kind} chances, or chances='both' where positions are filled independently",
            )


def check_bounds(name: str, values: np.ndarray, wrong: np.ndarray, what: str, remedy: str | None = None) -> None:
    """Raise a :class:`~palate.errors.DataError` that names the first wrong row (and position) of a column."""
    if not wrong.any():
        return
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"row {at[0]}" + "".join(f", position {i}" for i in at[1:2])
    count = int(wrong.sum())
    more = f" ({count:,} such values)" if count > 1 else ""
    raise DataError(f"{name} {what}{more}.", where=f"{name}, {place}", value=float(values[at]), remedy=remedy)


def as_floats(name: str, given: Any, dims: int) -> np.ndarray:
    """Return a read-only ``float64`` copy of a column; what is missing becomes NaN."""
    try:
        column = np.ma.filled(np.ma.array(given, dtype=np.float64, copy=True), np.nan)
    except (TypeError, ValueError):
        raise DataError(f"{name} is not a column of numbers.", where=name, value=given) from None
    if column.ndim != dims:
        shape = "one column" if dims == 1 else "a table [slates, positions]"
        raise DataError(f"{name} is {shape}.", where=name, value=list(column.shape))
    column.flags.writeable = False
    return column


def _check(log: Log | SlateLog, dims: int) -> None:
    """Convert the columns of a log in place and refuse what can't be."""
    names = ["reward", "propensity", "target"]
    if (log.q_logged is None) != (log.q_target is None):
        absent = "q_logged" if log.q_logged is None else "q_target"
        raise DataError("a reward model needs both q_logged and q_target.", where=absent, remedy=f"give {absent} too")
    if log.q_logged is not None:
        names += ["q_logged", "q_target"]
    columns = {name: as_floats(name, getattr(log, name), dims) for name in names}
    _check_shapes(columns)
    _check_values(columns)
    for name, column in columns.items():
        object.__setattr__(log, name, column)
    if log.unit is not None:
        object.__setattr__(log, "unit", _units(log.unit, len(log.reward)))


def _check_shapes(columns: Mapping[str, np.ndarray]) -> None:
    reward = columns["reward"]
    if reward.size == 0:
        raise DataError("the log holds no rows.", where="reward", value=list(reward.shape))
    for name, column in columns.items():
        if column.shape != reward.shape:
            kind = "length" if reward.ndim == 1 else "shape"
            raise DataError(f"{name} and reward differ in {kind}.", where=name, value=[list(column.shape), list(reward.shape)])


def _check_values(columns: Mapping[str, np.ndarray]) -> None:
    for name, column in columns.items():
        remedy = "leave out rows whose chance wasn't logged; it can't be guessed" if name == "propensity" else None
        check_bounds(name, column, np.isnan(column), "is missing or not a number", remedy)
        check_bounds(name, column, np.isinf(column), "is infinite")
    p, target = columns["propensity"], columns["target"]
    check_bounds("propensity", p, p < 0, "is negative")
    check_bounds("propensity", p, p == 0, "is zero, so this action can't have been logged", "find the chance that really ran")
    check_bounds("propensity", p, p > 1 + ROUNDING, "is above 1", "give chances, not densities or percentages")
    check_bounds(
        "target",
        target,
        (target < 0) | (target > 1 + ROUNDING),
        "is not a chance from 0 to 1",
        "give chances, not densities or percentages",
    )


def _units(given: Any, n: int) -> np.ndarray:
    unit = np.asarray(given)
    if unit.shape != (n,):
        raise DataError("unit needs one whole number a row.", where="unit", value=[list(unit.shape), n])
    if not np.issubdtype(unit.dtype, np.integer):
        raise DataError("unit holds something else than whole numbers.", where="unit", value=str(unit.dtype))
    unit = unit.astype(np.int64)
    unit.flags.writeable = False
    return unit
