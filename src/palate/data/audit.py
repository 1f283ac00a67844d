"""Audit: what may be wrong with a split, found before anything is fitted.

Findings have a severity. ``hard`` is a leak: the answers, or what follows them, can be learnt from training data; it is an
error unless the caller names its code as accepted. ``warn`` can mislead. ``info`` is worth knowing.

``answers-in-train`` (hard)
    a held-out event itself (user, item, time) stands in training
``future-in-train`` (hard for ``global_time``, and for ``given`` with times)
    training events after the first held-out one; for other protocols it is how they are made, and stands as ``info``
``valid-after-test`` (hard for ``global_time``)
    validation events at or after the first test event
``train-test-overlap`` (warn)
    a (user, item) pair of the test part was in training already, so it can't be found when seen items are left out
``duplicates`` (warn)
    the same (user, item) more than once in training
``time-ties`` (warn)
    equal times on both sides of a person's border, told apart only by file order
``id-order`` (warn)
    numeric raw item ids rise with the time of first appearance (rank correlation above 0.8)
``tiny-test``, ``one-user``, ``constant-time`` (warn)
    fewer than 100 questions; one user in training; all training events at the same time
``unseen-items``, ``unseen-users`` (info)
    answers that no training event mentions; people asked about who have no history
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from palate.data.interactions import Interactions
from palate.data.split import Split
from palate.errors import ConfigError, LeakError, nearest

Severity = Literal["hard", "warn", "info"]

#: Every code, for checking what callers accept.
CODES = (
    "answers-in-train", "future-in-train", "valid-after-test", "train-test-overlap", "duplicates", "unseen-items",
    "unseen-users", "time-ties", "id-order", "tiny-test", "one-user", "constant-time",
)  # fmt: skip
#: Protocols that promise a border in time.
TIMED = ("global_time", "given")
TINY = 100


@dataclass(frozen=True)
class Finding:
    """One thing found: its code, how grave it is, what it is, how often, and a few examples (raw ids or times)."""

    code: str
    severity: Severity
    message: str
    count: int
    examples: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Audit:
    """What :func:`audit` found.

    Attributes
    ----------
    findings
        Gravest first.
    accepted
        Codes of hard findings that the caller accepts.
    """

    findings: tuple[Finding, ...]
    accepted: tuple[str, ...] = ()

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """Hard findings that are not accepted."""
        return tuple(f for f in self.findings if f.severity == "hard" and f.code not in self.accepted)

    def check(self) -> None:
        """Raise :class:`LeakError` if there is a leak that is not accepted."""
        for leak in self.leaks:
            raise LeakError(
                f"{leak.message}.",
                where=leak.code,
                value=leak.examples,
                remedy=f"mend the data (--dedup first drops repeats), or accept it: --accept {leak.code}",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"findings": [asdict(f) for f in self.findings], "accepted": list(self.accepted), "leaks": len(self.leaks)}

    def __str__(self) -> str:
        if not self.findings:
            return "Audit: nothing to report."
        lines = [f"  {f.severity:<4}  {f.code:<18}  {f.message}{_shown(f.examples)}" for f in self.findings]
        return "\n".join([f"Audit: {len(self.leaks)} leaks, {len(self.findings)} findings.", *lines])


def audit(split: Split, *, accept: Sequence[str] = ()) -> Audit:
    """Look at a split for leaks and oddities; the test part's answers are compared, not shown to any model.

    Parameters
    ----------
    accept
        Codes of hard findings that :meth:`Audit.check` lets pass.
    """
    for code in accept:
        if code not in CODES:
            raise ConfigError("unknown code.", where="accept", value=code, remedy=nearest(code, CODES))
    order = {"hard": 0, "warn": 1, "info": 2}
    found = sorted(_findings(split), key=lambda f: (order[f.severity], CODES.index(f.code)))
    return Audit(tuple(found), tuple(accept))


def _findings(split: Split) -> Iterator[Finding]:
    train, held = split.train.interactions, split.test_part if split.test_part is not None else split.valid
    yield from _train_alone(split)
    if held is None or not len(held):
        return
    yield from _overlap(split, train, held)
    yield from _times(split, train, held)
    yield from _unseen(split, held)
    asked = len(np.unique(held.user))
    if asked < TINY:
        yield Finding("tiny-test", "warn", f"only {asked} people are asked about; intervals will be wide", asked)


def _train_alone(split: Split) -> Iterator[Finding]:
    train = split.train.interactions
    pairs, counts = np.unique(_pairs(train), return_counts=True)
    repeated = pairs[counts > 1]
    if len(repeated):
        again = int(counts.sum() - len(pairs))
        yield Finding("duplicates", "warn", f"{again:,} training events repeat a (user, item)", again, _named(split, repeated))
    if split.train.n_users > 0 and len(np.unique(train.user)) == 1:
        yield Finding("one-user", "warn", "training holds one user", 1)
    if train.time is not None and len(train) > 1 and train.time.min() == train.time.max():
        yield Finding("constant-time", "warn", "all training events have the same time", len(train), (int(train.time[0]),))
    correlation = _id_order(split)
    if abs(correlation) > 0.8:
        message = f"item ids rise with the time of first appearance (rank correlation {correlation:.2f})"
        yield Finding("id-order", "warn", message, split.train.n_items)


def _overlap(split: Split, train: Interactions, held: Interactions) -> Iterator[Finding]:
    ours, theirs = _pairs(train), _pairs(held)
    both = np.isin(theirs, ours)
    if not both.any():
        return
    if train.time is not None and held.time is not None:
        same = np.isin(_stamped(held.take(both)), _stamped(train))
        if same.any():
            pairs = theirs[both][same]
            message = f"{int(same.sum()):,} held-out events stand in training with the same time"
            yield Finding("answers-in-train", "hard", message, int(same.sum()), _named(split, pairs))
    count = int(both.sum())
    message = f"{count:,} held-out (user, item) pairs were in training already"
    yield Finding("train-test-overlap", "warn", message, count, _named(split, theirs[both]))


def _times(split: Split, train: Interactions, held: Interactions) -> Iterator[Finding]:
    if train.time is None or held.time is None or not len(train):
        return
    protocol, first = str(split.spec.get("protocol")), int(held.time.min())
    later = int((train.time >= first).sum())
    if later and protocol in TIMED and train.time.max() > first:
        message = f"{later:,} training events are not before the first held-out event"
        yield Finding("future-in-train", "hard", message, later, (first,))
    elif later and protocol not in TIMED:
        message = f"{later / len(train):.0%} of training is not before the first held-out event: so this protocol is made"
        yield Finding("future-in-train", "info", message, later)
    if split.valid is not None and split.valid.time is not None and held is not split.valid and protocol == "global_time":
        late = int((split.valid.time >= first).sum())
        if late:
            yield Finding("valid-after-test", "hard", f"{late:,} validation events are not before the test", late, (first,))
    ties = _ties(train, held)
    if ties:
        message = f"{ties:,} people have equal times on both sides of the border, told apart by file order alone"
        yield Finding("time-ties", "warn", message, ties)


def _ties(train: Interactions, held: Interactions) -> int:
    """Return how many users' last known event and first held-out event share a time."""
    assert train.time is not None and held.time is not None
    first_at = np.flatnonzero(np.r_[True, held.user[1:] != held.user[:-1]])
    last_at = np.flatnonzero(np.r_[train.user[1:] != train.user[:-1], True])
    last = dict(zip(train.user[last_at].tolist(), train.time[last_at].tolist(), strict=True))
    return sum(last.get(u) == t for u, t in zip(held.user[first_at].tolist(), held.time[first_at].tolist(), strict=True))


