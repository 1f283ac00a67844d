"""The fixtures of the service's tests: what can't be had is told, and fails in continuous integration."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def test_a_small_disk_that_can_not_be_had_fails_in_continuous_integration(
    left_out: Callable, tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    conftest = pytestconfig.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    assert conftest is not None
    make = inspect.unwrap(conftest.small_disk)
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    for at, (ci, outcome) in enumerate({"": pytest.skip.Exception, "true": pytest.fail.Exception}.items()):
        monkeypatch.setenv("CI", ci)
        (tmp_path / str(at)).mkdir()
        with pytest.raises(outcome, match="only be mounted by root"):
            next(make(tmp_path / str(at), left_out))
