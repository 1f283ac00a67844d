"""Policies are tuned by what they earn: defaults first, seeds alike for all, failures told, and refused by the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from palate.catalog.registry import create
from palate.errors import ConfigError
from palate.simulate.bandits import CascadeWorld, run
from palate.study.tune_policy import tune_policy

pytest.importorskip("optuna")


def peak(at: float, seen: list[tuple[float, int]] | None = None) -> Callable[[Any, int], float]:
    def judge(policy: Any, seed: int) -> float:
        assert not policy.fitted
        if seen is not None:
            seen.append((policy.config.epsilon, seed))
        return -abs(np.log(policy.config.epsilon / at)) + 0.01 * seed

    return judge


def test_the_best_setting_of_all_trials_wins_and_defaults_come_first() -> None:
    seen: list[tuple[float, int]] = []
    tuned = tune_policy("epsilon_greedy", peak(0.02, seen), trials=12, seed=3, repeats=2)
    assert [seed for _, seed in seen] == [3, 4] * 12 and seen[0][0] == 0.1
    assert tuned.trials[0].settings == {} and tuned.value == max(t.value for t in tuned.trials)
    assert abs(np.log(tuned.settings["epsilon"] / 0.02)) < abs(np.log(0.1 / 0.02))
    again = tune_policy("epsilon_greedy", peak(0.02), trials=12, seed=3, repeats=2)
    assert [t.settings for t in again.trials] == [t.settings for t in tuned.trials]


def test_less_may_be_better() -> None:
    tuned = tune_policy("epsilon_greedy", lambda policy, seed: policy.config.epsilon, trials=8, better="less", metric="regret")
    assert tuned.value == min(t.value for t in tuned.trials) < 0.1 and tuned.metric == "regret"


def test_a_setting_that_fails_is_told_and_passed_over() -> None:
    def judge(policy: Any, seed: int) -> float:
        if policy.config.epsilon > 0.1:
            raise ConfigError("too much.")
        return policy.config.epsilon

    tuned = tune_policy("epsilon_greedy", judge, trials=8)
    assert any(t.error == "too much." for t in tuned.trials) and tuned.value <= 0.1
    with pytest.raises(ConfigError, match="too much"):
        tune_policy("epsilon_greedy", judge, trials=2, base={"epsilon": 0.2})


def test_it_lowers_the_regret_in_a_world_and_on_other_seeds() -> None:
    world = CascadeWorld.two_levels(8, 2, high=0.5, low=0.1)

    def regret(policy: Any, seed: int) -> float:
        return float(run(policy, world, 1_500, seed=seed, batch=25).regret[-1])

    tuned = tune_policy("epsilon_greedy", regret, trials=6, repeats=2, better="less", metric="regret", base={"prior": 0.5})
    assert tuned.value < tuned.trials[0].value
    others = [regret(create("epsilon_greedy", **settings), 9) for settings in (tuned.settings, {"prior": 0.5, "epsilon": 0.4})]
    assert others[0] < 0.7 * others[1]


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"trials": 1, "repeats": 0}])
def test_counts_below_one_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        tune_policy("ucb1", lambda policy, seed: 0.0, **wrong)


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="verb is recommend"):
        tune_policy("ease", lambda policy, seed: 0.0, trials=1)