def _unseen(split: Split, held: Interactions) -> Iterator[Finding]:
    known = np.zeros(split.train.n_items, bool)
    known[split.train.interactions.item] = True
    new = ~known[held.item]
    if new.any():
        count = int(new.sum())
        message = f"{count:,} of {len(held):,} answers ({count / len(held):.1%}) are items that training never mentions"
        examples = tuple(split.train.items.ids.decode(np.unique(held.item[new])[:3]).to_pylist())
        yield Finding("unseen-items", "info", message, count, examples)
    part: Literal["valid", "test"] = "test" if split.test_part is not None else "valid"
    users, histories = split.people(part)
    cold = int((histories.lengths == 0).sum())
    if cold:
        message = f"{cold:,} of {len(users):,} people asked about have no history: they get what is popular"
        yield Finding("unseen-users", "info", message, cold)


def _id_order(split: Split) -> float:
    """Return the rank correlation of numeric raw item ids with the time of their first event (0 where there is none)."""
    ids, events = split.train.items.ids, split.train.interactions
    if ids.is_text or events.time is None or len(events) < 2:
        return 0.0
    order = events.time_order
    items, at = np.unique(events.item[order], return_index=True)
    if len(items) < 20:
        return 0.0
    raw = ids.raw.to_numpy()[items]
    ranks = [np.argsort(np.argsort(x, kind="stable"), kind="stable").astype(float) for x in (raw, at)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _pairs(events: Interactions) -> np.ndarray:
    return events.user.astype(np.int64) << 32 | events.item


def _stamped(events: Interactions) -> np.ndarray:
    assert events.time is not None
    rows = np.empty(len(events), np.dtype([("pair", np.int64), ("time", np.int64)]))
    rows["pair"], rows["time"] = _pairs(events), events.time
    return rows


def _named(split: Split, pairs: np.ndarray, most: int = 3) -> tuple[Any, ...]:
    some = pairs[:most]
    users = split.train.users.ids.decode((some >> 32).astype(np.int32)).to_pylist()
    items = split.train.items.ids.decode((some & 0xFFFFFFFF).astype(np.int32)).to_pylist()
    return tuple(zip(users, items, strict=True))


def _shown(examples: tuple[Any, ...]) -> str:
    return f" (such as {', '.join(map(str, examples))})" if examples else ""
