"""Peak memory and seconds of a ranker's fit from a Parquet file larger than its ``memory_mb``, beside a fit in memory.

Rows have 15 categories of 4 to 20,000 values and a label. Each fit is one epoch of LR or DeepFM (vectors of 16 numbers, dense
layers 256-128) in a process of its own. What counts is the process's own memory (RssAnon: without pages of files, which the
system takes back as it needs them), its highest value less what it held before the fit; the peak with pages of files stands
beside it. Codes take 4 bytes a row and field; labels and weights, 8 bytes a row, stay in memory in any case.

    python benchmarks/rank_memory.py                    5 million rows, 64 MB
    python benchmarks/rank_memory.py --rows 200000 --memory-mb 4 --dry      does it run?
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from _rank_rows import synth
from _record import record

CHILD = """
import json, sys, threading, time
import numpy as np, pyarrow as pa
from palate.catalog.registry import create
from palate.contracts.ranker import Rows
from palate.data.row_tables import row_blocks

def memory(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

name, path, memory_mb = sys.argv[1], sys.argv[2], int(sys.argv[3])
read = row_blocks(path)
blocks = lambda: (Rows.of_table(table, ["label"]) for table in read())
settings = {"epochs": 1, **({"dim": 16, "hidden": (256, 128)} if name == "deepfm" else {})}
small = next(iter(blocks()))
create(name, **settings).fit(small, seed=0)  # compiles, loads libraries
model = create(name, memory_mb=memory_mb, **settings)
pa.default_memory_pool().release_unused()
before, own, done = memory("RssAnon"), [0], threading.Event()

def watch():
    while not done.wait(0.005):
        own[0] = max(own[0], memory("RssAnon"))

watcher = threading.Thread(target=watch)
watcher.start()
started = time.perf_counter()
model.fit(blocks, seed=0)
seconds = time.perf_counter() - started
done.set()
watcher.join()
weights = sum(p.numel() for p in model.net_.parameters()) * 4
facts = {"before": before, "own": own[0], "peak": memory("VmHWM"), "seconds": seconds, "weights": weights}
print(json.dumps({**facts, "rows": model.record_.data["rows"], "fields": len(model.encoder_.fields)}))
"""

BLOCK = 1_000_000
NOTES = {
    "goal": "own memory of at most memory_mb, labels and weights (8 bytes a row), 4 times the network (weights, gradients and "
    "two moments), and 120 MB for the blocks on their way",
}
#: What the goal grants beside the bound, the labels and the network.
GRANTED_MB = 120
#: A bound that no set of rows here reaches, in MB.
UNBOUND = 1_000_000


def write_rows(path: Path, rows: int) -> None:
    """Write rows in blocks of a million, each drawn by a seed of its own."""
    writer = None
    for at, start in enumerate(range(0, rows, BLOCK)):
        table = synth(min(BLOCK, rows - start), seed=at)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(name: str, path: Path, memory_mb: int) -> dict[str, Any]:
    """Fit in a fresh process; return what it cost."""
    words = [sys.executable, "-c", CHILD, name, str(path), str(memory_mb)]
    found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
    own, labels = (found["own"] - found["before"]) / 2**20, 8 * found["rows"] / 2**20
    granted = memory_mb + labels + 4 * found["weights"] / 2**20 + GRANTED_MB
    row = {
        "rows": found["rows"],
        "file_mb": round(path.stat().st_size / 2**20, 1),
        "codes_mb": round(4 * found["rows"] * found["fields"] / 2**20, 1),
        "own_mb": round(own, 1),
        "peak_mb": round(found["peak"] / 2**20, 1),
        "seconds": round(found["seconds"], 1),
        "rows/s": round(found["rows"] / found["seconds"]),
    }
    return row if memory_mb == UNBOUND else {**row, "granted_mb": round(granted, 1), "kept": own <= granted}


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["lr", "deepfm"], help="rankers (default: lr deepfm)")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--memory-mb", type=int, default=64)
    parser.add_argument("--dry", action="store_true", help="measure, but write no result")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_rows(path, given.rows)
        for name in given.names:
            for memory_mb in (given.memory_mb, UNBOUND):
                what = f"{name}, {'in memory' if memory_mb == UNBOUND else f'at most {memory_mb} MB'}"
                rows.append({"what": what, **measure(name, path, memory_mb)})
                print(rows[-1], flush=True)
    if not given.dry:
        record("rank_memory", rows, what=__doc__.split("\n\n    ")[0], seeds=[0], notes=NOTES)


if __name__ == "__main__":
    main()
