"""Cost as work grows: seconds and peak memory of fit, recommend and evaluate on synthetic worlds of 10^5 to 5x10^7 events.

Every measurement runs in its own process. Beside each figure stands how fast it grew against the formula of its algorithm,
from the smallest size on; a factor well above 1 would mean that something grows faster than it should.

    python benchmarks/scale.py --most 1e6
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _record import record

SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 50_000_000)
#: Largest number of events for each system; settings that keep one point short.
SYSTEMS: dict[str, tuple[int, dict[str, Any]]] = {
    "popularity": (50_000_000, {}),
    "item_knn": (50_000_000, {}),
    "ials": (50_000_000, {"dim": 64, "epochs": 5}),
    "ease": (10_000_000, {}),
    "lightgcn": (1_000_000, {"epochs": 2}),
    "sasrec": (1_000_000, {"epochs": 2}),
}
#: Questions evaluated, and requests answered, at most.
QUESTIONS = 50_000
ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "benchmarks" / "scale.svg"

#: What an algorithm costs, up to a constant, from the facts of a row.
Formula = Callable[[dict[str, float]], float]
FORMULAS: dict[tuple[str, str], tuple[str, Formula]] = {
    ("popularity", "fit"): ("events", lambda r: r["events"]),
    ("item_knn", "fit"): ("sum of squared history lengths", lambda r: r["pairs"]),
    ("ials", "fit"): (
        "events x dim x steps + (users + items) x dim^2",
        lambda r: r["events"] * 64 * 4 + (r["users"] + r["items"]) * 64**2,
    ),
    ("ease", "fit"): ("sum of squared history lengths + items^3", lambda r: 30 * r["pairs"] + r["items"] ** 3),
    ("lightgcn", "fit"): (
        "batches of 2,048 x events x dim: each batch smooths over the whole graph",
        lambda r: r["events"] ** 2,
    ),
    ("sasrec", "fit"): ("events x (dim^2 + negatives x dim)", lambda r: r["events"]),
}
RANKING: tuple[str, Formula] = ("questions x items", lambda r: r["questions"] * r["items"])


def shape(events: int) -> dict[str, Any]:
    """Return the world of a size: 50 events a person, one item for 500 events."""
    return {"users": events // 50, "items": min(100_000, max(200, events // 500)), "events": events}


def peak_mb(*, reset: bool = False) -> float:
    """Return the peak of resident memory since the last reset, in MiB (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel does not tell the peak of memory")


def phase(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Run some work; return its answer, seconds, and MiB beyond what was held before."""
    before = peak_mb(reset=True)
    started = time.perf_counter()
    answer = work()
    return answer, time.perf_counter() - started, max(0.0, peak_mb() - before)


def measure_one(system: str, events: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Make the world, fit, recommend, evaluate: one row."""
    from palate.catalog.registry import create
    from palate.contracts.requests import Requests
    from palate.data.split import Split
    from palate.evaluation.judge import Facts
    from palate.simulate.world import World
    from palate.study.evaluate import evaluate

    world = World(**shape(events), topics=64)
    data, made, _ = phase(lambda: world.dataset(text=False, graphs=False, impressions=False))
    happened = data.interactions
    last = np.ones(len(happened), bool)
    last[:-1] = happened.user[1:] != happened.user[:-1]
    train = data.derive({"step": "all but the last event"}, interactions=happened.take(~last))
    held_out = Split(train, None, happened.take(last), {"protocol": "last event"}).held_out("test")
    held_out = held_out.take(np.arange(0, len(held_out), max(1, len(held_out) // QUESTIONS))[:QUESTIONS])
    _warm(system, settings)
    model, fit, fit_mb = phase(lambda: create(system, **settings).fit(train, seed=0))
    requests, facts = Requests.of_held_out(held_out), Facts.of(train)
    _, recommend, recommend_mb = phase(lambda: model.recommend(requests, 10))
    judgement, judged, judged_mb = phase(lambda: evaluate(model, held_out, ["ndcg@10", "recall@20"], facts=facts))
    lengths = train.histories.lengths.astype(float)
    return {
        "system": system,
        "events": len(train),
        "users": train.n_users,
        "items": train.n_items,
        "pairs": float(np.square(lengths).sum()),
        "questions": len(held_out),
        "settings": settings,
        "world_seconds": round(made, 3),
        "fit_seconds": round(fit, 4),
        "fit_mb": round(fit_mb, 1),
        "recommend_seconds": round(recommend, 4),
        "recommend_mb": round(recommend_mb, 1),
        "evaluate_seconds": round(judged, 4),
        "evaluate_mb": round(judged_mb, 1),
        "ndcg@10": round(judgement.value("ndcg@10"), 5),
    }


def _warm(system: str, settings: dict[str, Any]) -> None:
    """Compile the kernels on a tiny world, so that compilation is not measured."""
    from palate.catalog.registry import create
    from palate.contracts.requests import Requests
    from palate.data.split import Split
    from palate.simulate.world import World
    from palate.study.evaluate import evaluate

    tiny = World(users=200, items=150, events=4_000).dataset(text=False, graphs=False, impressions=False)
    model = create(system, **settings).fit(tiny, seed=0)
    model.recommend(Requests.of_users(tiny, np.arange(200)), 10)
    events = tiny.interactions
    last = np.append(events.user[1:] != events.user[:-1], True)
    held_out = Split(tiny, None, events.take(last), {"protocol": "last event"}).held_out("test")
    evaluate(model, held_out, ["ndcg@10", "recall@20"])


def run_apart(system: str, events: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Run :func:`measure_one` in its own process."""
    question = json.dumps([system, events, settings])
    done = subprocess.run([sys.executable, __file__, "--one", question], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"system": system, **shape(events), "error": done.stderr.strip().splitlines()[-1] if done.stderr else "killed"}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def growth(rows: list[dict[str, Any]]) -> None:
    """Add to each row how much more its seconds grew than the formula, since the system's smallest size."""
    for row in rows:
        first = next(r for r in rows if r["system"] == row["system"])
        for stage in ("fit", "recommend", "evaluate"):
            _, cost = FORMULAS[row["system"], "fit"] if stage == "fit" else RANKING
            if "error" not in row and "error" not in first and first[f"{stage}_seconds"] > 0:
                seconds = row[f"{stage}_seconds"] / first[f"{stage}_seconds"]
                row[f"{stage}_growth_over_formula"] = round(seconds / (cost(row) / cost(first)), 3)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot seconds and memory against events, both on logarithmic axes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    panels = {
        "fit_seconds": "fit, seconds",
        "recommend_seconds": "recommend, seconds",
        "evaluate_seconds": "evaluate, seconds",
        "fit_mb": "fit, MiB",
        "recommend_mb": "recommend, MiB",
        "evaluate_mb": "evaluate, MiB",
    }
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7), sharex=True)
    for axis, (column, label) in zip(axes.ravel(), panels.items(), strict=True):
        for system in SYSTEMS:
            points = [(r["events"], max(r[column], 1e-3)) for r in rows if r["system"] == system and "error" not in r]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", label=system)
        axis.set(xscale="log", yscale="log", title=label)
        axis.grid(True, alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("training events")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}")
    figure.savefig(work, format="svg")
    work.replace(path)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--most", type=float, default=1e6, help="largest number of events")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="names, separated by commas")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        system, events, settings = json.loads(given.one)
        print(json.dumps(measure_one(system, events, settings)))
        return
    rows = []
    for system in given.systems.split(","):
        most, settings = SYSTEMS[system]
        for events in (s for s in SIZES if s <= min(most, given.most)):
            rows.append(run_apart(system, events, settings))
            print(rows[-1], flush=True)
    growth(rows)
    draw(rows, PICTURE)
    formulas = {f"{system} {stage}": text for (system, stage), (text, _) in FORMULAS.items()}
    record(
        "scale",
        rows,
        what="""Seconds and peak memory (MiB beyond what was held before the phase) of fit, recommend (top 10) and evaluate on
        synthetic worlds with 50 events a person; each row in its own process, kernels compiled before. The columns that end in
        growth_over_formula divide the growth of the seconds since the smallest size by that of the formula.""",
        seeds=[0],
        notes={"formulas": {**formulas, "recommend, evaluate": RANKING[0]}, "questions at most": QUESTIONS},
    )


if __name__ == "__main__":
    main()
