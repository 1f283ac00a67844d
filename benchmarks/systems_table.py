"""Every recommender of the catalogue on equal terms: the same splits, the same number of settings tried, the same seeds.

Three questions: *known people* (a share of each person's events held out), *new people* (never seen in training, their earlier
events told when asked), *new items* (never seen in training, only systems that can know them from text or a graph; popularity
as the floor). For each, every system tries as many settings on the validation part (the defaults first, then what the estimator
proposes in the catalogue's space); the best is fitted with every seed, and each of these fits answers the test part once. All
that stop by validation have the same patience, which counts above popularity, and their own most epochs; those that watch a
loss of their own, of which popularity is no floor, wait longer. DiffKG denoises items and the entities with ten links or more,
as its cost grows with their square. Systems that need ties between people are compared on Last.FM
(5-core), those that need a graph or text on MovieLens 100K, all others on both.

Every fit is kept, so that an interrupted run goes on where it stopped (with the same code). A system that fails has a row that
says so, the others go on, and the program ends with 1. Some systems named are put among the rows that are there, where data,
splits, versions and budget are the same; where not, nothing is fitted, and ``--anew`` drops the other rows.

    python benchmarks/systems_table.py                    all (some two hours of one core)
    python benchmarks/systems_table.py ease lightgcn      some
    python benchmarks/systems_table.py --budget large     more settings, seeds and people (half a day)
    python benchmarks/systems_table.py --only-record      write what is kept so far
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import _record
import numpy as np
from _systems_fits import CHOSEN_BY, METRICS, OWN_WATCH, Bench, Budget, NotMadeError

from palate.catalog.registry import systems
from palate.catalog.system import System
from palate.data import public
from palate.data.dataset import Dataset
from palate.data.filters import k_core, subset_users
from palate.data.protocols import split as cut
from palate.data.split import Split
from palate.runtime import generator, versions
from palate.study.kept import Kept, state_of_code

NAME = "systems_table"
BUDGETS = {
    "small": Budget(trials=3, seeds=2, people=470, patience=5),
    "large": Budget(trials=6, seeds=3),
}
#: By data set: how known people are cut, and what its data can give to a system.
DATA: dict[str, tuple[dict[str, Any], set[str]]] = {
    "ml-100k": ({"order": "time"}, {"interactions", "times", "text", "graph", "torch"}),
    "lastfm-hetrec-2k": ({"order": "random"}, {"interactions", "social", "torch"}),
}
QUESTIONS = ("known people", "new people", "new items")
FLOOR = "popularity"

Row = dict[str, Any]


@cache
def source(name: str, people: int) -> Dataset:
    """Return a data set: of Last.FM the people and artists with five events or more; of others so many people (0: all)."""
    data = public.load(name)
    if name.startswith("lastfm"):  # drawing people would take away three quarters of their ties
        return shuffled(k_core(data, user=5, item=5))
    return subset_users(data, people) if people else data


def shuffled(data: Dataset) -> Dataset:
    """Put each person's events in a random order: without times, the file's order (artists by number) would stand for time."""
    events = data.interactions
    order = np.lexsort((generator(0, "order").random(len(events)), events.user))
    return data.derive({"step": "shuffled"}, interactions=events.take(order))


@cache
def split_of(name: str, question: str, people: int) -> Split:
    """Return the split that asks a question; it has no hard leak."""
    data = source(name, people)
    if question == "known people":
        found = cut(data, "user_ratio", valid=0.1, test=0.2, **DATA[name][0])
    elif question == "new people":
        found = cut(data, "held_out_users", valid=0.1, test=0.2, answers=0.3)
    else:
        found = cut(data, "held_out_items", valid=0.1, test=0.2)
    found.audit()
    return found


def asked(name: str, question: str, system: System) -> bool:
    """Say whether a system takes part."""
    able = question != "new items" or "new items" in system.abilities or system.name == FLOOR
    return system.verb == "recommend" and system.status == "works" and set(system.needs) <= DATA[name][1] and able


def places(names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield question, data set and system of every row, in the order of the table."""
    for question in QUESTIONS:
        for name in DATA:
            yield from ((question, name, system) for system in names if asked(name, question, systems()[system]))


# -- rows -------------------------------------------------------------------------------------------


def rows(names: Sequence[str], budget: Budget, kept: Kept, make: bool) -> list[Row]:
    """Return the rows of some systems, of fits that are kept and, if wanted, made now; failures are rows too."""
    found: list[Row] = []
    benches: dict[tuple[str, str], Bench] = {}
    code = state_of_code()
    for question, name, system in places(names):
        place = {"question": question, "data": name, "system": system}
        bench, doing = benches.get((question, name)), "cutting the data"
        try:
            if bench is None:
                bench = benches[question, name] = Bench(split_of(name, question, budget.people), budget, kept, make)
            found.append({**place, **bench.row(system), "code": code})
        except NotMadeError:
            continue
        except Exception as error:  # one system must not end the others
            doing = doing if bench is None else bench.doing
            found.append({**place, "failed": f"{doing}: {type(error).__name__}: {error}", "code": code})
        print(told(found[-1]), flush=True)
    return found


