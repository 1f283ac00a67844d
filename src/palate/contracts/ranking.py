"""Ranking: the answer of a recommender, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """The best items of each request, best first.

    Attributes
    ----------
    items
        ``int32[n, k]`` item numbers; -1 where fewer than ``k`` items could be offered.
    scores
        ``float32[n, k]``, not rising along a row; ``-inf`` where the item is -1.
    cold
        ``bool[n]``: the model knew nothing about the person, and training popularity answered.
    """

    items: np.ndarray
    scores: np.ndarray
    cold: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    @staticmethod
    def stack(parts: list[Ranking]) -> Ranking:
        """Join rankings of consecutive blocks of requests."""
        return Ranking(
            np.concatenate([p.items for p in parts]),
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.cold for p in parts]),
        )
