"""The training loop of torch models: one for all, resumable to the bit.

Every epoch has its own random streams, made from the seed, the title and the epoch's number. Nothing else carries randomness
from one epoch to the next, so a fit that was killed goes on from its last checkpoint exactly as if it had never stopped. The
process-wide torch generator is restored afterwards; inside an epoch it is seeded too, for modules that draw from it.

Where torch.distributed is initialised, the fit is shared by its workers (:mod:`palate.training.workers`). All of them draw the
same plan of an epoch, and each computes some batches of every group of ``workers x accumulate``. So N workers take the very
steps of one process with ``accumulate=N``, up to rounding, and up to what a loss draws from its generator (dropout): that has a
stream for each epoch and worker, the first worker's being that of one process.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from palate.contracts.model import Fitting
from palate.errors import TrainingError
from palate.progress import silent
from palate.training.callbacks import Callback, EpochEvent
from palate.training.checkpoint import Checkpoint, pack_optimizer, read_checkpoint, unpack_optimizer, write_checkpoint
from palate.training.config import TrainConfig
from palate.training.device import precision_context
from palate.training.stopping import Stopping
from palate.training.validation import Validator
from palate.training.workers import Company, Objective, grouped

Batch_co = TypeVar("Batch_co", covariant=True)
#: Seconds between progress reports inside an epoch.
REPORT_EVERY = 0.5
#: Most points of a curve in a model's record.
CURVE_POINTS = 300


class Batches(Sized, Iterable[Batch_co], Protocol[Batch_co]):
    """The batches of one epoch: countable before they are made."""


@dataclass(frozen=True)
class TrainingRecord:
    """How a fit went.

    Attributes
    ----------
    epochs_run
        Epochs finished, those before a resumption included.
    best_epoch, best_value
        The epoch whose weights were kept and its validation value; the last epoch and ``None`` without validation.
    history
        One mapping an epoch: ``epoch``, mean ``loss``, ``seconds``, and ``value`` where it was validated.
    """

    epochs_run: int
    best_epoch: int
    best_value: float | None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def notes(self) -> dict[str, Any]:
        """What a model's record keeps of it; ``curve`` is ``[epoch, loss, value or None]``, of evenly spaced epochs if many."""
        best = {"epochs": self.epochs_run, "best_epoch": self.best_epoch, "best_value": self.best_value}
        kept = min(len(self.history), CURVE_POINTS)
        lines = [self.history[at] for at in np.linspace(0, len(self.history) - 1, kept).round().astype(int)]
        return {**best, "curve": [[line["epoch"], line["loss"], line.get("value")] for line in lines]}


