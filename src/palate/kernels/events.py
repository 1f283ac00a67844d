"""Drawing events of synthetic people: a topic, then an item of it by binary search in the topic's cumulative weights.

Every person has an own stream of random numbers (splitmix64, keyed by the world and the person), so the events don't depend
on how people are cut into blocks or on the number of threads. One event costs ``O(log n_items)``.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numba as nb
import numpy as np

from palate.kernels.compile import compiled

_GOLDEN, _MIX_A, _MIX_B = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WORD = 2**64 - 1
#: Draws for one event before it is given up, where a person never takes an item twice.
TRIES = 64
#: Seconds between two events of a session: at least, and up to so many more.
GAP, GAP_MORE = 30, 570


@dataclass(frozen=True)
class TopicTable:
    """Items of each topic with their cumulative weights.

    Attributes
    ----------
    offsets
        ``int64[n_topics + 1]``.
    items
        ``int32[m]``, topic by topic.
    cumulative
        ``float64[m]``, rising to 1 within each topic.
    """

    offsets: np.ndarray
    items: np.ndarray
    cumulative: np.ndarray


@dataclass(frozen=True)
class Draw:
    """How events are drawn.

    Attributes
    ----------
    key
        Key of the world's random streams.
    focus
        Chance that an event stays with the topic of its session.
    session_length
        Mean events of a session.
    start, span
        First second, and seconds in which sessions begin.
    repeats
        Whether a person may take an item again.
    """

    key: int
    focus: float
    session_length: float
    start: int
    span: int
    repeats: bool


def draw_events_reference(
    users: np.ndarray,
    counts: np.ndarray,
    shares: np.ndarray,
    topics: np.ndarray,
    base: np.ndarray,
    table: TopicTable,
    draw: Draw,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return items, times and session numbers of the events of some people, one after the other.

    Parameters
    ----------
    users
        ``int64[n]`` numbers that key the streams.
    counts
        ``int64[n]`` events of each.
    shares
        ``float64[n, s + 1]`` cumulative shares of a person's topics; what is left up to 1 goes to ``base``.
    topics
        ``int32[n, s]``.
    base
        ``float64[n_topics]`` cumulative shares of topics that everybody has.

    Returns
    -------
    tuple
        ``int32[m]`` items (-1 where no new one was found), ``int64[m]`` times, ``int32[m]`` sessions (from 0 for each person).
    """
    columns: tuple[list[int], list[int], list[int]] = ([], [], [])
    for at, user in enumerate(users):
        for column, values in zip(columns, _one_person(at, int(user), counts, shares, topics, base, table, draw), strict=True):
            column.extend(values)
    return np.array(columns[0], np.int32), np.array(columns[1], np.int64), np.array(columns[2], np.int32)


def draw_events(
    users: np.ndarray,
    counts: np.ndarray,
    shares: np.ndarray,
    topics: np.ndarray,
    base: np.ndarray,
    table: TopicTable,
    draw: Draw,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`draw_events_reference`, fast."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    m = int(offsets[-1])
    items, times, sessions = np.full(m, -1, np.int32), np.zeros(m, np.int64), np.zeros(m, np.int32)
    _draw(
        np.asarray(users, np.int64),
        offsets,
        shares,
        topics,
        base,
        table.offsets,
        table.items,
        table.cumulative,
        np.uint64(draw.key),
        draw.focus,
        draw.session_length,
        draw.start,
        draw.span,
        draw.repeats,
        items,
        times,
        sessions,
    )
    return items, times, sessions


class _Stream:
    """The plain splitmix64."""

    def __init__(self, key: int, user: int) -> None:
        self.state = (key ^ _mixed((user * _GOLDEN + _MIX_A) & _WORD)) & _WORD

    def next(self) -> float:
        self.state = (self.state + _GOLDEN) & _WORD
        return (_mixed(self.state) >> 11) * 2.0**-53


def _mixed(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MIX_A) & _WORD
    x = ((x ^ (x >> 27)) * _MIX_B) & _WORD
    return x ^ (x >> 31)


def _one_person(
    at: int,
    user: int,
    counts: np.ndarray,
    shares: np.ndarray,
    topics: np.ndarray,
    base: np.ndarray,
    table: TopicTable,
    draw: Draw,
) -> tuple[list[int], list[int], list[int]]:
    stream = _Stream(draw.key, user)

    def a_topic() -> int:
        slot = bisect_right(shares[at], stream.next())
        return int(topics[at, slot]) if slot < topics.shape[1] else min(bisect_right(base, stream.next()), len(base) - 1)

    def an_item(topic: int) -> int:
        low, high = table.offsets[topic], table.offsets[topic + 1]
        return int(table.items[min(low + bisect_right(table.cumulative[low:high], stream.next()), high - 1)])

    items: list[int] = []
    sessions: list[int] = []
    focus, session = -1, 0
    for event in range(counts[at]):
        if event == 0:
            focus = a_topic()
        elif stream.next() * draw.session_length < 1.0:
            session, focus = session + 1, a_topic()
        found = -1
        for _ in range(1 if draw.repeats else TRIES):
            item = an_item(focus if stream.next() < draw.focus else a_topic())
            if draw.repeats or item not in items:
                found = item
                break
        items.append(found)
        sessions.append(session)
    starts = sorted(int(stream.next() * draw.span) for _ in range(session + 1))
    times: list[int] = []
    for event in range(counts[at]):
        begins = event == 0 or sessions[event] != sessions[event - 1]
        last = times[-1] if times else -1
        gap = 0 if begins else GAP + int(stream.next() * GAP_MORE)
        times.append(max(starts[sessions[event]] + draw.start, last + 1) if begins else last + gap)
    return items, times, sessions


@compiled(inline="always")
def _mix(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_A)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_B)
    return x ^ (x >> np.uint64(31))


