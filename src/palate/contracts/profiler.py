"""Profiler: what do we know about this person or thing?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palate.contracts.shapes import check_distinct, check_rows, check_shape
from palate.errors import DataError, UnsupportedError


@dataclass(frozen=True, eq=False)
class Things:
    """People, items or mentions to be described.

    Attributes
    ----------
    kind
        ``"user"``, ``"item"`` or ``"mention"`` (a piece of text that may name an entity).
    numbers
        ``int32[n]`` user or item numbers, -1 where unknown; or ``None`` for things known by text only.
    texts
        Words of each thing, or ``None``.
    """

    kind: Literal["user", "item", "mention"]
    numbers: np.ndarray | None = None
    texts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.numbers is None and self.texts is None:
            raise DataError("things need numbers, texts, or both.", where="Things")
        if self.numbers is not None:
            check_shape(self.numbers, (None,), "Things.numbers")
            if self.texts is not None and len(self.texts) != len(self.numbers):
                raise DataError("numbers and texts differ in length.", where="Things", value=len(self.texts))

    def __len__(self) -> int:
        return len(self.numbers) if self.numbers is not None else len(self.texts or ())


@dataclass(frozen=True, eq=False)
class Profile:
    """What is believed of one attribute.

    Attributes
    ----------
    attribute
        Such as ``"age group"``.
    values
        The values it may take.
    probabilities
        ``float32[n, len(values)]``; rows sum to 1.
    """

    attribute: str
    values: tuple[str, ...]
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        where = f"profile of {self.attribute!r}"
        check_shape(self.probabilities, (None, len(self.values)), where)
        good = (self.probabilities >= 0) & (self.probabilities <= 1 + 1e-6)
        check_rows(good, self.probabilities, "a probability must lie between 0 and 1.", where)
        sums = self.probabilities.sum(axis=1, dtype=np.float64)
        check_rows(np.abs(sums - 1) < 1e-3, sums, "probabilities don't sum to 1.", where)

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def best(self) -> list[str]:
        """The likeliest value of each thing (the first where equal)."""
        return [self.values[at] for at in self.probabilities.argmax(axis=1)]


@dataclass(frozen=True, eq=False)
class Links:
    """Which entities things are.

    Attributes
    ----------
    targets
        ``int32[n, k]`` entity numbers, best first; -1 where there are fewer, so a row of -1 means "none of them".
    scores
        ``float32[n, k]``, not rising along a row; ``-inf`` where the target is -1.
    """

    targets: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        check_shape(self.targets, (None, None), "link targets")
        check_shape(self.scores, self.targets.shape, "link scores")
        check_distinct(self.targets, "link targets")
        check_rows(~np.isnan(self.scores), self.scores, "a score is NaN.", "link scores")
        check_rows(np.isneginf(self.scores) == (self.targets < 0), self.scores, "-inf and -1 go together.", "link scores")
        check_rows(self.scores[:, 1:] <= self.scores[:, :-1], self.scores[:, 1:], "scores rise along a row.", "link scores")

    def __len__(self) -> int:
        return len(self.targets)


class Profiler(ABC):
    """Base of systems that describe people and things; each gives at least one of three answers, and refuses the others."""

    @property
    @abstractmethod
    def abilities(self) -> frozenset[str]:
        """Which of ``"embed"``, ``"predict"`` and ``"link"`` it can do."""

    def embed(self, things: Things) -> np.ndarray:
        """Return ``float32[n, d]``, one vector a thing."""
        raise self._refuse("embed")

    def predict(self, things: Things, attributes: Sequence[str] | None = None) -> list[Profile]:
        """Return one profile an attribute (all that are known by default), each with one row a thing."""
        raise self._refuse("predict")

    def link(self, things: Things, k: int = 1) -> Links:
        """Return the ``k`` entities that each thing most likely is."""
        raise self._refuse("link")

    def _refuse(self, ability: str) -> UnsupportedError:
        known = ", ".join(sorted(self.abilities)) or "nothing"
        return UnsupportedError(f"{type(self).__name__} can't {ability}.", remedy=f"it can {known}")
