"""Training curves: loss and validation value of each epoch, from a bundle, from a log of JSON lines, or from a fit under way.

A line of a log is what :class:`palate.training.callbacks.JsonLog` writes: ``epoch``, ``loss``, and ``value`` where the epoch
was validated. A bundle of a system that learns in epochs keeps ``[epoch, loss, value or null]`` of each in its record of the
fit, under ``curve`` (:class:`palate.training.loop.TrainingRecord`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from palate.contracts.bundle import read_manifest
from palate.errors import DataError
from palate.progress import ProgressEvent

#: How the stage of a finished epoch ends in progress, and what a validation value is called where nobody says.
EPOCH, VALUE = ": epoch", "validation"


@dataclass(frozen=True)
class Curve:
    """How a fit went, epoch by epoch.

    Attributes
    ----------
    title
        Whose it is.
    epochs
        Their numbers, rising.
    loss
        Mean loss of each.
    value
        Validation value of each, ``None`` where it was not validated.
    metric
        What the validation value is.
    recorded
        The epoch whose weights were kept, and its validation value, where that is on record (long curves are thinned out).
    """

    title: str
    epochs: tuple[int, ...]
    loss: tuple[float, ...]
    value: tuple[float | None, ...]
    metric: str = VALUE
    recorded: tuple[int, float] | None = None

    @property
    def best(self) -> tuple[int, float] | None:
        """The epoch with the highest validation value (the first of several) and that value, or ``None``."""
        if self.recorded is not None:
            return self.recorded
        known = [(value, -epoch) for epoch, value in zip(self.epochs, self.value, strict=True) if value is not None]
        return (-max(known)[1], max(known)[0]) if known else None


def of_history(title: str, history: Iterable[Mapping[str, Any]], where: str | Path = "history") -> Curve:
    """Return the curve of lines with ``epoch``, ``loss`` and, where there is one, ``value``.

    Raises
    ------
    DataError
        If there is no line, one is of another kind, or the epochs don't rise.
    """
    lines = list(history)
    if not lines:
        raise DataError("there is no epoch in it.", where=where, remedy="fit with --log FILE")
    try:
        epochs = tuple(int(line["epoch"]) for line in lines)
        loss = tuple(float(line["loss"]) for line in lines)
        value = tuple(None if line.get("value") is None else float(line["value"]) for line in lines)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            "a line of it is no epoch.", where=where, value=str(error), remedy="each line holds epoch, loss and perhaps value"
        ) from None
    if any(later <= earlier for earlier, later in pairwise(epochs)):
        raise DataError("the epochs don't rise.", where=where, value=list(epochs[:10]))
    return Curve(title, epochs, loss, value)


def of_log(path: str | Path, title: str) -> Curve:
    """Read a log of JSON lines (``palate fit --log``)."""
    try:
        lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(
            "this is no log of epochs.", where=title, value=str(error), remedy="palate fit --log FILE writes one"
        ) from None
    return of_history(title, lines, title)


def of_bundle(folder: str | Path, title: str) -> Curve | None:
    """Return the curve that a bundle keeps, or ``None`` where it keeps none."""
    notes = read_manifest(folder).get("fit", {}).get("notes", {})
    points, value = notes.get("curve"), notes.get("best_value")
    if not points:
        return None
    try:
        lines = [dict(zip(("epoch", "loss", "value"), point, strict=True)) for point in points]
    except (TypeError, ValueError) as error:
        raise DataError("the bundle's curve is damaged.", where=folder, value=str(error), remedy="fit it again") from None
    curve = of_history(title, lines, folder)
    return curve if value is None else replace(curve, recorded=(int(notes["best_epoch"]), float(value)))


def of_progress(events: Sequence[ProgressEvent]) -> Curve | None:
    """Return the curve of a fit under way: of the last of several fits, or ``None`` before the first epoch ends."""
    told = [event for event in events if event.stage.endswith(EPOCH) and "loss" in event.metrics]
    start = next(
        (
            at
            for at in range(len(told) - 1, 0, -1)
            if told[at].stage != told[at - 1].stage or told[at].done <= told[at - 1].done
        ),
        0,
    )
    last = told[start:]
    if not last:
        return None
    others = [name for event in last for name in event.metrics if name != "loss"]
    metric = others[0] if others else ""
    return Curve(
        last[0].stage.removesuffix(EPOCH),
        tuple(event.done for event in last),
        tuple(float(event.metrics["loss"]) for event in last),
        tuple(event.metrics.get(metric) for event in last),
        metric or VALUE,
    )
