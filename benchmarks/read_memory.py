"""Peak memory and seconds of reading interactions from Parquet, beside the size of the file.

Each case is read in a process of its own; the memory is the peak of that process less what it held before reading.

    python benchmarks/read_memory.py --rows 20000000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _record import record

CHILD = """
import contextlib, json, sys, time
import numba, polars, pyarrow.parquet, pyarrow.csv, pyarrow.json, scipy.sparse
from palate.data.readers import read
with contextlib.suppress(ImportError):
    import pandas  # pyarrow loads it with its first scalar, where it is installed

def memory(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

before, start = memory("VmRSS"), time.perf_counter()
data = read(sys.argv[1])
seconds = time.perf_counter() - start
columns = sum(c.nbytes for c in data.interactions.columns.values())
found = {"before": before, "peak": memory("VmHWM"), "seconds": seconds, "columns": columns, "rows": len(data)}
print(json.dumps(found))
"""

BLOCK = 1_000_000

WHAT = "Peak memory of reading four columns of interactions from one Parquet file, less what the process held before reading."

NOTES = {
    "goal": "reading_to_file at most 3 at 20 million rows",
    "bound": "the columns of the result take 24 bytes an event (columns_mb); files sorted by user pack to 8.7 bytes an event",
}


def write_events(path: Path, rows: int, users: int, items: int, *, text_ids: bool, by_user: bool) -> None:
    """Write ``rows`` events of a popularity-skewed world, in order of time or of user; four columns."""
    rng = np.random.default_rng(1)
    person = rng.integers(0, users, rows, dtype=np.int64)
    if by_user:
        person.sort()
    writer = None
    for start in range(0, rows, BLOCK):
        user = person[start : start + BLOCK]
        item = (items * rng.random(len(user)) ** 3).astype(np.int64)
        moment = rng.integers(1_000_000_000, 1_500_000_000, len(user))
        moment = (
            moment
            if by_user
            else np.sort(moment // rows + 1_000_000_000 + (start + np.arange(len(user))) * 500_000_000 // rows)
        )
        columns = {
            "user_id": pa.array(user) if not text_ids else pa.array([f"U{u:09d}" for u in user]),
            "item_id": pa.array(item * 7) if not text_ids else pa.array([f"B{i:09d}" for i in item]),
            "timestamp": pa.array(moment),
            "rating": pa.array(rng.integers(1, 6, len(user)).astype(np.float64)),
        }
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(path: Path) -> dict[str, float]:
    """Read a file in a fresh process and return what it cost."""
    out = subprocess.run([sys.executable, "-c", CHILD, str(path)], check=True, capture_output=True, text=True).stdout
    found = json.loads(out)
    size = path.stat().st_size
    own = found["peak"] - found["before"]
    return {
        "rows": found["rows"],
        "file_mb": size / 1e6,
        "peak_mb": found["peak"] / 1e6,
        "reading_mb": own / 1e6,
        "columns_mb": found["columns"] / 1e6,
        "reading_to_file": own / size,
        "seconds": found["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=138_493)
    parser.add_argument("--items", type=int, default=26_744)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for text_ids in (False, True):
            for by_user in (False, True):
                case = f"{'text' if text_ids else 'integer'} ids, by {'user' if by_user else 'time'}"
                path = Path(folder) / "events.parquet"
                write_events(path, options.rows, options.users, options.items, text_ids=text_ids, by_user=by_user)
                rows.append({"case": case, **measure(path)})
                print({k: v if isinstance(v, str) else round(v, 2) for k, v in rows[-1].items()}, flush=True)
    record("read_memory", rows, what=WHAT, seeds=[1], notes=NOTES)


if __name__ == "__main__":
    main()
