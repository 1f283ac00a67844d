"""Bundle: a folder that holds a fitted model, safe to load and checked to the byte.

``manifest.json`` (schema version, SHA-256 of every file, system, settings, data fingerprint, metrics, library versions),
``state.safetensors`` (all numbers), ``users.parquet`` and ``items.parquet`` (raw ids and attributes),
``histories.safetensors`` (what the known users did, so that nothing but the bundle is needed to answer). Loading runs no
code from the folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from palate.data.dataset import Entities
from palate.data.fingerprint import file_sha256, manifest_checksum
from palate.data.histories import Histories
from palate.data.vocabulary import Vocabulary
from palate.errors import BundleError

#: Version of the folder's layout; older ones are migrated, newer ones refused.
SCHEMA = 1
MANIFEST = "manifest.json"
#: Turn of those who change bundles, where the system can't lock a folder.
_ONE_AT_A_TIME = threading.Lock()
#: Files that every bundle holds beside it.
PARTS = ("state.safetensors", "histories.safetensors", "users.parquet", "items.parquet")


@dataclass(frozen=True)
class Bundle:
    """The parts of a saved model.

    Attributes
    ----------
    manifest
        Plain facts: ``system``, ``settings``, ``data``, ``fit``, ``metrics``, ``versions``.
    state
        Named arrays.
    users, items
        Raw ids and attributes.
    histories
        What known users did.
    """

    manifest: Mapping[str, Any]
    state: Mapping[str, np.ndarray]
    users: Entities
    items: Entities
    histories: Histories


def write_bundle(folder: str | Path, bundle: Bundle) -> Path:
    """Write a bundle whole or not at all (a temporary folder beside it, then one rename).

    Raises
    ------
    BundleError
        If the folder holds something that is not a bundle.
    """
    target = check_place(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write_parts(work, bundle)
        hashes = {path.name: file_sha256(path) for path in sorted(work.iterdir())}
        manifest = json.loads(json.dumps({"schema": SCHEMA, **bundle.manifest, "files": hashes}, default=str))
        manifest["checksum"] = manifest_checksum(manifest)
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        _swap(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


@contextmanager
def only_one(folder: str | Path) -> Iterator[None]:
    """Let nobody else who asks so change this bundle, or one beside it, until the end: two changes would undo each other.

    Threads wait for each other everywhere, processes where the system can lock a folder (not on Windows).

    Raises
    ------
    BundleError
        If the folder that holds it is gone.
    """
    if importlib.util.find_spec("fcntl") is None:
        with _ONE_AT_A_TIME:
            yield
        return
    import fcntl

    try:
        place = os.open(Path(folder).resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise BundleError("no bundle here.", where=folder, value=error.strerror, remedy="check the path") from None
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def check_place(folder: str | Path) -> Path:
    """Refuse a place where a bundle can't be written; a caller with a long fit before it asks first.

    Raises
    ------
    BundleError
        If it is a file, or a folder that holds something that is not a bundle.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise BundleError(
            "a file stands where the bundle's folder is to be.", where=target, remedy="name an empty or new folder"
        )
    if target.exists() and any(target.iterdir()) and not (target / MANIFEST).exists():
        raise BundleError("the folder holds other files.", where=target, remedy="name an empty or new folder")
    return target


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read and check the manifest alone.

    Raises
    ------
    BundleError
        If there is none, if it can't be read or was changed, or if it is of a newer schema.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise BundleError("no bundle here.", where=path.parent, remedy="make one with: palate fit MODEL --data … --out DIR")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError):
        raise BundleError("the manifest can't be read.", where=path, remedy="fit and save the model again") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if not isinstance(schema, int) or schema > SCHEMA or schema < 1:
        raise BundleError(
            "the bundle has a schema that this version can't read.",
            where=path,
            value=schema,
            remedy=f"use a Palate that reads it; this one reads up to {SCHEMA}",
        )
    if manifest.get("checksum") != manifest_checksum(manifest):
        raise BundleError("the manifest was changed.", where=path, remedy="copy the bundle again, whole")
    return manifest


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle, checking every file's hash first.

    Raises
    ------
    BundleError
        If a file is missing, truncated or edited; it is named.
    """
    base = Path(folder)
    manifest = read_manifest(base)
    hashes = manifest.get("files", {})
    for name in (*PARTS, *hashes):
        path, expected = base / name, hashes.get(name)
        if Path(name).name != name or expected is None or not path.is_file():
            raise BundleError("a file of the bundle is missing.", where=path, remedy="copy the bundle again, whole")
        if file_sha256(path) != expected:
            raise BundleError(
                "a file of the bundle was changed or cut short.", where=path, remedy="copy the bundle again, whole"
            )
    try:
        state, events = load_file(base / "state.safetensors"), load_file(base / "histories.safetensors")
        users, items = _read_entities(base / "users.parquet"), _read_entities(base / "items.parquet")
        histories = Histories(events["offsets"], events["items"], *(events.get(n) for n in ("times", "values", "actions")))
    except (OSError, SafetensorError, KeyError, pa.ArrowException) as error:
        raise BundleError("the bundle can't be read.", where=base, value=str(error), remedy="fit and save again") from None
    return Bundle(manifest, state, users, items, histories)


def _write_parts(folder: Path, bundle: Bundle) -> None:
    save_file({k: np.ascontiguousarray(v) for k, v in bundle.state.items()}, folder / "state.safetensors")
    h = bundle.histories
    columns = {"offsets": h.offsets, "items": h.items, "times": h.times, "values": h.values, "actions": h.actions}
    kept = {k: np.ascontiguousarray(v) for k, v in columns.items() if v is not None}
    save_file(kept, folder / "histories.safetensors")
    for name, entities in (("users", bundle.users), ("items", bundle.items)):
        _write_entities(folder / f"{name}.parquet", entities)


def _write_entities(path: Path, entities: Entities) -> None:
    table = pa.table({"__id__": entities.ids.raw})
    if entities.attributes is not None:
        for field in entities.attributes.schema:
            table = table.append_column(field, entities.attributes.column(field.name))
    pq.write_table(table, path)


def _read_entities(path: Path) -> Entities:
    with pq.ParquetFile(path) as file:  # read_table imports pandas where it is installed
        table = file.read()
    ids = Vocabulary(table.column("__id__").combine_chunks())
    attributes = table.drop_columns(["__id__"])
    return Entities(ids, attributes if attributes.num_columns else None)


def _swap(work: Path, target: Path) -> None:
    """Put the finished folder in place; an older bundle is exchanged for it, or moved aside first, and then removed."""
    if not target.exists():
        work.replace(target)
        return
    if _exchanged(work, target):
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.replace(aside / "old")
    try:
        work.replace(target)
    except OSError:
        (aside / "old").replace(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two folders in one step, so that neither name is ever free (Linux); say whether that was done."""
    import ctypes

    call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0
