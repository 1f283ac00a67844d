"""Parts that somebody published, brought together by raw id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset, Entities, Graph
from palate.data.interactions import Interactions
from palate.data.positive import Positive
from palate.data.protocols.by_user import user_ratio
from palate.data.split import Split
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError


def given(
    dataset: Dataset,
    *,
    seed: int = 0,
    test: Dataset | None = None,
    valid: Dataset | float | None = None,
    order: Literal["time", "random"] = "random",
) -> Split:
    """Take parts that somebody published; users, items, actions and sessions are brought together by raw id.

    Parameters
    ----------
    dataset, test
        The published training and test parts.
    valid
        The published validation part, or the share of each user's training events to carve out, or ``None``.
    order
        How a share is carved: ``"random"``, or ``"time"`` for the latest.

    Raises
    ------
    ConfigError
        If the test part is missing.
    DataError
        If the parts' ids are of different types (text in one, integers in the other), or a part is empty.
    """
    if not isinstance(test, Dataset):
        raise ConfigError("the protocol needs the test part.", where="given", remedy="split(train, 'given', test=test)")
    parts = [dataset, *([valid] if isinstance(valid, Dataset) else []), test]
    for part in parts:
        if not len(part):
            raise DataError("a part is empty.", where=part.name, remedy="give parts with events")
    train, *others = _together(parts)
    spec: dict[str, Any] = {"protocol": "given", "seed": seed, "data": [p.fingerprint for p in parts]}
    if valid is None or isinstance(valid, Dataset):
        return Split(train, others[0] if len(others) == 2 else None, others[-1], spec)
    carved = user_ratio(train, seed=seed, valid=valid, test=0.0, order=order)
    return Split(carved.train, carved.valid, others[-1], {**spec, "valid": valid, "order": order})


def from_parts(
    parts: Mapping[str, Dataset],
    *,
    seed: int = 0,
    valid: float | None = None,
    order: Literal["time", "random"] = "random",
    positive: Iterable[str] = (),
) -> Split:
    """Take the parts of one source (:func:`palate.data.readers.read_parts`) by their names: ``train``, ``valid``, ``test``.

    Parameters
    ----------
    valid, order
        As in :func:`given`, where no validation part was published.
    positive
        Events that count as choices, in every part alike (:mod:`palate.data.positive`; none named: all). Users and items stay,
        those that nobody chose included: ratings of items shown by lot judge the whole catalogue.

    Raises
    ------
    ConfigError
        If what counts as a choice can't be read.
    DataError
        If there is no training or no test part, or a part has no event that counts.
    """
    if "train" not in parts or "test" not in parts:
        remedy = "give train and test, or read the source whole and cut it by another protocol"
        raise DataError("a split needs a training and a test part.", where="given", value=sorted(parts), remedy=remedy)
    counts = Positive.parse(positive)
    if counts is not None:
        for part in parts.values():
            counts.check(part)
        parts = {name: counts.select(part) for name, part in parts.items()}
    train = parts["train"]
    train = replace(train, name=train.name.removesuffix("/train"))
    published = parts.get("valid")
    return given(train, test=parts["test"], valid=valid if published is None else published, seed=seed, order=order)


def _together(parts: Sequence[Dataset]) -> tuple[Dataset, *tuple[Interactions, ...]]:
    """Return the first part over the joint vocabularies, and the events of the others; rows count on from part to part."""
    first = parts[0]
    users, items = _joined([p.users for p in parts], "user"), _joined([p.items for p in parts], "item")
    names = {code: _names([getattr(p, f"{code}s") for p in parts], code) for code in ("action", "session")}
    moved, start = [], 0
    for part in parts:
        columns = part.interactions.columns
        columns["row"] = part.interactions.file_order.astype(np.int64) + start
        columns["user"] = users.ids.encode(part.users.ids.raw)[columns["user"]]
        columns["item"] = items.ids.encode(part.items.ids.raw)[columns["item"]]
        for code, joint in names.items():
            own = getattr(part, f"{code}s")
            if joint is not None and own is not None and code in columns:
                columns[code] = joint.encode(own.raw)[columns[code]]
        start = int(columns["row"].max()) + 1
        columns["row"] = columns["row"].astype(np.int32)
        moved.append(Interactions.sorted(**columns))
    train = first.derive(
        {"step": "given", "of": [p.name for p in parts]},
        interactions=moved[0],
        users=users,
        items=items,
        graphs={name: _grown(graph, len(items)) for name, graph in first.graphs.items()},
        actions=names["action"],
        sessions=names["session"],
    )
    return (train, *moved[1:])


def _joined(sides: Sequence[Entities], kind: str) -> Entities:
    """Return the union of ids in order of first appearance, each with the attributes of the part that has it first."""
    raw, tables = sides[0].ids.raw, [_table(sides[0], None)]
    for side in sides[1:]:
        if side.ids.raw.equals(raw):
            continue
        if len(side.ids) and len(raw) and side.ids.raw.type != raw.type:
            value = f"{raw.type} and {side.ids.raw.type}"
            raise DataError(f"the parts' {kind} ids are of different types.", value=value, remedy="read all with ids='text'")
        new = pa.array(Vocabulary(raw).encode(side.ids.raw) < 0)
        raw = pa.concat_arrays([raw, side.ids.raw.filter(new)])
        tables.append(_table(side, new))
    attributes = pa.concat_tables(tables, promote_options="default").drop_columns(["__row"])
    return Entities(Vocabulary(raw), attributes if attributes.num_columns else None)


def _table(side: Entities, kept: pa.Array | None) -> pa.Table:
    table = pa.table({"__row": pa.array(np.arange(len(side)))})
    if side.attributes is not None:
        for name in side.attributes.column_names:
            table = table.append_column(name, side.attributes.column(name))
    return table if kept is None else table.filter(kept)


def _names(sides: Sequence[Vocabulary | None], kind: str) -> Vocabulary | None:
    known = [Entities(side) for side in sides if side is not None]
    return _joined(known, kind).ids if known else None


def _grown(graph: Graph, n_items: int) -> Graph:
    """Return the graph with an entity (or none) for each item of the larger catalogue."""
    known = graph.item_entity
    if known is None or len(known) >= n_items:
        return graph
    return replace(graph, item_entity=np.concatenate([known, np.full(n_items - len(known), -1, np.int32)]))
