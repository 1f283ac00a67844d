"""AUC of each base ranker beside FuxiCTR 2.3.10's: the same rows, codes, sizes and number of trials, both sides tuned alike.

Sets are cut 8:1:1: 200,000 made-up rows of 15 fields with planted pairs, Frappe, and the ratings of MovieLens 1M that are here
(liked or not; person, film, gender, age, occupation, hour; DIN reads the 20 films liked before; MMoE and PLE learn the five
stars beside). Vectors of 16 numbers, batches of 4,096 rows, Adam, at most 60 epochs, patience 2 on validation AUC; dense layers
256-128 with dropout 0.1 (DIN 200-80; experts 128-64, towers 32). AutoInt has 3 layers of 2 heads and 16 units; AutoInt+ is the
same with dense layers beside it, as FuxiCTR's default is. FuxiCTR reads the codes that Palate's encoder gave.

Both sides have the same grid, three step sizes times two penalties on vectors (over the whole table at every step, as is
FuxiCTR's way and an option of Palate's), with one fit each by the first seed. The best on validation is fitted with all
seeds, and the test part is looked at then. What is told is the mean over seeds; the goal is to be no more than 0.001 below.

Every fit is kept under ``benchmarks/.peers/rank_auc`` and not made again, so a run that was interrupted goes on where it was;
``--fresh`` makes all of them anew.

    python benchmarks/rank_auc.py                              all
    python benchmarks/rank_auc.py frappe --models lr fm        a part of it; the others keep their last figures
    python benchmarks/rank_auc.py frappe --models lr --quick   does it run? (few rows, two trials; nothing is recorded)
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from _peers import HOME, Worker
from _rank_rows import FUXICTR_COMMIT, SETS, Cut, fuxictr_source
from _record import RESULTS, record

from palate.contracts.ranker import Rows
from palate.evaluation.metrics.predictive import auc
from palate.rank.autoint import AutoInt, AutoIntPlus
from palate.rank.dcnv2 import DCNv2
from palate.rank.deepfm import DeepFM
from palate.rank.din import DIN
from palate.rank.finalmlp import FinalMLP
from palate.rank.finalnet import FinalNet
from palate.rank.fm import FM
from palate.rank.linear import LR
from palate.rank.mlp import MLPRanker
from palate.rank.mmoe import MMoE
from palate.rank.neural import NeuralRanker
from palate.rank.ple import PLE
from palate.runtime import set_threads, threads

NAME = "rank_auc"
KEPT = HOME / NAME
EPOCHS, PATIENCE, SEEDS, BATCH, DIM, DROPOUT = 60, 2, 3, 4096, 16, 0.1
HIDDEN = (256, 128)
STEPS = (1e-3, 3e-3, 1e-2)
Side = Literal["palate", "fuxictr"]
#: Penalties on vectors.
PENALTIES = (1e-6, 1e-5)


@dataclass(frozen=True)
class System:
    """One ranker on both sides.

    Attributes
    ----------
    own, settings
        Palate's class, and its settings beside those that all share.
    peer, peer_settings
        The name of FuxiCTR's class, and likewise.
    peer_penalty
        What FuxiCTR's class calls the penalty on vectors (of LR and FM it weighs all weights).
    needs
        ``rows`` alone, or the ``history`` or second ``tasks`` that only MovieLens has here.
    """

    own: type[NeuralRanker]
    settings: Mapping[str, Any]
    peer: str
    peer_settings: Mapping[str, Any]
    peer_penalty: str = "embedding_regularizer"
    needs: Literal["rows", "history", "tasks"] = "rows"


_DEEP = {"hidden": HIDDEN, "dropout": DROPOUT}
_ATTENTION = {"layers": 3, "heads": 2, "units": 16, "form": "fuxictr", "attention_dropout": DROPOUT, "dropout": DROPOUT}
_PEER_ATTENTION = {"attention_layers": 3, "num_heads": 2, "attention_dim": 16, "net_dropout": DROPOUT}
_PEER_ATTENTION |= {"use_residual": True, "use_scale": True, "layer_norm": True}
_EXPERTS = {"hidden": (128, 64), "tower": (32,), "dropout": DROPOUT}
_PEER_EXPERTS = {"expert_hidden_units": [128, 64], "gate_hidden_units": [], "tower_hidden_units": [32], "net_dropout": DROPOUT}
_PEER_EXPERTS |= {"num_tasks": 2, "task": ["binary_classification"] * 2}
_PEER_DEEP = {"hidden_units": list(HIDDEN), "net_dropout": DROPOUT}
SYSTEMS: dict[str, System] = {
    "lr": System(LR, {}, "LR", {}, "regularizer"),
    "fm": System(FM, {}, "FM", {}, "regularizer"),
    "mlp": System(MLPRanker, _DEEP, "DNN", _PEER_DEEP),
    "deepfm": System(DeepFM, _DEEP, "DeepFM", _PEER_DEEP),
    "dcnv2": System(
        DCNv2,
        {**_DEEP, "structure": "parallel", "cross_layers": 3},
        "DCNv2",
        {
            "model_structure": "parallel",
            "num_cross_layers": 3,
            "parallel_dnn_hidden_units": list(HIDDEN),
            "net_dropout": DROPOUT,
        },
    ),
    "autoint": System(AutoInt, _ATTENTION, "AutoInt", {**_PEER_ATTENTION, "dnn_hidden_units": []}),
    "autoint_plus": System(
        AutoIntPlus, {**_ATTENTION, "hidden": HIDDEN}, "AutoInt", {**_PEER_ATTENTION, "dnn_hidden_units": list(HIDDEN)}
    ),
    "finalmlp": System(
        FinalMLP,
        {**_DEEP, "hidden_2": HIDDEN, "heads": 4, "gate_hidden": (128,)},
        "FinalMLP",
        {
            "mlp1_hidden_units": list(HIDDEN),
            "mlp2_hidden_units": list(HIDDEN),
            "mlp1_dropout": DROPOUT,
            "mlp2_dropout": DROPOUT,
            "fs_hidden_units": [128],
            "num_heads": 4,
        },
    ),
    "finalnet": System(
        FinalNet,
        {"hidden": (128, 128), "hidden_2": (128,), "dropout": DROPOUT},
        "FinalNet",
        {
            "block1_hidden_units": [128, 128],
            "block2_hidden_units": [128],
            "block1_dropout": DROPOUT,
            "block2_dropout": DROPOUT,
            "use_feature_gating": True,
        },
    ),
    "din": System(
        DIN,
        {"hidden": (200, 80), "attention_hidden": (36,), "dropout": DROPOUT, "history": ("history",), "target": ("item",)},
        "DIN",
        {
            "dnn_hidden_units": [200, 80],
            "dnn_activations": "Dice",
            "attention_hidden_units": [36],
            "net_dropout": DROPOUT,
            "din_target_field": ["item"],
            "din_sequence_field": ["history"],
        },
        needs="history",
    ),
    "mmoe": System(MMoE, {**_EXPERTS, "experts": 4}, "MMoE", {**_PEER_EXPERTS, "num_experts": 4}, needs="tasks"),
    "ple": System(
        PLE,
        {**_EXPERTS, "specific": 2, "shared": 2},
        "PLE",
        {**_PEER_EXPERTS, "num_specific_experts": 2, "num_shared_experts": 2},
        needs="tasks",
    ),
}


@dataclass(frozen=True)
class Fit:
    """One fit: what is fitted, on what, with which settings."""

    side: Side
    name: str
    at: str
    rows: int
    lr: float
    penalty: float
    seed: int
    epochs: int

    @property
    def place(self) -> Path:
        """Where it is kept: the name says what it is, and a hash all that it depends on."""
        system = SYSTEMS[self.name]
        told = [repr(self), repr(system.settings), repr(system.peer_settings), BATCH, DIM, PATIENCE, FUXICTR_COMMIT]
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
        return KEPT / f"{self.at}-{self.name}-{self.side}-{self.lr:g}-{self.penalty:g}-{self.seed}-{key}.json"


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
    shared: dict[str, Any] = {
        "lr": fit.lr,
        "embedding_reg": fit.penalty,
        "embedding_reg_on": "table",
        "batch_size": BATCH,
        "epochs": fit.epochs,
        "patience": PATIENCE,
    }
    if fit.name != "lr":
        shared["dim"] = DIM
    fields = tuple(f for f in cut.fields if f.name in parts["train"].features.column_names)
    model = system.own(fields=fields, **{**shared, **system.settings})
    model.fit(parts["train"], parts["valid"], seed=fit.seed)
    valid, test = (mean_auc(parts[part], model.predict(parts[part]).values) for part in ("valid", "test"))
    return {"valid": valid, "test": test, "epoch": int(model.record_.notes["best_epoch"])}


def fuxictr(fit: Fit, cut: Cut, worker: Worker) -> dict[str, float]:
    """Fit FuxiCTR's under the same rule of stopping; return the AUC of validation and test."""
    system = SYSTEMS[fit.name]
    settings = {"embedding_dim": DIM, "learning_rate": fit.lr, system.peer_penalty: fit.penalty, **system.peer_settings}
    worker("data", folder=str(cut.folder), sequences=system.needs == "history")
    how = {"threads": threads(), "batch_size": BATCH, "tasks": 2 if system.needs == "tasks" else 1, "direct": True}
    worker("load", source=str(fuxictr_source()), model=system.peer, settings=settings, seed=fit.seed, **how)
    path, best, at = cut.folder / "predicted.npy", -1.0, 0
    parts = {part: given_to(system, rows) for part, rows in cut.parts.items()}
    for epoch in range(1, fit.epochs + 1):
        worker("epoch")
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
    keep = fit.epochs == EPOCHS
    if keep and fit.place.exists():
        kept: dict[str, float] = json.loads(fit.place.read_text(encoding="utf-8"))
        return kept
    found = palate(fit, cut) if fit.side == "palate" else fuxictr(fit, cut, worker)
    if keep:
        KEPT.mkdir(parents=True, exist_ok=True)
        draft = fit.place.with_suffix(".tmp")
        draft.write_text(json.dumps(found), encoding="utf-8")
        draft.replace(fit.place)
    print(f"{fit.at} {fit.name} {fit.side} lr {fit.lr:g} penalty {fit.penalty:g} seed {fit.seed}: {found}", flush=True)
    return found


