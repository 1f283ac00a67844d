"""Dataset: interactions, users, items, graphs, searches, impressions and dialogues in one immutable value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from palate.data.fingerprint import fingerprint
from palate.data.histories import Histories
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError


@dataclass(frozen=True, eq=False)
class Entities:
    """Users or items: their raw ids, and a table of attributes (row ``r`` is number ``r``).

    Attributes
    ----------
    ids
        The :class:`Vocabulary`.
    attributes
        Arrow table with one row an id, or ``None``. Text, categories (lists of strings), prices, image vectors.
    """

    ids: Vocabulary
    attributes: pa.Table | None = None

    def __post_init__(self) -> None:
        if self.attributes is not None and self.attributes.num_rows != len(self.ids):
            raise DataError(
                f"the attribute table has {self.attributes.num_rows} rows for {len(self.ids)} ids.",
                remedy="give one row an id, in the order of the vocabulary",
            )

    def __len__(self) -> int:
        return len(self.ids)

    def without(self, numbers: np.ndarray) -> Entities:
        """Return them with some forgotten: their rows stay, under unguessable ids and with empty attributes."""
        gone = np.zeros(len(self), bool)
        gone[numbers] = True
        table = self.attributes
        if table is not None:
            kept = pa.array(np.arange(len(self)), mask=gone)
            table = table.take(kept)
        return Entities(self.ids.without(numbers), table)

    def column(self, name: str) -> pa.ChunkedArray | None:
        """Return an attribute column, or ``None`` where there is none of that name."""
        if self.attributes is None or name not in self.attributes.column_names:
            return None
        return self.attributes.column(name)

    def labels(self, numbers: np.ndarray) -> list[str]:
        """Return readable names: the title or name where known, else the raw id."""
        raw = [str(r) for r in self.ids.decode(numbers).to_pylist()]
        for name in ("title", "name"):
            column = self.column(name)
            if column is not None:
                titles = column.take(pa.array(np.maximum(np.asarray(numbers).ravel(), 0))).to_pylist()
                return [str(t) if t else r for t, r in zip(titles, raw, strict=True)]
        return raw


@dataclass(frozen=True, eq=False)
class Graph:
    """Typed links between numbered things: social ties or knowledge triples.

    Attributes
    ----------
    head, relation, tail
        ``int32[n]`` numbers (``relation`` is all zero where there is one kind of link).
    heads, tails
        Which vocabulary numbers the ends: ``"user"``, ``"item"`` or ``"entity"``.
    relations
        Names of the relations.
    entities
        Vocabulary of entities, where an end is an ``"entity"``.
    item_entity
        ``int32[n_items]`` entity of each item (-1 where unknown), where items are linked to entities.
    weight
        ``float32[n]``, or ``None``.
    """

    head: np.ndarray
    relation: np.ndarray
    tail: np.ndarray
    heads: str
    tails: str
    relations: Vocabulary
    entities: Vocabulary | None = None
    item_entity: np.ndarray | None = None
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.head)


@dataclass(frozen=True, eq=False)
class Dataset:
    """All that is known, columnar and immutable; every id inside is a contiguous int32 number.

    Attributes
    ----------
    interactions
        Events sorted by user, time, file order.
    users, items
        Raw ids and attributes.
    graphs
        Named graphs, such as ``"social"`` and ``"knowledge"``.
    searches, impressions, dialogues
        Arrow tables of search queries, of slates shown (with clicks and propensities), and of conversations; or ``None``.
    actions, sessions
        Names behind the codes of ``interactions.action`` and ``interactions.session``.
    name
        What to call it in tables.
    spec
        The recorded steps that made it (source, filters, split), each a plain mapping.
    """

    interactions: Interactions
    users: Entities
    items: Entities
    graphs: Mapping[str, Graph] = field(default_factory=lambda: MappingProxyType({}))
    searches: pa.Table | None = None
    impressions: pa.Table | None = None
    dialogues: pa.Table | None = None
    actions: Vocabulary | None = None
    sessions: Vocabulary | None = None
    name: str = "data"
    spec: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_columns(
        cls,
        user: pa.Array | Sequence[Any] | np.ndarray,
        item: pa.Array | Sequence[Any] | np.ndarray,
        *,
        time: np.ndarray | Sequence[int] | None = None,
        value: np.ndarray | Sequence[float] | None = None,
        name: str = "data",
    ) -> Dataset:
        """Build from columns of raw ids held in memory (readers handle files and doubtful input)."""
        users, user_numbers = Vocabulary.of(_arrow(user))
        items, item_numbers = Vocabulary.of(_arrow(item))
        events = Interactions.sorted(
            user_numbers,
            item_numbers,
            time=None if time is None else np.asarray(time, np.int64),
            value=None if value is None else np.asarray(value, np.float32),
        )
        return cls(events, Entities(users), Entities(items), name=name, spec=({"step": "columns"},))

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.items)

    def __len__(self) -> int:
        return len(self.interactions)

    @cached_property
    def histories(self) -> Histories:
        """Every user's history, most recent last."""
        return self.interactions.histories(self.n_users)

    def matrix(self, *, values: bool = False) -> sparse.csr_matrix:
        """Return the users x items CSR matrix of float32 ones (or of summed values)."""
        return self.histories.matrix(self.n_items, values=values)

    @cached_property
    def item_counts(self) -> np.ndarray:
        """``int64[n_items]`` interactions of each item."""
        return np.bincount(self.interactions.item, minlength=self.n_items)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content that decides which questions are asked: interactions, ids, graphs.

        Not of names, files, or attributes: a split stays the same split when titles are added to it.
        """
        columns = self.interactions.without("row").columns
        graphs = {n: [fingerprint(g.head, g.relation, g.tail), g.heads, g.tails] for n, g in self.graphs.items()}
        return fingerprint(columns, self.users.ids.raw, self.items.ids.raw, graphs)

    def derive(self, step: Mapping[str, Any], **changes: Any) -> Dataset:
        """Return a copy with some parts replaced and one more recorded step."""
        return replace(self, **changes, spec=(*self.spec, dict(step)))

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {self.n_users:,} users, {self.n_items:,} items, {len(self):,} interactions)"


def _arrow(column: pa.Array | Sequence[Any] | np.ndarray) -> pa.Array | pa.ChunkedArray:
    return column if isinstance(column, (pa.Array, pa.ChunkedArray)) else pa.array(column)
