"""Tune on a cluster: the search of :mod:`palate.study.tune`, its trials run as Ray tasks.

The split is put into the object store once, without its test part; a trial is one task on one node. A trial whose process or
node dies is run again elsewhere. Outcomes are taken in the order of the trials, so for one seed and one ``parallel`` the result
is the same on every cluster, and with ``parallel=1`` it is that of one machine. This is why trials are plain tasks under
Optuna's ask and tell, and not runs of Ray Tune, which tells outcomes as they come in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from palate.data.split import Split
from palate.distributed.cluster import connected, cores_of_nodes
from palate.errors import ConfigError, PalateError, TrainingError
from palate.study.tune import Start, Trial, Tuned, Work
from palate.study.tune import tune as search

#: Trials under way at a time, where the caller doesn't say.
PARALLEL = 4
#: How often a trial is begun again whose process or node died.
RETRIES = 3
PURPOSE = "palate tune --engine ray"


def tune(
    split: Split, system: str, *, trials: int, parallel: int = PARALLEL, address: str | None = None, **options: Any
) -> Tuned:
    """Choose settings of a system on the validation part, with up to ``parallel`` trials at a time on a cluster.

    Parameters
    ----------
    split, system, trials
        As :func:`palate.study.tune.tune` takes them.
    parallel
        Trials under way at a time. More of them find less in the same number of trials, as each is proposed knowing fewer
        outcomes.
    address
        Of the cluster (:func:`palate.distributed.cluster.connected`).
    **options
        The rest of what :func:`palate.study.tune.tune` takes.

    Raises
    ------
    TrainingError
        If the process of the first trial, the defaults, dies again and again.
    """
    if parallel < 1:
        raise ConfigError("parallel must be at least 1.", where="parallel", value=parallel)
    with connected(PURPOSE, address) as ray:
        runner = _Runner(ray, cores_of_a_trial(cores_of_nodes(ray), parallel))
        return search(split, system, trials=trials, parallel=parallel, runner=runner, **options)


def cores_of_a_trial(nodes: Sequence[int], parallel: int) -> int:
    """Return how many cores each of ``parallel`` trials can have on nodes of so many cores (1 where there are too few)."""
    fitting = (cores for cores in range(max(nodes, default=1), 1, -1) if sum(n // cores for n in nodes) >= parallel)
    return next(fitting, 1)


class _Runner:
    """Begins trials on a cluster.

    After an error, trials under way end with the connection. They are not cancelled: where a task completes while it is
    cancelled, Ray 2.60 takes this whole process down.

    Parameters
    ----------
    ray
        The module, connected.
    cores
        Of a trial.
    """

    def __init__(self, ray: Any, cores: int) -> None:
        self.ray, self.cores = ray, cores

    def __call__(self, work: Work) -> Start:
        """Put the work where all nodes see it; return what begins a trial."""
        shared = self.ray.put(work)
        task = self.ray.remote(num_cpus=self.cores, max_retries=RETRIES)(_trial)

        def start(settings: dict[str, Any], *, strict: bool = False) -> Callable[[], Trial]:
            begun = task.remote(shared, settings, strict, self.cores)
            return partial(self._outcome, begun, settings, strict, time.perf_counter())

        return start

    def _outcome(self, reference: Any, settings: dict[str, Any], strict: bool, begun: float) -> Trial:
        failures = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except failures.RayTaskError as error:
            if isinstance(error.cause, PalateError):
                raise error.cause from None
            raise
        except (failures.WorkerCrashedError, failures.NodeDiedError, failures.OutOfMemoryError) as error:
            what = f"the process of the trial died {RETRIES + 1} times."
            if strict:
                remedy = "give the nodes more memory, or tune a smaller split"
                raise TrainingError(what, where=PURPOSE, value=str(error).splitlines()[0], remedy=remedy) from error
            return Trial(settings, float("nan"), time.perf_counter() - begun, what)


def _trial(work: Work, settings: dict[str, Any], strict: bool, cores: int) -> Trial:
    from palate.runtime import set_threads

    set_threads(cores)
    return work.trial(settings, strict=strict)
