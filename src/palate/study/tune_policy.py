"""Tune policies: the same number of trials for each, judged by what they earn, in a world or on a log that the caller brings.

As with :mod:`palate.study.tune`, the first trial is the defaults, and the others are proposed by Optuna's seeded estimator over
the space of :mod:`palate.catalog.spaces`. A policy has no validation part of its own: the caller judges it, as by its regret in
a simulated world, its replayed value on a log, or the likelihood of slates held out. Settings chosen so are good for what
judged them; what is reported should come from other seeds, or from another part of the log.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palate.catalog.registry import get
from palate.catalog.spaces import Range, space_of
from palate.contracts.policy import Policy
from palate.errors import ConfigError, PalateError
from palate.progress import Progress, silent
from palate.study.tune import Trial, Tuned, chosen, here

#: Fits a policy that is handed over unfitted, lets it act and learn, and returns its value.
Judge = Callable[[Any, int], float]


def tune_policy(
    system: str,
    judge: Judge,
    *,
    trials: int,
    seed: int = 0,
    repeats: int = 1,
    metric: str = "value",
    better: Literal["more", "less"] = "more",
    space: Mapping[str, Range] | None = None,
    base: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Tuned:
    """Choose settings of a policy.

    Parameters
    ----------
    system
        Name in the catalogue.
    judge
        ``judge(policy, seed)`` is handed an unfitted policy, and returns what it is worth.
    trials
        How many settings to try, the defaults included (at least 1).
    seed
        Fixes the proposals; trial by trial the judge is given ``seed`` to ``seed + repeats - 1``, the same for all.
    repeats
        Seeds that a setting is judged by; their mean counts.
    metric
        What the value is called in progress and in the answer.
    better
        Whether more or less of it is better (regret: less).
    space
        Ranges to search, instead of the catalogue's.
    base
        Settings that all trials share.

    Raises
    ------
    ConfigError
        If the system is no policy, a count is below 1, or the defaults have no value.
    MissingExtraError
        If there is something to search and Optuna is not installed.
    """
    for name, count in (("trials", trials), ("repeats", repeats)):
        if count < 1:
            raise ConfigError(f"{name} must be at least 1.", where=name, value=count)
    kind = get(system, "explore").load()
    work = _Work(kind, judge, seed, repeats, metric, 1 if better == "more" else -1, dict(base or {}))
    return chosen(work, here(work), space_of(system) if space is None else space, trials, progress=progress)


@dataclass(frozen=True)
class _Work:
    """What all trials share."""

    system: type[Policy]
    judge: Judge
    seed: int
    repeats: int
    metric: str
    sign: int
    base: dict[str, Any]

    def trial(self, settings: dict[str, Any], *, strict: bool = False) -> Trial:
        """Judge one setting; a failure is recorded, or raised where ``strict``."""
        started = time.perf_counter()
        try:
            values = [float(self.judge(self.system(**{**self.base, **settings}), self.seed + at)) for at in range(self.repeats)]
        except PalateError as error:
            if strict:
                raise
            return Trial(settings, math.nan, time.perf_counter() - started, error.what)
        return Trial(settings, sum(values) / len(values), time.perf_counter() - started)

    def defaults(self) -> dict[str, Any]:
        """Return the settings of the first trial, whole."""
        return dict(self.system(**self.base).config.model_dump())
