"""What a pipeline's sources ask for is begun when the service starts."""

from __future__ import annotations

from typing import Any

from palate.serve.store import Event


def test_trends_are_counted_before_anybody_asks(live: Any, monkeypatch: Any) -> None:
    live.store.add_events([Event("warm", f"i{at}") for at in range(5)])
    live.service.forget_caches()
    live.service.warm()
    live.service._memo._maker.submit(lambda: None).result(10)

    def late(*args: Any, **given: Any) -> dict[str, int]:
        raise AssertionError("counted while somebody waited")

    monkeypatch.setattr(live.store, "tally", late)
    [source] = [source for source in live.service.settings.pipeline.sources if source.kind == "trending"]
    rows, counts = live.service.trending(source.hours, source.types, 5)
    assert len(rows) == 5 and (counts > 0).all()


def test_trends_follow_many_events_though_nobody_asks(live: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("palate.serve.service.MANY", 10)
    begun: list[Any] = []
    monkeypatch.setattr(live.service._memo, "begin", lambda key, make: begun.append(key[0]))
    for at in range(10):
        live.post("/v1/events", user="many", item=f"i{at}")
    assert begun == []
    for at in range(10):
        live.post("/v1/events", user="many", item=f"i{at}")
    assert begun == ["trending"]
