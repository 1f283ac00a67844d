"""One progress callback for everything that takes time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ProgressEvent:
    """A step of some work.

    Attributes
    ----------
    stage
        What is going on, such as ``"LightGCN: epoch"``.
    done, total
        Steps done, and steps in all (``None`` when that is unknown).
    metrics
        Figures to show beside the bar, such as the loss or the validation NDCG@10.
    """

    stage: str
    done: int
    total: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


#: Anything that takes a :class:`ProgressEvent`.
Progress = Callable[[ProgressEvent], None]


def silent(event: ProgressEvent) -> None:
    """Show nothing (the default)."""
