"""The service keeps its retention setting by itself, and goes on keeping it after trouble."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from palate.serve.errors import Unavailable
from palate.serve.http import app
from palate.serve.settings import ServiceSettings
from palate.serve.store import Event, Store

NOW, DAY = 1_700_000_000.0, 86_400.0


def test_old_events_go_without_anybody_asking(tmp_path: Path, open_live: Any) -> None:
    settings = ServiceSettings().replace(store={"retention_days": 39.0})
    for live in open_live(tmp_path, settings, "popularity"):
        live.store.add_events([Event("u0", "i0", time=NOW - DAY)])
        end = time.monotonic() + 10
        while live.store.tally(0, NOW - 39 * DAY):
            assert time.monotonic() < end, "they stay"
            time.sleep(0.01)
        assert live.store.tally(NOW - 39 * DAY, NOW)  # younger ones stay
        assert live.store.count_of("u0") >= 1


def test_without_the_setting_everything_stays(tmp_path: Path, open_live: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(Store, "retain", never)
    for live in open_live(tmp_path, None, "popularity"):
        assert live.call("GET", "/v1/health").status_code == 200
        assert sum(live.store.tally(0, NOW).values()) == 480


def test_trouble_is_logged_and_it_goes_on(
    tmp_path: Path, open_live: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[float] = []
    slept: list[float] = []
    third = threading.Event()

    def retain(self: Store, days: float) -> dict[str, int]:
        asked.append(days)
        if len(asked) == 1:
            raise Unavailable("the database is locked by somebody else.")
        if len(asked) == 3:
            third.set()
        return {}

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await anyio.sleep(0.01)

    monkeypatch.setattr(Store, "retain", retain)
    monkeypatch.setattr(app, "sleep", sleep)
    settings = ServiceSettings().replace(store={"retention_days": 7.0})
    with caplog.at_level(logging.WARNING, "palate.serve"):
        for live in open_live(tmp_path, settings, "popularity"):
            assert third.wait(10)
            assert live.call("GET", "/v1/health").status_code == 200
    assert set(asked) == {7.0} and set(slept) - {app.LOOK} == {3_600}
    assert caplog.text.count("retention could not be kept: the database is locked") == 1
