"""One request of 1,000 candidates through ``Ranker.predict`` on an Arrow table, and through the rank stage of the service.

Rows have 15 categories of 4 to 20,000 values as strings: person and moment are the same in all rows of a request, what
describes the item differs. Networks have vectors of 16 numbers and dense layers 256-128 (COLD: 64-32, half of the
multiplications; AutoInt: 3 layers of 2 heads and 16 units; AutoInt+: the same, dense layers beside; DIN and DIEN: 200-80 and
50 past items; AW-MoE: 4 experts of 64-32 and 50 past items); LightGBM has 100 trees of 31 leaves. Parts: making codes of
strings (encoder), taking vectors out of the table (look-up), the rest (network, or trees). Requests differ; the first ones
warm up.

The service's rows are of 18 columns of a made-up shop with 20,000 items and a DeepFM: making the rows, the whole rank stage in
process (who asks, rows, ranker, order, trace), and ``/v1/rank`` over HTTP, one connection, key checked, JSON both ways.

    python benchmarks/rank_requests.py                 all, on one thread and on two
    python benchmarks/rank_requests.py din service     some (the others keep their last figures)
    python benchmarks/rank_requests.py --quick         does it run? (few requests; nothing is recorded)
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from _rank_rows import synth
from _rank_service import rank_stage
from _record import RESULTS, record

from palate.contracts.ranker import Ranker, Rows
from palate.data.row_encoder import RowEncoder
from palate.data.row_fields import RowField
from palate.nn.fields import FieldVectors
from palate.rank.autoint import AutoInt, AutoIntPlus
from palate.rank.aw_moe import AWMoE
from palate.rank.cold import Cold
from palate.rank.dcnv2 import DCNv2
from palate.rank.deepfm import DeepFM
from palate.rank.dien import DIEN
from palate.rank.din import DIN
from palate.rank.finalmlp import FinalMLP
from palate.rank.lightgbm import LightGBMRanker
from palate.rank.neural import NeuralRanker
from palate.runtime import set_threads

NAME = "rank_requests"
CANDIDATES, PAST, REQUESTS, WARM = 1_000, 50, 500, 30
#: The fields that describe the item; the last one is the item itself.
ITEM = ("c03", "c06", "c09", "c12", "c14")
_DEEP = {"dim": 16, "epochs": 1, "hidden": (256, 128)}
_PAST = {"dim": 16, "epochs": 1, "history": ("history",), "target": (ITEM[-1],)}
_ATTENTION = {"dim": 16, "epochs": 1, "layers": 3, "heads": 2, "units": 16}
SYSTEMS: dict[str, tuple[type[Ranker], dict[str, Any]]] = {
    "deepfm": (DeepFM, _DEEP),
    "dcnv2": (DCNv2, {**_DEEP, "structure": "parallel", "cross_layers": 3}),
    "autoint": (AutoInt, _ATTENTION),
    "autoint_plus": (AutoIntPlus, {**_ATTENTION, "hidden": (256, 128)}),
    "finalmlp": (FinalMLP, {**_DEEP, "hidden_2": (256, 128)}),
    "din": (DIN, {**_PAST, "hidden": (200, 80)}),
    "dien": (DIEN, {**_PAST, "hidden": (200, 80)}),
    "aw_moe": (AWMoE, {**_PAST, "hidden": (64, 32), "person": "c00"}),
    "cold": (Cold, {"dim": 16, "epochs": 1, "hidden": (64, 32), "budget": 0.5}),
    "lightgbm": (LightGBMRanker, {"rounds": 100, "leaves": 31}),
}
SERVICE = "service"


def reads_past(name: str) -> bool:
    """Say whether a system reads past items."""
    return "history" in SYSTEMS[name][1]


def with_history(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Add a list of past items to each row."""
    items = table.column(ITEM[-1]).combine_chunks()
    picked = items.take(pa.array(rng.integers(0, len(items), len(table) * PAST)))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(len(table) + 1, dtype=np.int32) * PAST), picked)
    return table.append_column("history", lists)


