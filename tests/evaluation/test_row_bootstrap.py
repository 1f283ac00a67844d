"""Resampled metrics of rows: the same values as of the drawn rows."""

from __future__ import annotations

import numpy as np
import pytest

from palate.evaluation.row_bootstrap import SUMS, resampled, resampled_reference
from palate.evaluation.rows import METRICS
from palate.runtime import generator


def rows(n: int, binary: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = generator(seed, "rows of a test")
    p = np.round(rng.random(n), 2)  # with ties, 0 and 1 among them
    p[:2] = 0.0, 1.0
    y = (rng.random(n) < p).astype(np.float64) if binary else 5 + 3 * p + rng.standard_normal(n)
    return y, p, np.unique(rng.integers(n // 6, size=n), return_inverse=True)[1]


@pytest.mark.parametrize("name", [*SUMS, "pr_auc"])
@pytest.mark.parametrize("grouped", [True, False])
def test_they_are_those_of_the_drawn_rows(name: str, grouped: bool) -> None:
    if name == "gauc" and not grouped:
        pytest.skip("gauc needs groups")
    metric, _, binary = METRICS[name]
    y, p, g = rows(240, binary)
    arrays = (y, p, g) if name == "gauc" else (y, p)
    groups = g if grouped else None
    slow = resampled_reference(metric, arrays, groups, 25, 3)
    np.testing.assert_allclose(resampled(name, y, p, groups, 25, 3), slow, rtol=1e-9, atol=1e-12)
    assert len(set(slow.tolist())) > 20


def test_what_is_undefined_is_nan() -> None:
    p, g = np.array([0.2, 0.7, 0.4]), np.array([0, 1, 1])
    none = np.zeros(3)
    for name in ("pr_auc", "gauc", "calibration_ratio"):
        assert np.isnan(resampled(name, none, p, g, 5, 0)).all(), name
    assert np.isnan(resampled("r2", np.ones(3), p, None, 5, 0)).all()