def fit_module(
    module: nn.Module,
    *,
    batches: Callable[[int, np.random.Generator], Batches[Any]],
    loss: Callable[[Any, torch.Generator], Tensor],
    config: TrainConfig,
    fitting: Fitting,
    title: str,
    evaluate: Callable[[], float] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    callbacks: Sequence[Callback] = (),
    metric: str = "valid_ndcg@10",
    warmup: int = 0,
) -> TrainingRecord:
    """Train a module; afterwards it holds the weights of the best epoch (of the last, without validation).

    Parameters
    ----------
    module
        Holds every number that is learnt, on the device where it trains.
    batches
        ``batches(epoch, rng)`` gives the batches of an epoch (from 1), all randomness drawn from ``rng``.
    loss
        ``loss(batch, generator)`` gives the scalar to lower; dropout draws from ``generator`` (on the module's device).
    config
        Epochs, batches a step, step size, patience, clipping, precision, checkpoints.
    fitting
        Seed, progress, and the folder of checkpoints. Several workers each read the checkpoint; the first one writes it.
    title
        Shown in progress and errors; names the random streams.
    evaluate
        Gives the validation value, higher is better; ``None`` trains all epochs. Of a
        :class:`~palate.training.validation.Validator` patience counts once popularity is clearly passed.
    optimizer
        Default: AdamW with ``config.lr`` and ``config.weight_decay``.
    callbacks
        Called after each epoch (on every worker), beside those of ``fitting``.
    metric
        What progress calls the validation value.
    warmup
        Epochs before what is to be trained begins: looks within them don't count towards patience.

    Raises
    ------
    TrainingError
        If the loss, a weight or the validation value is not a number (all workers stop); if a checkpoint is damaged or of
        another fit; if several workers are to share a loss that has no gradient.
    """
    if optimizer is None:
        optimizer = torch.optim.AdamW(module.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    run = _Run(module, batches, loss, config, fitting, title, evaluate, optimizer, warmup)
    with _own_global_stream(run.device):
        return run.go((*fitting.callbacks, *callbacks), metric)


class _Run:
    """One call of :func:`fit_module`."""

    def __init__(
        self,
        module: nn.Module,
        batches: Callable[[int, np.random.Generator], Batches[Any]],
        loss: Callable[[Any, torch.Generator], Tensor],
        config: TrainConfig,
        fitting: Fitting,
        title: str,
        evaluate: Callable[[], float] | None,
        optimizer: torch.optim.Optimizer,
        warmup: int,
    ) -> None:
        self.module, self.batches, self.config = module, batches, config
        self.title, self.evaluate, self.optimizer = title, evaluate, optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.device = self.parameters[0].device
        self.company = Company.here(self.device)
        self.fitting = fitting if self.company.first else replace(fitting, progress=silent)
        self.objective = Objective(module, loss, self.company)
        floor = evaluate.floor if isinstance(evaluate, Validator) else None
        self.stopping = Stopping(config.patience, floor, warmup, config.patience_steps)
        self.steps = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] | None = None
        self.epoch = 0
        self.context = functools.partial(precision_context, self.device, config.precision)
        self.context()
        held_out = fitting.validation
        self.questions = "" if held_out is None else held_out.fingerprint

    def go(self, callbacks: Sequence[Callback], metric: str) -> TrainingRecord:
        self._resume()
        while self.epoch < self.config.epochs and not self.stopping.stop:
            self.epoch += 1
            started = time.perf_counter()
            mean = self._train()
            line: dict[str, Any] = {"epoch": self.epoch, "loss": mean, "seconds": time.perf_counter() - started}
            best = self._look(line)
            self.history.append(line)
            shown = {"loss": mean, **({metric: line["value"]} if "value" in line else {})}
            self.fitting.report(f"{self.title}: epoch", self.epoch, self.config.epochs, **shown)
            self._save()
            for callback in callbacks:
                callback(EpochEvent(self.title, self.epoch, tuple(self.history), best))
        if self.best is not None:
            self.module.load_state_dict(self.best)
        best_epoch = self.stopping.best_epoch
        return TrainingRecord(
            self.epoch, self.epoch if best_epoch is None else best_epoch, self.stopping.best_value, self.history
        )

    # -- one epoch ------------------------------------------------------------------------------

    def _train(self) -> float:
        rng = self.fitting.rng(self.title, "epoch", self.epoch)
        seeds = [int(rng.integers(2**62)) for _ in range(2)]
        if not self.company.first:
            own = self.fitting.rng(self.title, "epoch", self.epoch, "worker", self.company.rank)
            seeds = [int(own.integers(2**62)) for _ in range(2)]
        generator = torch.Generator(self.device).manual_seed(seeds[0])
        torch.manual_seed(seeds[1])
        batches = self.batches(self.epoch, rng)
        self.module.train()
        total, seen, shown = 0.0, 0, time.monotonic()
        for group in grouped(batches, self.company.size * self.config.accumulate):
            self._pace(seen / len(batches))
            total += self._step(group, generator, seen + 1)
            seen, self.steps = seen + len(group), self.steps + 1
            if time.monotonic() - shown > REPORT_EVERY:
                shown = time.monotonic()
                self.fitting.report(f"{self.title}: batches of epoch {self.epoch}", seen, len(batches), loss=total / seen)
        self.module.eval()
        if not all(np.isfinite(p.detach().float().cpu().numpy()).all() for p in self.parameters):
            raise self._not_finite("a weight is not a number any more", seen, float("nan"))
        return total / max(1, seen)

    def _pace(self, share: float) -> None:
        """Set the step size, a share of the epoch being done."""
        if self.config.schedule == "cosine":
            done = (self.epoch - 1 + share) / self.config.epochs
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1 + math.cos(math.pi * done)) / 2

    def _step(self, group: list[Any], generator: torch.Generator, number: int) -> float:
        """Take one step; return the sum of the losses of the group, whose first batch has this number."""
        self.optimizer.zero_grad(set_to_none=True)
        values = self.objective.descend(group, generator, self.context)
        for at, value in enumerate(values):
            if not math.isfinite(value):
                raise self._not_finite("the loss is not a number", number + at, value)
        if self.company.size > 1 and all(p.grad is None for p in self.parameters):
            raise TrainingError(
                "the loss has no gradient that workers could share.", where=self.title, remedy="fit it with one worker"
            )
        if self.config.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self.optimizer.step()
        return sum(values)

    def _look(self, line: dict[str, Any]) -> bool:
        if self.evaluate is None or (self.epoch % self.config.eval_every and self.epoch != self.config.epochs):
            return False
        started = time.perf_counter()
        value = self.company.told(self.evaluate)
        if math.isnan(value):
            raise TrainingError(
                "the validation value is not a number.",
                where=f"{self.title}, epoch {self.epoch}",
                remedy="check that the validation part has people with answers",
            )
        line["value"], line["eval_seconds"] = value, time.perf_counter() - started
        best, self.steps = self.stopping.look(self.epoch, value, self.steps), 0
        if best:
            self.best = {name: t.detach().clone() for name, t in self.module.state_dict().items()}
        return best

    def _not_finite(self, what: str, batch: int, value: float) -> TrainingError:
        rates = sorted({float(group["lr"]) for group in self.optimizer.param_groups})
        clip = "" if self.config.clip_norm > 0 else ", or set clip_norm=1"
        return TrainingError(
            f"{what}.",
            where=f"{self.title}, epoch {self.epoch}, batch {batch}, lr {', '.join(f'{r:g}' for r in rates)}",
            value=value,
            remedy=f"lower lr (try lr={rates[0] / 10:g}){clip}",
        )

    # -- checkpoints ----------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        settings = self.config.model_dump(mode="json", exclude=self.config.free)
        shapes = {name: list(t.shape) for name, t in self.module.state_dict().items()}
        kind = type(self.optimizer).__name__
        given = {"seed": self.fitting.seed, "data": self.fitting.data, "validation": self.questions}
        workers = {"workers": self.company.size} if self.company.size > 1 else {}
        return {"title": self.title, **given, **workers, "settings": settings, "shapes": shapes, "optimizer": kind}

    def _save(self) -> None:
        folder = self.fitting.checkpoint
        last = self.epoch == self.config.epochs or self.stopping.stop
        due = last or self.epoch % self.config.checkpoint_every == 0
        if folder is None or not due or not self.company.first:
            return
        state, facts = pack_optimizer(self.optimizer)
        arrays = {f"module/{k}": t for k, t in self.module.state_dict().items()}
        arrays |= {f"best/{k}": t for k, t in (self.best or {}).items()}
        arrays |= {f"optimizer/{k}": t for k, t in state.items()}
        table = {"epoch": self.epoch, "history": self.history, "stopping": self.stopping.state(), "optimizer": facts}
        table["steps"] = self.steps
        write_checkpoint(folder, Checkpoint(self._identity(), table, arrays))

    def _resume(self) -> None:
        folder = self.fitting.checkpoint
        found = None if folder is None else read_checkpoint(folder, self._identity())
        if not self.company.agree(0 if found is None else int(found.facts["epoch"])):
            raise TrainingError("the workers have different checkpoints.", where=folder, remedy="give all of them the same")
        if found is None:
            return
        self.module.load_state_dict(_under("module/", found.arrays))
        self.best = _under("best/", found.arrays) or None
        if self.best is not None:
            self.best = {name: t.to(self.device) for name, t in self.best.items()}
        unpack_optimizer(self.optimizer, _under("optimizer/", found.arrays), found.facts["optimizer"])
        self.stopping.restore(found.facts["stopping"])
        self.steps = found.facts["steps"]
        self.epoch, self.history = found.facts["epoch"], list(found.facts["history"])
        self.fitting.report(f"{self.title}: resumed", self.epoch, self.config.epochs)


def _under(prefix: str, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in arrays.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _own_global_stream(device: torch.device) -> Iterator[None]:
    """Give back the process-wide generators as they were."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
