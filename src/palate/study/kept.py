"""Kept: parts of a long experiment that an interrupted run leaves to the next one.

A part is kept under what it is (its key), the data it was made of, and the program that made it: its file, those it loads from
beside itself, and all of Palate's code. Where any of these differs it is made anew. Parts are JSON: numbers, texts, lists,
dictionaries and arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from palate.errors import DataError
from palate.runtime import versions

T = TypeVar("T")


class Kept:
    """Parts of one run in a folder.

    Parameters
    ----------
    folder
        Made when the first part is kept.
    alone
        Whether all that stands beside the folder is removed then.
    """

    def __init__(self, folder: Path, *, alone: bool = False) -> None:
        self.folder, self.alone, self.found, self.saved = folder, alone, 0, 0.0

    @classmethod
    def of(cls, name: str, program: Path | None = None) -> Kept:
        """Return the place of an experiment, below the user's cache; what its other programs kept goes when this one keeps."""
        from palate.data.public import cache_folder

        return cls(cache_folder().parent / "claims" / name / state_of_code(program), alone=True)

    def get(self, key: Mapping[str, Any], make: Callable[[], T]) -> T:
        """Return a part that is kept, or make it and keep it.

        Raises
        ------
        DataError
            If a kept part can't be read.
        """
        text = json.dumps(key, sort_keys=True, default=str)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
        if path.exists():
            try:
                known = json.loads(path.read_text(encoding="utf-8"))
                part: T = _read(known["part"])
            except (ValueError, KeyError, TypeError):
                raise DataError("a kept part can't be read.", where=path, remedy="delete it: it will be made anew") from None
            self.found += 1
            self.saved += known["seconds"]
            return part
        started = time.perf_counter()
        part = make()
        if not self.folder.exists():
            if self.alone:
                shutil.rmtree(self.folder.parent, ignore_errors=True)
            self.folder.mkdir(parents=True)
        work = path.with_name(f".{path.name}.{os.getpid()}")
        work.write_text(
            json.dumps({"key": text, "seconds": time.perf_counter() - started, "part": _plain(part)}), encoding="utf-8"
        )
        work.replace(path)
        return part

    def clear(self) -> None:
        """Forget all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)


def state_of_code(program: Path | None = None) -> str:
    """Return a name for Palate's code, a program and the libraries as they are now."""
    base = Path(__file__).parents[1]
    told = hashlib.sha256(json.dumps(versions(), sort_keys=True).encode())
    for path in sorted(base.rglob("*.py")):
        told.update(str(path.relative_to(base)).encode() + b"\0" + path.read_bytes())
    if program is not None:
        for path in _loaded(program):
            told.update(path.read_bytes())
    return told.hexdigest()[:16]


def _loaded(program: Path) -> list[Path]:
    """Return a program's file, and those named ``_*.py`` beside it that its text, or theirs, has the names of."""
    beside = {path.stem: path for path in sorted(program.parent.glob("_*.py"))}
    found = [program]
    for path in found:  # grows as it is gone through
        named = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
        found += [other for name, other in beside.items() if name in named and other not in found]
    return found


def _plain(part: Any) -> Any:
    if isinstance(part, np.ndarray) and part.dtype != object:
        return {"array": b64encode(np.ascontiguousarray(part).tobytes()).decode(), "dtype": part.dtype.str, "shape": part.shape}
    if isinstance(part, Mapping):
        return {"pairs": [[_plain(name), _plain(value)] for name, value in part.items()]}
    if isinstance(part, tuple):
        return {"tuple": [_plain(value) for value in part]}
    if isinstance(part, list):
        return [_plain(value) for value in part]
    if isinstance(part, np.generic):
        return part.item()
    if part is None or isinstance(part, str | bool | int | float):
        return part
    raise TypeError(f"{type(part).__name__} can't be kept")


def _read(plain: Any) -> Any:
    if isinstance(plain, list):
        return [_read(value) for value in plain]
    if not isinstance(plain, dict):
        return plain
    if "array" in plain:
        return np.frombuffer(b64decode(plain["array"]), plain["dtype"]).reshape(plain["shape"]).copy()
    if "tuple" in plain:
        return tuple(_read(value) for value in plain["tuple"])
    return {_read(name): _read(value) for name, value in plain["pairs"]}
