"""Tuning on a cluster of two nodes: the search of one machine, whoever dies meanwhile."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from palate.catalog.spaces import Range
from palate.data.protocols import split
from palate.data.split import Split
from palate.distributed.cluster import ray_module
from palate.distributed.tune import _Runner, cores_of_a_trial, tune
from palate.errors import ConfigError, TrainingError
from palate.simulate.world import World
from palate.study.tune import Tuned
from palate.study.tune import tune as tune_here

psutil = pytest.importorskip("psutil")
pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def parts() -> Split:
    world = World(users=250, items=80, events=5_000, topics=6, min_events=5, seed=1)
    return split(world.dataset(text=False, impressions=False), "leave_one_out")


def told(tuned: Tuned) -> Any:
    """Return all that a search gives, but the seconds."""
    trials = [(dict(t.settings), None if t.error else t.value, t.error) for t in tuned.trials]
    return dict(tuned.settings), tuned.value, trials, tuned.parallel


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 3])
def test_it_is_the_search_of_one_machine(two_nodes: Any, parts: Split, parallel: int) -> None:
    there = tune(parts, "item_knn", trials=9, seed=3, parallel=parallel)
    assert told(there) == told(tune_here(parts, "item_knn", trials=9, seed=3, parallel=parallel))
    assert parts.looks == 0


@pytest.mark.slow
def test_failures_are_told_as_on_one_machine(two_nodes: Any, parts: Split) -> None:
    how: dict[str, Any] = {"trials": 3, "base": {"window_days": 30.0}, "space": {"half_life_days": Range(1.0, 10.0)}}
    there = tune(parts, "popularity", parallel=2, **how)
    assert [bool(t.error) for t in there.trials] == [False, True, True]
    assert told(there) == told(tune_here(parts, "popularity", parallel=2, **how))
    with pytest.raises(ConfigError, match="not both"):
        tune(parts, "popularity", trials=1, base={"window_days": 1.0, "half_life_days": 1.0})


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_is_run_again(two_nodes: Any, parts: Split) -> None:
    how: dict[str, Any] = {"trials": 4, "seed": 5, "base": {"epochs": 30, "dim": 32}}
    killed: list[int] = []
    done = threading.Event()

    def kill_one() -> None:
        while not (killed or done.is_set()):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if not killed and " ".join(process.cmdline()).startswith("ray::_trial"):
                        process.kill()
                        killed.append(process.pid)
            time.sleep(0.02)

    watch = threading.Thread(target=kill_one)
    watch.start()
    try:
        there = tune(parts, "ials", parallel=2, **how)
    finally:
        done.set()
        watch.join()
    assert killed
    assert told(there) == told(tune_here(parts, "ials", parallel=2, **how))


@pytest.mark.slow
def test_a_trial_that_kills_its_process_each_time_has_failed(two_nodes: Any) -> None:
    class Deadly:
        def trial(self, settings: dict[str, Any], *, strict: bool) -> None:
            import os

            os._exit(1)

    work: Any = Deadly()
    start = _Runner(ray_module("tests"), 1)(work)
    first, later = start({}, strict=True), start({"reg": 1.0})
    with pytest.raises(TrainingError, match="died 4 times"):
        first()
    trial = later()
    assert trial.settings == {"reg": 1.0} and trial.value != trial.value and "died 4 times" in trial.error


def test_trials_share_the_cores_of_nodes() -> None:
    assert cores_of_a_trial([8, 8], 1) == 8
    assert cores_of_a_trial([8, 8], 4) == 4
    assert cores_of_a_trial([8, 8], 5) == 2
    assert cores_of_a_trial([8, 2], 2) == 4
    assert cores_of_a_trial([1, 1], 6) == 1
    assert cores_of_a_trial([], 2) == 1


def test_bad_questions(parts: Split) -> None:
    with pytest.raises(ConfigError, match="parallel must be at least 1"):
        tune(parts, "ease", trials=2, parallel=0)
