"""Replay: unbiased on logs made evenly by lot, and refused on others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.readers.open_bandit import read_open_bandit
from palate.errors import DataError, UnsupportedError
from palate.explore.cascade_ucb import CascadeUCB
from palate.explore.epsilon_greedy import EpsilonGreedy
from palate.explore.linucb import LinUCB
from palate.runtime import generator
from palate.simulate.bandits import CascadeWorld, run
from palate.simulate.replay import LoggedRounds, dummies, replay

WORLD = CascadeWorld([0.1, 0.5, 0.2, 0.1], 1)


def logged(n: int, seed: int = 0) -> LoggedRounds:
    """Return rounds whose items were chosen evenly by lot."""
    rng = generator(seed, "log")
    items = rng.integers(4, size=n).astype(np.int32)
    rewards = (rng.random(n) < WORLD.attraction[items]).astype(float)
    return LoggedRounds(Requests(np.full(n, -1, np.int32), Histories.empty(n)), items, rewards, np.full(n, 0.25))


def test_a_policy_that_learns_nothing_has_its_true_value() -> None:
    found = replay(EpsilonGreedy(epsilon=1.0), WORLD.dataset, logged(4_000))
    assert found.low < WORLD.attraction.mean() < found.high
    assert found.kept == pytest.approx(1_000, abs=4 * np.sqrt(750)) and found.rounds == 4_000
    assert found.logged == pytest.approx(WORLD.attraction.mean(), abs=0.03)


def test_a_policy_that_learns_is_judged_as_it_would_have_run() -> None:
    """Mean reward over the first 200 kept rounds, over several logs, equals that of 200 rounds in the world itself."""
    by_replay = [replay(CascadeUCB(), WORLD.dataset, logged(1_600, seed=s), seed=s, most=200).value for s in range(12)]
    by_running = [run(CascadeUCB(), WORLD, 200, seed=s).earned / 200 for s in range(12)]
    error = np.sqrt((np.var(by_replay) + np.var(by_running)) / 12)
    assert abs(np.mean(by_replay) - np.mean(by_running)) < 4 * error
    assert np.mean(by_replay) > WORLD.attraction.mean() + 0.03


def test_logs_that_are_not_even_are_refused() -> None:
    log = logged(100)
    uneven = LoggedRounds(log.requests, log.items, log.rewards, np.where(log.items == 1, 0.4, 0.2))
    with pytest.raises(UnsupportedError, match="evenly by lot"):
        replay(CascadeUCB(), WORLD.dataset, uneven)
    with pytest.raises(DataError, match="never chose"):
        replay(
            CascadeUCB(),
            WORLD.dataset,
            LoggedRounds(log.requests.take(np.arange(1)), np.array([3]), np.ones(1), np.ones(1) / 4),
        )
    with pytest.raises(DataError, match="rewards"):
        LoggedRounds(log.requests, log.items, log.rewards[1:], log.propensities)
    with pytest.raises(DataError, match="no impressions"):
        LoggedRounds.of_impressions(WORLD.dataset)


def test_texts_become_columns_of_0_and_1() -> None:
    found = dummies(pa.table({"age": [1, 2, 3, 4], "sex": ["a", "b", "a", None], "city": ["x", "y", "z", "z"]}))
    assert found.column_names == ["age", "sex=b", "city=x", "city=y"]
    np.testing.assert_array_equal(found.column("sex=b").to_numpy(), [0, 1, 0, 0])
    np.testing.assert_array_equal(found.column("city=y").to_numpy(), [0, 1, 0, 0])


def test_impressions_with_context() -> None:
    n, rng = 3_000, generator(0)
    items, kind = rng.integers(4, size=n).astype(np.int32), rng.integers(2, size=n)
    click = rng.random(n) < np.where(items % 2 == kind, 0.8, 0.1)
    table = pa.table(
        {"item": items, "click": click.astype(np.int8), "propensity": np.full(n, 0.25), "kind": np.array(["even", "odd"])[kind]}
    )
    data: Dataset = WORLD.dataset.derive({"step": "log"}, impressions=table)
    log = LoggedRounds.of_impressions(data, ["kind"])
    (name,) = log.requests.context.column_names
    with_context = replay(LinUCB(context=(name,), form="disjoint", alpha=0.3), data, log)
    without = replay(CascadeUCB(), data, log)
    assert with_context.low > without.high


@pytest.mark.data
def test_open_bandit_replays(palate_data: Path) -> None:
    folder = palate_data / "obd" / "random" / "men"
    if not folder.is_dir():
        pytest.skip("no Open Bandit here")
    data = read_open_bandit(folder)
    assert data.n_items == 34 and data.impressions.num_rows == 10_000
    np.testing.assert_allclose(data.impressions.column("propensity").to_numpy(), 1 / 34)
    assert data.impressions.column("click").to_numpy().mean() == pytest.approx(0.0046)
    log = LoggedRounds.of_impressions(data)
    found = replay(EpsilonGreedy(epsilon=1.0), data, log)
    assert found.kept == pytest.approx(10_000 / 34, abs=70) and found.low <= found.logged <= found.high
    with pytest.raises(UnsupportedError):
        logged_by_thompson = read_open_bandit(palate_data / "obd" / "bts" / "men")
        replay(EpsilonGreedy(), logged_by_thompson, LoggedRounds.of_impressions(logged_by_thompson))
