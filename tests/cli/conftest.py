"""Events, a split and bundles for the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from palate.cli.main import app

runner = CliRunner()


def run(*words: str, code: int = 0) -> Result:
    """Run a command in this process, and hold it to its exit code."""
    result = runner.invoke(app, list(words))
    assert result.exit_code == code, f"{words}: {result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


@pytest.fixture(scope="session")
def palate() -> Callable[..., Result]:
    """Return the function that runs a command."""
    return run


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events, a split and fitted bundles."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(80), 15)
    items = (40 * rng.random(len(users)) ** 2).astype(int)
    times = 1_600_000_000 + rng.permutation(len(users)) * 3600
    lines = [f"u{u},{i},{t},{v}" for u, i, t, v in zip(users, items, times, rng.integers(1, 6, len(users)), strict=True)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp,rating\n" + "\n".join(lines) + "\n")
    run("split", str(folder / "events.csv"), "--protocol", "global_time", "--dedup", "first", "--out", str(folder / "split"))
    run("fit", "ease", "--data", str(folder / "split"), "--set", "reg=20", "--out", str(folder / "model"))
    run("fit", "popularity", "--data", str(folder / "split"), "--out", str(folder / "popular"))
    run("fit", "ucb1", "--data", str(folder / "split"), "--out", str(folder / "policy"))
    return folder
