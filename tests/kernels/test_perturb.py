"""Noise of a fixed length that keeps signs: fast equals plain, its length, its signs, its places."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.kernels.perturb import perturb, perturb_reference
from palate.runtime import set_threads, threads


def rows(n=40, width=6, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    x[n // 2] = 0
    return x


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 70), st.integers(0, 2**62), st.floats(0, 2))
def test_fast_equals_plain(n, width, seed, eps):
    x = rows(n, width)
    np.testing.assert_allclose(perturb(x, seed, eps), perturb_reference(x, seed, eps), rtol=1e-5, atol=1e-6)


def test_length_and_signs():
    x = rows(200, 32)
    noise = perturb(x, 3, 0.25) - x
    lengths = np.linalg.norm(noise, axis=1)
    silent = ~x.any(axis=1)
    np.testing.assert_allclose(lengths[~silent], 0.25, rtol=1e-5)
    assert not noise[silent].any()
    moved = np.abs(noise) > 1e-6
    assert (np.sign(noise) == np.sign(x))[moved].all() and moved.mean() > 0.9


def test_signs_stay_even_for_noise_much_longer_than_the_row():
    x = rows() * np.float32(1e-3)
    np.testing.assert_array_equal(np.sign(perturb(x, 1, 5.0)), np.sign(x))


def test_in_place_and_some_rows_only():
    x, needed = rows(), (np.arange(40) % 3 == 0).astype(np.uint8)
    wanted = perturb(x, 9, 0.1)
    some = perturb(x, 9, 0.1, needed)
    np.testing.assert_array_equal(some[needed > 0], wanted[needed > 0])
    np.testing.assert_array_equal(some[needed == 0], x[needed == 0])
    np.testing.assert_array_equal(perturb_reference(x, 9, 0.1, needed)[needed == 0], x[needed == 0])
    own = x.copy()
    assert perturb(own, 9, 0.1, out=own) is own
    np.testing.assert_array_equal(own, wanted)


def test_seeds_and_rows_have_noise_of_their_own():
    x = np.ones((300, 64), np.float32)
    one, two = (perturb(x, seed, 1.0) - x for seed in (1, 2))
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(one[:-1].ravel(), one[1:].ravel())[0, 1]) < 0.03
    # Before they are brought to length one the numbers are uniform: all directions of a column are alike.
    assert one.mean(0).std() < 0.01


@pytest.mark.parametrize("count", [1, 2])
def test_threads_do_not_change_the_bits(count):
    x, before = rows(6000, 64), threads()
    wanted = perturb(x, 5, 0.1)
    set_threads(count)
    try:
        np.testing.assert_array_equal(perturb(x, 5, 0.1), wanted)
    finally:
        set_threads(before)
