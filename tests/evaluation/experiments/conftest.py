"""Rates of simulated experiments, held against what they should be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

#: Standard deviations that a simulated rate may lie from its nominal value: a right procedure fails once in 2,000 tests.
TOLERANCE = 3.5


def slack(nominal: float, runs: int) -> float:
    return TOLERANCE * float(np.sqrt(nominal * (1 - nominal) / runs))


@pytest.fixture
def nominal() -> Callable[[np.ndarray, float], None]:
    """Check that hits ``bool[runs]`` come at a rate, within the binomial tolerance."""

    def check(hits: np.ndarray, rate: float) -> None:
        assert abs(hits.mean() - rate) <= slack(rate, len(hits)), (hits.mean(), rate, slack(rate, len(hits)))

    return check


@pytest.fixture
def at_most() -> Callable[[np.ndarray, float], None]:
    """Check that hits ``bool[runs]`` come no more often than a rate, within the binomial tolerance."""

    def check(hits: np.ndarray, rate: float) -> None:
        assert hits.mean() <= rate + slack(rate, len(hits)), (hits.mean(), rate)

    return check
