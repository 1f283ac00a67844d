"""Placing new items by their texts: leave-one-out by brute force, a linear map that is found again, who is placed."""

import numpy as np
import pytest

from palate.recommend.text_placed import left_out, placed_by_text, ridge_left_out


def data(n=40, t=6, d=3, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(n, t)).astype(np.float32)
    return texts, (0.5 + texts @ rng.normal(size=(t, d)) + noise * rng.normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize("reg", [0.01, 5.0])
def test_the_closed_form_is_leaving_each_row_out(reg):
    texts, vectors = (a.astype(float) for a in data(12, noise=0.5))
    x, y = texts - texts.mean(0), vectors - vectors.mean(0)
    values, basis = np.linalg.eigh(x.T @ x)
    turned = x @ basis
    weights = turned.T @ y / (values + reg)[:, None]
    found = left_out(turned, weights, values + reg, y) + vectors.mean(0)
    for row in range(12):
        others = np.delete(np.arange(12), row)
        # The closed form leaves the row out of the regression with an intercept that has no penalty.
        a, b = texts[others] - texts[others].mean(0), vectors[others] - vectors[others].mean(0)
        w = np.linalg.solve(a.T @ a + reg * np.eye(6), a.T @ b)
        np.testing.assert_allclose(found[row], vectors[others].mean(0) + (texts[row] - texts[others].mean(0)) @ w, rtol=1e-8)


def test_a_linear_map_is_found_again_and_only_new_items_with_a_text_move():
    texts, vectors = data()
    trained = np.arange(40) < 35
    texts[39] = 0
    given = np.where(trained[:, None], vectors, np.float32(0))
    placed = placed_by_text(given, texts, trained)
    np.testing.assert_array_equal(placed[:35], given[:35])
    np.testing.assert_allclose(placed[35:39], vectors[35:39], atol=0.05)
    assert not placed[39].any() and placed.dtype == np.float32
    assert not given[35:].any()


def test_texts_that_tell_nothing_give_the_mean():
    rng = np.random.default_rng(3)
    texts, vectors = rng.normal(size=(300, 5)).astype(np.float32), rng.normal(size=(300, 2)).astype(np.float32)
    spread = np.linalg.norm(ridge_left_out(texts - texts.mean(0), vectors - vectors.mean(0)))
    assert spread < 0.1
    # Opposite halves: whatever is left out is guessed the wrong way round, so nothing is learnt at all.
    x = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    assert not ridge_left_out(x, np.array([[1.0], [-1.0], [1.0], [-1.0]])).any()


def test_with_many_words_and_noise_it_still_tells_the_halves_apart():
    """Sixty words and forty items: plain least squares would fit the noise."""
    rng = np.random.default_rng(1)
    half = np.arange(60) % 2
    texts = (rng.normal(size=(60, 60)) * 0.2 + half[:, None] * np.ones(60) * 0.2).astype(np.float32)
    vectors = ((2 * half - 1)[:, None] * np.ones(4) + rng.normal(size=(60, 4))).astype(np.float32)
    trained = np.arange(60) < 40
    placed = placed_by_text(np.where(trained[:, None], vectors, np.float32(0)), texts, trained)[40:].sum(1)
    assert placed[half[40:] == 1].min() > placed[half[40:] == 0].max()
    assert 1 < np.ptp(placed) < 16


def test_too_little_to_learn_from_changes_nothing():
    texts, vectors = data(5)
    for trained, known in ((np.arange(5) < 2, texts), (np.ones(5, bool), texts), (np.arange(5) < 4, np.zeros((5, 0)))):
        assert placed_by_text(vectors, known, trained) is vectors
