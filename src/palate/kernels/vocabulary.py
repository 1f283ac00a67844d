"""Places of values in a vocabulary, texts or whole numbers, by a hash table that is built once (open, probed linearly).

Texts come as Arrow keeps them: all bytes in a row, and ``int32[n + 1]`` offsets. A slot holds the place of a value, or -1; at
most half of the slots are taken. The hash is FNV-1a of the bytes (of numbers, a product), its halves folded.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.spans import each_span, even_rows

#: Multiplications that one probe costs, about.
_WORK = 30


def find_texts_reference(offsets: np.ndarray, data: np.ndarray, known: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return ``int32[n]``: the place of each text in a vocabulary, -1 where it isn't there.

    Parameters
    ----------
    offsets, data
        ``int32[n + 1]`` and ``uint8[bytes]``.
    known
        Offsets and bytes of the vocabulary; of equal texts the first counts.
    """
    place: dict[bytes, int] = {}
    for at in range(len(known[0]) - 1):
        place.setdefault(known[1][known[0][at] : known[0][at + 1]].tobytes(), at)
    texts = (data[offsets[at] : offsets[at + 1]].tobytes() for at in range(len(offsets) - 1))
    return np.array([place.get(text, -1) for text in texts], np.int32)


def find_numbers_reference(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return ``int32[n]``: the place of each number (``int64[n]``) in a vocabulary, -1 where it isn't there."""
    place: dict[int, int] = {}
    for at, value in enumerate(known.tolist()):
        place.setdefault(value, at)
    return np.array([place.get(value, -1) for value in values.tolist()], np.int32)


def text_slots(offsets: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Return ``int32[slots]``: the hash table of a vocabulary of texts."""
    slots = _empty(len(offsets) - 1)
    _place_texts(offsets, data, slots)
    return slots


def number_slots(values: np.ndarray) -> np.ndarray:
    """Return ``int32[slots]``: the hash table of a vocabulary of numbers (``int64[n]``)."""
    slots = _empty(len(values))
    _place_numbers(values, slots)
    return slots


def find_texts(offsets: np.ndarray, data: np.ndarray, known: tuple[np.ndarray, np.ndarray], slots: np.ndarray) -> np.ndarray:
    """As :func:`find_texts_reference`, fast, by the table that :func:`text_slots` gives."""
    n = len(offsets) - 1
    out = np.empty(n, np.int32)
    each_span(lambda low, high: _find_texts(offsets, data, *known, slots, out, low, high), even_rows(n), _WORK * n)
    return out


def find_numbers(values: np.ndarray, known: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """As :func:`find_numbers_reference`, fast, by the table that :func:`number_slots` gives."""
    out = np.empty(len(values), np.int32)
    run = even_rows(len(values))
    each_span(lambda low, high: _find_numbers(values, known, slots, out, low, high), run, _WORK * len(values))
    return out


def _empty(n: int) -> np.ndarray:
    return np.full(1 << max(1, (2 * n - 1).bit_length()), -1, np.int32)


@compiled(inline="always")
def _text_hash(data, low, high):  # type: ignore[no-untyped-def]
    found = np.uint64(0xCBF29CE484222325)
    for at in range(low, high):
        found = (found ^ np.uint64(data[at])) * np.uint64(0x100000001B3)
    return found ^ (found >> np.uint64(32))


@compiled(inline="always")
def _number_hash(value):  # type: ignore[no-untyped-def]
    found = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)
    return found ^ (found >> np.uint64(32))


@compiled(inline="always")
def _equal(a, low, high, b, first):  # type: ignore[no-untyped-def]
    at = 0
    while at < high - low and a[low + at] == b[first + at]:
        at += 1
    return at == high - low


@compiled()
def _place_texts(offsets, data, slots):  # type: ignore[no-untyped-def]
    last = np.uint64(len(slots) - 1)
    for at in range(len(offsets) - 1):
        slot = _text_hash(data, offsets[at], offsets[at + 1]) & last
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & last
        slots[slot] = at


@compiled()
def _place_numbers(values, slots):  # type: ignore[no-untyped-def]
    last = np.uint64(len(slots) - 1)
    for at in range(len(values)):
        slot = _number_hash(values[at]) & last
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & last
        slots[slot] = at


@compiled()
def _find_texts(offsets, data, known_offsets, known_data, slots, out, low, high):  # type: ignore[no-untyped-def]
    last = np.uint64(len(slots) - 1)
    for at in range(low, high):
        begin, end = offsets[at], offsets[at + 1]
        slot = _text_hash(data, begin, end) & last
        found = slots[slot]
        while found >= 0:
            first = known_offsets[found]
            if known_offsets[found + 1] - first == end - begin and _equal(data, begin, end, known_data, first):
                break
            slot = (slot + np.uint64(1)) & last
            found = slots[slot]
        out[at] = found


@compiled()
def _find_numbers(values, known, slots, out, low, high):  # type: ignore[no-untyped-def]
    last = np.uint64(len(slots) - 1)
    for at in range(low, high):
        slot = _number_hash(values[at]) & last
        found = slots[slot]
        while found >= 0 and known[found] != values[at]:
            slot = (slot + np.uint64(1)) & last
            found = slots[slot]
        out[at] = found