def fitted(name: str, table: pa.Table) -> Ranker:
    """Fit a ranker for one epoch."""
    fields = [RowField(column, "category") for column in table.column_names if column not in ("label", "history")]
    if reads_past(name):
        fields.append(RowField("history", "sequence", max_length=PAST, share=ITEM[-1]))
    else:
        table = table.drop_columns(["history"])
    system, settings = SYSTEMS[name]
    return system(fields=tuple(fields), **settings).fit(Rows.of_table(table, ["label"]), seed=0)


def request(name: str, table: pa.Table, rng: np.random.Generator) -> Rows:
    """Make a request: one person and moment, 1,000 candidates."""
    who = table.take(pa.array(np.full(CANDIDATES, rng.integers(len(table)))))
    what = table.take(pa.array(rng.integers(0, len(table), CANDIDATES)))
    given = [column for column in table.column_names if column != "label" and (reads_past(name) or column != "history")]
    columns = {column: (what if column in ITEM else who).column(column).combine_chunks() for column in given}
    return Rows(pa.table(columns))


@contextmanager
def looked_up(model: Ranker, seconds: list[float]) -> Iterator[None]:
    """Add up how long taking vectors out takes, one number a request (the last one grows)."""
    modules = model.net_.modules() if isinstance(model, NeuralRanker) else ()
    tables = [m for m in modules if isinstance(m, FieldVectors)]
    begun = [0.0]

    def before(*_: Any) -> None:
        begun[0] = time.perf_counter()

    def after(*_: Any) -> None:
        seconds[-1] += time.perf_counter() - begun[0]

    hooks = [hook for m in tables for hook in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    yield
    for hook in hooks:
        hook.remove()


def row(name: str, model: Ranker, requests: Sequence[Rows], count: int) -> dict[str, Any]:
    """Return percentiles of the whole, and the median of each part."""
    set_threads(count)
    encoder = model.encoder_
    assert isinstance(encoder, RowEncoder)
    whole, encoding, taking = [], list[float](), list[float]()
    for at, rows in enumerate(requests):
        started = time.perf_counter()
        model.predict(rows)
        if at >= WARM:
            whole.append(time.perf_counter() - started)
    with looked_up(model, taking):
        for rows in requests[WARM:]:
            started = time.perf_counter()
            encoder.encode(rows.features)
            encoding.append(time.perf_counter() - started)
            taking.append(0.0)
            model.predict(rows)
    p50, p99 = (float(np.percentile(whole, q)) * 1e3 for q in (50, 99))
    codes, lookup = (float(np.median(part)) * 1e3 for part in (encoding, taking))
    return {
        "what": f"{name}, {CANDIDATES:,} candidates, {count} thread{'s' if count > 1 else ''}",
        "p50 ms": round(p50, 2),
        "p99 ms": round(p99, 2),
        "encoder ms": round(codes, 2),
        "look-up ms": round(lookup, 2),
        "network ms": round(p50 - codes - lookup, 2),
        "candidates/s": round(CANDIDATES / p50 * 1e3),
    }


def measured(names: Sequence[str], *, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield one row a system and number of threads, and those of the service."""
    rng, count = np.random.default_rng(0), 20 if quick else REQUESTS
    table = with_history(synth(30_000 if quick else 100_000), rng)
    for name in names:
        if name == SERVICE:
            yield from rank_stage(CANDIDATES, count, WARM)
            continue
        model = fitted(name, table)
        requests = [request(name, table, rng) for _ in range(WARM + count)]
        yield from (row(name, model, requests, number) for number in (1, 2))


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*SYSTEMS, SERVICE], help="systems, or service (default: all)")
    parser.add_argument("--quick", action="store_true", help="few requests; nothing is recorded")
    given = parser.parse_args()
    path = RESULTS / f"{NAME}.json"
    known = {} if not path.exists() else {one["what"]: one for one in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    for found in measured(given.names, quick=given.quick):
        print(found, flush=True)
        known[found["what"]] = found
        if not given.quick:
            goal = "p50 of at most 5 ms"
            notes = {"goal": goal, "requests": REQUESTS}
            record(NAME, list(known.values()), what=__doc__.split("\n\n    ")[0], seeds=[0], notes=notes)


if __name__ == "__main__":
    main()
