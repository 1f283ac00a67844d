"""Places of values in a vocabulary: the fast form equals the plain one."""

import numpy as np
import pytest

from palate.kernels.vocabulary import (
    find_numbers,
    find_numbers_reference,
    find_texts,
    find_texts_reference,
    number_slots,
    text_slots,
)


def packed(words):
    parts = [word.encode() for word in words]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int32)
    return offsets, np.frombuffer(b"".join(parts), np.uint8)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1_000, 70_000])
def test_texts(n):
    rng = np.random.default_rng(n)
    known = packed([f"v{at}" for at in rng.permutation(n)])
    asked = packed([f"v{at}" for at in rng.integers(0, 2 * n + 2, 3 * n)] + ["", "v", "v0", "ü", "v00"])
    found = find_texts(*asked, known, text_slots(*known))
    np.testing.assert_array_equal(found, find_texts_reference(*asked, known))
    assert found.dtype == np.int32


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1_000, 70_000])
def test_numbers(n):
    rng = np.random.default_rng(n)
    known = rng.permutation(np.unique(rng.integers(-(2**62), 2**62, n) // 2**57 if n < 9 else rng.integers(-n, n, n)))
    asked = np.concatenate([known, rng.integers(-2 * n - 2, 2 * n + 2, 50), [2**63 - 1, -(2**63), 0]])
    found = find_numbers(asked, known, number_slots(known))
    np.testing.assert_array_equal(found, find_numbers_reference(asked, known))
    np.testing.assert_array_equal(found[: len(known)], np.arange(len(known)))


def test_of_equal_values_the_first_counts():
    known = packed(["b", "a", "b"])
    assert find_texts(*packed(["b", "a"]), known, text_slots(*known)).tolist() == [0, 1]
    twice = np.array([5, 7, 5])
    assert find_numbers(np.array([5, 7]), twice, number_slots(twice)).tolist() == [0, 1]


def test_values_that_share_a_slot_are_told_apart():
    for at in range(3, 60):  # three values in eight slots: some pairs meet, at the end of the table too
        known = packed(["w0", "w1", f"w{at}"])
        slots = text_slots(*known)
        assert len(slots) == 8 and sorted(slots[slots >= 0]) == [0, 1, 2]
        assert find_texts(*packed(["w0", "w1", f"w{at}", "w2"]), known, slots).tolist() == [0, 1, 2, -1]
