"""Calibration: Platt and isotonic functions by hand, rising, and of both classes."""

import numpy as np
import pytest
from scipy.special import expit

from palate.errors import DataError
from palate.rank.calibration import LEAST_SLOPE, Calibration, isotonic, logit, on_isotonic, on_platt, platt
from palate.rank.tasks import Task

CLICK, STARS = Task("click", True, 0.3, 0.46), Task("stars", False, 3.0, 1.0)


def rows(n: int, seed: int = 0, slope: float = 0.5, offset: float = -1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too sure by a known line."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, n)
    return expit(z), (rng.random(n) < expit(slope * z + offset)).astype(float)


def test_platt_finds_the_line() -> None:
    p, truth = rows(40_000)
    slope, offset = platt(p, truth, np.ones(len(p)))
    assert slope == pytest.approx(0.5, abs=0.03) and offset == pytest.approx(-1.0, abs=0.04)


def test_platt_leaves_few_rows_off_certainty() -> None:
    p, truth = np.array([0.2, 0.3, 0.7, 0.8]), np.array([0.0, 0, 1, 1])
    found = on_platt(platt(p, truth, np.ones(4)), p)
    assert found.max() <= 3 / 4 + 0.05 and found.min() >= 1 / 4 - 0.05
    assert np.isfinite(platt(p, truth, np.ones(4))).all()


def test_platt_solves_its_equations() -> None:
    p, truth = rows(500)
    weights = np.random.default_rng(1).random(500)
    line = platt(p, truth, weights)
    positives = truth.sum()
    target = np.where(truth > 0, (positives + 1) / (positives + 2), 1 / (500 - positives + 2))
    gap = weights * (on_platt(line, p) - target)
    assert abs(gap.sum()) < 1e-4 and abs((gap * logit(p)).sum()) < 1e-4


def test_the_slope_never_falls() -> None:
    p, truth = rows(2_000)
    slope, _ = platt(p, 1 - truth, np.ones(len(p)))
    assert slope == LEAST_SLOPE
    assert (np.diff(on_platt(np.array([slope, 0.0]), np.sort(p))) > 0).all()


def test_isotonic_by_hand() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.9])
    truth = np.array([0.0, 1, 0, 1, 1, 0])
    steps = isotonic(p, truth, np.ones(6))
    # 0.1 alone gives 0; 0.2 and 0.3 give 1/2; 0.4 (1) is above the two of 0.9 (1/2), so the three give 2/3
    np.testing.assert_allclose(steps[0], [0.1, 0.25, (0.4 + 0.9 + 0.9) / 3])
    np.testing.assert_allclose(steps[1], [1 / 8, 1 / 2, 2 / 3])
    np.testing.assert_allclose(
        on_isotonic(steps, np.array([0.0, 0.175, 0.25, 1.0])), [1 / 8, (1 / 8 + 1 / 2) / 2, 1 / 2, 2 / 3]
    )


def test_isotonic_counts_weights_as_repetitions() -> None:
    p, truth = rows(60)
    weights = np.random.default_rng(0).integers(1, 4, 60)
    twice = isotonic(np.repeat(p, weights), np.repeat(truth, weights), np.ones(weights.sum()))
    once = isotonic(p, truth, weights.astype(float))
    inner = slice(1, -1)  # the ends are held off by the number of rows
    np.testing.assert_allclose(once[:, inner], twice[:, inner])
    none = isotonic(np.append(p, 0.5), np.append(truth, 1.0), np.append(np.ones(60), 0.0))
    np.testing.assert_allclose(none, isotonic(p, truth, np.ones(60)))


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_it_rises_and_is_met(kind: str) -> None:
    p, truth = rows(20_000)
    found = Calibration.learn(kind, (CLICK,), p[:, None], truth[:, None])
    grid = np.linspace(0, 1, 5_001)[:, None]
    assert (np.diff(found(grid)[:, 0]) >= 0).all()
    assert found(grid).min() > 0 and found(grid).max() < 1
    new, seen = rows(20_000, seed=1)
    answers = found(new[:, None])[:, 0]
    assert abs(answers.mean() - seen.mean()) < 0.01 < abs(new.mean() - seen.mean())
    for low in (0.1, 0.3, 0.5):
        own = (answers >= low) & (answers < low + 0.1)
        assert seen[own].mean() == pytest.approx(answers[own].mean(), abs=0.03)


@pytest.mark.parametrize("kind", ["none", "platt", "isotonic"])
def test_it_is_saved(kind: str) -> None:
    p, truth = rows(300)
    table = np.stack([p, p * 10, p[::-1]], 1).astype(np.float32)
    labels = np.stack([truth, p * 9, truth[::-1]], 1)
    labels[::5, 0] = np.nan
    made = Calibration.learn(kind, (CLICK, STARS, CLICK), table, labels)
    again = Calibration.of_state(dict(sorted(made.state().items())))
    np.testing.assert_array_equal(again(table), made(table))
    np.testing.assert_array_equal(made(table)[:, 1], table[:, 1])
    assert again.kind == made.kind == kind
    assert made(table).dtype == np.float32


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="both classes"):
        Calibration.learn("platt", (CLICK,), np.full((5, 1), 0.5), np.ones((5, 1)))
