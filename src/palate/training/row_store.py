"""Row store: encoded training rows, in memory or in a file that the system maps, and their shuffled batches.

Rows that fit into the given memory are shuffled as a whole. Of a file, chunks are taken in random order and the rows of
:data:`WINDOW` chunks at a time are shuffled, so that reading stays in long runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from palate.contracts.ranker import Rows
from palate.data.fingerprint import fingerprint
from palate.data.row_encoder import Encoded, RowEncoder, Words
from palate.errors import DataError

#: Rows that are read in one go from a file, and how many such chunks are shuffled together.
CHUNK, WINDOW = 16_384, 32


@dataclass(frozen=True)
class RowBatch:
    """Rows on their way into a network.

    Attributes
    ----------
    rows
        Codes and numbers.
    labels
        ``float32[n, t]``, NaN where not observed.
    weights
        ``float32[n]``.
    """

    rows: Encoded
    labels: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class RowStore:
    """Encoded rows with labels (made by :meth:`gather`)."""

    rows: Encoded
    labels: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None
    mapped: bool = False
    _home: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """Hash of the content; a fit that is resumed must have the same."""
        return fingerprint(
            {"codes": self.rows.codes, "numbers": self.rows.numbers, "labels": self.labels, "weights": self.weights}
        )

    @classmethod
    def gather(
        cls,
        blocks: Callable[[], Iterable[Rows]],
        encoder: RowEncoder,
        tasks: tuple[str, ...],
        *,
        words: Words | None = None,
        memory_mb: int = 2048,
    ) -> RowStore:
        """Encode all rows; what is larger than ``memory_mb`` goes into a file that is removed with the store.

        Raises
        ------
        DataError
            If there are no rows, or a block lacks a task.
        """
        limit, size, mapped = memory_mb * 2**20, 0, _Mapped(encoder)
        parts: list[tuple[Encoded, np.ndarray, np.ndarray]] = []
        groups: list[np.ndarray] = []
        last = 0
        for block in blocks():
            if not len(block):
                continue
            encoded = encoder.encode(block.features, words)
            labels = labels_of(block, tasks)
            weights = np.ones(len(block), np.float32) if block.weights is None else block.weights.astype(np.float32)
            if block.groups is not None:
                groups.append(block.groups.astype(np.int64) + last)
                last = int(groups[-1].max()) + 1
            parts.append((encoded, labels, weights))
            size += encoded.codes.nbytes + encoded.numbers.nbytes
            if size > limit:
                mapped.add(parts)
                parts, size = [], 0
        if not parts and not mapped.n:
            raise DataError("there are no rows.", where="rows")
        told = np.concatenate(groups).astype(np.int32) if groups else None
        if mapped.n:
            mapped.add(parts)
            return mapped.store(told)
        rows = Encoded(*(np.concatenate([getattr(p[0], name) for p in parts]) for name in ("codes", "numbers")))
        return cls(rows, np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts]), told)

    def batches(self, rng: np.random.Generator, size: int) -> RowPlan:
        """Return the shuffled batches of an epoch."""
        return RowPlan(self, rng, size)

    def take(self, rows: np.ndarray | slice) -> RowBatch:
        """Return some rows."""
        return RowBatch(self.rows.take(rows), self.labels[rows], self.weights[rows])


class RowPlan:
    """Batches of one epoch."""

    def __init__(self, store: RowStore, rng: np.random.Generator, size: int) -> None:
        self.store, self.rng, self.size = store, rng, size

    def __len__(self) -> int:
        return -(-len(self.store) // self.size)

    def __iter__(self) -> Iterator[RowBatch]:
        store, n = self.store, len(self.store)
        if not store.mapped:
            order = self.rng.permutation(n)
            for at in range(0, n, self.size):
                yield store.take(order[at : at + self.size])
            return
        chunks = self.rng.permutation(-(-n // CHUNK))
        left: list[np.ndarray] = []
        for first in range(0, len(chunks), WINDOW):
            spans = [np.arange(c * CHUNK, min((c + 1) * CHUNK, n)) for c in np.sort(chunks[first : first + WINDOW])]
            window = np.concatenate([*left, self.rng.permutation(np.concatenate(spans))])
            whole = len(window) if first + WINDOW >= len(chunks) else len(window) // self.size * self.size
            for at in range(0, whole, self.size):
                rows = window[at : at + self.size]
                yield store.take(rows)
            left = [window[whole:]]


class _Mapped:
    """Three growing files, mapped into memory in the end."""

    def __init__(self, encoder: RowEncoder) -> None:
        self.n, self.layout = 0, encoder.layout
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self.labels: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []

    def add(self, parts: list[tuple[Encoded, np.ndarray, np.ndarray]]) -> None:
        if self._home is None:
            self._home = tempfile.TemporaryDirectory(prefix="palate-rows-")
        for encoded, labels, weights in parts:
            for name in ("codes", "numbers"):
                with (Path(self._home.name) / name).open("ab") as file:
                    file.write(np.ascontiguousarray(getattr(encoded, name)).tobytes())
            self.labels.append(labels)
            self.weights.append(weights)
            self.n += len(encoded)

    def store(self, groups: np.ndarray | None) -> RowStore:
        assert self._home is not None
        home = Path(self._home.name)
        codes = np.memmap(home / "codes", np.int32, "r", shape=(self.n, self.layout.width))
        width = len(self.layout.numbers)
        numbers = (
            np.memmap(home / "numbers", np.float32, "r", shape=(self.n, width)) if width else np.zeros((self.n, 0), np.float32)
        )
        return RowStore(
            Encoded(codes, numbers), np.concatenate(self.labels), np.concatenate(self.weights), groups, True, self._home
        )


def labels_of(rows: Rows, tasks: tuple[str, ...]) -> np.ndarray:
    """Return ``float32[n, t]`` labels.

    Raises
    ------
    DataError
        If a task has none.
    """
    absent = [task for task in tasks if task not in rows.labels]
    if absent:
        raise DataError(
            "rows have no label of a task.", where="rows", value=absent[0], remedy=f"there are: {list(rows.labels)}"
        )
    return np.stack([np.asarray(rows.labels[task], np.float32) for task in tasks], axis=1)
