"""Knowledge: the triples of a data set as a graph of rows that models can propagate over.

Items are rows ``0 … n_items - 1``. An entity that an item stands for is that item's row (of several items, each has the
triples); every other entity that occurs in a triple has a row of its own behind the items. Triples that occur twice, link a
row with itself, or have an end or relation that is unknown (-1) are left out and counted. Relation ``r`` gets an inverse, so
every link can be walked both ways; edges are kept by head (CSR), which makes a softmax over the edges of a head one pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from palate.data.attribute_graph import NAME
from palate.data.dataset import Dataset, Graph
from palate.data.ragged import offsets_of
from palate.errors import DataError
from palate.kernels.spans import even_spans


@dataclass(frozen=True, eq=False)
class Edges:
    """Typed directed links, sorted by head, then relation, then tail; every link stands with its inverse.

    Attributes
    ----------
    offsets
        ``int64[n + 1]`` bounds of the edges of each head.
    tails, relations
        ``int32[m]``.
    inverse
        ``int64[m]`` place of the link that leads back.
    n_relations
        Number of relations, inverses included.
    """

    offsets: np.ndarray
    tails: np.ndarray
    relations: np.ndarray
    inverse: np.ndarray
    n_relations: int

    @classmethod
    def both_ways(cls, n: int, head: np.ndarray, relation: np.ndarray, tail: np.ndarray, n_relations: int) -> Edges:
        """Build from distinct links over ``n`` rows; relation ``r`` becomes ``2r``, and ``2r + 1`` leads back."""
        m = len(head)
        heads, tails = np.concatenate([head, tail]), np.concatenate([tail, head])
        relations = np.concatenate([2 * relation, 2 * relation + 1]).astype(np.int32)
        order = np.lexsort((tails, relations, heads))
        place = np.empty(2 * m, np.int64)
        place[order] = np.arange(2 * m)
        inverse = place[(order + m) % max(1, 2 * m)]
        offsets = offsets_of(np.bincount(heads, minlength=n))
        return cls(offsets, tails[order].astype(np.int32), relations[order], inverse, 2 * n_relations)

    def __len__(self) -> int:
        return len(self.tails)

    def kept(self, keep: np.ndarray) -> Edges:
        """Return the edges marked in ``bool[m]``; a link stays only where the one back does."""
        stays = keep & keep[self.inverse]
        place = np.cumsum(stays) - 1
        offsets = np.concatenate([[0], np.cumsum(stays)])[self.offsets].astype(np.int64)
        inverse = place[self.inverse[stays]].astype(np.int64)
        return Edges(offsets, self.tails[stays], self.relations[stays], inverse, self.n_relations)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    @cached_property
    def heads(self) -> np.ndarray:
        """``int32[m]`` head of each edge."""
        return np.repeat(np.arange(self.rows, dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def degrees(self) -> np.ndarray:
        """``int64[n]`` edges that leave each row."""
        return np.diff(self.offsets)

    @cached_property
    def spans(self) -> np.ndarray:
        """Row bounds of equal work."""
        return even_spans(self.offsets)

    @cached_property
    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Runs of edges with one head and one relation: ``int64[g + 1]`` bounds, and ``int32[m]`` run of each edge."""
        first = np.ones(len(self), bool)
        first[1:] = (np.diff(self.heads) != 0) | (np.diff(self.relations) != 0)
        return np.append(np.flatnonzero(first), len(self)).astype(np.int64), (np.cumsum(first) - 1).astype(np.int32)

    @cached_property
    def asks(self) -> np.ndarray:
        """``int64[m]`` head and relation of each edge as one number, ``head · n_relations + relation``."""
        return self.heads.astype(np.int64) * self.n_relations + self.relations

    @cached_property
    def offers(self) -> np.ndarray:
        """``int64[m]`` tail and relation of each edge as one number."""
        return self.tails.astype(np.int64) * self.n_relations + self.relations

    @cached_property
    def by_relation(self) -> list[np.ndarray]:
        """Places of the edges of each relation, ascending."""
        order = np.argsort(self.relations, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.relations, minlength=self.n_relations))[:-1])


