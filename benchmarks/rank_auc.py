"""AUC of each base ranker beside FuxiCTR 2.3.10's: the same rows, codes, sizes and number of trials, both sides tuned alike.

Sets are cut 8:1:1: 200,000 made-up rows of 15 fields with planted pairs, Frappe, and the ratings of MovieLens 1M that are here
(liked or not; person, film, gender, age, occupation, hour; DIN reads the 20 films liked before; MMoE and PLE learn the five
stars beside). Vectors of 16 numbers, batches of 4,096 rows, Adam, at most 60 epochs, patience 2 on validation AUC; dense layers
256-128 with dropout 0.1 (DIN 200-80; experts 128-64, towers 32). AutoInt has 3 layers of 2 heads and 16 units; AutoInt+ is the
same with dense layers beside it, as FuxiCTR's default is. DIEN has no auxiliary loss, as is FuxiCTR's default. FuxiCTR reads
the codes that Palate's encoder gave. FuxiCTR has no LightGBM and no COLD, so these are not here.

Both sides are searched alike, with one fit a trial by the first seed: first the penalty on vectors (1e-6 to 1e-2 in decades,
over the whole table at every step, as is FuxiCTR's way and an option of Palate's) at a step size of 3e-3; then the step size
(1e-3, 3e-3, 1e-2, 3e-2) at the best penalty; then both penalties half a decade from it. A row says which of the two is the
least or the greatest that was tried, if one is: there the best may lie outside. A fit that diverges counts as an AUC of 0.
The best on validation is fitted with all seeds, and the test part is looked at then. What is told is the mean over seeds; the
goal is to be no more than 0.001 below.

Every fit is kept under ``benchmarks/.peers/rank_auc`` with what it depends on (rows, settings, and the code: all of Palate's,
or FuxiCTR's commit, pins and worker), and not made again, so a run that was interrupted goes on where it was; ``--fresh`` makes
all of them anew.

    python benchmarks/rank_auc.py                              all
    python benchmarks/rank_auc.py frappe --models lr fm        a part of it; the others keep their last figures
    python benchmarks/rank_auc.py frappe --models lr --quick   does it run? (few rows, four trials; nothing is recorded)
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from _peers import HERE, HOME, Worker
from _rank_rows import FUXICTR_COMMIT, SETS, Cut, fuxictr_source
from _rank_systems import DIM, SYSTEMS, System
from _record import RESULTS, record

from palate.contracts.ranker import Rows
from palate.data.fingerprint import file_sha256
from palate.errors import TrainingError
from palate.evaluation.metrics.predictive import auc
from palate.runtime import set_threads, threads
from palate.study.kept import Kept, state_of_code

NAME = "rank_auc"
#: Fits that are kept; the folder is one deeper, as keeping the first part removes what else is beside it.
KEPT = Kept(HOME / NAME / "fits")
EPOCHS, PATIENCE, SEEDS, BATCH = 60, 2, 3, 4096
Side = Literal["palate", "fuxictr"]


@dataclass(frozen=True)
class Grid:
    """What both sides are searched over: penalties on vectors at the first step size, then the step sizes.

    Attributes
    ----------
    factors
        The best penalty times each of these is tried last.
    """

    penalties: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    steps: tuple[float, ...] = (3e-3, 1e-3, 1e-2, 3e-2)
    factors: tuple[float, ...] = (10**-0.5, 10**0.5)


GRID, QUICK = Grid(), Grid((1e-5,), (3e-3, 1e-2))


@dataclass(frozen=True)
class Fit:
    """One fit: what is fitted, on what, with which settings."""

    side: Side
    name: str
    at: str
    lr: float
    penalty: float
    seed: int
    epochs: int

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the system, but for the fields that Palate's reads."""
        system, shared = SYSTEMS[self.name], dict[str, Any]()
        if self.side == "fuxictr":
            shared = {"embedding_dim": DIM, "learning_rate": self.lr, system.peer_penalty: self.penalty}
            return {**shared, **system.peer_settings}
        shared = {"lr": self.lr, "embedding_reg": self.penalty, "embedding_reg_on": "table", "batch_size": BATCH}
        shared |= {"epochs": self.epochs, "patience": PATIENCE} | ({} if self.name == "lr" else {"dim": DIM})
        return {**shared, **system.settings}

    def key(self, cut: Cut) -> dict[str, Any]:
        """Return all that its outcome depends on: what it is, the rows, the settings and the code."""
        system = SYSTEMS[self.name]
        same = {
            "rows": cut.fingerprint,
            "fields": repr(cut.fields),
            "needs": system.needs,
            "batch": BATCH,
            "patience": PATIENCE,
        }
        of_side = {"palate": own_code, "fuxictr": peer_code}[self.side]()
        names = {"own": system.own.__name__, "peer": system.peer}
        return {**asdict(self), **same, **names, "settings": repr(self.settings), "code": of_side}


