"""Is this installation whole, and does it work? A small fit from end to end, and the state of every optional part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate.errors import PalateError
from palate.extras import EXTRA_OF, available, install_command
from palate.runtime import machine, versions


@dataclass(frozen=True)
class Health:
    """What a look at the installation found.

    Attributes
    ----------
    machine, versions
        Facts for a report of a fault.
    checks
        One row a check: ``check``, ``result`` (``ok``, ``absent`` or what went wrong) and ``next``.
    """

    machine: dict[str, object]
    versions: dict[str, str]
    checks: list[dict[str, str]]

    @property
    def well(self) -> bool:
        """Whether everything that must work does (absent optional parts are no fault)."""
        return all(check["result"] in ("ok", "absent") for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"well": self.well, "machine": self.machine, "versions": self.versions, "checks": self.checks}


def check_health() -> Health:
    """Run every check; none leaves anything behind."""
    checks = [
        _try("fit, save, load, recommend", _round_trip, "reinstall with the versions of constraints.txt"),
        _try("exact top-k against its plain form", _kernels, "reinstall numba and numpy from constraints.txt"),
        _try("cache folder", _cache, "set PALATE_CACHE to a folder that can be written"),
    ]
    for module in EXTRA_OF:
        result, advice = ("ok", "") if available(module) else ("absent", install_command(module))
        checks.append({"check": f"optional: {module}", "result": result, "next": advice})
    return Health(machine(), versions(), checks)


def _try(name: str, check: Callable[[], None], advice: str) -> dict[str, str]:
    try:
        check()
    except (PalateError, AssertionError, OSError, ImportError, ValueError) as error:
        return {"check": name, "result": str(error).split("\n")[0] or type(error).__name__, "next": advice}
    return {"check": name, "result": "ok", "next": ""}


def _round_trip() -> None:
    from palate.catalog.registry import create, load
    from palate.contracts.requests import Requests
    from palate.data.dataset import Dataset

    rng = np.random.default_rng(0)
    dataset = Dataset.from_columns(rng.integers(0, 40, 600), rng.integers(0, 30, 600))
    requests = Requests.of_users(dataset, np.arange(10))
    with tempfile.TemporaryDirectory() as folder:
        model = create("ease").fit(dataset)
        model.save(Path(folder) / "bundle")
        before, after = model.recommend(requests, 5), load(Path(folder) / "bundle").recommend(requests, 5)
    if not np.array_equal(before.items, after.items) or not np.array_equal(before.scores, after.scores):
        raise AssertionError("a loaded model answers differently")


def _kernels() -> None:
    from palate.kernels.inner import topk_inner, topk_inner_reference

    rng = np.random.default_rng(0)
    queries, vectors = (rng.normal(size=(n, 8)).astype(np.float32) for n in (150, 400))
    fast, plain = topk_inner(queries, vectors, 5), topk_inner_reference(queries, vectors, 5)
    if not np.array_equal(fast[0], plain[0]):
        raise AssertionError("the fast form differs from the plain one")


def _cache() -> None:
    from palate.data.public import cache_folder

    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
