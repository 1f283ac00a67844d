"""What Prometheus is told moves with what happens."""

from __future__ import annotations

from typing import Any

import pytest

from palate.serve.errors import BusyError, Unavailable


def _read(live: Any) -> dict[str, float]:
    """Return the samples by name and labels."""
    lines = live.call("GET", "/v1/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def _offered(found: dict[str, float]) -> float:
    return sum(value for name, value in found.items() if name.startswith("palate_items_offered_total{"))


def test_items_are_counted_by_the_source_that_named_them(live: Any) -> None:
    before = _read(live)
    assert _offered(before) == 0
    live.post("/v1/recommendations", user="u1", k=4)
    live.post("/v1/recommendations", user="nobody before", k=3)
    found = _read(live)
    assert _offered(found) == 7
    known = {f'palate_items_offered_total{{source="{source.name}"}}' for source in live.service.settings.pipeline.sources}
    assert known >= {name for name in found if name.startswith("palate_items_offered_total{")}
    assert sum(value for name, value in found.items() if name.startswith("palate_slates_total{")) == 2


def test_remembered_lists_count_every_time_they_are_given(live: Any) -> None:
    for _ in range(3):
        live.post("/v1/recommendations", k=5)
    assert _offered(_read(live)) == 15


@pytest.mark.parametrize("fault", [BusyError("too much waits to be written."), Unavailable("the disk is full.")])
def test_what_could_not_be_logged_is_counted(live: Any, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """Whether the writer takes no more, or takes it and can't write it: the answer is given, and the loss is told."""
    from concurrent.futures import Future

    def lost(*_: Any) -> Any:
        if isinstance(fault, BusyError):
            raise fault
        failed: Future[Any] = Future()
        failed.set_exception(fault)
        return failed

    for name in ("add_slate", "add_searches"):
        monkeypatch.setattr(live.service.writer, name, lost)
    assert _read(live)["palate_slates_not_logged_total"] == _read(live)["palate_searches_not_logged_total"] == 0
    live.post("/v1/recommendations", user="u1", k=2)
    live.post("/v1/recommendations", user="u2", k=2)
    live.post("/v1/search", query="story")
    found = _read(live)
    assert (found["palate_slates_not_logged_total"], found["palate_searches_not_logged_total"]) == (2, 1)
    assert found["palate_exposures_not_logged_total"] == 0
