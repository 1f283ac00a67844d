"""A knowledge graph out of what items say of themselves: item, attribute, value.

Systems that walk over triples (KGAT, R-GCN, DiffKG) then reach other items by the same maker or category, where no other
knowledge is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset, Graph
from palate.data.features import guess_kind
from palate.data.ragged import Ragged
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, nearest

#: Name of the graph in a data set.
NAME = "knowledge"


def with_attribute_graph(dataset: Dataset, names: Sequence[str] | None = None) -> Dataset:
    """Return the data set with a knowledge graph of its items' attributes; a value is one entity of its attribute.

    Parameters
    ----------
    names
        Attributes; by default those that look like categories or sets of them (:func:`palate.data.features.guess_kind`).
        Words and numbers can be named, too; of lists, every value is a triple.

    Raises
    ------
    ConfigError
        If an attribute isn't there, or there is a knowledge graph already.
    DataError
        If no attribute is left, or one holds no plain values.
    """
    if NAME in dataset.graphs:
        raise ConfigError("the data set has a knowledge graph already.", where=dataset.name, remedy="leave attribute_graph out")
    table = dataset.items.attributes
    columns = [] if table is None else table.column_names
    if wrong := [name for name in names or () if name not in columns]:
        advice = nearest(wrong[0], columns) if columns else "the items have no attributes"
        raise ConfigError("there is no such attribute of items.", where="attribute_graph", value=wrong[0], remedy=advice)
    chosen = list(names) if names else category_names(dataset)
    if table is None or not chosen:
        remedy = "put a table of items beside the events, or name its columns: attribute_graph=NAME,NAME"
        raise DataError("no attribute of items looks like a category.", where=dataset.name, value=columns, remedy=remedy)
    n, heads, relations, tails = dataset.n_items, list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    entities = [f"item: {raw}" for raw in dataset.items.ids.raw.to_pylist()]
    for number, name in enumerate(chosen):
        rows, values = _values(name, table.column(name))
        heads.append(rows.row_numbers.astype(np.int32))
        relations.append(np.full(len(rows.values), number, np.int32))
        tails.append(rows.values + np.int32(len(entities)))
        entities += [f"{name}: {value}" for value in values]
    head, relation, tail = (np.concatenate(part).astype(np.int32) for part in (heads, relations, tails))
    graph = Graph(
        head,
        relation,
        tail,
        heads="entity",
        tails="entity",
        relations=Vocabulary(pa.array(chosen, pa.string())),
        entities=Vocabulary(pa.array(entities, pa.string())),
        item_entity=np.arange(n, dtype=np.int32),
    )
    step = {"step": "attribute graph", "attributes": chosen, "triples": len(graph)}
    return dataset.derive(step, graphs={**dataset.graphs, NAME: graph})


def category_names(dataset: Dataset) -> list[str]:
    """Return the attributes of items that look like categories, or sets of them."""
    table = dataset.items.attributes
    columns = [] if table is None else zip(table.column_names, table.columns, strict=True)
    return [name for name, column in columns if guess_kind(column) in ("category", "set")]


def _values(name: str, column: pa.ChunkedArray) -> tuple[Ragged, list[str]]:
    """Return the value numbers of each item, each once, and the values, in the order of the alphabet."""
    cells = column.to_pylist()
    lists = [cell if isinstance(cell, list) else [cell] for cell in cells]
    told = [[str(value).strip() for value in row if value is not None and not isinstance(value, dict | list)] for row in lists]
    if any(isinstance(value, dict | list) for row in lists for value in row):
        raise DataError("an attribute of triples holds plain values, or lists of them.", where=f"items, column {name!r}")
    values = sorted({value for row in told for value in row if value})
    number = {value: at for at, value in enumerate(values)}
    return Ragged.from_rows([sorted({number[value] for value in row if value}) for row in told]), values
