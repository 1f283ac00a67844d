"""Fit on several workers: one Ray Train run, in which every worker computes some batches of each step.

The data go to every machine once, through Ray's object store. DistributedDataParallel averages gradients, over gloo on CPUs and
NCCL on GPUs; the loop of :mod:`palate.training.loop` is that of one process. After each epoch the first worker's checkpoint
goes to the storage. When a worker dies all are started anew, maybe elsewhere, and go on from there. At the end the first worker
saves the bundle beside its last checkpoint, and the caller fetches it, checked to the byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.contracts.bundle import check_place
from palate.contracts.model import Model
from palate.data.dataset import Dataset
from palate.data.split import HeldOut
from palate.distributed.cluster import connected
from palate.distributed.relay import near
from palate.distributed.worker import BUNDLE, Job, work
from palate.errors import ConfigError, TrainingError
from palate.progress import Progress, ProgressEvent, silent
from palate.training.config import TrainConfig

#: Seconds between two looks at what the workers have told.
LOOK_EVERY = 0.2
#: Seconds that workers are given to end a fit that the caller has stopped.
GRACE = 30.0
#: How Ray Train is set, where the environment doesn't say: its second version, and a look at the workers five times a second. A
#: report waits for such a look, so at Ray's own two seconds no epoch would be shorter than that.
TRAIN = {"RAY_TRAIN_V2_ENABLED": "1", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}


def fit_on_workers(
    system: str | type[Model],
    settings: Mapping[str, Any],
    dataset: Dataset,
    validation: HeldOut | None = None,
    *,
    workers: int,
    out: str | Path,
    seed: int = 0,
    device: str = "cpu",
    storage: str | Path | None = None,
    address: str | None = None,
    cpus: int | None = None,
    progress: Progress = silent,
    callbacks: Sequence[Callable[[Any], None]] = (),
    retries: int = 3,
) -> Any:
    """Fit a system on several workers, save its bundle, and return it fitted.

    A step takes a batch of every worker (``accumulate`` of them, where that is set), so there are ``workers`` times fewer
    steps in an epoch than with one, each with the mean of so many more examples.

    Parameters
    ----------
    system
        Name in the catalogue, or a class; its settings must be a :class:`palate.training.config.TrainConfig`.
    settings
        Of the system.
    dataset, validation
        Training data, and held-out questions for early stopping.
    workers
        How many processes share the fit.
    out
        Where the bundle goes, on this machine.
    seed
        Fixes every random choice; dropout draws otherwise with another number of workers.
    device
        ``"cpu"``, or ``"cuda"``: a GPU for each worker.
    storage
        Where checkpoints are kept: a folder that all machines share, or an address such as ``s3://bucket/fits``. A fit whose
        caller was killed goes on from there when it is asked for again. By default a folder beside ``out``, gone when all
        went well; that does on one machine.
    address
        Of the cluster (see :func:`palate.distributed.cluster.connected`).
    cpus
        Cores, and threads, of a worker; by default the most that lets all workers run at once.
    progress
        Called here with what the first worker reports.
    callbacks
        Called here after each epoch, as those of :meth:`palate.contracts.model.Model.fit`; after a restart an epoch may
        come again.
    retries
        How often the workers may be started anew.

    Raises
    ------
    ConfigError
        If the system doesn't learn by gradients, or the cluster has no room for so many workers.
    TrainingError
        As in one process; or if workers died more often than ``retries``.
    """
    kind = trainable(system)
    checked = kind(**settings).config
    target = check_place(out).absolute()
    if workers < 1 or retries < 0:
        raise ConfigError("workers count from 1, retries from 0.", where="workers, retries", value=(workers, retries))
    if device not in ("cpu", "cuda"):
        raise ConfigError("workers train on cpu or cuda.", where="device", value=device, remedy="cuda gives each worker a GPU")
    with connected("palate fit --workers", address) as ray:
        threads = room(ray.nodes(), workers, cpus, gpu=device == "cuda")
        place = _storage(storage, target, ray.nodes())
        name = f"{kind.name}-{_identity(checked, dataset, validation, seed, workers)}"
        relay = near(ray)
        data = ray.put(dataset), ray.put(validation)
        job = Job(kind, checked.model_dump(), data, seed, device, threads, relay)
        trainer = _trainer(job, workers, place, name, retries)
        checkpoint = _Run(ray, relay, progress, callbacks).result_of(trainer, retries).checkpoint
        with checkpoint.as_directory() as found:
            fitted = kind.load(Path(found) / BUNDLE)
    fitted.save(target)
    if storage is None:
        shutil.rmtree(place)
    return fitted


def trainable(system: str | type[Model]) -> Any:
    """Return the class of a system that several workers can fit.

    Raises
    ------
    ConfigError
        If its settings are not those of a model that learns by gradient steps (:class:`TrainConfig`).
    """
    from palate.catalog.registry import get

    kind = get(system).load() if isinstance(system, str) else system
    if not issubclass(kind.Settings, TrainConfig):
        raise ConfigError(
            "this system doesn't learn by gradient steps, so several workers can't share its fit.",
            where="workers",
            value=kind.name,
            remedy=f"fit it with one worker; these can be shared: {', '.join(_names())}",
        )
    return kind


def _names() -> list[str]:
    from palate.catalog.registry import systems

    ready = (s for s in systems().values() if s.status == "works" and s.verb == "recommend")
    return [s.name for s in ready if issubclass(s.load().Settings, TrainConfig)]


def room(nodes: Sequence[Mapping[str, Any]], workers: int, cpus: int | None = None, *, gpu: bool = False) -> int:
    """Return the cores of each worker: those wanted, or the most with which all workers have room at once.

    Parameters
    ----------
    nodes
        Of the cluster, as ``ray.nodes()`` tells them.

    Raises
    ------
    ConfigError
        If there is no room for them, even when nothing else runs.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cores = [int(node.get("CPU", 0)) for node in alive]
    gpus = [int(node.get("GPU", 0)) if gpu else workers for node in alive]
    for each in range(max(cores, default=0), 0, -1) if cpus is None else (cpus,):
        if sum(min(c // each, g) for c, g in zip(cores, gpus, strict=True)) >= workers:
            return each
    have = f"{sum(cores)} cores on {len(alive)} nodes" + (f", {sum(gpus)} GPUs" if gpu else "")
    wanted = "" if cpus is None else f" of {cpus} cores"
    raise ConfigError(
        f"the cluster has no room for so many workers{wanted}.",
        where="workers",
        value=workers,
        remedy=f"take fewer, or add nodes (it has {have})",
    )


def _storage(given: str | Path | None, target: Path, nodes: Sequence[Mapping[str, Any]]) -> str:
    if given is not None:
        return str(given) if "://" in str(given) else str(Path(given).absolute())
    machines = {node["NodeManagerAddress"] for node in nodes if node["Alive"]}
    if len(machines) > 1:
        raise ConfigError(
            "the cluster has several machines, and checkpoints need a place that all of them see.",
            where="storage",
            value=sorted(machines),
            remedy="name a shared folder, or an address such as s3://bucket/fits",
        )
    return str(target.with_name(f".{target.name}-workers"))


def _identity(config: Any, dataset: Dataset, validation: HeldOut | None, seed: int, workers: int) -> str:
    """Return a name for all that a fit can't change and still go on."""
    asked = None if validation is None else validation.fingerprint
    facts = [config.model_dump(mode="json", exclude=config.free), dataset.fingerprint, asked, seed, workers]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _trainer(job: Job, workers: int, place: str, run: str, retries: int) -> Any:
    for name, value in TRAIN.items():
        os.environ.setdefault(name, value)
    from ray import train
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = job.device == "cuda"
    each = {"CPU": job.threads, **({"GPU": 1} if gpu else {})}
    kept = train.CheckpointConfig(num_to_keep=2)
    failures = train.FailureConfig(max_failures=retries)
    return TorchTrainer(
        work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=train.ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker=each),
        run_config=train.RunConfig(name=run, storage_path=place, failure_config=failures, checkpoint_config=kept),
    )


@dataclass(frozen=True)
class _Run:
    """The caller's side of a run: what the workers tell is passed on, in the thread that asked for the fit."""

    ray: Any
    relay: Any
    progress: Progress
    callbacks: Sequence[Callable[[Any], None]]

    def result_of(self, trainer: Any, retries: int) -> Any:
        """Return Ray's result, or raise what went wrong."""
        running = _in_a_thread(trainer.fit)
        try:
            while not running.done():
                wait([running], LOOK_EVERY)
                self._pass_on()
        except BaseException:
            self.relay.stop.remote(TrainingError("the fit was stopped by its caller."))
            wait([running], GRACE)
            raise
        stopped = self.ray.get(self.relay.stopped.remote())
        if stopped is not None:
            raise stopped
        return self._result(running, retries)

    def _pass_on(self) -> None:
        for event in self.ray.get(self.relay.take.remote()):
            for hear in (self.progress,) if isinstance(event, ProgressEvent) else self.callbacks:
                hear(event)

    @staticmethod
    def _result(running: Future[Any], retries: int) -> Any:
        try:
            return running.result()
        except Exception as error:
            failures = getattr(error, "worker_failures", None) or {}
            first = next(iter(failures.values()), error)
            raise TrainingError(
                "the workers failed, and were started anew as often as allowed.",
                where=f"{retries} retries",
                value=f"{type(first).__name__}: {str(first).strip().splitlines()[-1]}",
                remedy="look at the cluster's logs (ray logs); the same fit, asked for again, goes on from its last checkpoint",
            ) from error


def _in_a_thread(action: Callable[[], Any]) -> Future[Any]:
    """Start an action; in the main thread Ray would take the interrupt key for itself, and keep it afterwards."""
    running: Future[Any] = Future()

    def run() -> None:
        try:
            running.set_result(action())
        except BaseException as error:
            running.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return running
