"""Ranker: how likely is this click, purchase or rating, in this context?"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.contracts.explanation import Explanation
from palate.contracts.fitted import FitRecord, Fitted
from palate.contracts.model import Fitting
from palate.contracts.shapes import check_rows, check_shape
from palate.data.ragged import Ragged
from palate.data.row_columns import RowError
from palate.data.row_encoder import RowEncoder
from palate.errors import ConfigError, DataError, UnsupportedError, nearest
from palate.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class Rows:
    """A block of rows: one person, one item, one moment each.

    Attributes
    ----------
    features
        Arrow table, one row an example: categories, lists, numbers, texts. The same columns in training and serving.
    labels
        Task to ``float32[n]`` what happened (NaN where that was not observed), or nothing when asking.
    weights
        ``float32[n]`` weight of each row in training and metrics, or ``None`` for ones.
    groups
        ``int32[n]`` the request that each row belongs to (rows of a request stand together), or ``None``. Ranking and
        grouped AUC need it.
    source_rows
        ``int64[n]`` where each row stands in its source, counted from 0, or ``None``. Errors name it.
    """

    features: pa.Table
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    source_rows: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.source_rows is not None:
            check_shape(self.source_rows, (len(self),), "source_rows")
        for task, values in self.labels.items():
            check_shape(values, (len(self),), f"labels of {task!r}")
            check_rows(~np.isinf(values), values, "a label is infinite.", f"labels of {task!r}", rows=self.source_rows)
        if self.weights is not None:
            check_shape(self.weights, (len(self),), "weights")
            good = np.isfinite(self.weights) & (self.weights >= 0)
            check_rows(good, self.weights, "a weight is negative or no number.", "weights", rows=self.source_rows)
        if self.groups is not None:
            check_shape(self.groups, (len(self),), "groups")
            starts = np.flatnonzero(np.diff(self.groups, prepend=-1))
            if len(np.unique(self.groups[starts])) != len(starts):
                raise DataError("rows of a request don't stand together.", where="groups", remedy="sort the rows by request")

    def __len__(self) -> int:
        return int(self.features.num_rows)

    @classmethod
    def of_table(
        cls,
        table: pa.Table,
        labels: Sequence[str] = (),
        *,
        group: str | None = None,
        group_is_field: bool = False,
        weight: str | None = None,
        source_rows: np.ndarray | None = None,
    ) -> Rows:
        """Return the rows of a table, of which some columns are labels, the request that a row belongs to, and a weight.

        The column of the request is no feature, unless ``group_is_field``.

        Raises
        ------
        DataError
            If a column is missing, a label or weight is no number, or rows of a request don't stand together.
        """
        apart = [*labels, *(name for name in (group, weight) if name is not None)]
        for name in apart:
            if name not in table.column_names:
                raise DataError("there is no such column.", where="rows", value=name, remedy=nearest(name, table.column_names))
        made = {name: _floats(table.column(name), name) for name in labels}
        weights = None if weight is None else _floats(table.column(weight), weight)
        groups = None
        if group is not None:
            whole = pc.dictionary_encode(table.column(group), null_encoding="encode").combine_chunks()
            whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
            groups = whole.indices.to_numpy(zero_copy_only=False).astype(np.int32)
        features = table.drop_columns([name for name in apart if name != group or not group_is_field])
        return cls(features, made, weights, groups, source_rows)

    def slice(self, start: int, stop: int) -> Rows:
        """Return rows ``start`` to ``stop``."""
        return Rows(
            self.features.slice(start, stop - start),
            {task: values[start:stop] for task, values in self.labels.items()},
            None if self.weights is None else self.weights[start:stop],
            None if self.groups is None else self.groups[start:stop],
            None if self.source_rows is None else self.source_rows[start:stop],
        )


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a ranker expects.

    Attributes
    ----------
    tasks
        Names of the columns, such as ``("click", "purchase")``.
    values
        ``float32[n, t]``: probabilities of binary tasks, expected values of others.
    """

    tasks: tuple[str, ...]
    values: np.ndarray

    def __post_init__(self) -> None:
        check_shape(self.values, (None, len(self.tasks)), "predictions")
        if self.values.dtype != np.float32:
            raise DataError("predictions are float32.", where="predictions", value=str(self.values.dtype))
        check_rows(np.isfinite(self.values), self.values, "a prediction is no finite number.", "predictions")

    def __len__(self) -> int:
        return len(self.values)

    def task(self, name: str) -> np.ndarray:
        """Return ``float32[n]`` of one task."""
        if name not in self.tasks:
            raise ConfigError(
                "this task is not predicted.", where="Predictions.task", value=name, remedy=nearest(name, self.tasks)
            )
        return self.values[:, self.tasks.index(name)]


#: Rows at hand, or a function that is called once a pass and yields them in blocks, always in the same order.
RowSource = Rows | Callable[[], Iterable[Rows]]


