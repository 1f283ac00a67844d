"""Protocols: how a data set is cut into train, validation and test.

===================  ============================================================================================
``leave_one_out``    each user's last event is the test, the one before it the validation
``global_time``      one moment for all: before it is known, after it is asked
``user_ratio``       a share of each user's events, the latest or random ones
``held_out_users``   some users are never seen in training; part of their events is folded in, the rest asked
``sessions``         the latest sessions; what came before in the session is known, its last event asked
``given``            parts that somebody published
===================  ============================================================================================

Equal times keep file order. A split's spec (protocol, options, seed, fingerprint of the data) rebuilds it exactly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.split import Split
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, nearest
from palate.runtime import generator

DAY = 86_400
#: Codes of the parts in a mask: left out, train, validation, test.
DROP, TRAIN, VALID, TEST = 0, 1, 2, 3


def split(dataset: Dataset, protocol: str, *, seed: int = 0, **options: Any) -> Split:
    """Cut a data set by a protocol.

    Parameters
    ----------
    protocol
        One of the table above.
    seed
        Fixes random choices, where the protocol makes any.
    options
        Those of the protocol's function in this module (``leave_one_out``, ``global_time``…).

    Raises
    ------
    ConfigError
        If the protocol or an option is unknown; the nearest right one is named.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError("unknown protocol.", value=protocol, remedy=nearest(protocol, PROTOCOLS))
    function = PROTOCOLS[protocol]
    allowed = [name for name in inspect.signature(function).parameters if name not in ("dataset", "seed")]
    for name in options:
        if name not in allowed:
            advice = nearest(name, allowed) if allowed else "this protocol has no options"
            raise ConfigError("unknown option.", where=f"protocol {protocol}", value=name, remedy=advice)
    return function(dataset, seed=seed, **options)


def leave_one_out(dataset: Dataset, *, seed: int = 0, valid: int = 1, test: int = 1) -> Split:
    """Hold out each user's last ``test`` events, and the ``valid`` events before them.

    A user with fewer than ``valid + test + 1`` events stays in train whole.
    """
    _at_least(valid, 0, "valid")
    _at_least(test, 1, "test")
    left = _events_left(dataset)
    enough = np.diff(_offsets(dataset))[dataset.interactions.user] > valid + test
    code = np.where(left < test, TEST, np.where(left < valid + test, VALID, TRAIN))
    return _cut(dataset, np.where(enough, code, TRAIN), "leave_one_out", seed, valid=valid, test=test)


def global_time(
    dataset: Dataset,
    *,
    seed: int = 0,
    valid: float = 0.1,
    test: float = 0.1,
    valid_at: int | str | None = None,
    test_at: int | str | None = None,
) -> Split:
    """Cut at two moments, the same for everybody.

    Parameters
    ----------
    valid, test
        Shares of the events; the cut is moved back so that equal times stay together.
    valid_at, test_at
        The moments themselves (seconds since 1970, or a date), instead of shares. An event at the
        moment belongs to the later part.
    """
    time = _times(dataset)
    if test_at is None:
        _shares(valid, test)
        ordered = np.sort(time)
        test_time = int(ordered[_position(len(ordered), 1 - test)])
        valid_time = int(ordered[_position(len(ordered), 1 - test - valid)]) if valid > 0 else test_time
    else:
        test_time = _moment(test_at, "test_at")
        valid_time = test_time if valid_at is None else _moment(valid_at, "valid_at")
        if valid_time > test_time:
            raise ConfigError("valid_at must not be after test_at.", value=(valid_at, test_at))
    code = np.where(time >= test_time, TEST, np.where(time >= valid_time, VALID, TRAIN))
    return _cut(dataset, code, "global_time", seed, valid_at=valid_time, test_at=test_time)


def user_ratio(
    dataset: Dataset, *, seed: int = 0, valid: float = 0.1, test: float = 0.1, order: Literal["time", "random"] = "time"
) -> Split:
    """Hold out a share of each user's events, rounded to the nearest count; at least one event stays in train."""
    _shares(valid, test)
    if order not in ("time", "random"):
        raise ConfigError("unknown order.", where="order", value=order, remedy="time or random")
    left = _events_left(dataset)
    if order == "random":
        rng = generator(seed, "user_ratio")
        user = dataset.interactions.user
        shuffled = np.lexsort((rng.random(len(user)), user))
        left[shuffled] = left.copy()
    counts = np.diff(_offsets(dataset))
    n_test = np.minimum(np.floor(counts * test + 0.5), np.maximum(counts - 1, 0)).astype(np.int64)
    n_valid = np.minimum(np.floor(counts * valid + 0.5), np.maximum(counts - n_test - 1, 0)).astype(np.int64)
    user = dataset.interactions.user
    code = np.where(left < n_test[user], TEST, np.where(left < (n_test + n_valid)[user], VALID, TRAIN))
    return _cut(dataset, code, "user_ratio", seed, valid=valid, test=test, order=order)


