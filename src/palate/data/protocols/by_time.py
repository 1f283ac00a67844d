"""Cuts in time that are the same for everybody: one border, or several rolling ones."""

from __future__ import annotations

import numpy as np

from palate.data.dataset import Dataset
from palate.data.protocols.cut import (
    DROP,
    TEST,
    TRAIN,
    VALID,
    check_at_least,
    check_shares,
    cut,
    is_number,
    moment,
    moments,
    times_of,
)
from palate.data.split import Split
from palate.errors import ConfigError, DataError

DAY = 86_400


def global_time(
    dataset: Dataset,
    *,
    seed: int = 0,
    valid: float = 0.1,
    test: float = 0.1,
    valid_at: int | str | None = None,
    test_at: int | str | None = None,
    until: int | str | None = None,
) -> Split:
    """Cut at two moments, the same for everybody.

    An event at a moment belongs to the later part. Users and items that appear only after the cut stay in the vocabularies;
    the audit counts them.

    Parameters
    ----------
    valid, test
        Shares of the time-ordered events; a cut is moved back so that equal times stay together. The spec records the moments.
    valid_at, test_at
        The moments themselves (seconds since 1970, or a date), instead of shares. ``test_at`` alone gives no validation part.
    until
        Events from this moment on are left out.

    Raises
    ------
    ConfigError
        If the moments are not in order.
    DataError
        If there are no times, or a cut leaves nothing on one of its sides.
    """
    time = times_of(dataset)
    end = None if until is None else moment(until, "until")
    if test_at is None and valid_at is not None:
        raise ConfigError("valid_at needs test_at.", where="valid_at", value=valid_at, remedy="give both moments")
    if test_at is None:
        check_shares(valid, test)
        inside = time if end is None else time[time < end]
        if not len(inside):
            raise DataError("there are no events before that moment.", where="until", value=until, remedy="choose a later one")
        valid_time, test_time = moments(np.sort(inside), valid, test)
    else:
        test_time = moment(test_at, "test_at")
        valid_time = test_time if valid_at is None else moment(valid_at, "valid_at")
    if valid_time > test_time or (end is not None and test_time > end):
        raise ConfigError("moments must be in order: valid_at, test_at, until.", value=(valid_time, test_time, end))
    code = np.where(time >= test_time, TEST, np.where(time >= valid_time, VALID, TRAIN))
    options = {"valid_at": valid_time, "test_at": test_time}
    if end is not None:
        code, options["until"] = np.where(time >= end, DROP, code), end
    return cut(dataset, code, "global_time", seed, options)


def rolling(
    dataset: Dataset, *, windows: int = 3, days: float = 7.0, valid_days: float | None = None, seed: int = 0
) -> list[Split]:
    """Cut by global time at several moments: the last ``windows`` windows of ``days`` each are tested in turn, oldest first.

    Parameters
    ----------
    days
        Length of a test window; the last ends just after the last event. What lies after a window is left out of its split.
    valid_days
        Length of the validation part, the time before the test window; ``None`` means ``days``, 0 none.

    Raises
    ------
    DataError
        If a window leaves nothing to learn from, or holds no event.
    """
    check_at_least(windows, 1, "windows")
    for name, value in (("days", days), ("valid_days", 0.0 if valid_days is None else valid_days)):
        if not is_number(value) or value < 0 or (name == "days" and value * DAY < 1):
            raise ConfigError(f"{name} must be a positive number.", where=name, value=value)
    time, width = times_of(dataset), int(days * DAY)
    before = width if valid_days is None else int(valid_days * DAY)
    end, splits = int(time.max()) + 1, []
    for back in range(windows, 0, -1):
        start = end - back * width
        asked = f"{windows} windows of {days} days"
        if not (time < start - before).any():
            raise DataError("a window leaves nothing to learn from.", value=asked, remedy="ask for fewer or shorter ones")
        if not ((time >= start) & (time < start + width)).any():
            raise DataError("a window holds no event.", value=asked, remedy="ask for longer ones")
        splits.append(global_time(dataset, seed=seed, valid_at=start - before, test_at=start, until=start + width))
    return splits
