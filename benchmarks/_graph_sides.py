"""What the benchmarks of graph systems beside a peer share: Palate's batches and courses, the peer's source, rows that stay."""

from __future__ import annotations

import copy
import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _curve import seconds_to
from _peers import HOME

from palate.catalog.registry import systems
from palate.contracts.fitted import FitRecord
from palate.data.split import HeldOut, Split
from palate.study.evaluate import evaluate

BATCHES, METRIC = 20, "recall@20"
#: Seconds and value after each epoch.
Course = Sequence[tuple[float, float]]


class Few:
    """The first batches of an epoch, with the time of each but the first, which warms up."""

    def __init__(self, whole: Any, made: float, seconds: list[float], n: int) -> None:
        self.whole, self.made, self.seconds, self.n = whole, made / len(whole), seconds, n

    def __len__(self) -> int:
        return self.n + 1

    def __iter__(self) -> Iterator[Any]:
        for at, batch in enumerate(self.whole):
            if at > self.n:
                return
            started = time.perf_counter()
            yield batch
            if at:
                self.seconds.append(time.perf_counter() - started + self.made)


def batch_seconds(name: str, settings: Mapping[str, Any], split: Split, n: int = BATCHES) -> tuple[list[float], int]:
    """Return the seconds of some batches of a fit, and how many an epoch has."""
    seconds: list[float] = []
    of: list[int] = []

    class Timed(systems()[name].load()):  # type: ignore[misc]
        def _descend(self, setting: Any, table: Any, loss: Any, batches: Any) -> Mapping[str, Any]:
            def few(epoch: int, rng: np.random.Generator) -> Few:
                started = time.perf_counter()
                whole = batches(epoch, rng)
                of.append(len(whole))
                return Few(whole, time.perf_counter() - started, seconds, n)

            found: Mapping[str, Any] = super()._descend(setting, table, loss, few)
            return found

    Timed(**{**settings, "epochs": 1}).fit(split.train, seed=0)
    return seconds, of[0]


def course(name: str, settings: Mapping[str, Any], split: Split, held_out: HeldOut) -> list[tuple[float, float]]:
    """Fit with looks at held-out events; return seconds and Recall@20 after each epoch.

    The fit's own looks (at NDCG@10, to keep its best epoch) count. Recall@20 is read afterwards, and what such a reading takes
    (the median) stands for the look that an epoch's value needs.
    """
    models: list[tuple[float, Any]] = []
    started = time.perf_counter()

    class Watched(systems()[name].load()):  # type: ignore[misc]
        def _finish(self, table: Any, graph: Any, n_users: int) -> None:
            super()._finish(table, graph, n_users)
            models.append((time.perf_counter() - started, copy.copy(self)))

    Watched(**settings).fit(split.train, held_out, seed=0)
    values, looks = [], []
    for _, model in models:
        began = time.perf_counter()
        model.record_ = FitRecord(seed=0, seconds=0.0)
        values.append(float(evaluate(model, held_out, [METRIC]).overall[METRIC]))
        looks.append(time.perf_counter() - began)
    look = float(np.median(looks))
    return [(passed + look, value) for (passed, _), value in zip(models, values, strict=True)]


def compared(
    what: str, peer: str, courses: Sequence[Course], points: Course, settings: Mapping[str, Any], form: str = ""
) -> dict[str, Any]:
    """Return the row that compares times to a peer's best value, which ``what`` has a place for; Palate's slowest counts."""
    level = max(value for _, value in points)
    theirs, times = seconds_to(points, level), [seconds_to(each, level) for each in courses]
    assert theirs is not None
    own = None if None in times else max(t for t in times if t is not None)
    return {
        "what": what.format(level),
        "palate s": None if own is None else round(own, 2),
        f"{peer}{form} s": round(theirs, 2),
        "times faster": None if own is None else round(theirs / own, 1),
        "palate recall@20": round(max(v for _, v in courses[0]), 4),
        f"{peer} recall@20": round(level, 4),
        "palate settings": settings,
    }


def source(name: str, address: str, commit: str, parts: Iterable[str]) -> Path:
    """Return the folder of a peer's source, fetched when it is not there: some parts of a repository at a commit."""
    folder = HOME / f"{name}-source"
    if not folder.exists():
        subprocess.run(["git", "clone", "-q", "--filter=blob:none", "--no-checkout", address, str(folder)], check=True)
        subprocess.run(["git", "-C", str(folder), "checkout", "-q", commit, "--", *parts], check=True)
    return folder


def known(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a recorded result, or none."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def ordered(rows: Iterable[Mapping[str, Any]], names: Sequence[str], kinds: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the last row of each system and kind, in their order.

    A row's ``what`` reads ``system: kind…``, where kind is one of the given beginnings.
    """
    found = {}
    for row in rows:
        name, told = row["what"].split(": ", 1)
        found[name, next(kind for kind in kinds if told.startswith(kind))] = row
    return [found[name, kind] for name in names for kind in kinds if (name, kind) in found]