# -- the table --------------------------------------------------------------------------------------


def tuned(first: Fit, cut: Cut, worker: Worker, grid: Sequence[tuple[float, float]], seeds: int) -> dict[str, Any]:
    """Return the columns of one side: its best setting on validation, and the test AUC with each seed."""
    trials = [replace(first, lr=lr, penalty=penalty) for lr, penalty in grid]
    best = max(trials, key=lambda trial: made(trial, cut, worker)["valid"])
    found = [made(replace(best, seed=seed), cut, worker) for seed in range(seeds)]
    return {
        f"{first.side} test auc": round(float(np.mean([one["test"] for one in found])), 4),
        f"{first.side} auc by seed": [round(one["test"], 4) for one in found],
        f"{first.side} valid auc": round(found[0]["valid"], 4),
        f"{first.side} setting": {"lr": best.lr, "penalty": best.penalty},
        f"{first.side} best epoch": [one["epoch"] for one in found],
    }


def compare(name: str, cut: Cut, worker: Worker, *, quick: bool, seeds: int) -> dict[str, Any]:
    """Return the row of a system on a set."""
    row: dict[str, Any] = {"what": f"{name} on {cut.name}", "fuxictr's class": SYSTEMS[name].peer}
    sides: tuple[Side, ...] = ("palate", "fuxictr")
    for side in sides:
        grid = list(itertools.product(STEPS, PENALTIES))[: 2 if quick else None]
        first = Fit(side, name, cut.name, len(cut.parts["train"]), 0.0, 0.0, 0, 2 if quick else EPOCHS)
        row |= {f"{side} trials": len(grid)} | tuned(first, cut, worker, grid, seeds)
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
            "grid": {"lr": list(STEPS), "penalty": list(PENALTIES)},
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
    parser.add_argument("--quick", action="store_true", help="few rows, two trials of two epochs, one seed; nothing is kept")
    given = parser.parse_args()
    set_threads(int(os.environ.get("PALATE_THREADS", 2)))
    if given.fresh:
        shutil.rmtree(KEPT, ignore_errors=True)
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