def held_out_users(
    dataset: Dataset, *, seed: int = 0, valid: float = 0.1, test: float = 0.1, answers: float = 0.2, min_events: int = 5
) -> Split:
    """Keep some users out of training; fold their earlier events in when asked, and ask for the rest.

    Parameters
    ----------
    valid, test
        Shares of the users with at least ``min_events`` events.
    answers
        Share of a held-out user's events, the latest, that are asked for (at least one).
    """
    _shares(valid, test)
    if not 0 < answers < 1:
        raise ConfigError("answers must lie between 0 and 1.", value=answers)
    counts = np.diff(_offsets(dataset))
    able = np.flatnonzero(counts >= max(2, min_events))
    chosen = generator(seed, "held_out_users").permutation(able)
    n_test, n_valid = round(len(able) * test), round(len(able) * valid)
    part = np.full(dataset.n_users, TRAIN)
    part[chosen[:n_test]] = TEST
    part[chosen[n_test : n_test + n_valid]] = VALID
    asked = np.clip(np.floor(counts * answers + 0.5), 1, np.maximum(counts - 1, 1)).astype(np.int64)
    user = dataset.interactions.user
    context = _events_left(dataset) >= asked[user]
    code = np.where((part[user] != TRAIN) & context, DROP, part[user])
    events = dataset.interactions
    contexts = {name: events.take((part[user] == p) & context) for name, p in (("valid", VALID), ("test", TEST))}
    options = {"valid": valid, "test": test, "answers": answers, "min_events": min_events}
    return _cut(dataset, code, "held_out_users", seed, contexts, **options)


def sessions(dataset: Dataset, *, seed: int = 0, gap: int = 1800, valid: float = 0.1, test: float = 0.1) -> Split:
    """Treat each session as a person of its own; the latest sessions are held out, and their last event asked for.

    Sessions are the data's own where it has them, else runs of a user's events with pauses of at most ``gap`` seconds.
    """
    _shares(valid, test)
    data = as_sessions(dataset, gap=gap)
    events = data.interactions
    starts = events.time[data.histories.offsets[:-1]] if events.time is not None else np.arange(data.n_users)
    ordered = np.sort(starts)
    test_time = ordered[_position(len(ordered), 1 - test)]
    valid_time = ordered[_position(len(ordered), 1 - test - valid)] if valid > 0 else test_time
    part = np.where(starts >= test_time, TEST, np.where(starts >= valid_time, VALID, TRAIN))[events.user]
    long_enough = np.diff(_offsets(data))[events.user] >= 2
    context = _events_left(data) > 0
    code = np.where((part != TRAIN) & (context | ~long_enough), DROP, part)
    contexts = {name: events.take((part == p) & context & long_enough) for name, p in (("valid", VALID), ("test", TEST))}
    return _cut(data, code, "sessions", seed, contexts, gap=gap, valid=valid, test=test)


def as_sessions(dataset: Dataset, *, gap: int = 1800) -> Dataset:
    """Return the same events with sessions in the place of users (raw ids ``user/number``)."""
    events = dataset.interactions
    new = np.ones(len(events), bool)
    new[1:] = events.user[1:] != events.user[:-1]
    if events.session is not None:
        new[1:] |= events.session[1:] != events.session[:-1]
    elif events.time is not None:
        new[1:] |= np.diff(events.time) > gap
    else:
        raise DataError("sessions need a session column or times.", where="interactions", remedy="give one of the columns")
    number = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    owner = events.user[first]
    within = (
        np.arange(len(first))
        - np.concatenate([[0], np.flatnonzero(np.diff(owner)) + 1])[np.cumsum(np.r_[0, np.diff(owner) != 0])]
    )
    raw = [f"{u}/{n}" for u, n in zip(dataset.users.ids.decode(owner).to_pylist(), within.tolist(), strict=True)]
    columns = {name: column for name, column in events.columns.items() if name not in ("user", "item")}
    table = Interactions.sorted(number.astype(np.int32), events.item, **columns)
    return dataset.derive(
        {"step": "sessions", "gap": gap}, interactions=table, users=Entities(Vocabulary(pa.array(raw))), graphs={}
    )


def given(dataset: Dataset, *, seed: int = 0, test: Dataset | None = None, valid: Dataset | float | None = None) -> Split:
    """Take parts that somebody published; users and items are brought together by raw id.

    Parameters
    ----------
    dataset, test
        The published training and test parts.
    valid
        The published validation part, or the share of each user's training events to carve out at random, or ``None``.
    """
    if test is None:
        raise ConfigError("the protocol needs the test part.", where="given", remedy="split(train, 'given', test=test)")
    parts = [dataset, test, *([valid] if isinstance(valid, Dataset) else [])]
    users, items = (_joined([getattr(p, side) for p in parts]) for side in ("users", "items"))
    moved = [_renumber(p.interactions, users.ids.encode(p.users.ids.raw), items.ids.encode(p.items.ids.raw)) for p in parts]
    train = dataset.derive({"step": "given"}, interactions=moved[0], users=users, items=items)
    spec = {"protocol": "given", "seed": seed, "data": [p.fingerprint for p in parts]}
    if isinstance(valid, float):
        carved = user_ratio(train, seed=seed, valid=valid, test=0.0, order="random")
        return Split(carved.train, carved.valid, moved[1], {**spec, "valid": valid})
    return Split(train, moved[2] if isinstance(valid, Dataset) else None, moved[1], spec)


