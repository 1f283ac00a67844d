"""Accuracy on public splits against ``targets.toml``: settings as stated there, one fit, one look at the test part.

Full ranking, items of the history left out. Settings are the systems' defaults but for what the file states, set beforehand
and not tuned on the data, except where the file says so; where the split has a validation part, it stops the fit. With
``--on valid`` a setting can be tried:
published splits have no validation part, so a tenth of each person's training events is carved out for that.

    python benchmarks/targets.py                     every target
    python benchmarks/targets.py ease-gowalla        some
    python benchmarks/targets.py ials-gowalla --on valid --set reg=0.01      try a setting; the test part stays closed
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

from _record import RESULTS, record

import palate
from palate.data import public
from palate.data.split import PartName, Split
from palate.evaluation.metrics import parse
from palate.progress import ProgressEvent
from palate.study.evaluate import evaluate

TARGETS = Path(__file__).with_name("targets.toml")
CARVED = 0.1


def split_of(target: dict[str, Any], on: str) -> Split:
    """Return the split that a target names; a published one gets a validation part only where it is asked for."""
    if target["protocol"] == "given":
        return public.load_split(target["data"], valid=CARVED if on == "valid" else None)
    return palate.split(public.load(target["data"]), target["protocol"])


def show(event: ProgressEvent) -> None:
    """Print the end of each epoch."""
    if ("epoch" in event.stage and "batches" not in event.stage) or event.stage == "iALS":
        print(event.stage, event.done, event.total, dict(event.metrics), flush=True)


def run(target: dict[str, Any], on: PartName, changed: dict[str, Any]) -> dict[str, Any]:
    """Fit with the target's settings and look once."""
    split, seed = split_of(target, on), int(target.get("seed", 0))
    settings = {**target.get("settings", {}), **changed}
    model = palate.create(target["system"], **settings)
    validation = split.held_out("valid") if split.valid is not None else None
    started = time.perf_counter()
    model.fit(split.train, validation, seed=seed, device=target["device"], progress=show)
    fitted = time.perf_counter()
    beside: dict[str, float] = target.get("beside", {})
    metrics = list(dict.fromkeys([target["metric"], *beside, "ndcg@10", "recall@10", "ndcg@20", "recall@20"]))
    judged = evaluate(model, split.held_out(on), metrics, train=split.train)
    value = judged.value(target["metric"])
    within = (fitted - started) / 60 <= target.get("minutes", float("inf"))
    return {
        "name": target["name"],
        "metric": str(parse(target["metric"])),
        "value": round(value, 4),
        "target": target["target"],
        "beside": beside,
        "met": bool(
            value >= target["target"] and all(judged.value(name) >= least for name, least in beside.items()) and within
        ),
        "stretch": target.get("stretch", False),
        "part": on,
        "fit seconds": round(fitted - started, 1),
        "evaluate seconds": round(time.perf_counter() - fitted, 1),
        "others": {name: round(judged.value(name), 4) for name in metrics if name != target["metric"]},
        "settings": settings,
        "fit": {name: note for name, note in model.record_.notes.items() if name != "curve"},
        "split": split.fingerprint,
        "seed": seed,
        "device": target["device"],
    }


def known() -> dict[str, dict[str, Any]]:
    """Return the rows on record, by name."""
    path = RESULTS / "targets.json"
    return {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]} if path.exists() else {}


def main() -> None:
    """Run and record."""
    targets = {row["name"]: row for row in tomllib.loads(TARGETS.read_text(encoding="utf-8"))["target"]}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(targets), help="targets (default: all)")
    parser.add_argument("--on", choices=["test", "valid"], default="test", help="part to look at; valid writes no result")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting to try (with --on valid)")
    given = parser.parse_args()
    if given.set and given.on == "test":
        parser.error("settings are tried on the validation part: add --on valid")
    changed = dict(pair.split("=", 1) for pair in given.set)
    for name in given.names:
        row = run(targets[name], given.on, changed)
        print(row, flush=True)
        if given.on == "test":
            rows = {**known(), name: row}
            record("targets", [rows[n] for n in targets if n in rows], what=__doc__.split("\n\n    ")[0], seeds=[row["seed"]])


if __name__ == "__main__":
    main()
