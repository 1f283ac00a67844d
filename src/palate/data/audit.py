"""Audit: what may be wrong with a split, found before anything is fitted.

Findings have a severity. ``hard`` is a leak: the answers, or what follows them, can be learnt from training data; it is an
error unless the caller names its code as accepted. ``warn`` can mislead. ``info`` is worth knowing.

``answers-in-train`` (hard)
    a held-out event itself stands in training: the same user, item and time; for parts that somebody published without times,
    the same user and item (nothing tells the two events apart)
``future-in-train`` (hard for ``global_time`` and ``given``, else warn; info for ``sessions``)
    training events after the first held-out one. A cut by global time promises that there are none. Leave-one-out, ratios and
    held-out users cut each person on its own: what others do later is always in training there, so the finding is a property
    of the protocol, not an error of the split, and stands as a warning that popularity and co-occurrence know the future.
    Sessions are placed by their first event, and a session may run past the border
``valid-after-test`` (hard, for ``global_time`` and ``given``)
    validation events after the first test event
``logs-after-border`` (warn, for ``global_time`` and ``given``)
    searches, slates shown or dialogues that go along with training bear times after the first held-out event: a model that
    reads them would know the future
``train-test-overlap`` (warn)
    a (user, item) pair of the test part was known already, so it can't be found when seen items are left out
``duplicates`` (warn)
    the same (user, item) more than once in training
``time-ties`` (warn)
    equal times on both sides of a person's border, told apart only by file order
``file-order`` (info; warn where most people's events stand in the order of the items)
    there are no times, and the protocol holds out what came last: file order stands for time. A file sorted by item has no such
    order: the items with the greatest ids would be the answers
``id-order`` (warn for numeric raw ids, info for our own numbers)
    ids rise or fall with the time of first appearance (rank correlation above 0.8): a model that sees ids as numbers, or ties
    broken by id, would know what is new
``empty-part``, ``tiny-test``, ``one-user`` (warn)
    no validation or no test part; fewer than 100 questions; one user in training
``constant-time``, ``constant-value`` (warn, info)
    all training events have the same time, or the same value
``unseen-items``, ``unseen-users`` (info)
    answers that training never mentions; people asked about who have no history
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from palate.data.dataset import Entities
from palate.data.interactions import Interactions
from palate.data.split import Split
from palate.errors import ConfigError, LeakError, nearest

Severity = Literal["hard", "warn", "info"]

#: Every code, for checking what callers accept.
CODES = (
    "answers-in-train", "future-in-train", "valid-after-test", "logs-after-border", "train-test-overlap", "duplicates",
    "time-ties", "file-order", "id-order", "empty-part", "tiny-test", "one-user", "constant-time", "constant-value",
    "unseen-items", "unseen-users",
)  # fmt: skip
#: How grave it is that training knows the future, by protocol; others are warned of.
FUTURE: Mapping[str, Severity] = MappingProxyType({"global_time": "hard", "given": "hard", "sessions": "info"})
#: Fewer questions than this make a tiny test.
TINY = 100
#: Examples shown of a finding.
SHOWN = 3
#: Protocols that hold out what came last, if nothing else is said; events that people's order is judged by.
LATEST, EVENTS = ("leave_one_out", "user_ratio", "held_out_users"), 4
#: Ids are judged by their order from this many on, and called ordered above this rank correlation.
FEWEST_IDS, ORDERED = 20, 0.8


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
        leaks = self.leaks
        if leaks:
            accept = " ".join(f"--accept {leak.code}" for leak in leaks)
            raise LeakError(
                "; ".join(leak.message for leak in leaks) + ".",
                where=", ".join(leak.code for leak in leaks),
                value=leaks[0].examples or None,
                remedy=f"mend the data (--dedup first drops repeats), or accept it by name: {accept}",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"findings": [asdict(f) for f in self.findings], "accepted": list(self.accepted), "leaks": len(self.leaks)}

    def __str__(self) -> str:
        if not self.findings:
            return "Audit: nothing to report."
        lines = [f"  {f.severity:<4}  {f.code:<18}  {f.message}{_shown(f.examples)}" for f in self.findings]
        return "\n".join([f"Audit: {_counted(len(self.leaks), 'leak')}, {_counted(len(self.findings), 'finding')}.", *lines])


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
    yield from _train_alone(split)
    for part, events in (("validation", split.valid), ("test", split.test_part)):
        if events is None or not len(events):
            use = "settings can't be chosen by it" if part == "validation" else "nothing is left for the last word"
            yield Finding("empty-part", "warn", f"there is no {part} part: {use}", 1)
            continue
        known = _known(split, "test" if part == "test" else "valid")
        yield from _answers(split, part, known, events)
        yield from _future(split, part, events)
    yield from _logs(split)
    last: Literal["valid", "test"] = "valid" if split.test_part is None else "test"
    held = split.valid if last == "valid" else split.test_part
    if held is not None and len(held):
        yield from _questions(split, last, held)
        yield from _unseen(split, last, held)


def _known(split: Split, part: str) -> list[Interactions]:
    """Return the tables of events that may be known when a part is asked for."""
    others = [split.valid_context] if part == "valid" else [split.valid_context, split.valid, split.test_context]
    return [split.train.interactions, *(p for p in others if p is not None and len(p))]


def _train_alone(split: Split) -> Iterator[Finding]:
    train = split.train.interactions
    pairs = np.sort(_pairs(train))
    repeats = pairs[1:][pairs[1:] == pairs[:-1]]
    if len(repeats):
        message = f"{len(repeats):,} training events repeat a (user, item) pair"
        yield Finding("duplicates", "warn", message, len(repeats), _named(split, np.unique(repeats)))
    if len(np.unique(train.user)) == 1:
        yield Finding("one-user", "warn", "training knows one user only", 1, _raw(split.train.users, train.user[:1]))
    for column, values in (("time", train.time), ("value", train.value)):
        if values is not None and len(values) > 1 and values.min() == values.max():
            severity: Severity = "warn" if column == "time" else "info"
            message = f"all training events have the same {column}"
            yield Finding(f"constant-{column}", severity, message, len(values), (values[0].item(),))
    yield from _id_order(split)
    yield from _file_order(split)


def _answers(split: Split, part: str, known: list[Interactions], held: Interactions) -> Iterator[Finding]:
    theirs = _pairs(held)
    both = _among(theirs, np.sort(np.concatenate([_pairs(p) for p in known])))
    if not both.any():
        return
    timed = held.time is not None and all(p.time is not None for p in known)
    if timed or split.spec.get("protocol") == "given":
        same = both.copy()
        if timed:
            same[both] = _same_moment(held.take(both), known)
        if same.any():
            told = "with the same time" if timed else "and no times tell them apart"
            message = f"{int(same.sum()):,} {part} events stand in training {told}"
            yield Finding("answers-in-train", "hard", message, int(same.sum()), _named(split, theirs[same]))
    if part == "test":
        message = f"{int(both.sum()):,} of {len(held):,} test (user, item) pairs were known already"
        yield Finding("train-test-overlap", "warn", message, int(both.sum()), _named(split, theirs[both]))


def _future(split: Split, part: str, held: Interactions) -> Iterator[Finding]:
    if held.time is None:
        return
    protocol, first = _way(split), int(held.time.min())
    severity = FUTURE.get(protocol, "warn")
    before = [("future-in-train", "training", split.train.interactions)]
    if severity == "hard" and part == "test" and split.valid is not None:
        before.append(("valid-after-test", "validation", split.valid))
    elif severity != "hard" and part == "validation" and split.test_part is not None:
        return
    for code, name, events in before:
        if events.time is None or not len(events):
            continue
        later = int((events.time >= first).sum() if protocol == "global_time" else (events.time > first).sum())
        if later:
            why = "" if severity == "hard" else ", as this protocol is made"
            message = f"{later:,} {name} events ({later / len(events):.0%}) come after the first {part} event{why}"
            yield Finding(code, severity, message, later, (_date(first),))


def _way(split: Split) -> str:
    """Return the protocol, as checks of time know it: the next event after one moment for all is cut by global time."""
    spec = split.spec
    return "global_time" if (spec.get("protocol"), spec.get("order")) == ("next_event", "time") else str(spec.get("protocol"))


def _logs(split: Split) -> Iterator[Finding]:
    held = [p.time for p in (split.valid, split.test_part) if p is not None and p.time is not None and len(p)]
    if not held or FUTURE.get(_way(split)) != "hard":
        return
    first = min(int(times.min()) for times in held)
    for name in ("searches", "impressions", "dialogues"):
        table = getattr(split.train, name)
        if table is None or "time" not in table.column_names:
            continue
        later = pc.sum(pc.greater_equal(table.column("time"), first)).as_py() or 0
        if later:
            message = f"{later:,} of {table.num_rows:,} rows of {name} come after the first held-out event"
            yield Finding("logs-after-border", "warn", message, later, (_date(first),))


def _questions(split: Split, part: Literal["valid", "test"], held: Interactions) -> Iterator[Finding]:
    users, known = np.unique(held.user), _known(split, part)
    if len(users) < TINY:
        message = f"{len(users):,} people are asked about: differences between models will drown in chance"
        yield Finding("tiny-test", "warn", message, len(users))
    lengths = np.sum([np.bincount(p.user, minlength=split.train.n_users) for p in known], axis=0)
    cold = users[lengths[users] == 0]
    if len(cold):
        message = f"{len(cold):,} of {len(users):,} people asked about have no history"
        yield Finding("unseen-users", "info", message, len(cold), _raw(split.train.users, cold))
    if held.time is None or any(p.time is None for p in known):
        return
    last = np.full(split.train.n_users, np.iinfo(np.int64).min)
    for events in known:
        np.maximum.at(last, events.user, _clock(events))
    first = held.time[held.user_offsets(split.train.n_users)[users]]
    tied = users[last[users] == first]
    if len(tied):
        message = f"{len(tied):,} people have equal times on both sides of the border, told apart by file order alone"
        yield Finding("time-ties", "warn", message, len(tied), _raw(split.train.users, tied))


def _unseen(split: Split, part: str, held: Interactions) -> Iterator[Finding]:
    known = np.zeros(split.train.n_items, bool)
    for events in _known(split, part):
        known[events.item] = True
    new = ~known[held.item]
    if new.any():
        count = int(new.sum())
        message = f"{count:,} of {len(held):,} answers ({count / len(held):.1%}) are items never seen before"
        yield Finding("unseen-items", "info", message, count, _raw(split.train.items, np.unique(held.item[new])))


def _id_order(split: Split) -> Iterator[Finding]:
    events = split.train.interactions
    if events.time is None:
        return
    for kind, entities, numbers in (("item", split.train.items, events.item), ("user", split.train.users, events.user)):
        seen = np.unique(numbers)
        if len(seen) < FEWEST_IDS:
            continue
        first = np.full(len(entities), np.iinfo(np.int64).max)
        np.minimum.at(first, numbers, events.time)
        raw = _as_numbers(entities.ids.raw)
        ids, what = (seen, "our numbers") if raw is None else (raw[seen], "raw ids")
        correlation = _rank_correlation(ids, first[seen])
        if abs(correlation) > ORDERED:
            way = "rise" if correlation > 0 else "fall"
            message = f"{what} of {kind}s {way} with the time of first appearance (rank correlation {correlation:.2f})"
            yield Finding("id-order", "info" if raw is None else "warn", message, len(seen), (round(correlation, 4),))


def _file_order(split: Split) -> Iterator[Finding]:
    events, spec = split.train.interactions, split.spec
    if events.time is not None or spec.get("protocol") not in LATEST or spec.get("order", "time") != "time":
        return
    told = "there are no times: file order says what came last"
    raw = _as_numbers(split.train.items.ids.raw)
    numbers = (events.item if raw is None else raw[events.item]).astype(np.int64)
    steps, same = np.sign(np.diff(numbers)), events.user[1:] == events.user[:-1]
    lengths = np.bincount(events.user, minlength=split.train.n_users)
    sums = np.bincount(events.user[1:][same], steps[same], minlength=split.train.n_users)
    long = lengths >= EVENTS
    ordered = int((np.abs(sums[long]) == lengths[long] - 1).sum())
    if ordered > ORDERED * max(int(long.sum()), 1):
        told += f', but the events of {ordered:,} people are sorted by item; order="random" holds out any'
        yield Finding("file-order", "warn", told, ordered)
    else:
        yield Finding("file-order", "info", told, len(events))


def _as_numbers(raw: pa.Array) -> np.ndarray | None:
    """Return raw ids as integers, or ``None`` where some are not (text of digits counts as a number)."""
    if pa.types.is_string(raw.type):
        if not pc.all(pc.match_substring_regex(raw, r"^[0-9]{1,18}$")).as_py():
            return None
        raw = raw.cast(pa.int64())
    return raw.to_numpy()


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation (0 where one side is constant)."""
    from scipy.stats import rankdata  # half a second to import

    ranks = rankdata(x), rankdata(y)
    if any(r.min() == r.max() for r in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _pairs(events: Interactions) -> np.ndarray:
    return events.user.astype(np.int64) << 32 | events.item


def _among(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Say of each value whether it stands in a sorted array."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def _same_moment(held: Interactions, known: list[Interactions]) -> np.ndarray:
    """Say of each event whether a known one has its user, item and time."""
    pairs, moments = np.unique(_pairs(held)), np.unique(_clock(held))

    def words(events: Interactions) -> np.ndarray:
        return np.searchsorted(pairs, _pairs(events)) * len(moments) + np.searchsorted(moments, _clock(events))

    ours = [p.take(_among(_pairs(p), pairs) & _among(_clock(p), moments)) for p in known]
    return _among(words(held), np.sort(np.concatenate([words(p) for p in ours])))


def _clock(events: Interactions) -> np.ndarray:
    assert events.time is not None
    return events.time


def _named(split: Split, pairs: np.ndarray) -> tuple[Any, ...]:
    some = pairs[:SHOWN]
    sides = (split.train.users, (some >> 32).astype(np.int32)), (split.train.items, (some & 0xFFFFFFFF).astype(np.int32))
    return tuple(zip(*(_raw(entities, numbers) for entities, numbers in sides), strict=True))


def _raw(entities: Entities, numbers: np.ndarray) -> tuple[Any, ...]:
    return tuple(entities.ids.decode(numbers[:SHOWN]).to_pylist())


def _date(seconds: int) -> str:
    try:
        return str(np.datetime64(seconds, "s"))
    except (OverflowError, ValueError):
        return str(seconds)


def _shown(examples: tuple[Any, ...]) -> str:
    return f" (such as {', '.join(map(str, examples))})" if examples else ""


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
