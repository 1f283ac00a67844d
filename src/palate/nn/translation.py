"""Translation along the edges of people and items: what somebody wants at a moment leads from them to an item.

    e_i^(l) = mean over edges (u, i) of e_u^(l-1) + q_e        e_u^(l) = mean over edges (u, i) of e_i^(l-1) - q_e
    e* = Σ_{l=0..L} e^(l) / (l + 1)

Every edge has a vector ``q`` of its own; a pair may have several edges. Both sides read the layer below. Without ``q`` it is
the plain mean of the neighbours. As ``q`` is the same in all layers, its mean at each node is taken once, ``t = S q``, and a
layer is one sparse product, ``x^(l) = P x^(l-1) + t``. A node without edges has nothing but ``e^(0)``.

Source: the message rule of "Unified Dual-Intent Translation for Joint Modeling of Search and Recommendation", KDD 2024; the
translation is that of TransE (Bordes et al., NeurIPS 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from palate.nn.sparse import Sparse


@dataclass(frozen=True, eq=False)
class TranslationGraph:
    """Edges between people and items; items are numbered after people.

    Attributes
    ----------
    users, items
        ``int64[m]`` ends of each edge; items from 0.
    n_users
        People, and number of the first item's node.
    mean, shift
        ``P`` (nodes x nodes) and ``S`` (nodes x edges; negative in rows of people).
    """

    users: np.ndarray
    items: np.ndarray
    n_users: int
    mean: Sparse
    shift: Sparse

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> Self:
        """Return the graph of these edges."""
        users, items = np.asarray(users, np.int64), np.asarray(items, np.int64)
        m, n = len(users), n_users + n_items
        nodes, edges = np.concatenate([users, items + n_users]), np.tile(np.arange(m), 2)
        others = np.concatenate([items + n_users, users])
        shares = 1 / np.maximum(np.bincount(nodes, minlength=n), 1)[nodes]
        signs = np.repeat([-1.0, 1.0], m)
        mean = sparse.coo_matrix((shares, (nodes, others)), shape=(n, n))
        shift = sparse.coo_matrix((signs * shares, (nodes, edges)), shape=(n, m))
        return cls(users, items, n_users, Sparse.of(mean), Sparse.of(shift))


def translate(x: Tensor, demands: Tensor | None, graph: TranslationGraph, layers: int) -> list[Tensor]:
    """Return all layers, ``float32[nodes, d]`` each, with their gradients.

    Parameters
    ----------
    x
        ``float32[nodes, d]``, layer 0.
    demands
        ``float32[m, d]``, the vector of each edge; ``None`` for plain means.
    """
    moved = None if demands is None else graph.shift.times(demands)
    found = [x]
    for _ in range(layers):
        found.append(graph.mean.times(found[-1]) if moved is None else graph.mean.times(found[-1]) + moved)
    return found


def translate_reference(x: Tensor, demands: Tensor | None, graph: TranslationGraph, layers: int) -> list[Tensor]:
    """As :func:`translate`, message by message in plain torch, on any device."""
    users, items = (torch.from_numpy(a).to(x.device) for a in (graph.users, graph.items))
    nodes, others = torch.cat([users, items + graph.n_users]), torch.cat([items + graph.n_users, users])
    degree = torch.zeros(len(x), dtype=x.dtype, device=x.device).index_add(0, nodes, torch.ones_like(nodes, dtype=x.dtype))
    found = [x]
    for _ in range(layers):
        messages = found[-1][others]
        if demands is not None:
            messages = messages + torch.cat([-demands, demands])
        total = torch.zeros_like(x).index_add(0, nodes, messages)
        found.append(total / degree.clamp(min=1)[:, None])
    return found


def readout(layers: Sequence[Tensor]) -> Tensor:
    """Return ``Σ_l e^(l) / (l + 1)``."""
    total = layers[0]
    for at, layer in enumerate(layers[1:], 1):
        total = total + layer / (at + 1)
    return total
