"""The weighted hinge of metric learning: by hand, fast against plain, and against torch."""

import numpy as np
import pytest
import torch

from palate.kernels.cml import cml_gradient, cml_gradient_reference
from palate.nn import losses


def test_by_hand():
    """d⁺ = 1; d⁻ = 1.21, 9, 0.25; two of three lie within 1 + 0.5, in a catalogue of five."""
    people = np.zeros((1, 2), np.float32)
    items = np.array([[1, 0], [0, 1.1], [3, 0], [0.5, 0], [8, 8]], np.float32)
    d_people, d_items = np.zeros_like(people), np.zeros_like(items)
    arguments = np.array([0]), np.array([0]), np.array([[1, 2, 3]], np.int32)
    total = cml_gradient(*arguments, people, items, d_people, d_items, 0.5)
    weight = np.log(1 + 5 * 2 / 3)
    assert total == pytest.approx(weight * (0.5 + 1 - 0.25), rel=1e-5)
    np.testing.assert_allclose(d_people, 2 * weight * (items[3] - items[0])[None], rtol=1e-5)
    np.testing.assert_allclose(d_items[0], 2 * weight * items[0], rtol=1e-5)
    np.testing.assert_allclose(d_items[3], -2 * weight * items[3], rtol=1e-5)
    assert not d_items[[1, 2, 4]].any()


def test_without_intruders_there_is_no_loss():
    people, items = np.zeros((1, 2), np.float32), np.array([[0.1, 0], [2, 0]], np.float32)
    slopes = np.zeros_like(people), np.zeros_like(items)
    assert cml_gradient(np.array([0]), np.array([0]), np.array([[1, 1]], np.int32), people, items, *slopes, 1.0) == 0
    assert not slopes[0].any() and not slopes[1].any()


@pytest.mark.parametrize(("rows", "width", "dim"), [(1, 1, 1), (60, 7, 5), (300, 20, 32), (0, 3, 4)])
def test_fast_equals_plain_and_torch(rows, width, dim):
    rng = np.random.default_rng(rows)
    people, items = (rng.standard_normal((n, dim)).astype(np.float32) / np.float32(np.sqrt(dim)) for n in (9, 14))
    u, i, j = rng.integers(9, size=rows), rng.integers(14, size=rows), rng.integers(14, size=(rows, width)).astype(np.int32)
    got = []
    for form in (cml_gradient, cml_gradient_reference):
        slopes = np.zeros_like(people), np.zeros_like(items)
        got.append((form(u, i, j, people, items, *slopes, 0.7), *slopes))
    for fast, plain in zip(*got, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-4)
    if rows:
        p, q = torch.tensor(people, requires_grad=True), torch.tensor(items, requires_grad=True)
        loss = losses.cml(p[u], q[i], q[j.astype(np.int64)], len(items), 0.7) * rows
        assert got[0][0] == pytest.approx(loss.item(), rel=1e-4)
        for fast, slope in zip(got[0][1:], torch.autograd.grad(loss, [p, q]), strict=True):
            np.testing.assert_allclose(fast, slope, rtol=1e-3, atol=1e-3)


def test_rows_without_negatives_are_left_out():
    people, items = np.zeros((1, 2), np.float32), np.eye(2, dtype=np.float32)
    for form in (cml_gradient, cml_gradient_reference):
        slopes = np.zeros_like(people), np.zeros_like(items)
        assert form(np.array([0]), np.array([0]), np.array([[-1, -1]], np.int32), people, items, *slopes, 1.0) == 0
        assert not slopes[0].any() and not slopes[1].any()