def told(row: Row) -> str:
    """Return a row in one line."""
    place = f"{row['question']}, {row['data']}, {row['system']}"
    if "failed" in row:
        return f"{place}: FAILED at {row['failed']}"
    went = f"epochs {row['epochs trained']}, best {row['best epoch']}"
    return f"{place}: {row['ndcg@10']} in {row['CPU seconds']} s ({went})"


# -- the file ---------------------------------------------------------------------------------------


def terms(budget: Budget) -> dict[str, Any]:
    """Return what all rows of one table have in common."""
    splits = {}
    for question, name in dict.fromkeys((question, name) for question, name, _ in places(list(systems()))):
        try:
            splits[f"{question}, {name}"] = split_of(name, question, budget.people).fingerprint
        except Exception:  # its rows will say why
            continue
    told = {**asdict(budget), "metrics": list(METRICS), "chosen by": f"{CHOSEN_BY} of the validation part"}
    return {"budget": told, "splits": splits, "versions": versions(*_record.SOFTWARE)}


def differing(old: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in what a result that is there differs from one made now, in words."""
    notes = old.get("notes", {})
    before = {"versions": old.get("versions", {}), "budget": notes.get("budget", {}), "splits": notes.get("splits", {})}
    found = []
    for kind, values in before.items():
        new = now[kind]
        keys = set(values) if kind == "splits" else set(values) | set(new)
        found += [f"{key} ({values.get(key)} is now {new.get(key)})" for key in sorted(keys) if values.get(key) != new.get(key)]
    return found


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Return the rows of both in the order of the table, new ones in the place of old ones."""
    found = {(row["question"], row["data"], row["system"]): row for row in (*old, *new)}
    return [found[place] for place in places(list(systems())) if place in found]


def known(path: Path) -> dict[str, Any] | None:
    """Return the result that is there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def before(old: dict[str, Any] | None, now: Mapping[str, Any], *, partial: bool, anew: bool) -> list[Row]:
    """Return the rows to keep of the result that is there; say where there are none.

    Raises
    ------
    SystemExit
        If only a part of the rows is to be made and the others can't stand beside them.
    """
    found = [] if old is None else differing(old, now)
    if old is None or not (found or anew):
        return [] if old is None else old["rows"]
    why, there = "; ".join(found) if found else "--anew", f"the {len(old['rows'])} rows that are there"
    if partial and not anew:
        raise SystemExit(f"nothing was fitted: {there} differ in {why}. Run all systems, or drop those rows by --anew.")
    print(f"the table starts anew, without {there}: {why}", file=sys.stderr)
    return []


def write(found: Sequence[Row], now: Mapping[str, Any], name: str) -> None:
    """Write the table."""
    budget = now["budget"]
    drawn = f", {budget['people']} people drawn from MovieLens 100K and all of Last.FM" if budget["people"] else ""
    form = (
        f"The {name} budget: {budget['trials']} settings a system, {budget['seeds']} seeds{drawn}; patience is "
        f"{budget['patience']} ({budget['loss_patience']} for {' and '.join(sorted(OWN_WATCH))}, which watch a loss)."
    )
    if name != "large":
        form += " So few settings often miss what a system can reach, the more so the more settings it has."
    there = {(row["question"], row["data"], row["system"]) for row in found}
    lacking = [", ".join(place) for place in places(list(systems())) if place not in there]
    notes = {
        "budget": budget,
        "splits": now["splits"],
        "codes": sorted({row["code"] for row in found}),
        "not made yet": lacking,
    }
    what = f"{__doc__.split(chr(10) * 2 + 'Every fit')[0]} {form}"
    _record.record(NAME, found, what=what, seeds=list(range(budget["seeds"])), notes=notes)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help="systems (default: all)")
    parser.add_argument("--budget", choices=list(BUDGETS), default="small")
    parser.add_argument("--only-record", action="store_true", help="fit nothing, write what is kept")
    parser.add_argument("--anew", action="store_true", help="drop the rows that are there")
    given = parser.parse_args()
    taking_part = {system for _, _, system in places(list(systems()))}
    if wrong := [name for name in given.names if name not in taking_part]:
        parser.error(f"{', '.join(wrong)}: no such system, or none that can take part (see: palate models)")
    return given


def main() -> int:
    """Run and record; return 1 if a system failed."""
    given = arguments()
    names, budget = given.names or list(systems()), BUDGETS[given.budget]
    now = terms(budget)
    partial = bool(given.names) or given.only_record
    old = before(known(_record.RESULTS / f"{NAME}.json"), now, partial=partial, anew=given.anew)
    made = rows(names, budget, Kept.of(NAME, Path(__file__)), make=not given.only_record)
    table = merged(old, made)
    if len({row["code"] for row in table}) > 1:
        print("the rows were not all made by the same code: notes.codes, and code in each row", file=sys.stderr)
    write(table, now, given.budget)
    if failed := [row for row in made if "failed" in row]:
        print(f"{len(failed)} of {len(made)} rows failed: {'; '.join(map(told, failed))}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
