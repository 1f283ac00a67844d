"""Fixtures for all tests: small data made by hand, and the place of research data."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import settings

from palate.data.dataset import Dataset
from palate.data.interactions import Interactions
from palate.data.split import Split

# Continuous integration draws the same cases each time; at home every run draws new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line a reason what was left out, and why."""
    skipped = (report.longrepr for report in terminalreporter.stats.get("skipped", []))
    reasons = Counter(str(told[2] if isinstance(told, tuple) else told).removeprefix("Skipped: ") for told in skipped)
    for reason, number in sorted(reasons.items()):
        terminalreporter.write_line(f"{number} skipped: {reason}")


@pytest.fixture(scope="session")
def left_out() -> Callable[[str], NoReturn]:
    """Return what ends a test whose tool is absent: it is skipped with the reason, but fails in continuous integration."""

    def end(reason: str) -> NoReturn:
        if os.environ.get("CI"):
            pytest.fail(f"{reason} (continuous integration leaves nothing out)")
        pytest.skip(reason)

    return end


@pytest.fixture
def tiny_dataset() -> Dataset:
    """Five people and six items: 0, 1, 2 like the first three items, 3 and 4 the last three; times rise by a day."""
    user = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4]
    item = [0, 1, 2, 0, 1, 3, 1, 2, 3, 4, 5, 4, 5, 0]
    time = 1_600_000_000 + 86_400 * np.arange(len(user))
    return Dataset.from_columns(
        [f"u{n}" for n in user], [f"i{n}" for n in item], time=time, value=np.arange(len(user)) % 5 + 1.0, name="tiny"
    )


@pytest.fixture
def small_split() -> Split:
    """Four people and five items: the last event of each is the test, the one before it validation.

    ======  =========  =====  ====
    person  train      valid  test
    ======  =========  =====  ====
    0       0, 1       2      3
    1       0, 2       1      4
    2       1, 3       0      2
    3       0, 4       3      1
    ======  =========  =====  ====
    """
    train = Dataset.from_columns(
        [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 0, 2, 1, 3, 0, 4], time=[1, 2, 1, 2, 1, 2, 1, 2], name="small"
    )

    def part(items: list[int], at: int) -> Interactions:
        numbers = train.items.ids.encode(items)
        return Interactions.sorted(np.arange(4), numbers, time=np.full(4, at))

    return Split(train, part([2, 1, 0, 3], 3), part([3, 4, 2, 1], 4), {"protocol": "by hand"})


@pytest.fixture(scope="session")
def palate_data() -> Path:
    """Folder of research data named by ``PALATE_DATA``; the test is skipped where there is none."""
    named = os.environ.get("PALATE_DATA")
    if not named:
        pytest.skip("PALATE_DATA names no folder of research data")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"the folder named by PALATE_DATA is absent: {folder}")
    return folder
