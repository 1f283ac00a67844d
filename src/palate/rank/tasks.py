"""Tasks: what a ranker learns to predict, as its labels show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np

from palate.contracts.ranker import Rows
from palate.errors import DataError


@dataclass(frozen=True)
class Task:
    """One column of labels.

    Attributes
    ----------
    name
        Its name.
    binary
        Whether all labels are 0 or 1.
    mean, spread
        Mean and standard deviation of the labels in training.
    """

    name: str
    binary: bool
    mean: float
    spread: float

    @property
    def unit(self) -> tuple[float, float]:
        """What one unit of a network's output is worth, and its zero: the logit itself, or the value it stands for."""
        return (1.0, 0.0) if self.binary else (self.spread, self.mean)

    @staticmethod
    def pack(tasks: tuple[Task, ...]) -> np.ndarray:
        """Return tasks as ``uint8`` of JSON: what a bundle keeps."""
        return np.frombuffer(json.dumps([asdict(task) for task in tasks]).encode(), np.uint8).copy()

    @staticmethod
    def unpack(array: np.ndarray) -> tuple[Task, ...]:
        """Read what :meth:`pack` gave."""
        return tuple(Task(**fact) for fact in json.loads(array.tobytes().decode()))


def learn_tasks(blocks: Callable[[], Iterable[Rows]]) -> tuple[Task, ...]:
    """Return the tasks of training rows, by one pass over them.

    Raises
    ------
    DataError
        If there are no rows or labels, or a task has no observed label, or all its labels are the same.
    """
    sums: dict[str, list[float]] = {}
    n = 0
    for block in blocks():
        n += len(block)
        for name, values in block.labels.items():
            seen = values[~np.isnan(values)].astype(np.float64)
            own = sums.setdefault(name, [0.0, 0.0, 0.0, np.inf, -np.inf, 1.0])
            own[0] += len(seen)
            own[1] += float(seen.sum())
            own[2] += float((seen**2).sum())
            if len(seen):
                own[3], own[4] = min(own[3], float(seen.min())), max(own[4], float(seen.max()))
                own[5] = min(own[5], float(np.isin(seen, (0.0, 1.0)).all()))
    if not n:
        raise DataError("there are no rows.", where="rows")
    if not sums:
        raise DataError("rows have no labels to learn from.", where="rows", remedy="name the column of labels")
    return tuple(_task(name, own) for name, own in sums.items())


def _task(name: str, own: list[float]) -> Task:
    count, total, squares, low, high, binary = own
    if not count:
        raise DataError("no label of a task was observed.", where=f"labels of {name!r}")
    if low == high:
        raise DataError(
            "all labels of a task are the same: there is nothing to learn.",
            where=f"labels of {name!r}",
            value=low,
            remedy="add rows of the other class",
        )
    mean = total / count
    return Task(name, bool(binary), mean, max(float(np.sqrt(max(0.0, squares / count - mean**2))), 1e-12))
