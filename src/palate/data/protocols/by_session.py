"""Sessions in the place of users."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.protocols.cut import (
    DROP,
    TEST,
    TRAIN,
    VALID,
    check_at_least,
    check_shares,
    counts_of,
    cut,
    events_left,
    moments,
)
from palate.data.split import Split
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError


def sessions(dataset: Dataset, *, seed: int = 0, gap: int = 1800, valid: float = 0.1, test: float = 0.1) -> Split:
    """Treat each session as a person of its own; the latest sessions are held out, and their last event is asked for.

    Sessions are the data's own where it has them, else runs of a user's events (:func:`as_sessions`). They are placed by the
    time of their first event (without times, by file order). A held-out session of one event asks nothing, and is left out.

    Parameters
    ----------
    gap
        Longest pause within a session, in seconds, where the data name none.
    valid, test
        Shares of the sessions.
    """
    check_shares(valid, test)
    data = as_sessions(dataset, gap=gap)
    if not len(data):
        raise DataError("there are no events.", where=dataset.name)
    events = data.interactions
    clock = events.file_order if events.time is None else events.time
    starts = clock[events.user_offsets(data.n_users)[:-1]].astype(np.int64)
    valid_time, test_time = moments(np.sort(starts), valid, test)
    part = np.where(starts >= test_time, TEST, np.where(starts >= valid_time, VALID, TRAIN))[events.user]
    askable = counts_of(data)[events.user] >= 2
    context = events_left(data) > 0
    code = np.where((part != TRAIN) & (context | ~askable), DROP, part)
    contexts = {name: events.take((part == of) & context & askable) for name, of in (("valid", VALID), ("test", TEST))}
    made = cut(data, code, "sessions", seed, {"gap": gap, "valid": valid, "test": test}, contexts)
    made.spec = {**made.spec, "data": dataset.fingerprint}
    return made


def as_sessions(dataset: Dataset, *, gap: int = 1800) -> Dataset:
    """Return the same events with sessions in the place of users (raw ids ``user/number``, numbered from 0 in order of time).

    A session is what a user did under one session id (pieces that others interrupt belong together), or, where there are no
    session ids, a run of a user's events with pauses of at most ``gap`` seconds. Attributes of users and graphs between them
    are dropped.

    Raises
    ------
    DataError
        If there are neither session ids nor times.
    """
    check_at_least(gap, 0, "gap")
    events = dataset.interactions
    new = np.ones(len(events), bool)
    new[1:] = events.user[1:] != events.user[:-1]
    if events.session is not None:
        pairs = events.user.astype(np.int64) << 32 | events.session
        _, first, inverse = np.unique(pairs, return_index=True, return_inverse=True)
        by_start = np.argsort(first, kind="stable")
        number = np.empty(len(first), np.int64)
        number[by_start] = np.arange(len(first))
        number, first = number[inverse], first[by_start]
    elif events.time is not None:
        new[1:] |= np.diff(events.time) > gap
        number, first = np.cumsum(new) - 1, np.flatnonzero(new)
    else:
        raise DataError("sessions need session ids or times.", where="interactions", remedy="name one of these columns")
    owner = events.user[first]
    within = np.arange(len(owner)) - np.searchsorted(owner, owner)
    raw = [f"{u}/{n}" for u, n in zip(dataset.users.ids.decode(owner).to_pylist(), within.tolist(), strict=True)]
    columns = {name: column for name, column in events.columns.items() if name not in ("user", "item")}
    columns.setdefault("row", events.file_order)
    by_session = np.argsort(number, kind="stable")
    table = Interactions.sorted(number[by_session], events.item[by_session], **{n: c[by_session] for n, c in columns.items()})
    people = Entities(Vocabulary(pa.array(raw, pa.string())))
    graphs = {name: graph for name, graph in dataset.graphs.items() if "user" not in (graph.heads, graph.tails)}
    return dataset.derive({"step": "sessions", "gap": gap}, interactions=table, users=people, graphs=graphs)
