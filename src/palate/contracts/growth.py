"""Growth: number a data set as a model numbers people and items, so that the model can learn on from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from palate.contracts.model import Model
from palate.data.dataset import Dataset, Entities, Graph
from palate.data.interactions import concat
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError, UnsupportedError


def grown(dataset: Dataset, model: Model) -> Dataset:
    """Return a data set whose vocabularies begin with those of a fitted model: what :meth:`Model.update` asks for.

    People and items that only the model knows keep their place, without events and with empty attributes; those that only the
    data set knows follow in its order.

    Raises
    ------
    DataError
        If raw ids of the two are of different kinds (text and integers).
    UnsupportedError
        If the data set holds tables of searches, impressions or dialogues, whose numbers would have to change too.
    """
    extra = [name for name in ("searches", "impressions", "dialogues") if getattr(dataset, name) is not None]
    if extra:
        raise UnsupportedError(f"a data set with {', '.join(extra)} can't be numbered as a model is.", remedy="fit anew")
    users, user_of = _grown(model.users_, dataset.users, "users")
    items, item_of = _grown(model.items_, dataset.items, "items")
    events = dataset.interactions
    if not (_stays(user_of) and _stays(item_of)):
        events = concat(replace(events, user=user_of[events.user], item=item_of[events.item]))
    places = {"user": user_of, "item": item_of}
    graphs = {name: _renumbered(graph, places, len(items)) for name, graph in dataset.graphs.items()}
    step = {"step": "grown", "of": model.name}
    return dataset.derive(step, interactions=events, users=users, items=items, graphs=graphs)


def _grown(own: Entities, given: Entities, what: str) -> tuple[Entities, np.ndarray]:
    """Return entities that begin with the model's own, and ``int32[n]``: the number in them of each of the data set's."""
    mine, theirs = own.ids, given.ids
    if not len(mine):
        return given, np.arange(len(theirs), dtype=np.int32)
    if mine.is_text != theirs.is_text and len(theirs):
        pair: Any = (mine.raw[0].as_py(), theirs.raw[0].as_py())
        raise DataError(
            f"ids of {what} are text in one place and integers in the other.", value=pair, remedy="read the data as before"
        )
    numbers = mine.encode(theirs.raw)
    new = np.flatnonzero(numbers < 0)
    numbers[new] = len(mine) + np.arange(len(new))
    raw = pa.concat_arrays([mine.raw, theirs.raw.take(pa.array(new)).cast(mine.raw.type)])
    table = given.attributes
    if table is not None:
        row = np.full(len(raw), -1, np.int64)
        row[numbers] = np.arange(len(theirs))
        table = table.take(pa.array(row, mask=row < 0))
    return Entities(Vocabulary(raw), table), numbers


def _renumbered(graph: Graph, places: Mapping[str, np.ndarray], n_items: int) -> Graph:
    """Return a graph with the new numbers at its ends; entities keep theirs."""
    ends = {
        end: places[kind][getattr(graph, end)] for end, kind in (("head", graph.heads), ("tail", graph.tails)) if kind in places
    }
    entity = graph.item_entity
    if entity is not None:
        moved = np.full(n_items, -1, np.int32)
        moved[places["item"]] = entity
        entity = moved
    return replace(graph, **ends, item_entity=entity)


def _stays(numbers: np.ndarray) -> bool:
    return bool((numbers == np.arange(len(numbers))).all())