class Ranker(Fitted, ABC):
    """Base of systems that predict what happens with one item in one context.

    Rows come in blocks, so data larger than memory can be learnt from. A subclass names itself, gives a
    :class:`~palate.contracts.config.Config` and implements ``_fit``, ``_predict``, ``_state`` and ``_restore``; ``_fit`` sets
    ``tasks_``.
    """

    tasks_: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of what is predicted, one column each."""
        return self.tasks_

    @property
    def wants_groups(self) -> bool:
        """Whether it learns from requests, and not from single rows."""
        return False

    def fit(
        self,
        rows: RowSource,
        validation: RowSource | None = None,
        *,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: str | Path | None = None,
        callbacks: Sequence[Callable[[Any], None]] = (),
    ) -> Self:
        """Learn from rows; return self.

        Parameters
        ----------
        rows
            Training rows with their labels.
        validation
            Likewise, for early stopping, or ``None``.
        seed, device, progress, checkpoint, callbacks
            As in :meth:`palate.contracts.model.Model.fit`.

        Raises
        ------
        DataError
            If there are no rows, a task has no label or only one class, or a column can't be read; the row is named.
        """
        self.__dict__.pop("record_", None)
        started = time.perf_counter()
        folder = None if checkpoint is None else Path(checkpoint)
        fitting = Fitting(seed, device, progress, checkpoint=folder, callbacks=tuple(callbacks))
        seen = _Seen()
        with seen.naming():
            held_out = None if validation is None else seen.watched(validation)
            notes = dict(self._fit(seen.watched(rows), held_out, fitting) or {})
        self.record_ = FitRecord(seed, time.perf_counter() - started, notes.pop("data", {}), notes)
        return self

    @abstractmethod
    def _fit(
        self, blocks: Callable[[], Iterable[Rows]], validation: Callable[[], Iterable[Rows]] | None, fitting: Fitting
    ) -> Mapping[str, Any] | None:
        """Learn; return notes for the record (``data`` among them: facts of the rows), or nothing."""

    @abstractmethod
    def _predict(self, rows: Rows) -> np.ndarray:
        """Return ``float32[n, t]``."""

    def predict(self, rows: Rows) -> Predictions:
        """Return one row of predictions a row; the same for any way of cutting rows into blocks."""
        self._check_fitted()
        with _Seen(rows).naming():
            found = self._predict(rows) if len(rows) else np.empty((0, len(self.tasks)), np.float32)
        return Predictions(self.tasks, found)

    #: Column that holds the raw id of a person, where rows name one.
    user_column: ClassVar[str] = "user"

    def knows(self, user: Any) -> bool:
        """Say whether a person's raw id stands in what was learnt."""
        encoder = self._row_encoder()
        return encoder is not None and encoder.knows(self.user_column, user)

    def forget(self, users: Sequence[Any]) -> int:
        """Remove the raw ids of people from a fitted ranker; return how many it knew.

        What it learnt of a person's own value stays behind a name that nobody has, until it is fitted again without them.
        """
        encoder = self._row_encoder()
        known = [] if encoder is None else [user for user in users if encoder.knows(self.user_column, user)]
        if encoder is not None and known:
            self._drop_rows(known)
            self._set_row_encoder(encoder.without(self.user_column, known))
        return len(known)

    def _row_encoder(self) -> RowEncoder | None:
        """Return the encoder of rows, where the ranker has one (``encoder_``)."""
        found: RowEncoder | None = getattr(self, "encoder_", None)
        return found

    def _set_row_encoder(self, encoder: RowEncoder) -> None:
        self.encoder_ = encoder

    def _drop_rows(self, users: Sequence[Any]) -> None:
        """Drop rows of people that are kept (a ranker that keeps none needs nothing here); called while it knows their ids."""

    def rank(self, rows: Rows, task: str | None = None) -> Ragged:
        """Return the positions of the rows of each request, best first; equal predictions keep the order given.

        Parameters
        ----------
        rows
            With ``groups``.
        task
            What to rank by; the first task by default.
        """
        if rows.groups is None:
            raise DataError("ranking needs to know which rows belong to a request.", where="rows.groups")
        values = self.predict(rows).task(task or self.tasks[0])
        starts = np.flatnonzero(np.diff(rows.groups, prepend=-1))
        request = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows)))
        order = np.lexsort((-values, request))
        return Ragged(np.append(starts, len(rows)).astype(np.int64), order.astype(np.int32))

    def explain_row(self, row: Rows, task: str | None = None) -> Explanation:
        """Say why one row has its prediction, where the model can."""
        raise UnsupportedError(f"{type(self).__name__} can't explain a prediction.", value=task)

    def export(self) -> Mapping[str, Any]:
        """Return the feature specification and the tasks as plain values, for the service and the docs."""
        return {"tasks": list(self.tasks)}


def blocks_of(rows: RowSource) -> Callable[[], Iterable[Rows]]:
    """Return a function that yields the rows in blocks."""
    if isinstance(rows, Rows):
        return lambda: [rows]
    return rows


@dataclass
class _Seen:
    """The block that went by last, and how many rows before it: an error about a row of it names the row of the source."""

    block: Rows | None = None
    before: int = 0

    def watched(self, source: RowSource) -> Callable[[], Iterable[Rows]]:
        """Return a function that yields the blocks of a source, each seen as it goes by."""

        def blocks() -> Iterable[Rows]:
            before = 0
            for block in blocks_of(source)():
                self.block, self.before = block, before
                before += len(block)
                yield block

        return blocks

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Count the row of an error as its source does."""
        try:
            yield
        except RowError as error:
            known = None if self.block is None else self.block.source_rows
            raise error.counted(self.before + error.row if known is None else int(known[error.row])) from None


def _floats(column: pa.ChunkedArray, name: str) -> np.ndarray:
    try:
        return np.asarray(column.cast(pa.float32()).to_numpy(), np.float32)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            "a label or weight is no number.",
            where=f"column {name!r}",
            value=str(error)[:80],
            remedy="1 for what happened, 0 else",
        ) from None
