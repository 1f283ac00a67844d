"""A split as files: Parquet parts with raw ids, the catalogue, a JSON spec, and a ledger of looks at the test part.

``train.parquet``, ``valid.parquet``, ``test.parquet``
    events in order, with raw ids in ``user`` and ``item``, and ``time``, ``value``, ``action``, ``session`` where present;
    ``row`` is the source row (the file order); ``valid_context.parquet`` and ``test_context.parquet`` where users are folded in
``users.parquet``, ``items.parquet``
    the whole catalogue by number (``id`` and attributes), items unseen in training included; ``actions.parquet`` and
    ``sessions.parquet`` where these have names; ``graph-0.parquet`` … where there are graphs; ``searches.parquet``,
    ``impressions.parquet``, ``dialogues.parquet`` where known
``split.json``
    protocol, spec, fingerprint, counts, version of Palate, SHA-256 of every file above, and a seal over itself
``looks.jsonl``
    a line (when, fingerprint) for every opening of the test part; one more, with ``withdrawn``, where no numbers came of it

Rolling windows are folders ``1``, ``2``, … of this form, oldest first, beside ``rolling.json``.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.dataset import Dataset, Entities, Graph
from palate.data.fingerprint import file_sha256, fingerprint
from palate.data.interactions import OPTIONAL, Interactions
from palate.data.split import Split
from palate.data.vocabulary import Vocabulary
from palate.data.whole import whole_folder
from palate.errors import DataError
from palate.runtime import versions

SPEC, LOOKS, ROLLING, SCHEMA = "split.json", "looks.jsonl", "rolling.json", 2
#: Parts by file name, and the attribute of a split that holds them.
PARTS = {"valid": "valid", "test": "test_part", "valid_context": "valid_context", "test_context": "test_context"}
#: Coded columns, and where their names are.
CODED = {"action": "actions", "session": "sessions"}
LOGS = ("searches", "impressions", "dialogues")
AGAIN = "split the data again: palate split SOURCE --protocol P --out DIR"


class Fingerprinted(Protocol):
    """What has a fingerprint: a split of events, or of rows."""

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""


@dataclass(frozen=True)
class Ledger:
    """The file that counts how often the test part of a split was opened."""

    path: Path
    _open: list[str] = field(default_factory=list, repr=False, compare=False)

    def record(self, split: Fingerprinted) -> None:
        """Add one look: one line, appended in one write.

        Raises
        ------
        DataError
            If the look can't be written down.
        """
        self.append([_look(split.fingerprint)])
        self._open.append(split.fingerprint)

    @contextmanager
    def looking(self, split: Fingerprinted) -> Iterator[None]:
        """Withdraw the looks that are taken within, should it end in an error: nobody has seen a number."""
        before = len(self._open)
        try:
            yield
        except BaseException as error:
            taken = len(self._open) - before
            if taken:
                self.append([_look(split.fingerprint, withdrawn=type(error).__name__)] * taken)
            raise

    def append(self, lines: list[str]) -> None:
        """Append lines in one write, and see them onto the disk."""
        try:
            out = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(out, "".join(line + "\n" for line in lines).encode())
                os.fsync(out)
            finally:
                os.close(out)
        except OSError as error:
            remedy = "make the folder writable, or copy the split: a look at the test part must be counted"
            raise DataError(
                "the look at the test part can't be recorded.", where=self.path, value=str(error), remedy=remedy
            ) from None

    def lines(self) -> list[str]:
        """Return the looks, oldest first."""
        if not self.path.exists():
            return []
        return [line for line in self.path.read_text(encoding="utf-8").splitlines() if line.strip()]

    def count(self) -> int:
        """Return how many looks gave numbers."""
        lines = self.lines()
        return max(0, len(lines) - 2 * sum('"withdrawn"' in line for line in lines))


def write_split(split: Split, folder: str | Path) -> Path:
    """Write a split whole or not at all; from then on, looks at its test part are recorded there.

    Looks that were taken before are kept. Writing over an older split of another fingerprint drops that one's ledger.

    Raises
    ------
    DataError
        If the folder holds something that is not a split.
    """
    target = Path(folder)
    with whole_folder(target, SPEC, [LOOKS]) as work:
        _fill(split, work, target)
    split._ledger = Ledger(target / LOOKS)
    return target


def write_rolling(splits: Sequence[Split], folder: str | Path) -> list[Path]:
    """Write the splits of rolling windows as folders ``1``, ``2``, … (oldest first), all of them or none.

    Raises
    ------
    DataError
        If the folder holds something that is no rolling windows.
    """
    target = Path(folder)
    homes = [target / str(number) for number in range(1, len(splits) + 1)]
    with whole_folder(target, ROLLING) as work:
        for split, home in zip(splits, homes, strict=True):
            (work / home.name).mkdir()
            _fill(split, work / home.name, home)
        windows = [{"folder": home.name, "spec": dict(split.spec)} for split, home in zip(splits, homes, strict=True)]
        (work / ROLLING).write_text(json.dumps({"schema": SCHEMA, "windows": windows}, indent=2) + "\n", encoding="utf-8")
    for split, home in zip(splits, homes, strict=True):
        split._ledger = Ledger(home / LOOKS)
    return homes


def read_split(folder: str | Path) -> Split:
    """Read a split, and check that its files are those that were written.

    Raises
    ------
    DataError
        If a file is missing, can't be read, or was changed; the message names it.
    """
    base = Path(folder)
    spec = _read_spec(base)
    for name, written in spec["files"].items():
        _check_file(base / name, written)
    users, items = _read_entities(base / "users.parquet"), _read_entities(base / "items.parquet")
    names = {
        name: _read_entities(base / f"{name}.parquet").ids for name in CODED.values() if f"{name}.parquet" in spec["files"]
    }
    events = {part: _read_events(base / f"{part}.parquet", users, items, names) for part in spec["counts"]}
    train = Dataset(
        events["train"],
        users,
        items,
        graphs={name: _read_graph(base, at, facts) for at, (name, facts) in enumerate(spec["graphs"].items())},
        actions=names.get("actions"),
        sessions=names.get("sessions"),
        name=spec["name"],
        spec=tuple(spec["steps"]),
        **{name: _read_table(base / f"{name}.parquet") for name in LOGS if f"{name}.parquet" in spec["files"]},
    )
    parts = {attribute: events.get(part) for part, attribute in PARTS.items()}
    ledger = Ledger(base / LOOKS)
    split = Split(train, spec=spec["spec"], looks=ledger.count(), _ledger=ledger, **parts)
    if split.fingerprint != spec["fingerprint"]:
        value = {"now": split.fingerprint, "written": spec["fingerprint"]}
        raise DataError("the files don't give the split that was written.", where=base, value=value, remedy=AGAIN)
    return split


def _look(print_of_split: str, **more: str) -> str:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return json.dumps({"when": now, "fingerprint": print_of_split, **more})


def _fill(split: Split, work: Path, target: Path) -> None:
    """Write a split's files and the looks taken so far into the folder that will be ``target``."""
    looks = _looks_before(split, target)
    _write_parts(split, work)
    if looks:
        Ledger(work / LOOKS).append(looks)
    split.looks = Ledger(work / LOOKS).count()


