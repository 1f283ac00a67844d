"""Random numbers by place: the fast form has the bits of the plain one, any part alone, and they are uniform."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.kernels.draws import uniform, uniform_reference


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=6), st.integers(1, 40))
def test_fast_equals_plain_to_the_bit(keys, width):
    keys = np.array(keys, np.uint64)
    found = uniform(keys, width)
    assert found.dtype == np.float32 and found.tobytes() == uniform_reference(keys, width).tobytes()


def test_any_part_can_be_drawn_alone():
    keys = np.arange(9, dtype=np.uint64)
    whole = uniform(keys, 30)
    np.testing.assert_array_equal(uniform(keys[4:5], 12), whole[4:5, :12])


def test_uniform_and_unrelated():
    found = uniform(np.arange(1000, dtype=np.uint64), 100)
    assert found.min() >= 0 and found.max() < 1
    counts = np.histogram(found, 50, (0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 95  # chi-square, 49 degrees of freedom: p about 1e-4
    assert abs(np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]) < 0.015
    assert abs(np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]) < 0.015
