"""A split as files: Parquet parts with raw ids, the catalogue, a JSON spec, and a ledger of looks at the test part.

``train.parquet``, ``valid.parquet``, ``test.parquet`` (columns ``user``, ``item``, and ``time``, ``value``, ``action``,
``session`` where present), ``valid_context.parquet`` and ``test_context.parquet`` where users are folded in,
``users.parquet`` and ``items.parquet`` (the whole catalogue, unseen items included, with attributes), ``split.json`` (protocol,
options, counts, fingerprint), and ``looks.jsonl``, to which every opening of the test part adds a line.
"""

from __future__ import annotations

import datetime
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.split import Split
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.runtime import versions

SPEC, LOOKS, SCHEMA = "split.json", "looks.jsonl", 1
#: Parts by file name, and the attribute of a split that holds them.
PARTS = {"valid": "valid", "test": "test_part", "valid_context": "valid_context", "test_context": "test_context"}
CODED = {"action": "actions", "session": "sessions"}


@dataclass
class Ledger:
    """The file that counts how often the test part of a split was opened."""

    path: Path

    def record(self, split: Split) -> None:
        """Add one look."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"at": now, "fingerprint": split.fingerprint})
        with self.path.open("a", encoding="utf-8") as out:
            out.write(line + "\n")

    def count(self) -> int:
        """Return how many looks there were."""
        return len(self.path.read_text(encoding="utf-8").splitlines()) if self.path.exists() else 0


def write_split(split: Split, folder: str | Path) -> Path:
    """Write a split whole or not at all.

    Writing over an older split starts its ledger anew, unless the two have the same fingerprint.

    Raises
    ------
    DataError
        If the folder holds something that is not a split.
    """
    target = Path(folder)
    if target.exists() and any(target.iterdir()) and not (target / SPEC).exists():
        raise DataError("the folder holds other files.", where=target, remedy="name an empty or new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write_parts(split, work)
        _keep_ledger(split, target, work)
        if target.exists():
            target.rename(work.with_name(work.name + "-old"))
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(work.with_name(work.name + "-old"), ignore_errors=True)
    split._ledger = Ledger(target / LOOKS)
    return target


def read_split(folder: str | Path) -> Split:
    """Read a split, and check that its files are those that were written.

    Raises
    ------
    DataError
        If a file is missing, can't be read, or was changed; it is named where that can be told.
    """
    base = Path(folder)
    spec = _read_spec(base)
    users, items = _read_entities(base / "users.parquet"), _read_entities(base / "items.parquet")
    names = {
        name: None if spec["names"].get(name) is None else Vocabulary(pa.array(spec["names"][name])) for name in CODED.values()
    }
    events = {"train": _read_events(base / "train.parquet", users, items, names)}
    for part in PARTS:
        if spec["counts"].get(part) is not None:
            events[part] = _read_events(base / f"{part}.parquet", users, items, names)
    for part, table in events.items():
        if len(table) != spec["counts"][part]:
            raise DataError(
                "a part has another number of events than when it was written.",
                where=base / f"{part}.parquet",
                value=len(table),
                remedy="split the data again",
            )
    train = Dataset(
        events["train"],
        users,
        items,
        actions=names["actions"],
        sessions=names["sessions"],
        name=spec["name"],
        spec=tuple(spec["steps"]),
    )
    ledger = Ledger(base / LOOKS)
    split = Split(
        train,
        events.get("valid"),
        events.get("test"),
        spec["spec"],
        valid_context=events.get("valid_context"),
        test_context=events.get("test_context"),
        looks=ledger.count(),
        _ledger=ledger,
    )
    if split.fingerprint != spec["fingerprint"]:
        raise DataError(
            "the files of this split were changed after it was written.",
            where=base,
            value={"now": split.fingerprint, "written": spec["fingerprint"]},
            remedy="split the data again",
        )
    return split


def _write_parts(split: Split, work: Path) -> None:
    train = split.train
    _write_events(work / "train.parquet", train.interactions, train)
    counts = {"train": len(train)}
    for part, attribute in PARTS.items():
        events = getattr(split, attribute)
        if events is not None:
            _write_events(work / f"{part}.parquet", events, train)
            counts[part] = len(events)
    for name, entities in (("users", train.users), ("items", train.items)):
        _write_entities(work / f"{name}.parquet", entities, name[:-1])
    names = {name: getattr(train, name) for name in CODED.values()}
    spec = {
        "schema": SCHEMA,
        "name": train.name,
        "spec": dict(split.spec),
        "fingerprint": split.fingerprint,
        "counts": counts,
        "names": {name: None if ids is None else ids.raw.to_pylist() for name, ids in names.items()},
        "steps": [dict(step) for step in train.spec],
        "palate": versions("palate").get("palate"),
    }
    (work / SPEC).write_text(json.dumps(spec, indent=2, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _keep_ledger(split: Split, target: Path, work: Path) -> None:
    old = target / LOOKS
    if old.exists() and _read_spec(target)["fingerprint"] == split.fingerprint:
        shutil.copyfile(old, work / LOOKS)


def _read_spec(base: Path) -> dict[str, Any]:
    path = base / SPEC
    if not path.is_file():
        raise DataError("no split here.", where=base, remedy="make one with: palate split SOURCE --protocol P --out DIR")
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
        known = spec["schema"] == SCHEMA and {"counts", "fingerprint", "names"} <= set(spec)
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise DataError("the description of the split can't be read.", where=path, remedy="split the data again")
    return dict(spec)


def _write_events(path: Path, events: Interactions, train: Dataset) -> None:
    columns = {"user": train.users.ids.decode(events.user), "item": train.items.ids.decode(events.item)}
    for name, column in events.columns.items():
        if name in ("time", "value"):
            columns[name] = pa.array(column)
        elif name in CODED:
            names = getattr(train, CODED[name])
            columns[name] = pa.array(column) if names is None else names.decode(column)
    columns["row"] = pa.array(events.file_order)
    pq.write_table(pa.table(columns), path)


def _read_events(path: Path, users: Entities, items: Entities, names: dict[str, Vocabulary | None]) -> Interactions:
    table = _read_table(path)
    numbers = {"user": users.ids.encode(table.column("user")), "item": items.ids.encode(table.column("item"))}
    for side, column in numbers.items():
        if (column < 0).any():
            raw = table.column(side)[int(np.argmax(column < 0))].as_py()
            raise DataError(f"an unknown {side} stands in a part.", where=path, value=raw, remedy="split the data again")
    optional: dict[str, np.ndarray] = {}
    for name in ("time", "value", "action", "session", "row"):
        if name in table.column_names:
            ids = names.get(CODED.get(name, ""))
            optional[name] = table.column(name).to_numpy() if ids is None else ids.encode(table.column(name))
    return Interactions.sorted(**numbers, **optional)


def _write_entities(path: Path, entities: Entities, key: str) -> None:
    table = pa.table({f"{key}_id": entities.ids.raw})
    if entities.attributes is not None:
        for field in entities.attributes.schema:
            table = table.append_column(field, entities.attributes.column(field.name))
    pq.write_table(table, path)


def _read_entities(path: Path) -> Entities:
    table = _read_table(path)
    ids = Vocabulary(table.column(0).combine_chunks())
    attributes = table.remove_column(0)
    return Entities(ids, attributes if attributes.num_columns else None)


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise DataError("a file of the split is missing.", where=path, remedy="split the data again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            "a file of the split can't be read.", where=path, value=str(error)[:80], remedy="split the data again"
        ) from None