def rolling(dataset: Dataset, *, windows: int = 3, days: float = 7.0, valid_days: float | None = None) -> list[Split]:
    """Cut by global time at several moments: the last ``windows`` windows of ``days`` each are tested in turn.

    The validation part is the window before the test (``valid_days`` long); events after the test window are left out.
    """
    _at_least(windows, 1, "windows")
    time, width = _times(dataset), int(days * DAY)
    before = width if valid_days is None else int(valid_days * DAY)
    end, splits = int(time.max()) + 1, []
    for at in range(windows, 0, -1):
        start = end - at * width
        known = dataset.derive(
            {"step": "until", "time": start + width}, interactions=dataset.interactions.take(time < start + width)
        )
        if not (time < start - before).any():
            raise DataError(
                "a window leaves nothing to learn from.", value=f"{windows} windows of {days} days", remedy="ask for fewer"
            )
        splits.append(global_time(known, valid_at=start - before, test_at=start))
    return splits


PROTOCOLS: dict[str, Callable[..., Split]] = {
    f.__name__: f for f in (leave_one_out, global_time, user_ratio, held_out_users, sessions, given)
}


def _cut(
    dataset: Dataset, code: np.ndarray, name: str, seed: int, contexts: dict[str, Interactions] | None = None, **options: Any
) -> Split:
    events = dataset.interactions
    spec = {"protocol": name, **options, "seed": seed, "data": dataset.fingerprint}
    train = dataset.derive({"step": "train", "of": spec}, interactions=events.take(code == TRAIN))
    if not len(train):
        raise DataError("nothing is left to learn from.", where=f"protocol {name}", value=options, remedy="hold out less")
    valid, test = events.take(code == VALID), events.take(code == TEST)
    known = contexts or {}
    return Split(
        train,
        valid if len(valid) else None,
        test if len(test) else None,
        spec,
        valid_context=known.get("valid"),
        test_context=known.get("test"),
    )


def _offsets(dataset: Dataset) -> np.ndarray:
    return dataset.interactions.user_offsets(dataset.n_users)


def _events_left(dataset: Dataset) -> np.ndarray:
    """Return, for each event, how many later ones its user has."""
    return _offsets(dataset)[dataset.interactions.user + 1] - 1 - np.arange(len(dataset))


def _times(dataset: Dataset) -> np.ndarray:
    time = dataset.interactions.time
    if time is None:
        raise DataError("this protocol needs times.", where="interactions", remedy="name the time column, or use leave_one_out")
    if not len(time):
        raise DataError("there are no events.", where=dataset.name)
    return time


def _position(n: int, share: float) -> int:
    return min(n - 1, max(0, round(n * share)))


def _moment(value: int | str, option: str) -> int:
    if isinstance(value, (int, np.integer)):
        return int(value)
    try:
        return int(np.datetime64(value, "s").astype(np.int64))
    except ValueError:
        raise ConfigError("not a moment.", where=option, value=value, remedy="seconds since 1970, or 2024-05-31") from None


def _shares(valid: float, test: float) -> None:
    for name, value in (("valid", valid), ("test", test)):
        if not 0 <= value < 1:
            raise ConfigError(f"{name} must be a share from 0 to 1.", where=name, value=value)
    if valid + test >= 1:
        raise ConfigError("validation and test leave nothing to train on.", value=(valid, test))


def _at_least(value: int, least: int, name: str) -> None:
    if not isinstance(value, (int, np.integer)) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}.", where=name, value=value)


def _joined(sides: list[Entities]) -> Entities:
    """Return the union of vocabularies, in order of first appearance (attributes of the first part are kept)."""
    first = sides[0]
    raw, attributes = first.ids.raw, first.attributes
    for side in sides[1:]:
        known = Vocabulary(raw)
        new = side.ids.raw.filter(pa.array(known.encode(side.ids.raw) < 0))
        raw = pa.concat_arrays([raw, new.cast(raw.type)])
    if attributes is not None and len(raw) > len(first):
        pad = pa.table({n: pa.nulls(len(raw) - len(first), attributes.schema.field(n).type) for n in attributes.column_names})
        attributes = pa.concat_tables([attributes, pad])
    return Entities(Vocabulary(raw), attributes)


def _renumber(events: Interactions, users: np.ndarray, items: np.ndarray) -> Interactions:
    columns = {name: column for name, column in events.columns.items() if name not in ("user", "item")}
    return Interactions.sorted(users[events.user], items[events.item], **columns)
