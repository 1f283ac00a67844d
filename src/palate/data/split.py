"""Split: train, validation and test as one value, with a fingerprint, the spec that rebuilds it and a counter of looks.

How the parts are cut is in :mod:`palate.data.protocols`; what may be wrong with them is in :mod:`palate.data.audit`; files
are in :mod:`palate.data.split_files`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from palate.data.dataset import Dataset
from palate.data.fingerprint import fingerprint
from palate.data.histories import Histories
from palate.data.interactions import Interactions, concat
from palate.data.ragged import Ragged, row_positions
from palate.errors import DataError

if TYPE_CHECKING:
    from palate.data.audit import Audit

#: Names of the parts that hold answers.
PartName = Literal["valid", "test"]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Questions with known answers: one row a user that has answers in this part.

    Attributes
    ----------
    users
        ``int32[n]`` user numbers.
    histories
        What the model may know of each user when asked.
    truth
        The items to be found, distinct within a row, in order of time.
    gains
        ``float32`` aligned with ``truth.values`` (the interaction values), or ``None`` where all count the same.
    times
        ``int64[n]`` time of the first answer, or ``None``.
    part
        Which part this is.
    """

    users: np.ndarray
    histories: Histories
    truth: Ragged
    gains: np.ndarray | None = None
    times: np.ndarray | None = None
    part: str = "valid"

    def __len__(self) -> int:
        return len(self.users)

    @property
    def fingerprint(self) -> str:
        """Of who is asked about, and the answers; a fit that is resumed must have the same."""
        return fingerprint({"users": self.users, "truth": self.truth.values})

    def take(self, rows: np.ndarray) -> HeldOut:
        """Return some of the questions."""
        offsets, at = row_positions(self.truth.offsets, rows)
        return HeldOut(
            self.users[rows],
            self.histories.take(rows),
            Ragged(offsets, self.truth.values[at]),
            None if self.gains is None else self.gains[at],
            None if self.times is None else self.times[rows],
            self.part,
        )


@dataclass(eq=False)
class Split:
    """A data set cut into train, validation and test.

    Attributes
    ----------
    train
        What models may learn from. Its vocabularies number the whole catalogue, items unseen in training included.
    valid, test_part
        Held-out events, or ``None``. Read the test part through :meth:`held_out`, which counts the look.
    valid_context, test_context
        Events that are neither training nor answers, but may be known when asked (the folded-in part of held-out users).
    spec
        Protocol and its settings; together with the source it rebuilds the split.
    looks
        How often the test part was opened.
    """

    train: Dataset
    valid: Interactions | None
    test_part: Interactions | None
    spec: Mapping[str, Any]
    valid_context: Interactions | None = None
    test_context: Interactions | None = None
    looks: int = 0
    _ledger: Any = field(default=None, repr=False)

    def held_out(self, part: PartName, *, targets: Literal["all", "first"] = "all") -> HeldOut:
        """Return the questions of a part; opening ``"test"`` is counted.

        A test question's history holds training and validation events; a validation question's only training events.
        Answers that the person has had already (repeats) stay in the truth; whether they can be found depends on whether seen
        items are excluded.

        Parameters
        ----------
        part
            ``"valid"`` or ``"test"``.
        targets
            ``"first"`` keeps only each user's first answer in time (next-item evaluation).
        """
        events = self.valid if part == "valid" else self.test_part
        if events is None or len(events) == 0:
            raise DataError(f"this split has no {part} part.", where=str(dict(self.spec)), remedy="split again with one")
        if part == "test":
            self.looks += 1
            if self._ledger is not None:
                self._ledger.record(self)
                self.looks = max(self.looks, self._ledger.count())  # others may have looked meanwhile
        return _questions(events, self._known(part), self.train.n_users, part, targets)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look at the test part: if that ends in an error, no numbers came of it, and the look doesn't count."""
        before = self.looks
        try:
            with nullcontext() if self._ledger is None else self._ledger.looking(self):
                yield
        except BaseException:
            self.looks = before if self._ledger is None else self._ledger.count()
            raise

    def people(self, part: PartName) -> tuple[np.ndarray, Histories]:
        """Return who is asked in a part (``int32[n]``) and what may be known of them; the answers stay closed."""
        events = self.valid if part == "valid" else self.test_part
        if events is None or len(events) == 0:
            raise DataError(f"this split has no {part} part.", where=str(dict(self.spec)), remedy="split again with one")
        users = np.unique(events.user).astype(np.int32)
        return users, self._known(part).histories(self.train.n_users).take(users)

    def full_train(self) -> Dataset:
        """Return training and validation events together, for a last fit once settings are chosen."""
        if self.valid is None:
            return self.train
        known = [p for p in (self.train.interactions, self.valid_context, self.valid) if p is not None]
        return self.train.derive({"step": "train + valid"}, interactions=concat(*known))

    def audit(self, *, accept: Sequence[str] = ()) -> Audit:
        """Look for leaks and oddities (:mod:`palate.data.audit`); this is no look at the test part.

        Parameters
        ----------
        accept
            Codes of hard leaks that the caller knows of and accepts.

        Raises
        ------
        LeakError
            If there is a hard leak that is not accepted.
        """
        from palate.data.audit import audit

        found = audit(self, accept=accept)
        found.check()
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content of all parts."""
        parts = (self.valid, self.test_part, self.valid_context, self.test_context)
        return fingerprint(
            self.train.fingerprint, *({} if p is None else {k: v for k, v in p.columns.items() if k != "row"} for p in parts)
        )

    def _known(self, part: PartName) -> Interactions:
        own = (self.valid_context,) if part == "valid" else (self.valid_context, self.valid, self.test_context)
        return concat(self.train.interactions, *(p for p in own if p is not None))

    def __repr__(self) -> str:
        sizes = [0 if p is None else len(p) for p in (self.valid, self.test_part)]
        return f"Split({self.spec.get('protocol')!r}, train {len(self.train):,}, valid {sizes[0]:,}, test {sizes[1]:,})"


def _questions(events: Interactions, known: Interactions, n_users: int, part: str, targets: Literal["all", "first"]) -> HeldOut:
    pairs = events.user.astype(np.int64) << 32 | events.item
    first = np.sort(np.unique(pairs, return_index=True)[1])
    if targets == "first":
        first = first[np.unique(events.user[first], return_index=True)[1]]
    user, item = events.user[first], events.item[first]
    users, counts = np.unique(user, return_counts=True)
    truth = Ragged(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), item)
    return HeldOut(
        users.astype(np.int32),
        known.histories(n_users).take(users),
        truth,
        None if events.value is None else events.value[first],
        None if events.time is None else events.time[first][truth.offsets[:-1]],
        part,
    )
