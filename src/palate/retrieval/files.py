"""Saved indexes: a folder of files and a manifest with their SHA-256. Nothing is parsed before its hash was found right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from palate.data.fingerprint import manifest_checksum
from palate.data.whole import whole_folder
from palate.errors import BundleError

#: Version of the layout.
SCHEMA = 1
MANIFEST = "index.json"


def save_folder(folder: str | Path, kind: str, facts: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
    """Write an index whole or not at all; an older one of that name is replaced.

    Parameters
    ----------
    folder
        Where.
    kind
        What sort of index; :func:`load_folder` refuses another.
    facts
        Plain values that belong to it.
    files
        Content by file name.
    """
    target = Path(folder)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {"schema": SCHEMA, "kind": kind, "facts": dict(facts), "files": hashes}
    manifest["checksum"] = manifest_checksum(manifest)
    with whole_folder(target, MANIFEST) as work:
        for name, content in files.items():
            (work / name).write_bytes(content)
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return target


def load_folder(folder: str | Path, kind: str, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read an index; return its facts, and the bytes of the files named, the very bytes that were hashed.

    Raises
    ------
    BundleError
        If there is none, if it is of another kind or schema, or if a file is missing, truncated or changed.
    """
    base = Path(folder)
    path = base / MANIFEST
    if not path.is_file():
        raise BundleError("no saved index here.", where=base, remedy="save one with index.save(folder)")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, schema, hashes, facts = (manifest[key] for key in ("kind", "schema", "files", "facts"))
        whole = manifest["checksum"] == manifest_checksum(manifest)
    except (UnicodeDecodeError, ValueError, KeyError, TypeError):
        raise BundleError("the manifest can't be read.", where=path, remedy="build and save the index again") from None
    if not whole:
        raise BundleError("the manifest was changed.", where=path, remedy="copy the index again, whole")
    if found != kind or schema != SCHEMA:
        raise BundleError(f"this is no {kind} index of schema {SCHEMA}.", where=path, value=f"{found}, schema {schema}")
    return facts, {name: _checked(base / name, hashes.get(name)) for name in names}


def pack_arrays(**arrays: np.ndarray) -> bytes:
    """Return named arrays as safetensors."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def unpack_arrays(content: bytes, *names: str) -> tuple[np.ndarray, ...]:
    """Return the arrays named.

    Raises
    ------
    BundleError
        If one is absent, or the content is no safetensors.
    """
    try:
        arrays = load(content)
        return tuple(arrays[name] for name in names)
    except (SafetensorError, KeyError) as error:
        raise BundleError("the arrays can't be read.", value=str(error), remedy="build and save the index again") from None


def _checked(path: Path, expected: str | None) -> bytes:
    if expected is None or not path.is_file():
        raise BundleError("a file of the index is missing.", where=path, remedy="copy the index again, whole")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise BundleError("a file of the index was changed or cut short.", where=path, remedy="copy the index again, whole")
    return content
