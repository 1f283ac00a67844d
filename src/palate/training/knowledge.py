"""Epochs over the links of a graph: each with a tail that it could not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from palate.kernels.negatives import draw_missing
from palate.nn.adam import Adam
from palate.nn.knowledge import Edges


@dataclass(frozen=True)
class Links:
    """A batch: ``int32[m]`` heads, relations, tails, and tails that no link of the same head and relation has (-1: none)."""

    heads: np.ndarray
    relations: np.ndarray
    tails: np.ndarray
    others: np.ndarray

    def __len__(self) -> int:
        return len(self.heads)


@dataclass(frozen=True)
class LinkEpoch:
    """The links of an epoch, cut into batches."""

    links: Links
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.links) // self.batch_size)

    def __iter__(self) -> Iterator[Links]:
        whole = self.links
        for start in range(0, len(whole), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield Links(whole.heads[part], whole.relations[part], whole.tails[part], whole.others[part])


def link_epoch(edges: Edges, rng: np.random.Generator, batch_size: int, most: int = 0) -> LinkEpoch:
    """Return the batches of an epoch, in a new order.

    Parameters
    ----------
    edges
        The graph; inverse links count as links.
    most
        Most batches; a random part of the links where there would be more (0 = all).
    """
    order = rng.permutation(len(edges))
    if most:
        order = order[: most * batch_size]
    bounds, group = edges.groups
    others = draw_missing(bounds, edges.tails, group[order], edges.rows, int(rng.integers(2**63)))
    kept = others >= 0
    order, others = order[kept], others[kept]
    return LinkEpoch(Links(edges.heads[order], edges.relations[order], edges.tails[order], others), batch_size)


@dataclass(frozen=True)
class Chain:
    """The batches of several epochs, one after the other."""

    parts: tuple[Any, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            yield from part


class AlternatingAdam(Adam):
    """Adam for two objectives that take turns on shared weights: each has moments of its own.

    Which one a step belongs to is seen by whether ``marker``, a weight that only the second one reaches, has a gradient; so
    workers that share a step agree.
    """

    def __init__(self, module: nn.Module, marker: nn.Parameter, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(module.parameters(), lr=lr, weight_decay=weight_decay)
        self.marker = marker

    def _change(self, parameter: Tensor, group: dict[str, Any]) -> None:
        turn, state = int(self.marker.grad is not None), self.state[parameter]
        names = ("step", "mean", "square")
        keys = {name: f"{name}{turn}" for name in names}
        own = {name: state[keys[name]] for name in names if keys[name] in state}
        self.state[parameter] = own
        super()._change(parameter, group)
        state.update({keys[name]: own[name] for name in names})
        self.state[parameter] = state
