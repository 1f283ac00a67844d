"""Callbacks of the training loop: what else should happen after each epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class EpochEvent:
    """A finished epoch.

    Attributes
    ----------
    title
        Which model.
    epoch
        Its number, from 1.
    history
        One mapping for each epoch so far (``epoch``, ``loss``, ``seconds``, and ``value`` where it was validated), also of
        those before a resumption; the last is this epoch's.
    best
        Whether this is the best epoch so far on validation.
    """

    title: str
    epoch: int
    history: Sequence[Mapping[str, Any]]
    best: bool


class Callback(Protocol):
    """Anything that takes an :class:`EpochEvent`; an exception from it ends the fit."""

    def __call__(self, event: EpochEvent, /) -> None:
        """Note a finished epoch."""


class JsonLog:
    """Keeps a file of JSON lines, one an epoch; always whole, also after a kill and a resumption."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __call__(self, event: EpochEvent) -> None:
        """Write the log anew."""
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_text("".join(json.dumps(dict(line)) + "\n" for line in event.history), encoding="utf-8")
        part.replace(self.path)


class PrintLog:
    """Prints one line an epoch."""

    def __call__(self, event: EpochEvent) -> None:
        """Print the epoch."""
        last = event.history[-1]
        value = f"  validation {last['value']:.4f}{' *' if event.best else ''}" if "value" in last else ""
        print(f"{event.title} epoch {event.epoch}: loss {last['loss']:.5f}{value}  ({last['seconds']:.1f} s)")
