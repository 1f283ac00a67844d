"""Explanation: why an item is offered, as evidence that can be checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Evidence:
    """One reason.

    Attributes
    ----------
    kind
        ``"history"`` (an item the person knows), ``"popularity"``, ``"feature"``, ``"path"`` or ``"dimension"``.
    subject
        Item number for ``"history"``, else a readable name.
    weight
        Its part of the score, in the model's own units.
    """

    kind: Literal["history", "popularity", "feature", "path", "dimension"]
    subject: int | str
    weight: float
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """Why ``item`` has its ``score`` for one request.

    Attributes
    ----------
    evidence
        Reasons, strongest first.
    exact
        Whether the weights add up to the score (with ``rest``); otherwise each weight is the fall of the score when
        that part of the history is left out.
    rest
        The part of the score that no listed reason accounts for (exact explanations only).
    method
        How the weights were found, in a few words.
    """

    item: int
    score: float
    evidence: tuple[Evidence, ...]
    exact: bool
    method: str
    rest: float = 0.0
