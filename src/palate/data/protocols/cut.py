"""What every protocol shares: positions from the end, shares, moments, and the cut itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from palate.data.dataset import Dataset
from palate.data.interactions import Interactions
from palate.data.split import Split
from palate.errors import ConfigError, DataError
from palate.runtime import generator

#: Codes of the parts in a mask: left out, train, validation, test.
DROP, TRAIN, VALID, TEST = 0, 1, 2, 3


def cut(
    dataset: Dataset,
    code: np.ndarray,
    name: str,
    seed: int,
    options: Mapping[str, Any],
    contexts: Mapping[str, Interactions] | None = None,
) -> Split:
    """Cut events by their codes, and record the spec.

    Parameters
    ----------
    code
        ``int[n]`` code of each event.
    name, seed, options
        What goes into the spec.
    contexts
        Events known when asked, of parts ``"valid"`` and ``"test"``.

    Raises
    ------
    DataError
        If nothing is left to learn from, or nothing is held out.
    """
    events = dataset.interactions
    spec = {"protocol": name, **options, "seed": seed, "data": dataset.fingerprint}
    parts = {part: events.take(code == part) for part in (TRAIN, VALID, TEST)}
    if not len(parts[TRAIN]):
        raise DataError("nothing is left to learn from.", where=f"protocol {name}", value=dict(options), remedy="hold out less")
    if not len(parts[VALID]) and not len(parts[TEST]):
        remedy = "hold out more, or give more data"
        raise DataError("nothing is held out.", where=f"protocol {name}", value=dict(options), remedy=remedy)
    train = dataset.derive({"step": "train", "of": spec}, interactions=parts[TRAIN])
    known = {part: table for part, table in (contexts or {}).items() if len(table)}
    return Split(
        train,
        parts[VALID] if len(parts[VALID]) else None,
        parts[TEST] if len(parts[TEST]) else None,
        spec,
        valid_context=known.get("valid"),
        test_context=known.get("test"),
    )


def counts_of(dataset: Dataset) -> np.ndarray:
    """Return ``int64[n_users]`` events of each user."""
    return np.diff(dataset.interactions.user_offsets(dataset.n_users))


def events_left(dataset: Dataset) -> np.ndarray:
    """Return ``int64[n]``: of each event, how many later ones its user has."""
    offsets = dataset.interactions.user_offsets(dataset.n_users)
    return offsets[dataset.interactions.user + 1] - 1 - np.arange(len(dataset))


def rounded(counts: np.ndarray, share: float) -> np.ndarray:
    """Return shares of counts as ``int64``, rounded to the nearest (halves up)."""
    return np.floor(counts * share + 0.5).astype(np.int64)


def dealt(counts: np.ndarray, min_events: int, valid: float, test: float, name: str, seed: int) -> np.ndarray:
    """Return ``int[n]``: the part of each user or item, shares of those with enough events being held out at random.

    Raises
    ------
    DataError
        If none can be held out.
    """
    able = np.flatnonzero(counts >= min_events)
    n_test, n_valid = (int(rounded(np.array(len(able)), share)) for share in (test, valid))
    if not n_test + n_valid:
        kind = name.removeprefix("held_out_")
        value = f"{len(able)} {kind} have at least {min_events} events"
        raise DataError(f"no {kind[:-1]} can be held out.", where=name, value=value, remedy="lower min_events")
    chosen = generator(seed, name).permutation(able)
    part = np.full(len(counts), TRAIN)
    part[chosen[:n_test]], part[chosen[n_test : n_test + n_valid]] = TEST, VALID
    return part


def moments(sorted_times: np.ndarray, valid: float, test: float) -> tuple[int, int]:
    """Return the moments at which validation and test begin, so that equal times stay together in the later part.

    A share of 0 gives an empty part.
    """
    n = len(sorted_times)

    def at(share: float) -> int:
        return int(sorted_times[min(n - 1, round(n * (1 - share)))])

    test_at = at(test) if test > 0 else int(sorted_times[-1]) + 1
    return (at(valid + test) if valid > 0 else test_at), test_at


def times_of(dataset: Dataset) -> np.ndarray:
    """Return the times, or raise if there are none."""
    time = dataset.interactions.time
    if time is None:
        raise DataError("this protocol needs times.", where="interactions", remedy="name the time column, or use leave_one_out")
    if not len(time):
        raise DataError("there are no events.", where=dataset.name)
    return time


def moment(value: int | str, option: str) -> int:
    """Return seconds since 1970 of a number or of a date such as ``"2024-05-31"`` (UTC)."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    remedy = "seconds since 1970, or a date such as 2024-05-31"
    try:
        found = np.datetime64(value, "s")
    except (ValueError, TypeError):
        raise ConfigError("not a moment.", where=option, value=value, remedy=remedy) from None
    if np.isnat(found):
        raise ConfigError("not a moment.", where=option, value=value, remedy=remedy)
    return int(found.astype(np.int64))


def check_shares(valid: float, test: float) -> None:
    """Raise unless both are shares that leave something to learn from."""
    for name, value in (("valid", valid), ("test", test)):
        if not is_number(value) or not 0 <= value < 1:
            raise ConfigError(f"{name} must be a share from 0 to below 1.", where=name, value=value)
    if valid + test >= 1:
        raise ConfigError("valid and test leave nothing to learn from.", value=(valid, test), remedy="choose smaller shares")
    if valid + test == 0:
        raise ConfigError("valid and test are both 0.", value=(valid, test), remedy="hold out a share")


def check_at_least(value: int, least: int, name: str) -> None:
    """Raise unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}.", where=name, value=value)


def is_number(value: object) -> bool:
    """Say whether this is a finite number."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and math.isfinite(value)
