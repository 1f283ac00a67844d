"""Simulated clicks: by hand, fast against plain, and how often what is clicked."""

import numpy as np
import pytest

from palate.kernels.slate_clicks import click_slates, click_slates_reference

FORMS = [click_slates, click_slates_reference]


@pytest.mark.parametrize("form", FORMS)
def test_by_hand(form):
    """Distances 1 and 2, scale log 2, no click at weight 1: shares 4/7, 2/7, 1/7."""
    vectors = np.array([[1, 0], [0, 2]], np.float32)
    for chance, wanted, state in ((0.5, 0, [0, 0]), (0.6, 1, [0.25, 0]), (0.9, 2, [0, 0.5])):
        states = np.zeros((1, 2), np.float32)
        got = form(states, np.array([0]), np.array([[0, 1, -1]], np.int32), vectors, np.array([chance]), np.log(2), 0.0, 0.75)
        assert got.tolist() == [wanted]
        np.testing.assert_allclose(states[0], state, atol=1e-6)


@pytest.mark.parametrize(("rows", "width", "dim"), [(1, 1, 1), (200, 10, 8), (0, 3, 2)])
def test_fast_equals_plain(rows, width, dim):
    rng = np.random.default_rng(rows)
    vectors = rng.standard_normal((40, dim)).astype(np.float32)
    slates = np.stack([rng.permutation(40)[:width] for _ in range(rows)]) if rows else np.empty((0, width), int)
    slates = slates.astype(np.int32)
    slates[np.arange(width) >= rng.integers(0, width + 1, rows)[:, None]] = -1
    users, chance = rng.integers(0, 5, rows), rng.random(rows)
    states = [np.ones((5, dim), np.float32) for _ in FORMS]
    got = [form(s, users, slates, vectors, chance, 2.0, -1.0, 0.6) for form, s in zip(FORMS, states, strict=True)]
    np.testing.assert_array_equal(*got)
    np.testing.assert_allclose(*states, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_slate_is_never_clicked_and_moves_nobody(form):
    states = np.ones((1, 2), np.float32)
    empty = np.full((1, 3), -1, np.int32)
    assert form(states, np.array([0]), empty, np.zeros((1, 2), np.float32), np.array([0.999]), 1.0, 0.0, 0.5).tolist() == [0]
    assert (states == 1).all()


def test_shares_of_many():
    n, rng = 40_000, np.random.default_rng(3)
    vectors = np.array([[0.5], [1.0], [3.0]], np.float32)
    states, slates = np.zeros((n, 1), np.float32), np.tile(np.arange(3, dtype=np.int32), (n, 1))
    got = click_slates(states, np.arange(n), slates, vectors, rng.random(n), 1.0, -0.7, 0.5)
    weights = np.exp([-0.7, -0.5, -1.0, -3.0])
    wanted = weights / weights.sum()
    np.testing.assert_allclose(np.bincount(got, minlength=4) / n, wanted, atol=4 * np.sqrt(0.25 / n))
