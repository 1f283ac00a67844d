"""One request of 1,000 candidates through ``Ranker.predict`` on an Arrow table: DeepFM, and DIN with 50 past items.

Rows have 15 categories of 4 to 20,000 values as strings: person and moment are the same in all rows of a request, what
describes the item differs. Rankers have vectors of 16 numbers and dense layers 256-128 (DIN: 200-80). Parts: making codes of
strings (encoder), taking vectors out of the table (look-up), the rest (network). Requests differ; the first ones warm up.

    python benchmarks/rank_requests.py            both, on one thread and on two
    python benchmarks/rank_requests.py --quick    does it run? (few requests; nothing is recorded)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from _record import record
from rank_vs_peers import synth

from palate.contracts.ranker import Rows
from palate.data.row_fields import RowField
from palate.nn.fields import FieldVectors
from palate.rank.deepfm import DeepFM
from palate.rank.din import DIN
from palate.rank.neural import NeuralRanker
from palate.runtime import set_threads

NAME = "rank_requests"
CANDIDATES, PAST, REQUESTS, WARM = 1_000, 50, 500, 30
#: The fields that describe the item; the last one is the item itself.
ITEM = ("c03", "c06", "c09", "c12", "c14")
SYSTEMS: dict[str, tuple[type[NeuralRanker], dict[str, Any]]] = {
    "deepfm": (DeepFM, {"hidden": (256, 128)}),
    "din": (DIN, {"hidden": (200, 80), "history": ("history",), "target": (ITEM[-1],)}),
}


def with_history(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Add a list of past items to each row."""
    items = table.column(ITEM[-1]).combine_chunks()
    picked = items.take(pa.array(rng.integers(0, len(items), len(table) * PAST)))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(len(table) + 1, dtype=np.int32) * PAST), picked)
    return table.append_column("history", lists)


def fitted(name: str, table: pa.Table) -> NeuralRanker:
    """Fit a ranker for one epoch."""
    fields = [RowField(column, "category") for column in table.column_names if column not in ("label", "history")]
    if name == "din":
        fields.append(RowField("history", "sequence", max_length=PAST, share=ITEM[-1]))
    else:
        table = table.drop_columns(["history"])
    system, settings = SYSTEMS[name]
    return system(dim=16, epochs=1, fields=tuple(fields), **settings).fit(Rows.of_table(table, ["label"]), seed=0)


def request(name: str, table: pa.Table, rng: np.random.Generator) -> Rows:
    """Make a request: one person and moment, 1,000 candidates."""
    who = table.take(pa.array(np.full(CANDIDATES, rng.integers(len(table)))))
    what = table.take(pa.array(rng.integers(0, len(table), CANDIDATES)))
    given = [column for column in table.column_names if column != "label" and (name == "din" or column != "history")]
    columns = {column: (what if column in ITEM else who).column(column).combine_chunks() for column in given}
    return Rows(pa.table(columns))


@contextmanager
def looked_up(model: NeuralRanker, seconds: list[float]) -> Iterator[None]:
    """Add up how long taking vectors out takes, one number a request (the last one grows)."""
    tables = [m for m in model.net_.modules() if isinstance(m, FieldVectors)]
    begun = [0.0]

    def before(*_: Any) -> None:
        begun[0] = time.perf_counter()

    def after(*_: Any) -> None:
        seconds[-1] += time.perf_counter() - begun[0]

    hooks = [hook for m in tables for hook in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    yield
    for hook in hooks:
        hook.remove()


def row(name: str, model: NeuralRanker, requests: Sequence[Rows], count: int) -> dict[str, Any]:
    """Return percentiles of the whole, and the median of each part."""
    set_threads(count)
    whole, encoding, taking = [], list[float](), list[float]()
    for at, rows in enumerate(requests):
        started = time.perf_counter()
        model.predict(rows)
        if at >= WARM:
            whole.append(time.perf_counter() - started)
    with looked_up(model, taking):
        for rows in requests[WARM:]:
            started = time.perf_counter()
            encoded = model.encoder_.encode(rows.features)
            encoding.append(time.perf_counter() - started)
            taking.append(0.0)
            model._answers(encoded)
    p50, p99 = (float(np.percentile(whole, q)) * 1e3 for q in (50, 99))
    encoder, lookup = (float(np.median(part)) * 1e3 for part in (encoding, taking))
    return {
        "what": f"{name}, {CANDIDATES:,} candidates, {count} thread{'s' if count > 1 else ''}",
        "p50 ms": round(p50, 2),
        "p99 ms": round(p99, 2),
        "encoder ms": round(encoder, 2),
        "look-up ms": round(lookup, 2),
        "network ms": round(p50 - encoder - lookup, 2),
        "candidates/s": round(CANDIDATES / p50 * 1e3),
    }


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SYSTEMS), help="systems (default: all)")
    parser.add_argument("--quick", action="store_true", help="few requests; nothing is recorded")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    table = with_history(synth(30_000 if given.quick else 100_000), rng)
    rows = []
    for name in given.names:
        model = fitted(name, table)
        requests = [request(name, table, rng) for _ in range(WARM + (20 if given.quick else REQUESTS))]
        for count in (1, 2):
            rows.append(row(name, model, requests, count))
            print(rows[-1], flush=True)
    if not given.quick:
        goal = "p50 of at most 5 ms"
        record(NAME, rows, what=__doc__.split("\n\n    ")[0], seeds=[0], notes={"goal": goal, "requests": REQUESTS})


if __name__ == "__main__":
    main()