@cache
def own_code() -> list[str]:
    """Return what Palate's fits are made by: its code as this run began, and the lines of this program that fit."""
    return [state_of_code(), *(inspect.getsource(part) for part in (given_to, mean_auc, palate))]


@cache
def peer_code() -> list[str]:
    """Return what FuxiCTR's fits are made by: its commit, its pins, its worker, and the lines of this program that fit."""
    files = [file_sha256(HERE / "peers" / name) for name in ("fuxictr.txt", "fuxictr_worker.py", "_serve.py")]
    return [FUXICTR_COMMIT, *files, *(inspect.getsource(part) for part in (given_to, mean_auc, fuxictr))]


#: What a fit gives whose weights are numbers no more.
DIVERGED = {"valid": 0.0, "test": 0.0, "epoch": 0}

# -- one fit ----------------------------------------------------------------------------------------


def given_to(system: System, rows: Rows) -> Rows:
    """Return rows as a system reads them: without a history, or without the second label, where it wants none."""
    labels = dict(list(rows.labels.items())[: 2 if system.needs == "tasks" else 1])
    drop = [] if system.needs == "history" else [name for name in rows.features.column_names if name == "history"]
    return Rows(rows.features.drop_columns(drop), labels)


def mean_auc(rows: Rows, found: np.ndarray) -> float:
    """Return the mean AUC over the labels of some rows."""
    columns = found.reshape(len(found), -1).T
    return float(np.mean([auc(truth, own) for truth, own in zip(rows.labels.values(), columns, strict=True)]))


def palate(fit: Fit, cut: Cut) -> dict[str, float]:
    """Fit Palate's; return the AUC of validation and test."""
    system = SYSTEMS[fit.name]
    parts = {part: given_to(system, rows) for part, rows in cut.parts.items()}
    fields = tuple(f for f in cut.fields if f.name in parts["train"].features.column_names)
    model = system.own(fields=fields, **fit.settings)
    try:
        model.fit(parts["train"], parts["valid"], seed=fit.seed)
    except TrainingError as error:
        if "not a number" not in str(error):
            raise
        return dict(DIVERGED)
    valid, test = (mean_auc(parts[part], model.predict(parts[part]).values) for part in ("valid", "test"))
    return {"valid": valid, "test": test, "epoch": int(model.record_.notes["best_epoch"])}


def fuxictr(fit: Fit, cut: Cut, worker: Worker) -> dict[str, float]:
    """Fit FuxiCTR's under the same rule of stopping; return the AUC of validation and test."""
    system = SYSTEMS[fit.name]
    worker("data", folder=str(cut.folder), sequences=system.needs == "history")
    how = {"threads": threads(), "batch_size": BATCH, "tasks": 2 if system.needs == "tasks" else 1, "direct": True}
    worker("load", source=str(fuxictr_source()), model=system.peer, settings=fit.settings, seed=fit.seed, **how)
    path, best, at = cut.folder / "predicted.npy", -1.0, 0
    parts = {part: given_to(system, rows) for part, rows in cut.parts.items()}
    for epoch in range(1, fit.epochs + 1):
        if not worker("epoch")["finite"]:
            return dict(DIVERGED)
        worker("predict", part="valid", path=str(path))
        value = mean_auc(parts["valid"], np.load(path))
        if value > best:
            best, at = value, epoch
            worker("keep")
        if epoch - at >= PATIENCE:
            break
    worker("back")
    worker("predict", part="test", path=str(path))
    return {"valid": best, "test": mean_auc(parts["test"], np.load(path)), "epoch": at}


def made(fit: Fit, cut: Cut, worker: Worker) -> dict[str, float]:
    """Return what came of a fit: as it was kept, or made now and kept."""

    def now() -> dict[str, float]:
        found = palate(fit, cut) if fit.side == "palate" else fuxictr(fit, cut, worker)
        print(f"{fit.at} {fit.name} {fit.side} lr {fit.lr:g} penalty {fit.penalty:g} seed {fit.seed}: {found}", flush=True)
        return found

    return KEPT.get(fit.key(cut), now) if fit.epochs == EPOCHS else now()


# -- the table --------------------------------------------------------------------------------------


def searched(first: Fit, grid: Grid, valid: Callable[[Fit], float]) -> tuple[Fit, tuple[Fit, ...]]:
    """Return the best fit on validation, and all that were tried; of equal ones the first is the best.

    The penalty is sought at the first step size, then the step size at the best penalty, then the penalty more finely.
    """
    tried: dict[Fit, float] = {}

    def best(trials: Sequence[Fit]) -> Fit:
        for trial in trials:
            if trial not in tried:
                tried[trial] = valid(trial)
        return max(tried, key=lambda trial: tried[trial])

    found = best([replace(first, lr=grid.steps[0], penalty=penalty) for penalty in grid.penalties])
    found = best([replace(found, lr=lr) for lr in grid.steps])
    found = best([replace(found, penalty=float(f"{found.penalty * factor:.2g}")) for factor in grid.factors])
    return found, tuple(tried)


