"""Whole or not at all: fill a temporary file or folder first, then give it the final name."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from palate.errors import DataError


@contextmanager
def whole_folder(folder: Path, sign: str, also: Collection[str] = ()) -> Iterator[Path]:
    """Give a temporary folder that takes the final name when all went well.

    Parameters
    ----------
    folder
        Final name; it may exist if it is empty or holds the file ``sign`` (an earlier writing, which is replaced).
    sign
        File that tells folders of this kind.
    also
        Names of files that such a folder may hold, though they are not written now.

    Raises
    ------
    DataError
        If a folder of that name holds something else, or something else beside the earlier writing: nothing of it is lost.
    """
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / sign).is_file())):
        raise DataError("there is something else of that name.", where=folder, remedy="give another name, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    old = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        if folder.exists() and (others := _strangers(folder, temporary, also)):
            what, remedy = "something else stands in the folder that would be replaced.", "move it away, or give another name"
            raise DataError(what, where=folder, value=others, remedy=remedy)
        temporary.chmod(0o777 & ~_umask())
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _strangers(old: Path, new: Path, also: Collection[str]) -> list[str]:
    """Return what an earlier writing can't have left: files of kinds that are not written now, folders where none are."""
    made = {path.name: path for path in new.iterdir()}
    kinds, folders = {path.suffix for path in made.values()}, any(path.is_dir() for path in made.values())
    rest = [path for path in old.iterdir() if path.name not in made and path.name not in also]
    return sorted(path.name for path in rest if (not folders if path.is_dir() else path.suffix not in kinds))


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """Give a text stream to a temporary file that takes the final name when all went well (``.gz`` is packed).

    ``-`` and ``/dev/stdout`` are the standard output. Other devices and pipes are written directly.
    """
    if str(path) in ("-", "/dev/stdout"):
        yield sys.stdout
        sys.stdout.flush()
        return
    if path.exists() and (not path.is_file() or path.parent == Path("/dev")):
        with open(path, "w", encoding="utf-8") as stream:
            yield stream
        return
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        pack = gzip.open if path.suffix == ".gz" else open
        with pack(temporary, "wt", encoding="utf-8") as stream:
            yield stream
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
