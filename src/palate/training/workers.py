"""Company: the other workers of a fit, as torch.distributed knows them. Alone, nothing here costs or changes anything.

A step takes a group of batches, the mean of their losses is what it lowers, and worker ``r`` of ``n`` computes batches ``r``,
``r + n`` … of the group. The mean over workers that DistributedDataParallel takes of gradients is made the mean over batches by
weights::

    ∇ = 1/n Σ_r ∇ (n/g) Σ_{b of r} L_b = 1/g Σ_b ∇ L_b          g batches in the group, fewer in the last of an epoch
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True)
class Company:
    """A worker's place among all.

    Attributes
    ----------
    rank, size
        Its number, from 0, and how many there are.
    device
        Where numbers that are exchanged must be.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def here(cls, device: torch.device) -> Company:
        """Return the company of this process, whose module is on ``device``; one without a process group is alone."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls(0, 1, device)
        return cls(distributed.get_rank(), distributed.get_world_size(), device)

    @property
    def first(self) -> bool:
        """Whether this worker looks, reports and writes for all."""
        return self.rank == 0

    def summed(self, values: list[float]) -> list[float]:
        """Return the sums over all workers, the same on each."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        found: list[float] = total.tolist()
        return found

    def agree(self, value: int) -> bool:
        """Say whether a whole number is the same on all workers (to all of them the same)."""
        total, squares = self.summed([float(value), float(value) ** 2])
        return self.size * squares == total**2  # Cauchy and Schwarz: equal only where all are

    def told(self, look: Callable[[], float]) -> float:
        """Return what the first worker finds; where it fails, the others are told that it is not a number."""
        value = torch.tensor(float("nan"), dtype=torch.float64, device=self.device)
        try:
            if self.first:
                value.fill_(look())
        finally:
            if self.size > 1:
                distributed.broadcast(value, 0)
        return float(value)


class Objective:
    """The gradient of the mean loss of a group of batches, over all workers.

    Parameters
    ----------
    module
        Holds the weights. In company those of the first worker are given to all.
    loss
        ``loss(batch, generator)``, a scalar.
    company
        The workers that share the groups.
    """

    def __init__(self, module: nn.Module, loss: Callable[[Any, torch.Generator], Tensor], company: Company) -> None:
        self.loss, self.company = loss, company
        self.wrapped: DistributedDataParallel | None = None
        if company.size > 1:
            # Which weights a loss reaches is for it to decide, batch by batch; those that none reaches keep no gradient.
            self.wrapped = DistributedDataParallel(_Loss(module, loss), find_unused_parameters=True)

    def descend(
        self, group: list[Any], generator: torch.Generator, context: Callable[[], contextlib.AbstractContextManager[Any]]
    ) -> list[float]:
        """Add up gradients; return the loss of every batch of the group, the same list on all workers.

        A worker for which a short group has no batch computes its last one at weight zero: gradients are exchanged by all or
        by none, and for the same weights.

        Parameters
        ----------
        context
            Makes the context in which losses are computed.
        """
        rank, size = self.company.rank, self.company.size
        values = [0.0] * len(group)
        own = range(rank, len(group), size)
        weight = size / len(group) if own else 0.0
        places = own or range(len(group) - 1, len(group))
        for place in places:
            with self._apart(place != places[-1]):
                with context():
                    objective = (self.wrapped or self.loss)(group[place], generator)
                if own:
                    values[place] = float(objective.detach())
                (objective if weight == 1 else objective * weight).backward()
        return self.company.summed(values)

    def _apart(self, apart: bool) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which gradients stay with their worker until its last batch of the group."""
        return self.wrapped.no_sync() if apart and self.wrapped is not None else contextlib.nullcontext()


class _Loss(nn.Module):
    """A loss as the forward pass of a module, which is what DistributedDataParallel watches."""

    def __init__(self, module: nn.Module, loss: Callable[[Any, torch.Generator], Tensor]) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Any, generator: torch.Generator) -> Tensor:
        return self.loss(batch, generator)


def grouped(batches: Iterable[T], size: int) -> Iterator[list[T]]:
    """Give batches in groups; the last may be shorter."""
    rest = iter(batches)
    while group := list(islice(rest, size)):
        yield group
