"""Inverses by LAPACK and by sweeping: the same numbers, and the same refusal."""

from __future__ import annotations

import numpy as np
import pytest

from palate.kernels.symmetric_inverse import invert_upper


def made(n: int, precision: str) -> np.ndarray:
    rng = np.random.default_rng(n)
    factor = rng.standard_normal((n, n + 5))
    return np.ascontiguousarray(factor @ factor.T / n + np.eye(n), precision)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("n", "block"), [(1, 4), (7, 3), (64, 16), (65, 16), (200, 64), (200, 500)])
@pytest.mark.parametrize("large", [0, 2**40])
def test_the_upper_triangle_becomes_that_of_the_inverse(n: int, block: int, precision: str, large: int) -> None:
    whole = made(n, precision)
    upper = np.triu(whole) + np.tril(np.full_like(whole, 7.0), -1)
    assert invert_upper(upper, large=large, block=block) == 0
    wanted = np.linalg.inv(whole.astype(np.float64))
    np.testing.assert_allclose(np.triu(upper), np.triu(wanted), atol=2e-5 if precision == "float32" else 1e-11)


@pytest.mark.parametrize("large", [0, 2**40])
def test_what_is_not_positive_definite_is_told(large: int) -> None:
    whole = np.diag(np.array([2.0, 3.0, 4.0, -1.0, 5.0]))
    assert invert_upper(whole, large=large, block=2) == 4


def test_products_wider_than_a_block_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.kernels.symmetric_inverse.WIDTH", 10)
    whole = made(57, "float64")
    wanted = np.linalg.inv(whole)
    assert invert_upper(whole, large=0, block=8) == 0
    np.testing.assert_allclose(np.triu(whole), np.triu(wanted), atol=1e-11)