def _looks_before(split: Split, target: Path) -> list[str]:
    """Return lines of the looks taken so far: those of an equal split that is replaced, and the split's own."""
    old = Ledger(target / LOOKS)
    kept = old.lines() if (target / SPEC).exists() and _fingerprint_of(target) == split.fingerprint else []
    own = split._ledger
    if isinstance(own, Ledger):
        return kept if own.path.resolve() == old.path.resolve() else [*kept, *own.lines()]
    return [*kept, *(_look(split.fingerprint, note="before it was written") for _ in range(split.looks))]


def _fingerprint_of(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / SPEC).read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_parts(split: Split, work: Path) -> None:
    train = split.train
    parts = {"train": train.interactions, **{part: getattr(split, attribute) for part, attribute in PARTS.items()}}
    parts = {part: events for part, events in parts.items() if events is not None}
    for part, events in parts.items():
        _write_events(work / f"{part}.parquet", events, train)
    entities = {"users": train.users, "items": train.items}
    entities |= {name: Entities(ids) for name in CODED.values() if (ids := getattr(train, name)) is not None}
    for name, side in entities.items():
        _write_entities(work / f"{name}.parquet", side)
    for name in LOGS:
        if (table := getattr(train, name)) is not None:
            pq.write_table(table, work / f"{name}.parquet")
    spec = {
        "schema": SCHEMA,
        "palate": versions("palate").get("palate"),
        "name": train.name,
        "protocol": split.spec.get("protocol"),
        "spec": dict(split.spec),
        "fingerprint": split.fingerprint,
        "counts": {part: len(events) for part, events in parts.items()},
        "users": train.n_users,
        "items": train.n_items,
        "graphs": {name: _write_graph(graph, at, work) for at, (name, graph) in enumerate(train.graphs.items())},
        "steps": [dict(step) for step in train.spec],
        "files": {path.name: file_sha256(path) for path in sorted(work.iterdir())},
    }
    spec = json.loads(json.dumps(spec, default=_plain))
    spec["seal"] = fingerprint(spec)
    (work / SPEC).write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else dict(value) if isinstance(value, Mapping) else str(value)


