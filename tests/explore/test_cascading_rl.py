"""CascadingVI as a policy: what it is told, what it shows, how it learns where clicks lead, and its bundle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.conformance_policy import CHECKS, check_policy
from palate.contracts.policy import Feedback, Slate
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, NotFittedError
from palate.explore.cascading_learners import OptimisticVI
from palate.explore.cascading_rl import CascadingVI
from palate.simulate.cascading import bored_world

ITEMS = 6
DATA = Dataset.from_columns(np.zeros(ITEMS, int), np.arange(ITEMS))
SETTINGS: dict[str, Any] = {"states": 3, "horizon": 3, "length": 2, "scale": 0.05}


def ask(n: int, **columns: Any) -> Requests:
    context = pa.table(columns) if columns else None
    return Requests(np.full(n, -1, np.int32), Histories.empty(n), context=context)


def shown(rows: list[list[int]], clicks: list[int]) -> Feedback:
    items = np.array(rows, np.int32)
    rewards = np.zeros(items.shape)
    for row, click in enumerate(clicks):
        if click >= 0:
            rewards[row, click] = 1.0
    return Feedback(Slate(items, np.ones(items.shape)), rewards)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_as_a_policy_it_does_what_the_learner_does() -> None:
    """The same visits through columns of a context, and through the learner: the same lists at every step."""
    world = bored_world(np.random.default_rng(0), states=3, items=ITEMS, length=2)
    rewards = world.rewards[0, :-1]
    data = Dataset(DATA.interactions, DATA.users, Entities(DATA.items.ids, pa.table({"worth": rewards})))
    policy = CascadingVI(**SETTINGS, visits=500, reward="worth").fit(data)
    scaled = np.tile(np.append(rewards / rewards.max(), 0.0), (3, 1))
    np.testing.assert_array_equal(policy.learner_.cascade.rewards, scaled)
    learner = OptimisticVI(type(world.cascade)(scaled, 3, 2), visits=500, scale=0.05)
    rng, earned = np.random.default_rng(1), []
    for _ in range(120):
        lists = learner.plan(rng)
        states, clicks = world.play(lists, 1, rng)
        s, nexts = states[0, :-1], states[0, 1:]
        requests = ask(3, state=s, step=np.arange(3), next_state=nexts)
        slate = policy.act(requests, 2, generator())
        np.testing.assert_array_equal(slate.items, lists[np.arange(3), s])
        assert (slate.propensities == 1).all()
        learner.observe(s, slate.items, clicks[0], nexts)
        policy.update(requests, shown(slate.items.tolist(), clicks[0].tolist()))
        earned.append(world.value(lists))
    for mine, its in zip(policy.counts_, learner.counts, strict=True):
        np.testing.assert_array_equal(mine, its)
    assert np.mean(earned[-20:]) > np.mean(earned[:20])


def test_sessions_tell_where_clicks_led() -> None:
    by_column, by_session = (CascadingVI(**SETTINGS).fit(DATA) for _ in range(2))
    rows, clicks = [[0, 1], [2, 3], [4, 5], [1, 2]], [1, -1, 0, 0]
    states, steps = [0, 2, 1, 0], [0, 0, 1, 1]
    # Session 7 goes from row 0 to row 2; session 8 from row 1 to row 3; then both end.
    by_column.update(ask(4, state=states, step=steps, next_state=pa.array([1, 0, None, None], pa.int64())), shown(rows, clicks))
    by_session.update(ask(2, state=states[:2], step=steps[:2], session=[7, 8]), shown(rows[:2], clicks[:2]))
    assert by_session.counts_.visits.sum() == 0
    by_session.update(ask(2, state=states[2:], step=steps[2:], session=[7, 8]), shown(rows[2:], clicks[2:]))
    for one, other in zip(by_column.counts_, by_session.counts_, strict=True):
        np.testing.assert_array_equal(one, other)
    assert by_session.counts_.moved[0, 1, 1] == 1 and by_session.counts_.moved[2, ITEMS, 0] == 1


def test_a_gap_in_a_session_teaches_nothing_and_old_sessions_are_let_go() -> None:
    policy = CascadingVI(**SETTINGS, open_sessions=2).fit(DATA)
    policy.update(ask(1, state=[0], step=[0], session=[1]), shown([[0, 1]], [0]))
    policy.update(ask(1, state=[1], step=[2], session=[1]), shown([[0, 1]], [0]))
    assert policy.counts_.visits.sum() == 0 and policy.counts_.examined.sum() == 2
    policy.update(ask(2, state=[0, 0], step=[0, 0], session=[2, 3]), shown([[0, 1], [0, 1]], [0, 0]))
    assert list(policy.open_) == [2, 3]


def test_without_steps_every_request_is_the_first() -> None:
    policy = CascadingVI(**{**SETTINGS, "step": ""}).fit(DATA)
    for state in (0, 1):
        policy.update(ask(1, state=[state], session=[5]), shown([[0, 1]], [0]))
    assert policy.counts_.moved[0, 0, 1] == 1
    whole = CascadingVI(**SETTINGS).fit(DATA)
    np.testing.assert_array_equal(
        policy.act(ask(3, state=[0, 1, 2]), 2, generator()).items,
        whole.act(ask(3, state=[0, 1, 2], step=[0, 0, 0]), 2, generator()).items,
    )


def test_one_state_and_one_step_need_no_context() -> None:
    policy = CascadingVI(length=2, scale=0.02).fit(DATA)
    rng = np.random.default_rng(0)
    chances = np.array([0.1, 0.2, 0.8, 0.1, 0.6, 0.2])
    for _ in range(400):
        slate = policy.act(ask(4), 2, rng)
        hits = rng.random(slate.items.shape) < np.where(slate.items >= 0, chances[slate.items], 0)
        policy.update(ask(4), shown(slate.items.tolist(), np.where(hits.any(1), hits.argmax(1), -1).tolist()))
    assert set(policy.act(ask(1), 2, rng).items[0].tolist()) == {2, 4}
    assert policy.counts_.moved.sum() == 0


def test_names_of_states_and_a_function_that_tells_them() -> None:
    named = CascadingVI(**{**SETTINGS, "states": ("new", "keen", "bored")}).fit(DATA)
    named.update(ask(2, state=["keen", "bored"], step=[0, 1], next_state=["bored", None]), shown([[0, 1], [2, 3]], [0, 0]))
    assert named.counts_.moved[1, 0, 2] == 1 and named.counts_.clicked[2, 2] == 1
    with pytest.raises(DataError, match=r"no such state(.|\n)*'keen'"):
        named.act(ask(1, state=["kean"], step=[0]), 2, generator())
    told = CascadingVI(**{**SETTINGS, "state": ""}).fit(DATA)
    with pytest.raises(ConfigError, match="state_of"):
        told.act(ask(1, step=[0]), 2, generator())
    told.state_of = lambda requests: np.full(len(requests), 2)
    told.update(ask(1, step=[0], next_state=[1]), shown([[0, 1]], [1]))
    assert told.counts_.moved[2, 1, 1] == 1


def test_candidates_and_exclusions_are_obeyed() -> None:
    policy = CascadingVI(**SETTINGS).fit(DATA)
    policy.update(ask(2, state=[0, 0], step=[0, 0], next_state=[0, 0]), shown([[5, 4], [5, 4]], [0, 0]))
    base = ask(4, state=[0, 0, 0, 0], step=[0, 1, 2, 0])
    limited = Requests(
        base.users,
        base.histories,
        exclude=Ragged.from_rows([[5], [], [0, 1], [1, 2]]),
        candidates=Ragged.from_rows([[5, 4, 3], [2], [0, 1, 2, 5], [1, 2]]),
        context=base.context,
    )
    items = policy.act(limited, 2, generator()).items
    assert set(items[0].tolist()) == {3, 4} and items[1].tolist() == [2, -1]
    assert set(items[2].tolist()) == {2, 5} and items[3].tolist() == [-1, -1]
    for row in range(4):
        alone = policy.act(limited.take(np.array([row])), 2, generator()).items
        np.testing.assert_array_equal(alone[0], items[row])
    everything = Requests(base.users, base.histories, exclude=Ragged.empty(4), context=base.context)
    np.testing.assert_array_equal(policy.act(everything, 3, generator()).items, policy.act(base, 3, generator()).items)


def test_lists_are_as_long_as_asked_for_and_propensities_say_what_is_shown() -> None:
    policy = CascadingVI(**SETTINGS).fit(DATA)
    requests = ask(2, state=[0, 1], step=[0, 2])
    long = policy.act(requests, 9, generator()).items
    assert long.shape == (2, 9) and ((long >= 0).sum(1) <= ITEMS).all()
    items = policy.act(requests, 3, generator()).items
    np.testing.assert_array_equal(policy.propensities(requests, items), np.ones((2, 3)))
    other = items.copy()
    other[:, 1:] = items[:, :0:-1]
    np.testing.assert_array_equal(policy.propensities(requests, other), [[1, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("empty", [True, False])
def test_a_list_is_empty_where_no_click_is_worth_more_unless_forbidden(empty: bool) -> None:
    """Every click leads to where nobody clicks, no click stays: at the first of two steps only an item that earns 1 pays."""
    policy = CascadingVI(states=2, horizon=2, length=2, scale=1e-4, empty=empty).fit(DATA)
    counts, many = policy.counts_, 1e6
    counts.examined[:], counts.clicked[0] = many, many * np.array([0.2, 0.3, 0.4, 0.5, 0.9, 0.9])
    counts.moved[:, :-1, 1], counts.moved[0, -1, 0], counts.moved[1, -1, 1] = many, many, many
    counts.visits[:] = many
    rewards = policy.learner_.cascade.rewards
    rewards[:, :-1], rewards[:, 5] = 0.1, 1.0
    base = ask(2, state=[0, 0], step=[0, 1])
    assert policy.act(base, 2, generator()).items.tolist() == [[5, -1], [5, 4]]
    without = Requests(base.users, base.histories, exclude=Ragged.from_rows([[5], [5]]), context=base.context)
    assert policy.act(without, 2, generator()).items.tolist() == [[-1, -1] if empty else [0, -1], [3, 4]]


def test_what_stands_below_the_click_or_was_not_observed_teaches_nothing() -> None:
    policy = CascadingVI(**{**SETTINGS, "horizon": 1}).fit(DATA)
    items, rewards = np.array([[0, 1, 2], [3, 4, 5]], np.int32), np.array([[0.0, 2.5, 1.0], [0.0, np.nan, 0.0]])
    examined = np.array([[True, False, True], [True, True, False]])
    policy.update(ask(2, state=[0, 1]), Feedback(Slate(items, np.ones((2, 3))), rewards, examined))
    np.testing.assert_array_equal(policy.counts_.examined[:2], [[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]])
    np.testing.assert_array_equal(policy.counts_.clicked[:2], [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])


def test_where_a_click_may_be_hidden_nothing_is_learnt_of_moves() -> None:
    items, rewards = np.array([[0, 1], [2, 3], [4, 5]], np.int32), np.array([[0.0, np.nan], [1.0, np.nan], [0.0, 0.0]])
    feedback = Feedback(Slate(items, np.ones((3, 2))), rewards)
    policy = CascadingVI(**SETTINGS).fit(DATA)
    policy.update(ask(3, state=[0, 0, 0], step=[0, 0, 0], next_state=[1, 1, 1]), feedback)
    assert policy.counts_.visits[0].tolist() == [0, 0, 1, 0, 0, 0, 1]
    policy.update(ask(3, state=[0, 0, 0], step=[0, 0, 0], session=[1, 2, 3]), feedback)
    assert list(policy.open_) == [2, 3]


@pytest.mark.parametrize("check", list(CHECKS))
def test_it_keeps_the_contract(check: str, suite: dict[str, Any]) -> None:
    suite[check]()


@pytest.fixture(scope="module")
def suite() -> dict[str, Any]:
    """The conformance suite, with states, steps and next states in the context."""

    def asked(n: int) -> Requests:
        at = np.arange(n)
        return ask(n, state=at % 3, step=at % 2, next_state=(at + 1) % 3)

    return dict(check_policy(lambda: CascadingVI(states=3, horizon=2, scale=0.1), ask=asked))


def test_a_bundle_is_equal_to_the_bit(tmp_path: Any) -> None:
    policy = CascadingVI(**SETTINGS).fit(DATA, seed=3)
    rng = np.random.default_rng(0)
    for visit in range(30):
        requests = ask(2, state=rng.integers(0, 3, 2), step=[visit % 3, 0], session=[1, 2 + visit])
        slate = policy.act(requests, 2, rng)
        policy.update(requests, shown(slate.items.tolist(), rng.integers(-1, 1, 2).tolist()))
    again = CascadingVI.load(policy.save(tmp_path / "policy"))
    for name, array in policy._state().items():
        np.testing.assert_array_equal(array, again._state()[name])
    assert again.open_ == policy.open_ and list(again.open_) == list(policy.open_)
    requests = ask(3, state=[0, 1, 2], step=[1, 1, 1], session=[1, 2, 3])
    for one in (policy, again):
        one.update(requests, shown([[0, 1]] * 3, [0, 1, -1]))
    np.testing.assert_array_equal(policy.act(requests, 2, generator()).items, again.act(requests, 2, generator()).items)
    for mine, its in zip(policy.counts_, again.counts_, strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"step": [0]}, "lacks a column"),
        ({"state": [0]}, "lacks a column"),
        ({"state": [3], "step": [0]}, "none of those"),
        ({"state": [0], "step": [3]}, "none of those"),
        ({"state": [0.5], "step": [0]}, "states are numbers"),
        ({"state": [0], "step": [0.5]}, "steps are integers"),
        ({"state": pa.array([None], pa.int64()), "step": [0]}, "missing"),
    ],
)
def test_bad_contexts_are_refused(columns: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        CascadingVI(**SETTINGS).fit(DATA).act(ask(1, **columns), 2, generator())


def test_bad_feedback_is_refused_and_changes_nothing() -> None:
    policy = CascadingVI(**SETTINGS).fit(DATA)
    with pytest.raises(DataError, match="where clicks led"):
        policy.update(ask(1, state=[0], step=[0]), shown([[0, 1]], [0]))
    with pytest.raises(DataError, match="sessions are integers"):
        policy.update(ask(1, state=[0], step=[0], session=["a"]), shown([[0, 1]], [0]))
    with pytest.raises(DataError, match="outside the catalogue"):
        policy.update(ask(1, state=[0], step=[0], session=[1]), shown([[0, ITEMS]], [0]))
    with pytest.raises(DataError, match="one slate of feedback"):
        policy.update(ask(2, state=[0, 0], step=[0, 0], session=[1, 1]), shown([[0, 1]], [0]))
    assert not policy.open_ and policy.counts_.examined.sum() == 0
    with pytest.raises(NotFittedError):
        CascadingVI().act(ask(1), 1, generator())
    with pytest.raises(DataError, match="no such attribute"):
        CascadingVI(reward="price").fit(DATA)
    with pytest.raises(ConfigError, match="must be a state"):
        CascadingVI(states=0).fit(DATA)
    priced = Dataset(DATA.interactions, DATA.users, Entities(Vocabulary.range(ITEMS), pa.table({"price": [1.0] * 5 + [-1.0]})))
    with pytest.raises(DataError, match="below 0"):
        CascadingVI(reward="price").fit(priced)
