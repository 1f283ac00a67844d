"""Lists of items by user: ``sequences.txt`` (user item item …, oldest first) and LightGCN's ``train.txt`` and ``test.txt``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.readers.bad_rows import BadRows
from palate.data.readers.delimited import first_line, read_lines
from palate.data.readers.parts import Options, Parts, base_name
from palate.data.readers.source import Source

#: Lines read at once.
LINES = 1 << 12


class ListSource(Source):
    """Lines of a user and items, separated by blanks.

    Parameters
    ----------
    path
        The file; ``.gz`` is unpacked on the way.
    allow_empty
        Whether a user without items is allowed (LightGCN's test files have such lines).
    """

    typed = False
    columns = ("user", "item")

    def __init__(self, path: Path, *, allow_empty: bool = False, encoding: str = "utf-8") -> None:
        self.where, self.path, self.allow_empty, self.encoding = str(path), path, allow_empty, encoding
        first_line(path, encoding)

    def batches(self, names: object, bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield users and items as text, one row an item."""
        lines: list[str] = []
        number = 0
        for number, line in enumerate(read_lines(self.path, self.encoding), 1):
            lines.append(line)
            if len(lines) == LINES:
                yield self._batch(lines, number - len(lines) + 1, bad)
                lines = []
        if lines:
            yield self._batch(lines, number - len(lines) + 1, bad)

    def locate(self, row: int) -> str:
        """Return the file and the line that holds a row."""
        seen = 0
        for number, line in enumerate(read_lines(self.path, self.encoding), 1):
            seen += max(0, len(line.split()) - 1)
            if seen > row:
                return f"{self.where}, line {number}"
        return self.where

    def _batch(self, lines: list[str], first: int, bad: BadRows) -> pa.RecordBatch:
        words = pc.split_pattern(pc.utf8_normalize(pa.array([" ".join(s.split()) for s in lines]), "NFC"), " ")
        lengths = np.diff(np.asarray(words.offsets))
        empty = np.asarray(pc.equal(pa.array(lines), "")) | (lengths == 0)
        short = np.flatnonzero((lengths == 1) & ~np.array([not s.strip() for s in lines]) & ~empty)
        if len(short) and not self.allow_empty:
            for at in short:
                bad.skip(
                    "user without items", f"{self.where}, line {first + int(at)}", lines[at], "give lines of: user item item …"
                )
        flat = words.flatten()
        heads = np.zeros(len(flat), bool)
        starts = np.asarray(words.offsets)[:-1]
        heads[starts[lengths > 0]] = True
        users = flat.take(pa.array(np.repeat(starts, np.maximum(lengths - 1, 0))))
        return pa.RecordBatch.from_arrays([users, flat.filter(pa.array(~heads))], names=["user", "item"])


def read_sequences(path: Path, options: Options) -> Parts:
    """Read ``sequences.txt``: file order is the order in time, and there are no times."""
    return Parts(
        [ListSource(path, encoding=options.encoding or "utf-8")],
        name=base_name(path),
        notes={"order": "file order is time order"},
    )


def read_lightgcn(folder: Path, options: Options) -> Parts:
    """Read LightGCN's folder: both files, train first, the rows of each part recorded in the spec; or one of the files.

    The order of items says nothing of time. :func:`palate.data.readers.read_parts` gives the parts of the published split.
    """
    if folder.is_file():
        return Parts([ListSource(folder, allow_empty=True)], name=folder.parent.name, notes={"order": "unknown"})
    names = [n for n in ("train", "valid", "test") if _text_file(folder, n) is not None]
    paths = [p for n in names if (p := _text_file(folder, n)) is not None]
    sources = [ListSource(p, allow_empty=True, encoding=options.encoding or "utf-8") for p in paths]
    return Parts(sources, names=names, name=folder.name, notes={"order": "unknown"})


def _text_file(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / f"{name}.txt", folder / f"{name}.txt.gz") if p.is_file()), None)
