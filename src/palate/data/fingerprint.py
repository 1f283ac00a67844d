"""Content fingerprints: the same data give the same short word, whatever file they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


def fingerprint(*parts: object) -> str:
    """Return 16 hexadecimal digits of a hash over arrays, Arrow arrays and plain values."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything in a manifest but its own ``checksum``."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _feed(digest: Any, part: object) -> None:
    if isinstance(part, np.ndarray):
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    elif isinstance(part, (pa.Array, pa.ChunkedArray)):
        digest.update(str(part.type).encode())
        for chunk in _pieces(part):
            digest.update(json.dumps(chunk.to_pylist(), default=str).encode())
    elif isinstance(part, pa.Table):
        for name in part.column_names:
            digest.update(name.encode())
            _feed(digest, part.column(name))
    elif isinstance(part, Mapping):
        for key in sorted(part):
            digest.update(str(key).encode())
            _feed(digest, part[key])
    else:
        digest.update(json.dumps(part, default=str, sort_keys=True).encode())
    digest.update(b"\0")


def _pieces(array: pa.Array | pa.ChunkedArray, rows: int = 65_536) -> list[pa.Array]:
    """Cut at fixed rows, so that the hash does not depend on how a file was chunked."""
    whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return [whole.slice(start, rows) for start in range(0, len(whole), rows)]