@compiled(inline="always")
def _uniform(state):  # type: ignore[no-untyped-def]
    state[0] = state[0] + np.uint64(_GOLDEN)
    return np.float64(_mix(state[0]) >> np.uint64(11)) * 2.0**-53


@compiled(inline="always")
def _search(cumulative, low, high, value):  # type: ignore[no-untyped-def]
    """Return the first position whose cumulative weight exceeds the value (the last one at most)."""
    last = high - 1
    while low < high:
        middle = (low + high) >> 1
        if cumulative[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return min(low, last)


@compiled()
def _topic(state, shares, topics, base):  # type: ignore[no-untyped-def]
    value = _uniform(state)
    for slot in range(len(topics)):
        if value < shares[slot]:
            return topics[slot]
    return np.int32(_search(base, 0, len(base), _uniform(state)))


@compiled()
def _known(seen, mask, item):  # type: ignore[no-untyped-def]
    """Look an item up in an open hash table; put it there if it is new."""
    at = (np.uint32(item) * np.uint32(2654435769)) & mask
    while seen[at] >= 0:
        if seen[at] == item:
            return True
        at = (at + np.uint32(1)) & mask
    seen[at] = item
    return False


@compiled(parallel=True)
def _draw(  # type: ignore[no-untyped-def]
    users, offsets, shares, topics, base, t_offsets, t_items, t_cumulative, key, focus, length, start, span, repeats,
    items, times, sessions,
):  # fmt: skip
    for at in nb.prange(len(users)):
        low, high = offsets[at], offsets[at + 1]
        state = np.empty(1, np.uint64)
        state[0] = key ^ _mix(np.uint64(users[at]) * np.uint64(_GOLDEN) + np.uint64(_MIX_A))
        size = 4
        while size < 2 * (high - low):
            size *= 2
        seen = np.full(1 if repeats else size, -1, np.int32)
        mask = np.uint32(size - 1)
        session, topic_now = 0, np.int32(0)
        for event in range(low, high):
            if event == low:
                topic_now = _topic(state, shares[at], topics[at], base)
            elif _uniform(state) * length < 1.0:
                session += 1
                topic_now = _topic(state, shares[at], topics[at], base)
            for _ in range(1 if repeats else TRIES):
                topic = topic_now if _uniform(state) < focus else _topic(state, shares[at], topics[at], base)
                item = t_items[_search(t_cumulative, t_offsets[topic], t_offsets[topic + 1], _uniform(state))]
                if repeats or not _known(seen, mask, item):
                    items[event] = item
                    break
            sessions[event] = session
        starts = np.empty(session + 1, np.int64)
        for s in range(session + 1):
            starts[s] = np.int64(_uniform(state) * span)
        starts.sort()
        last = np.int64(-1)
        for event in range(low, high):
            if event == low or sessions[event] != sessions[event - 1]:
                last = max(starts[sessions[event]] + start, last + 1)
            else:
                last += GAP + np.int64(_uniform(state) * GAP_MORE)
            times[event] = last