@dataclass(frozen=True, eq=False)
class Knowledge:
    """The distinct triples of a data set over rows of items and entities.

    Attributes
    ----------
    head, relation, tail
        ``int32[m]``, sorted.
    n_items, n_rows, n_relations
        Items, rows (items, then the other entities), and relations without inverses.
    entities
        ``int32[n_rows - n_items]`` number of the entity behind each row that is no item's.
    counts
        What was read and what was left out.
    """

    head: np.ndarray
    relation: np.ndarray
    tail: np.ndarray
    n_items: int
    n_rows: int
    n_relations: int
    entities: np.ndarray
    counts: Mapping[str, int]

    @classmethod
    def of(cls, dataset: Dataset, *, required: bool = True) -> Knowledge:
        """Read the graph ``"knowledge"`` of a data set.

        Parameters
        ----------
        required
            Whether a data set without that graph is refused; else it counts as one without triples.

        Raises
        ------
        DataError
            If the graph is missing, has triples but none of an item, links people, or holds a number outside its vocabularies.
        """
        graph = dataset.graphs.get(NAME)
        if graph is None:
            if required:
                known = ", ".join(sorted(dataset.graphs)) or "none"
                raise DataError(
                    "the data set has no knowledge graph.",
                    where=f"{dataset.name}, graphs: {known}",
                    remedy="put a table kg.csv (head, relation, tail) beside the events, or RecBole's .kg and .link; "
                    "or make one of the items' attributes: --read attribute_graph=all; "
                    "or learn from interactions alone: require_graph=False",
                )
            empty = np.empty(0, np.int32)
            return cls(empty, empty, empty, dataset.n_items, dataset.n_items, 0, empty, {"read": 0})
        found = _read(graph, dataset.n_items)
        if required and found.counts["read"] and found.counts["items_without_triples"] == dataset.n_items:
            raise DataError(
                "no triple of the knowledge graph speaks of an item of the events.",
                where=f"{dataset.name}, graph {NAME!r}",
                value=dict(found.counts),
                remedy="check that triples name items by their ids, or say which entity an item is: a table item_entities.csv "
                "(item, entity), or RecBole's .link",
            )
        return found

    def __len__(self) -> int:
        return len(self.head)

    @cached_property
    def edges(self) -> Edges:
        """All triples, both ways."""
        return Edges.both_ways(self.n_rows, self.head, self.relation, self.tail, self.n_relations)

    def with_people(self, matrix: sparse.csr_matrix) -> Edges:
        """Return the collaborative graph: people are rows ``0 … n_users - 1``, all other rows follow.

        Relation 0 leads from a person to an item of theirs, 1 back; relations of the triples follow.
        """
        people = matrix.shape[0]
        pairs = matrix.tocoo()
        head = np.concatenate([pairs.row, self.head + people]).astype(np.int32)
        tail = np.concatenate([pairs.col, self.tail]).astype(np.int32) + np.int32(people)
        relation = np.concatenate([np.zeros(pairs.nnz, np.int32), self.relation + 1]).astype(np.int32)
        return Edges.both_ways(people + self.n_rows, head, relation, tail, self.n_relations + 1)

    @property
    def notes(self) -> dict[str, int]:
        """What a model's record keeps of it."""
        return {"triples": len(self), "rows": self.n_rows, "relations": self.n_relations, **self.counts}


def _read(graph: Graph, n_items: int) -> Knowledge:
    relations = len(graph.relations)
    _check_numbers(graph, n_items)
    bad = (graph.head < 0) | (graph.tail < 0) | (graph.relation < 0)
    head, relation, tail = graph.head[~bad], graph.relation[~bad], graph.tail[~bad]
    rows = _Rows.of(graph, n_items, head, tail)
    head, relation, tail = rows.expand(graph.heads, head, relation, tail)
    tail, relation, head = rows.expand(graph.tails, tail, relation, head)
    loops = head == tail
    triples = np.stack([head[~loops], relation[~loops], tail[~loops]], axis=1).astype(np.int64)
    distinct = np.unique(triples, axis=0).astype(np.int32)
    linked = np.zeros(rows.n_rows, bool)
    linked[distinct[:, 0]] = linked[distinct[:, 2]] = True
    counts = {
        "read": len(graph),
        "unknown": int(bad.sum()),
        "self_loops": int(loops.sum()),
        "duplicates": len(triples) - len(distinct),
        "items_without_triples": int((~linked[:n_items]).sum()),
    }
    head, relation, tail = (np.ascontiguousarray(distinct[:, c]) for c in range(3))
    return Knowledge(head, relation, tail, n_items, rows.n_rows, relations, rows.entities, counts)


@dataclass(frozen=True)
class _Rows:
    """Where numbers of items and entities stand: the rows of entity ``e`` are ``rows[offsets[e]:offsets[e + 1]]``."""

    offsets: np.ndarray
    rows: np.ndarray
    n_rows: int
    entities: np.ndarray

    @classmethod
    def of(cls, graph: Graph, n_items: int, head: np.ndarray, tail: np.ndarray) -> _Rows:
        n = 0 if graph.entities is None else len(graph.entities)
        links = np.full(n_items, -1, np.int32) if graph.item_entity is None else graph.item_entity
        items = np.flatnonzero(links >= 0).astype(np.int32)
        used = np.zeros(n, bool)
        for kind, numbers in ((graph.heads, head), (graph.tails, tail)):
            if kind == "entity":
                used[numbers] = True
        used[links[items]] = False
        others = np.flatnonzero(used).astype(np.int32)
        owner = np.concatenate([links[items], others])
        place = np.concatenate([items, n_items + np.arange(len(others), dtype=np.int32)])
        order = np.argsort(owner, kind="stable")
        return cls(offsets_of(np.bincount(owner, minlength=n)), place[order], n_items + len(others), others)

    def expand(
        self, kind: str, end: np.ndarray, relation: np.ndarray, other: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Turn the numbers of one end into rows; a triple whose end has several rows is repeated."""
        if kind == "item":
            return end, relation, other
        times = np.diff(self.offsets)[end]
        begin = np.repeat(self.offsets[end], times)
        within = np.arange(len(begin)) - np.repeat(np.cumsum(times) - times, times)
        return self.rows[begin + within], np.repeat(relation, times), np.repeat(other, times)


def _check_numbers(graph: Graph, n_items: int) -> None:
    sizes = {"item": n_items, "entity": 0 if graph.entities is None else len(graph.entities)}
    for what, kind, numbers in (("head", graph.heads, graph.head), ("tail", graph.tails, graph.tail)):
        if kind not in sizes:
            raise DataError("a knowledge graph links items and entities.", where=f"{NAME}, {what}s", value=kind)
        _below(f"{kind} of a {what}", numbers, sizes[kind])
    _below("relation", graph.relation, len(graph.relations))
    if graph.item_entity is not None:
        if len(graph.item_entity) != n_items:
            raise DataError("item_entity needs one number an item.", where=NAME, value=[len(graph.item_entity), n_items])
        _below("entity of an item", graph.item_entity, sizes["entity"])


def _below(what: str, numbers: np.ndarray, size: int) -> None:
    if len(numbers) and int(numbers.max()) >= size:
        raise DataError(f"the {what} is a number outside its vocabulary of {size}.", where=NAME, value=int(numbers.max()))
