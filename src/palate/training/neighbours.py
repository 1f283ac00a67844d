"""Neighbourhoods for training: a few neighbours of each node, drawn for each relation and each layer.

A model of K layers needs, for the nodes whose output is asked for, K blocks: the last one leads from them to their neighbours,
the one before from all of these to theirs, and so on. Layer ``k`` takes at most ``f_k`` neighbours of a node for each relation
(or a number for each relation), so a block of ``n`` output rows has at most ``n Σ_r f_kr`` links, whatever the graph. Draws are
without replacement and come from a seed: the same seed gives the same neighbourhood, whatever else is asked.

Source: W. Hamilton et al., "Inductive Representation Learning on Large Graphs", NeurIPS 2017, section 3.1, by relation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palate.data.ragged import in_sorted, offsets_of
from palate.errors import ConfigError
from palate.kernels.edge_samples import sample_edges
from palate.nn.hetero import Block, Links
from palate.nn.knowledge import Edges


class NeighbourSampler:
    """Draws neighbourhoods of a typed graph.

    Parameters
    ----------
    edges
        The graph (:class:`palate.nn.knowledge.Edges`).
    fanouts
        For each layer, first layer first: the most neighbours of a node for every relation, or one number for each relation
        (0 leaves a relation out).
    """

    def __init__(self, edges: Edges, fanouts: Sequence[int | Sequence[int]]) -> None:
        self.edges = edges
        self.fanouts = [_each(f, edges.n_relations) for f in fanouts]
        if not self.fanouts:
            raise ConfigError("a sampler needs a fan-out for each layer.", where="fanouts", value=list(fanouts))
        bounds, _ = edges.groups
        first = bounds[:-1]
        heads, relations = edges.heads[first], edges.relations[first]
        self._groups = []
        for relation in range(edges.n_relations):
            own = np.flatnonzero(relations == relation)
            starts, sizes = np.zeros(edges.rows, np.int64), np.zeros(edges.rows, np.int64)
            starts[heads[own]], sizes[heads[own]] = bounds[own], bounds[own + 1] - bounds[own]
            self._groups.append((starts, offsets_of(sizes)) if len(own) else None)

    def blocks(self, rows: np.ndarray, seed: int, *, hidden: tuple[np.ndarray, np.ndarray] | None = None) -> list[Block]:
        """Return the blocks of all layers, first layer first; the rows of the last block's output are ``rows``.

        Parameters
        ----------
        rows
            ``int[m]`` distinct nodes.
        seed
            Names the draw.
        hidden
            Heads and tails of links that must not be walked, in either direction, whatever their relation: those that are to be
            predicted.
        """
        keys = None
        if hidden is not None:
            n = np.int64(self.edges.rows)
            a, b = (np.asarray(end, np.int64) for end in hidden)
            keys = np.unique(np.concatenate([a * n + b, b * n + a]))
        found, asked = [], np.asarray(rows, np.int64)
        for layer in range(len(self.fanouts) - 1, -1, -1):
            block = self._block(asked, layer, seed, keys)
            found.append(block)
            asked = block.rows
        return found[::-1]

    def _block(self, rows: np.ndarray, layer: int, seed: int, keys: np.ndarray | None) -> Block:
        drawn = {}
        for relation, group in enumerate(self._groups):
            most = self.fanouts[layer][relation]
            if group is not None and most > 0:
                links = self._draw(rows, group, most, seed + 1_000_003 * (layer * len(self._groups) + relation), keys)
                if len(links.tails):
                    drawn[relation] = links
        # Rows that are asked for come first, then new ones, ascending.
        place = np.full(self.edges.rows, -1, np.int64)
        place[rows] = np.arange(len(rows))
        reached = np.zeros(self.edges.rows, bool)
        for links in drawn.values():
            reached[links.tails] = True
        fresh = np.flatnonzero(reached & (place < 0))
        place[fresh] = len(rows) + np.arange(len(fresh))
        local = {r: Links(k.heads, k.offsets, place[k.tails].astype(np.int32)) for r, k in drawn.items()}
        return Block(np.concatenate([rows, fresh]), len(rows), local)

    def _draw(
        self, rows: np.ndarray, group: tuple[np.ndarray, np.ndarray], most: int, seed: int, keys: np.ndarray | None
    ) -> Links:
        """Draw links of one relation; tails are nodes of the graph."""
        starts, offsets = group
        linked = np.flatnonzero(offsets[rows + 1] - offsets[rows])
        nodes = rows[linked]
        bounds, drawn = sample_edges(offsets, nodes, most, seed % 2**63)
        counts = np.diff(bounds)
        tails = self.edges.tails[np.repeat(starts[nodes] - offsets[nodes], counts) + drawn]
        if keys is not None and len(tails):
            owner = np.repeat(nodes, counts)
            free = ~in_sorted(keys, owner * np.int64(self.edges.rows) + tails)
            counts = np.add.reduceat(free, bounds[:-1]).astype(np.int64)
            tails, linked, counts = tails[free], linked[counts > 0], counts[counts > 0]
        return Links(linked.astype(np.int64), offsets_of(counts), tails)


def _each(fanout: int | Sequence[int], relations: int) -> list[int]:
    given = [int(fanout)] * relations if isinstance(fanout, int) else [int(f) for f in fanout]
    if len(given) != relations or min(given, default=0) < 0:
        raise ConfigError(
            f"a layer's fan-out is a number, or one for each of {relations} relations, none below 0.",
            where="fanouts",
            value=fanout,
        )
    return given
