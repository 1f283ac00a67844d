"""Requests generated from the service's OpenAPI document (schemathesis): no fault inside, no undocumented status or body.

Each operation gets as many requests that fit its schema as asked for, and a third as many that don't; in many of them known
ids stand in the place of generated ones, so that every operation answers some with success. What fits must be accepted, but for
limits that a schema can't state (named in ``tests/serve/http/test_contract.py``, and counted); an experiment that was accepted
is started, met, read and stopped. It is the suite's own test.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from _record import record

from palate.runtime import versions

ROOT = Path(__file__).parent.parent
TEST = "tests/serve/http/test_contract.py::test_generated_requests"


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="fitting requests of each operation")
    parser.add_argument("--dry", action="store_true", help="run, but write no result")
    given = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "counts.json"
        more = {"PALATE_FUZZ": str(given.examples), "PALATE_FUZZ_COUNTS": str(place)}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST],
            cwd=ROOT,
            env={**os.environ, **more},
            check=False,
        )
        if not place.exists():
            sys.exit(done.returncode or 1)
        counts: dict[str, dict[str, int]] = json.loads(place.read_text(encoding="utf-8"))
    rows = rows_of(counts, time.perf_counter() - started)
    for row in rows:
        print(row, flush=True)
    if not given.dry:
        goal = {"goal": "no 5xx, no failure, some 2xx of every operation", "fitting requests of each operation": given.examples}
        record(
            "fuzz",
            rows,
            what=__doc__,
            peers=versions("schemathesis", "hypothesis", "fastapi", "pydantic"),
            seeds=[1],
            notes=goal,
        )
    sys.exit(done.returncode)


def rows_of(counts: dict[str, dict[str, int]], seconds: float) -> list[dict[str, Any]]:
    """Return a row for all operations together, then one for each."""
    kinds = ("cases", "positive", "negative", "2xx", "4xx", "5xx", "beyond the schema", "failures")
    total: Counter[str] = Counter()
    for count in counts.values():
        total.update(count)
    whole = {"operation": f"all {len(counts)}", **{kind: total[kind] for kind in kinds}, "seconds": round(seconds, 1)}
    return [whole, *({"operation": name, **{kind: count.get(kind, 0) for kind in kinds}} for name, count in counts.items())]


if __name__ == "__main__":
    main()
