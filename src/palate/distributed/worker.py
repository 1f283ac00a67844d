"""A worker's side of a shared fit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.progress import ProgressEvent, silent
from palate.runtime import set_threads
from palate.training.callbacks import EpochEvent

#: Folder of the bundle inside the last checkpoint.
BUNDLE = "bundle"


@dataclass(frozen=True)
class Job:
    """What every worker is to do.

    Attributes
    ----------
    kind, settings
        Class and settings of the model.
    data
        References to the training data and the validation questions.
    seed, device, threads
        As in a fit with one process; the device ``"cuda"`` means the worker's own.
    relay
        Handle of the :class:`palate.distributed.relay.Relay`.
    """

    kind: Any
    settings: Mapping[str, Any]
    data: tuple[Any, Any]
    seed: int
    device: str
    threads: int
    relay: Any


def work(config: Mapping[str, Any]) -> None:
    """Fit, as one of several workers; Ray Train calls this in each of them.

    An error of Palate's own would come again, so it is left with the relay: workers that Ray starts anew because of it see it
    there, and do nothing.
    """
    import ray

    job: Job = config["job"]
    if ray.get(job.relay.stopped.remote()) is not None:
        return
    set_threads(job.threads)
    try:
        with tempfile.TemporaryDirectory() as place:
            _fit(job, Path(place))
    except PalateError as error:
        ray.get(job.relay.stop.remote(error))
        raise


def _fit(job: Job, folder: Path) -> None:
    import ray
    from ray import train

    first = train.get_context().get_world_rank() == 0
    start = train.get_checkpoint()
    if start is not None:
        with start.as_directory() as found:
            shutil.copytree(found, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(BUNDLE))

    def tell(event: ProgressEvent | EpochEvent) -> None:
        reason = ray.get(job.relay.tell.remote(event))
        if reason is not None:
            raise reason

    reporter = _Reporter(folder, first)

    def after_epoch(event: EpochEvent) -> None:
        if first:
            tell(event)
        reporter.report({"epoch": event.epoch, "loss": event.history[-1]["loss"]})

    dataset, validation = ray.get(list(job.data))
    fitted = job.kind(**job.settings).fit(
        dataset,
        validation,
        seed=job.seed,
        device=_own_device(job.device),
        progress=tell if first else silent,
        checkpoint=folder,
        callbacks=[after_epoch],
    )
    if first:
        fitted.save(folder / BUNDLE)
    reporter.report({"done": True}, last=True)


class _Reporter:
    """Hands the first worker's checkpoint to Ray Train wherever there is a new one; all workers report equally often."""

    def __init__(self, folder: Path, first: bool) -> None:
        self.folder, self.first = folder, first
        self.seen = self._stamp()

    def _stamp(self) -> int:
        from palate.training.checkpoint import FILE

        note = self.folder / FILE
        return note.stat().st_mtime_ns if note.exists() else 0

    def report(self, facts: Mapping[str, Any], *, last: bool = False) -> None:
        """Report; with the checkpoint folder if it has changed, or if this is the last time."""
        from ray import train

        stamp = self._stamp()
        fresh = self.first and (last or stamp != self.seen)
        self.seen = stamp
        train.report(dict(facts), checkpoint=train.Checkpoint.from_directory(str(self.folder)) if fresh else None)


def _own_device(device: str) -> str:
    """Return the name of this worker's device."""
    if device != "cuda":
        return device
    from ray.train.torch import get_device

    return str(get_device())
