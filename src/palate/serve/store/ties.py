"""Ties between people: whom each names, in the store, in a data set's graph, and out of one.

A tie is one person's word of another (friend, followed, trusted); a friendship is two of them. It may name somebody whom the
store doesn't know yet: it counts from when both are there. Both ends are persons' data: an erasure of either takes it away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, bindparam, delete, select

from palate.data.dataset import Dataset, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.serve.store.bulk import put_block, read_blocks, rows_named
from palate.serve.store.checks import check_id, check_new_id
from palate.serve.store.part import Part, chunks
from palate.serve.store.tables import ties

#: Name of the graph of ties in a data set, and of its one relation.
GRAPH, RELATION = "social", "tied to"
#: People whom one person may name, at most.
MOST = 10_000
_OF = select(ties.c.other).where(ties.c.user == bindparam("user")).order_by(ties.c.other)


class Ties(Part):
    """The store's part for ties."""

    def ties_of(self, user: str) -> list[str]:
        """Return whom a person names, in the order of their ids."""
        return [row[0] for row in self.database.glance(_OF, {"user": check_id(user, "user")})]


def check_ties(named: Sequence[str], user: str, where: str) -> list[str]:
    """Return the distinct people whom a person names (their own id is passed over), or refuse them.

    Raises
    ------
    DataError
        If one is no id, if one id stands where a list belongs, or there are more than :data:`MOST`.
    """
    if isinstance(named, str):
        raise DataError("one id stands where a list belongs.", where=where, value=named, remedy="give a list of ids")
    if len(named) > MOST:
        raise DataError(f"a person names at most {MOST:,} people.", where=where, value=len(named), remedy="leave some out")
    found = dict.fromkeys(check_new_id(other, f"{where}[{at}]") for at, other in enumerate(named))
    return [other for other in found if other != user]


def replace_ties(connection: Connection, named: Mapping[str, Sequence[str]], now: float) -> None:
    """Have each of some people name just these (checked); a tie that was there keeps its time."""
    known = rows_named(connection, (ties.c.user, ties.c.other, ties.c.time), ties.c.user, named)
    made = {(user, other): time for user, other, time in known}
    for some in chunks(named):
        connection.execute(delete(ties).where(ties.c.user.in_(some)))
    rows = ((user, other, made.get((user, other), now)) for user, others in named.items() for other in others)
    put_block(connection, ties, ("user", "other", "time"), rows)


def tie_graph(connection: Connection, people: Vocabulary) -> Graph | None:
    """Return the ties whose two ends are people of a data set as its graph; ``None`` where there are none."""
    wanted = select(ties.c.user, ties.c.other).order_by(ties.c.user, ties.c.other)
    columns = (zip(*block, strict=True) for block in read_blocks(connection, wanted))
    ends = [np.stack([people.encode(ids) for ids in pair]) for pair in columns]
    head, tail = np.concatenate([np.empty((2, 0), np.int32), *ends], axis=1)
    kept = (head >= 0) & (tail >= 0)
    if not kept.any():
        return None
    head, tail = head[kept], tail[kept]
    return Graph(head, np.zeros(len(head), np.int32), tail, "user", "user", Vocabulary(pa.array([RELATION])))


def tie_rows(data: Dataset, now: float) -> Iterator[tuple[str, str, float]]:
    """Give the rows of a data set's ties, each pair once; those to oneself, and of a weight of 0 or less, are left out."""
    graph = data.graphs.get(GRAPH)
    if graph is None or (graph.heads, graph.tails) != ("user", "user"):
        return
    kept = (graph.head != graph.tail) & (True if graph.weight is None else np.asarray(graph.weight) > 0)
    n = len(data.users)
    pairs = np.unique(graph.head[kept].astype(np.int64) * n + graph.tail[kept])
    names = data.users.ids.raw.cast(pa.string())
    for some in np.array_split(pairs, max(1, len(pairs) // 50_000)):
        heads, tails = (names.take(pa.array(ids)).to_pylist() for ids in (some // n, some % n))
        yield from ((head, tail, now) for head, tail in zip(heads, tails, strict=True))
