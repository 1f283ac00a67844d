"""Bounds by the divergence: the plain and the fast form, and the equation that they solve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import rel_entr

from palate.kernels.kl_bound import kl_upper, kl_upper_reference


def kl(p: float, q: float) -> float:
    return float(rel_entr(p, q) + rel_entr(1 - p, 1 - q))


def test_fast_equals_plain_and_solves_the_equation() -> None:
    rng = np.random.default_rng(0)
    trials = rng.integers(1, 500, 200).astype(float)
    mean = rng.integers(0, trials + 1) / trials
    for level in (0.0, 0.5, 8.0):
        fast = kl_upper(mean, trials, level)
        np.testing.assert_allclose(fast, kl_upper_reference(mean, trials, level), atol=1e-11)
        for p, n, q in zip(mean, trials, fast, strict=True):
            if p < 1 and level > 0:
                assert q == pytest.approx(brentq(lambda u, p=p, n=n, level=level: n * kl(p, u) - level, p, 1 - 1e-15), abs=1e-9)


def test_ends() -> None:
    mean, trials = np.array([0.0, 0.0, 1.0, 0.3]), np.array([0.0, 10.0, 10.0, 10.0])
    for form in (kl_upper, kl_upper_reference):
        found = form(mean, trials, 2.0)
        assert found[0] == 1 and found[2] == 1
        assert found[1] == pytest.approx(1 - np.exp(-0.2), abs=1e-9)  # -10 ln(1 - q) = 2
        np.testing.assert_allclose(form(mean, trials, 0.0)[1:], [0.0, 1.0, 0.3], atol=1e-9)


def test_never_wider_than_hoeffding() -> None:
    """Pinsker: kl(p, q) ≥ 2 (p - q)², so the bound lies below ŵ + √(level / 2T)."""
    rng = np.random.default_rng(1)
    trials = rng.integers(1, 200, 100).astype(float)
    mean = rng.random(100)
    assert (kl_upper(mean, trials, 5.0) <= mean + np.sqrt(5.0 / (2 * trials)) + 1e-9).all()
