"""Arrays are used again where form and format are the same, and never by two at once."""

import numpy as np

from palate.kernels.shelf import MOST, Shelf


def test_an_array_is_taken_again_once_it_was_given_back():
    shelf = Shelf()
    first = shelf.take((3, 2))
    assert first.shape == (3, 2) and first.dtype == np.float32
    assert shelf.take((3, 2)) is not first
    shelf.give(first)
    assert shelf.take((2, 3)) is not first and shelf.take((3, 2), np.uint8) is not first
    assert shelf.take((3, 2)) is first
    assert shelf.take((3, 2)) is not first


def test_few_arrays_wait():
    shelf, arrays = Shelf(), [np.empty(1) for _ in range(MOST + 3)]
    shelf.give(*arrays)
    taken = [shelf.take((1,), np.float64) for _ in arrays]
    assert sum(any(one is other for other in arrays) for one in taken) == MOST
