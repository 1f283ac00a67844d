"""Every recommender of the catalogue on equal terms: the same splits, the same number of settings tried, the same seeds.

Three questions: *known people* (a share of each person's events held out), *new people* (never seen in training, their earlier
events told when asked), *new items* (never seen in training, only systems that can know them from text or a graph; popularity
as the floor). For each, every system tries as many settings on the validation part (the defaults first, then what the estimator
proposes in the catalogue's space); the best is fitted with every seed, and the test part is opened once. Systems that need ties
between people are compared on Last.FM (5-core), those that need a graph or text on MovieLens 100K, all others on both.

What a system has done is kept, so that a run can be interrupted.

    python benchmarks/systems_table.py                    all (hours)
    python benchmarks/systems_table.py ease lightgcn      some
    python benchmarks/systems_table.py --only-record      write what is kept so far
"""

from __future__ import annotations

import argparse
import time
from functools import cache
from pathlib import Path
from typing import Any

from _record import record

from palate.catalog.registry import systems
from palate.catalog.system import System
from palate.data import public
from palate.data.dataset import Dataset
from palate.data.filters import k_core
from palate.data.protocols import split as cut
from palate.data.split import Split
from palate.study.compare import compare
from palate.study.kept import Kept

NAME = "systems_table"
TRIALS, SEEDS, METRICS = 6, 2, ["ndcg@10", "recall@20", "coverage@10"]
#: By data set: how known people are cut, and what its data can give to a system.
DATA: dict[str, tuple[dict[str, Any], set[str]]] = {
    "ml-100k": ({"order": "time"}, {"interactions", "times", "text", "graph", "torch"}),
    "lastfm-hetrec-2k": ({"order": "random"}, {"interactions", "social", "torch"}),
}
QUESTIONS = ("known people", "new people", "new items")
FLOOR = "popularity"


@cache
def source(name: str) -> Dataset:
    """Return a data set; of Last.FM the people and artists with five events or more."""
    data = public.load(name)
    return k_core(data, user=5, item=5) if name.startswith("lastfm") else data


@cache
def split_of(name: str, question: str) -> Split:
    """Return the split that asks a question."""
    data = source(name)
    if question == "known people":
        return cut(data, "user_ratio", valid=0.1, test=0.2, **DATA[name][0])
    if question == "new people":
        return cut(data, "held_out_users", valid=0.1, test=0.2, answers=0.3)
    return cut(data, "held_out_items", valid=0.1, test=0.2)


def asked(name: str, question: str, system: System) -> bool:
    """Say whether a system takes part."""
    able = question != "new items" or "new items" in system.abilities or system.name == FLOOR
    return system.verb == "recommend" and system.status == "works" and set(system.needs) <= DATA[name][1] and able


def measured(name: str, question: str, system: str) -> dict[str, Any]:
    """Tune, fit and judge one system; return what the table says of it."""
    split, started = split_of(name, question), time.process_time()
    report = compare(split, [system], metrics=METRICS, trials=TRIALS, seeds=SEEDS)
    title = report.systems[0]
    row: dict[str, Any] = {}
    for metric in METRICS:
        found = report.estimates(metric)[title]
        row[metric] = round(found.value, 4)
        if found.low is not None:
            row[f"{metric} interval"] = [round(found.low, 4), round(found.high, 4)]
    slices = {f"{s.slicing}: {s.group}": round(s.value, 4) for s in report.slices("ndcg@10")}
    about = {"settings": report.runs_of(title)[0].info["settings"], "fit seconds": report.info(title, "fit_seconds")}
    return {**row, "slices of ndcg@10": slices, **about, "CPU seconds": round(time.process_time() - started, 1)}


def rows(names: list[str], kept: Kept, make: bool) -> list[dict[str, Any]]:
    """Return the rows of some systems, from what is kept and, if wanted, made now."""
    found = []
    for question in QUESTIONS:
        for name in DATA:
            for system in names:
                if not asked(name, question, systems()[system]):
                    continue
                key = {"data": name, "question": question, "system": system, "plan": [TRIALS, SEEDS, METRICS]}
                try:
                    part = kept.get(key, lambda n=name, q=question, s=system: work(n, q, s, make))
                except NotMadeError:
                    continue
                found.append({"question": question, "data": name, "system": system, **part})
    return found


class NotMadeError(Exception):
    """A row that is not kept, when none is to be made."""


def work(name: str, question: str, system: str, make: bool) -> dict[str, Any]:
    """Make a row, or say that it is not there."""
    if not make:
        raise NotMadeError
    row = measured(name, question, system)
    print(f"{question}, {name}, {system}: {row['ndcg@10']} in {row['CPU seconds']} s", flush=True)
    return row


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help="systems (default: all)")
    parser.add_argument("--only-record", action="store_true", help="fit nothing, write what is kept")
    given = parser.parse_args()
    names = given.names or list(systems())
    made = rows(names, Kept.of(NAME, Path(__file__)), make=not given.only_record)
    notes = {"trials": TRIALS, "tuned on": "ndcg@10 of the validation part, the question's own"}
    record(NAME, made, what=__doc__.split("\n\n    ")[0], seeds=list(range(SEEDS)), notes=notes)


if __name__ == "__main__":
    main()
