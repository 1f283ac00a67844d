"""CascadingVI: lists for a whole visit, where the click of today decides who looks at the list of tomorrow.

People are in one of a few states (a segment, a stage, the last category). In state ``s`` they scan the list, click the first
item that attracts them (chance ``q(s, a)``), earn ``r(a)``, and the click (or that there was none, ``a⊥``) moves them to a next
state ``s' ~ p(·|s, a)``. So a list is chosen for this click and for what follows::

    w_h(s, a) = r(a) + Σ_s' p(s'|s, a) V_{h+1}(s')        V_h(s) = max_A f(A, q(s,·), w_h(s,·))

There are ``Σ_k n!/(n-k)!`` lists ``A``; BestPerm finds the best in O(n m + n log n). ``q`` and ``p`` are not known: the plan is
made of upper bounds from what was seen, with bonuses that shrink with the variance, and is made anew after every update. Both
stand in :mod:`palate.kernels.best_perm` and :mod:`palate.kernels.cascade_plan`. Regret is of the order of ``H √(H S N K)`` over
``K`` visits; slates are certain, their propensities are 1.

What it is told. The state and the step (from 0) of a request are columns of its ``context`` (settings ``state`` and ``step``);
with one state, and with one step, there need be none. Without a ``step`` column (``step=""``) every request is planned as the
first of ``horizon`` steps. Instead of a column, ``policy.state_of`` may be a function from requests to ``int[n]`` states.
Where a click led is learnt in :meth:`CascadingVI.update`, in one of two ways:

* the requests carry a column ``next_state`` (null where the visit ended, or where it isn't known); or
* they carry an integer column ``session``: the state in which a session is seen next is where its last click led. Open ends
  are kept until then, the latest ``open_sessions`` of them. A step that doesn't follow on the last one (setting ``step``)
  closes the open end without a lesson.

Source: Y. Du, R. Srikant and W. Chen, "Cascading Reinforcement Learning", ICLR 2024, algorithms 1 and 2.
Differences: lists may be empty, because with an item forced into every list the bounds are no bounds any more (a higher ``q``
then *lowers* the value where no click at all is best); where they may not (``empty=False``), the one item is reckoned with its
lower bound, which mends that. Bounds are cut to what can still follow (``H - h`` steps), which is never wider. The constants of
the bonuses are a reconstruction; ``scale`` multiplies them, and 1 is the theory's, which is far too careful for short runs.
Rewards are those of items and known; states are not told apart by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from palate.contracts.config import Config
from palate.contracts.model import Fitting
from palate.contracts.policy import Feedback, Policy, Slate
from palate.contracts.requests import Requests
from palate.contracts.shapes import check_distinct, check_rows, check_shape
from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError, nearest
from palate.explore.cascading_learners import Cascade, OptimisticVI
from palate.explore.user_models import looked_at
from palate.kernels.best_perm import best_perms
from palate.kernels.cascade_plan import Counts, Plan
from palate.runtime import generator

#: Numbers that a block of requests may take.
BLOCK = 2**22


class CascadingConfig(Config):
    """Settings of CascadingVI."""

    states: int | tuple[str, ...] = Field(1, description="how many states there are (numbered from 0), or their names")
    horizon: int = Field(1, ge=1, le=1_000, description="steps of a visit")
    length: int = Field(3, ge=1, le=1_000, description="items of a list, as plans of later steps have it")
    visits: int = Field(10_000, ge=1, description="visits expected; stands in the logarithm of the bonuses")
    scale: float = Field(1.0, ge=0, description="factor of all bonuses; 1 is the theory's, less explores less")
    delta: float = Field(0.005, gt=0, lt=1, description="chance that a bound fails")
    bonus: Literal["variance", "worst_case"] = Field("variance", description="whether bonuses shrink with the variance")
    empty: bool = Field(True, description="whether a list may be empty, where no click at all is worth more")
    reward: str = Field("", description="attribute of items that a click earns (divided by the largest); empty: all earn 1")
    state: str = Field("state", description="column of the context with the state; empty: policy.state_of tells it")
    step: str = Field("step", description="column of the context with the step of the visit, from 0; empty: always 0")
    next_state: str = Field("next_state", description="column of the context of an update with the state that followed")
    session: str = Field("session", description="integer column of the context that says which requests belong together")
    open_sessions: int = Field(100_000, ge=1, description="sessions whose next state is waited for, at most")


class CascadingVI(Policy):
    """Optimistic value iteration over lists (see the module's text)."""

    name: ClassVar[str] = "cascading_rl"
    Settings = CascadingConfig
    config: CascadingConfig

    #: Tells the states of requests, where the setting ``state`` is empty. It is not saved.
    state_of: Callable[[Requests], np.ndarray] | None = None
    learner_: OptimisticVI
    open_: dict[int, tuple[int, int, int]]  # session: state, step and outcome, oldest first

    @property
    def counts_(self) -> Counts:
        """What was seen: times looked at and clicked, and moves between states."""
        return self.learner_.counts

    @property
    def _states(self) -> int:
        known = self.config.states
        return known if isinstance(known, int) else len(known)

    def _begin(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        if self._states < 1:
            raise ConfigError("there must be a state.", where="states", value=c.states)
        rewards = np.zeros((self._states, dataset.n_items + 1))
        rewards[:, :-1] = _rewards(dataset, c.reward)
        self._take(rewards)
        fitting.report(self.name, 1, 1)
        return {"states": self._states, "horizon": c.horizon}

    def _take(self, rewards: np.ndarray) -> None:
        c = self.config
        cascade = Cascade(rewards, c.horizon, c.length, forced=not c.empty)
        self.learner_ = OptimisticVI(cascade, visits=c.visits, scale=c.scale, delta=c.delta, bonus=c.bonus)
        self.open_ = {}
        self._planned: Plan | None = None

    # -- acting ---------------------------------------------------------------------------------------

    def act(self, requests: Requests, k: int, rng: np.random.Generator) -> Slate:
        """Show the best lists by the bounds; they may be shorter than ``k``. See :meth:`palate.contracts.policy.Policy.act`."""
        self._check_fitted()
        if k < 1:
            raise DataError("k must be at least 1.", where="act", value=k)
        states, steps = self._states_of(requests), self._steps_of(requests)
        items = np.full((len(requests), k), -1, np.int32)
        if requests.candidates is None and requests.exclude is None:
            place, at = np.unique(steps * self._states + states, return_inverse=True)
            items[:] = self._lists(place % self._states, place // self._states, k)[at]
        else:
            size, start = max(1, BLOCK // self.n_items), 0
            for block in requests.blocks(size) if len(requests) else ():
                own = slice(start, start + len(block))
                items[own] = self._lists(states[own], steps[own], k, self._allowed(block))
                start += len(block)
        return Slate(items, np.ones(items.shape))

    def propensities(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Return ``float64[n, k]``: 1 up to the first position that differs from what would be shown now, 0 from there on."""
        items = np.asarray(items)
        check_shape(items, (len(requests), None), "items")
        check_distinct(items, "items")
        shown = self.act(requests, items.shape[1], generator(0)).items
        return np.cumprod(shown == items, axis=1).astype(np.float64)

    def _lists(self, states: np.ndarray, steps: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        """Return ``int32[b, k]``: the best lists of at most ``k`` items that may be shown."""
        plan = self._plan()
        worth = plan.worth[steps, states]
        values = worth[:, :-1] if allowed is None else np.where(allowed, worth[:, :-1], -np.inf)
        low = None if self.config.empty else plan.low[states]
        return best_perms(plan.chances[states], values, worth[:, -1], k, low)[1]

    def _plan(self) -> Plan:
        if self._planned is None:
            self._planned = self.learner_.bounds()
        return self._planned

    def _allowed(self, requests: Requests) -> np.ndarray:
        allowed = np.full((len(requests), self.n_items), requests.candidates is None)
        for rows, may, where in ((requests.candidates, True, "candidates"), (requests.exclude, False, "exclude")):
            if rows is not None:
                good = (rows.values >= 0) & (rows.values < self.n_items)
                check_rows(good, rows.values, "an item number lies outside the catalogue.", f"requests.{where}")
                allowed[rows.row_numbers, rows.values] = may
        return allowed

    # -- learning -------------------------------------------------------------------------------------

    def update(self, requests: Requests, feedback: Feedback) -> None:
        """Learn from clicks, and from where they led (see the module's text); after an error the policy is as it was.

        The first position with a reward above 0 is the click. Positions above it count as looked at unless ``examined`` says
        otherwise, those below it never. Where there is no click, what followed is learnt if the whole list was looked at.
        """
        self._check_fitted()
        if len(requests) != len(feedback):
            raise DataError(
                "there is not one slate of feedback a request.", where="update", value=[len(requests), len(feedback)]
            )
        items = np.ascontiguousarray(feedback.slate.items, np.int32)
        check_rows(items < self.n_items, items, "an item number lies outside the catalogue.", "feedback.slate.items")
        states, steps = self._states_of(requests), self._steps_of(requests)
        hits = (np.nan_to_num(feedback.rewards) > 0) & (items >= 0)
        clicks = np.where(hits.any(axis=1), hits.argmax(axis=1), -1).astype(np.int32)
        before = (np.arange(items.shape[1]) <= clicks[:, None]) | (clicks < 0)[:, None]
        looked = (looked_at(feedback, "cascade") & before) | (np.arange(items.shape[1]) == clicks[:, None])
        outcomes = np.where(clicks >= 0, np.take_along_axis(items, np.maximum(clicks, 0)[:, None], 1)[:, 0], self.n_items)
        hidden = (clicks < 0) & ((items >= 0) & ~looked).any(axis=1)  # nobody knows what they would have clicked there
        nexts = self._nexts(requests, states, steps, np.where(hidden, -1, outcomes))
        self.learner_.observe(states, items, clicks, nexts, looked)
        self._planned = None

    def _nexts(self, requests: Requests, states: np.ndarray, steps: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """Return ``int32[n]``: the next state of each row where it is told, else -1; close and open sessions."""
        names = () if requests.context is None else requests.context.column_names
        unknown = np.full(len(requests), -1, np.int32)
        if self.config.horizon == 1:
            return unknown
        if self.config.next_state in names:
            told = self._numbers(requests, self.config.next_state, missing=-1)
            return np.where(outcomes < 0, unknown, told)
        if self.config.session not in names:
            raise DataError(
                "nothing says where clicks led.",
                where="requests.context",
                value=list(names),
                remedy=f"give a column {self.config.next_state!r} or {self.config.session!r}",
            )
        column = _column(requests, self.config.session)
        if not pa.types.is_integer(column.type) or column.null_count:
            raise DataError(
                "sessions are integers, one a request.", where=f"context, {self.config.session}", value=str(column.type)
            )
        for session, s, h, outcome in zip(column.to_pylist(), states.tolist(), steps.tolist(), outcomes.tolist(), strict=True):
            self._follow(session, s, h, outcome)
        return unknown

    def _follow(self, session: int, state: int, step: int, outcome: int) -> None:
        """Close the open end of a session with the state in which it is seen now; open a new one, if the outcome is known."""
        last = self.open_.pop(session, None)
        if last is not None and (not self.config.step or step == last[1] + 1):
            counts = self.counts_
            counts.moved[last[0], last[2], state] += 1
            counts.visits[last[0], last[2]] += 1
        if outcome >= 0:
            self.open_[session] = (state, step, outcome)
        if len(self.open_) > self.config.open_sessions:
            del self.open_[next(iter(self.open_))]

    # -- states and steps -----------------------------------------------------------------------------

    def _states_of(self, requests: Requests) -> np.ndarray:
        c = self.config
        if not c.state:
            if self.state_of is None:
                raise ConfigError("nothing tells the states.", where="state_of", remedy="set policy.state_of, or name a column")
            told = np.asarray(self.state_of(requests))
            check_shape(told, (len(requests),), "what state_of gave")
            return self._in_range(told, self._states, "what state_of gave")
        if self._states == 1 and not _has(requests, c.state):
            return np.zeros(len(requests), np.int32)
        return self._numbers(requests, c.state)

    def _steps_of(self, requests: Requests) -> np.ndarray:
        c = self.config
        if not c.step or (c.horizon == 1 and not _has(requests, c.step)):
            return np.zeros(len(requests), np.int32)
        column = _column(requests, c.step)
        if not pa.types.is_integer(column.type) or column.null_count:
            raise DataError("steps are integers, one a request.", where=f"context, {c.step}", value=str(column.type))
        return self._in_range(column.to_numpy(), c.horizon, f"context, {c.step}")

    def _numbers(self, requests: Requests, name: str, missing: int | None = None) -> np.ndarray:
        """Return ``int32[n]`` states of a column of numbers or names; nulls give ``missing``, or are refused."""
        column, known, where = _column(requests, name), self.config.states, f"context, {name}"
        if not isinstance(known, int):
            column, names = pc.index_in(column, pa.array(known, column.type)), column
            wrong = pc.and_(pc.is_null(column), pc.is_valid(names))
            if pc.any(wrong).as_py():
                value = names.filter(wrong)[0].as_py()
                raise DataError("there is no such state.", where=where, value=value, remedy=nearest(str(value), known))
        elif not pa.types.is_integer(column.type) and not pa.types.is_null(column.type):
            raise DataError("states are numbers here.", where=where, value=str(column.type), remedy="give names in `states`")
        if column.null_count and missing is None:
            raise DataError(
                "a state is missing.", where=where, remedy="give every request a state, such as one for the unknown"
            )
        numbers = pc.fill_null(column.cast(pa.int64()), -1 if missing is None else missing).to_numpy()
        return self._in_range(numbers, self._states, where, lowest=0 if missing is None else missing)

    def _in_range(self, numbers: np.ndarray, most: int, where: str, lowest: int = 0) -> np.ndarray:
        good = (numbers >= lowest) & (numbers < most)
        check_rows(good, numbers, "this number (or name) is none of those there are.", where, f"0 to {most - 1}")
        return numbers.astype(np.int32)

    # -- bundle ---------------------------------------------------------------------------------------

    def _state(self) -> dict[str, np.ndarray]:
        sessions = np.array(list(self.open_), np.int64)
        ends = np.array(list(self.open_.values()), np.int64).reshape(-1, 3)
        seen = {name: getattr(self.counts_, name) for name in ("examined", "clicked", "moved")}
        return {**seen, "rewards": self.learner_.cascade.rewards, "sessions": sessions, "ends": ends}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self._take(state["rewards"])
        moved = state["moved"].copy()
        self.learner_.counts = Counts(state["examined"].copy(), state["clicked"].copy(), moved, moved.sum(axis=2))
        ends = map(tuple, state["ends"].tolist())
        self.open_ = dict(zip(state["sessions"].tolist(), ends, strict=True))


def _rewards(dataset: Dataset, name: str) -> np.ndarray:
    """Return ``float64[n_items]`` rewards in [0, 1]."""
    if not name:
        return np.ones(dataset.n_items)
    column = dataset.items.column(name)
    if column is None:
        have = () if dataset.items.attributes is None else dataset.items.attributes.column_names
        raise DataError(
            "items have no such attribute.", where="reward", value=name, remedy=f"one of: {', '.join(have) or 'none'}"
        )
    values = column.cast(pa.float64()).to_numpy()
    check_rows(np.isfinite(values) & (values >= 0), values, "a reward is missing or below 0.", f"items, {name}")
    most = float(values.max(initial=0.0))
    if most == 0:
        raise DataError("no item earns anything.", where=f"items, {name}")
    return values / most


def _has(requests: Requests, name: str) -> bool:
    return requests.context is not None and name in requests.context.column_names


def _column(requests: Requests, name: str) -> pa.ChunkedArray:
    if not _has(requests, name):
        have = [] if requests.context is None else requests.context.column_names
        raise DataError("the context lacks a column.", where="requests.context", value=have, remedy=f"give a column {name!r}")
    return requests.context.column(name)  # type: ignore[union-attr]