def _read_spec(base: Path) -> dict[str, Any]:
    path = base / SPEC
    if not path.is_file():
        raise DataError("no split here.", where=base, remedy="make one with: palate split SOURCE --protocol P --out DIR")
    try:
        spec = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError("the description of the split can't be read.", where=path, value=str(error), remedy=AGAIN) from None
    if spec.get("schema") != SCHEMA:
        raise DataError("the split was written by another version.", where=path, value=spec.get("schema"), remedy=AGAIN)
    seal = spec.pop("seal", None)
    if seal != fingerprint(spec):
        raise DataError("the description of the split was changed after it was written.", where=path, value=seal, remedy=AGAIN)
    return spec


def _check_file(path: Path, written: str) -> None:
    if not path.is_file():
        raise DataError("a file of the split is missing.", where=path, remedy=AGAIN)
    if file_sha256(path) != written:
        raise DataError("a file of the split was changed after it was written.", where=path, remedy=AGAIN)


def _write_events(path: Path, events: Interactions, train: Dataset) -> None:
    columns = {"user": train.users.ids.decode(events.user), "item": train.items.ids.decode(events.item)}
    for name in OPTIONAL:
        column = getattr(events, name)
        if column is not None:
            words = getattr(train, CODED[name]) if name in CODED else None
            columns[name] = pa.array(column) if words is None else words.decode(column)
    columns["row"] = pa.array(events.file_order)
    pq.write_table(pa.table(columns), path)


def _read_events(path: Path, users: Entities, items: Entities, names: Mapping[str, Vocabulary]) -> Interactions:
    table = _read_table(path)
    columns = {"user": _encoded(table, "user", users.ids, path), "item": _encoded(table, "item", items.ids, path)}
    for name in (*OPTIONAL, "row"):
        if name in table.column_names:
            words = names.get(CODED.get(name, ""))
            columns[name] = table.column(name).to_numpy() if words is None else _encoded(table, name, words, path)
    return Interactions.sorted(**columns)


def _encoded(table: pa.Table, name: str, words: Vocabulary, path: Path) -> np.ndarray:
    numbers = words.encode(table.column(name))
    if (numbers < 0).any():
        raw = table.column(name)[int(np.argmax(numbers < 0))].as_py()
        raise DataError(f"an unknown {name} stands in a part.", where=path, value=raw, remedy=AGAIN)
    return numbers


def _write_entities(path: Path, entities: Entities) -> None:
    table = pa.table({"id": entities.ids.raw})
    if entities.attributes is not None:
        for field in entities.attributes.schema:
            table = table.append_column(field, entities.attributes.column(field.name))
    pq.write_table(table, path)


def _read_entities(path: Path) -> Entities:
    table = _read_table(path)
    attributes = table.remove_column(0)
    return Entities(Vocabulary(table.column(0).combine_chunks()), attributes if attributes.num_columns else None)


def _write_graph(graph: Graph, at: int, work: Path) -> dict[str, Any]:
    links = {"head": graph.head, "relation": graph.relation, "tail": graph.tail}
    tables = {
        "": links if graph.weight is None else {**links, "weight": graph.weight},
        "-relations": {"id": graph.relations.raw},
    }
    if graph.entities is not None:
        tables["-entities"] = {"id": graph.entities.raw}
    if graph.item_entity is not None:
        tables["-items"] = {"entity": graph.item_entity}
    for suffix, columns in tables.items():
        pq.write_table(pa.table(columns), work / f"graph-{at}{suffix}.parquet")
    return {"heads": graph.heads, "tails": graph.tails, "tables": list(tables)}


def _read_graph(base: Path, at: int, facts: Mapping[str, Any]) -> Graph:
    tables = {suffix: _read_table(base / f"graph-{at}{suffix}.parquet") for suffix in facts["tables"]}
    links = {name: tables[""].column(name).to_numpy() for name in tables[""].column_names}
    words = {
        suffix: Vocabulary(tables[suffix].column(0).combine_chunks())
        for suffix in ("-relations", "-entities")
        if suffix in tables
    }
    return Graph(
        links["head"],
        links["relation"],
        links["tail"],
        facts["heads"],
        facts["tails"],
        words["-relations"],
        words.get("-entities"),
        tables["-items"].column(0).to_numpy() if "-items" in tables else None,
        links.get("weight"),
    )


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError("a file of the split can't be read.", where=path, value=str(error)[:80], remedy=AGAIN) from None