def edges(best: Fit, tried: Sequence[Fit]) -> list[str]:
    """Return which settings of the best are the least or the greatest that was tried."""
    found = []
    for name in ("lr", "penalty"):
        values = [getattr(trial, name) for trial in tried]
        if getattr(best, name) in (min(values), max(values)):
            found.append(name)
    return found


def tuned(first: Fit, cut: Cut, worker: Worker, grid: Grid, seeds: int) -> dict[str, Any]:
    """Return the columns of one side: its best setting on validation, and the test AUC with each seed."""
    best, tried = searched(first, grid, lambda trial: made(trial, cut, worker)["valid"])
    found = [made(replace(best, seed=seed), cut, worker) for seed in range(seeds)]
    return {
        f"{first.side} trials": len(tried),
        f"{first.side} test auc": round(float(np.mean([one["test"] for one in found])), 4),
        f"{first.side} auc by seed": [round(one["test"], 4) for one in found],
        f"{first.side} valid auc": round(found[0]["valid"], 4),
        f"{first.side} setting": {"lr": best.lr, "penalty": best.penalty},
        f"{first.side} best on an edge": edges(best, tried),
        f"{first.side} best epoch": [one["epoch"] for one in found],
    }


def compare(name: str, cut: Cut, worker: Worker, *, quick: bool, seeds: int) -> dict[str, Any]:
    """Return the row of a system on a set."""
    row: dict[str, Any] = {"what": f"{name} on {cut.name}", "fuxictr's class": SYSTEMS[name].peer}
    sides: tuple[Side, ...] = ("palate", "fuxictr")
    for side in sides:
        first = Fit(side, name, cut.name, 0.0, 0.0, 0, 2 if quick else EPOCHS)
        row |= tuned(first, cut, worker, QUICK if quick else GRID, seeds)
    gap = float(np.mean(row["palate auc by seed"]) - np.mean(row["fuxictr auc by seed"]))
    return {**row, "auc above fuxictr": round(gap, 4), "within 0.001 or above": gap >= -0.001}


def chosen(at: str, names: Sequence[str]) -> list[str]:
    """Return the systems that a set can be read by; on MovieLens those that need it, and the plain ones."""
    return [name for name in names if SYSTEMS[name].needs == "rows" or at == "ml-1m"]


def save(rows: Mapping[str, Mapping[str, Any]], seeds: int) -> None:
    """Write the table, in the order of sets and systems."""
    order = [f"{name} on {at}" for at in SETS for name in SYSTEMS]
    record(
        NAME,
        [rows[what] for what in order if what in rows],
        what=__doc__.split("\n\nEvery fit")[0],
        peers={"fuxictr": f"2.3.10, models of {FUXICTR_COMMIT}", "torch": "2.13.0"},
        seeds=list(range(seeds)),
        notes={
            "goal": "test AUC at most 0.001 below FuxiCTR's",
            "searched": {
                "penalty": GRID.penalties,
                "lr": GRID.steps,
                "then penalty times": [round(f, 3) for f in GRID.factors],
            },
            "without": "FuxiCTR's halving of the step when validation falls, so that the rule is one for all",
        },
    )


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS), help=f"{', '.join(SETS)} (default: all)")
    parser.add_argument("--models", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--fresh", action="store_true", help="forget the fits that were kept")
    parser.add_argument("--quick", action="store_true", help="few rows, four trials of two epochs, one seed; nothing is kept")
    given = parser.parse_args()
    set_threads(int(os.environ.get("PALATE_THREADS", 2)))
    if given.fresh:
        KEPT.clear()
    path, seeds = RESULTS / f"{NAME}.json", 1 if given.quick else given.seeds
    known = {row["what"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]} if path.exists() else {}
    for at in given.sets:
        table = SETS[at]()
        with tempfile.TemporaryDirectory() as folder:
            cut = Cut.of(at, table.slice(0, 20_000) if given.quick else table, Path(folder))
            env = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(threads())}
            worker = Worker("fuxictr", "fuxictr_worker.py", env)
            for name in chosen(at, given.models):
                row = compare(name, cut, worker, quick=given.quick, seeds=seeds)
                known[row["what"]] = row
                print(json.dumps(row, indent=1), flush=True)
                if not given.quick:
                    save(known, seeds)
            worker.close()


if __name__ == "__main__":
    main()
