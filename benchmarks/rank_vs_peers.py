"""DeepFM, DCN-v2, AutoInt and AutoInt+ beside FuxiCTR 2.3.10 and DeepCTR-Torch 0.3.0: same rows, codes, sizes, stopping.

Two sets, each cut 8:1:1: 200,000 made-up rows of 15 fields with planted pairs, and Frappe. Vectors of 16 numbers, dense layers
256-128, dropout 0.1, Adam 1e-3, batches of 4,096 rows, at most 20 epochs, patience 2 on validation AUC; DCN-v2 parallel with 3
full cross layers; AutoInt has 3 layers of 2 heads and 16 units, AutoInt+ the dense layers beside them, as both peers can have
it. No side has a penalty on weights: peers weigh whole tables at every step, Palate by default what a batch looks up, which is
less work, so times with a penalty would not compare. FuxiCTR and DeepCTR-Torch read the codes that Palate's encoder gave.
Settings are fixed: how good the systems are when tuned alike is told by ``rank_auc.py``.

Rows a second count epochs alone, without reading, encoding, start-up and evaluation. Palate's include putting batches
together; a peer's are given twice: with its batches ready (held against Palate's), and with its own loader's time. Palate
predicts from an Arrow table of strings, encoding included; peers from batches that are ready. A round is Palate, FuxiCTR,
DeepCTR-Torch, one after the other, and one seed; the median over epochs of all rounds counts, without the first of each.

    python benchmarks/rank_vs_peers.py                    all
    python benchmarks/rank_vs_peers.py synth --quick      does it run? (few rows, two epochs; nothing is recorded)
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _peers import Worker
from _rank_rows import FUXICTR_COMMIT, SETS, Cut, fuxictr_source
from _record import RESULTS, record

from palate.evaluation.metrics.predictive import auc
from palate.rank.autoint import AutoInt, AutoIntPlus
from palate.rank.dcnv2 import DCNv2
from palate.rank.deepfm import DeepFM
from palate.rank.neural import NeuralRanker
from palate.runtime import set_threads, threads

NAME = "rank_vs_peers"
NAMES = ("synth", "frappe")
EPOCHS, PATIENCE, SEEDS = 20, 2, 3
DIM, HIDDEN, DROPOUT, LR, BATCH, REG = 16, (256, 128), 0.1, 1e-3, 4096, 0.0

_ATTENTION = {"layers": 3, "heads": 2, "units": 16, "form": "fuxictr", "attention_dropout": DROPOUT}
OWN: dict[str, tuple[type[NeuralRanker], dict[str, Any]]] = {
    "deepfm": (DeepFM, {}),
    "dcnv2": (DCNv2, {"structure": "parallel", "cross_layers": 3}),
    "autoint": (AutoInt, {**_ATTENTION, "hidden": ()}),
    "autoint_plus": (AutoIntPlus, _ATTENTION),
}
_DEEP = {"hidden_units": list(HIDDEN), "hidden_activations": "relu"}
_FUXICTR_ATTENTION = {"attention_layers": 3, "num_heads": 2, "attention_dim": 16}
_FUXICTR_ATTENTION |= {"use_residual": True, "use_scale": True, "layer_norm": True}
FUXICTR: dict[str, tuple[str, dict[str, Any]]] = {
    "deepfm": ("DeepFM", _DEEP),
    "dcnv2": ("DCNv2", {"model_structure": "parallel", "num_cross_layers": 3, "parallel_dnn_hidden_units": list(HIDDEN)}),
    "autoint": ("AutoInt", {**_FUXICTR_ATTENTION, "dnn_hidden_units": []}),
    "autoint_plus": ("AutoInt", {**_FUXICTR_ATTENTION, "dnn_hidden_units": list(HIDDEN)}),
}
DEEPCTR: dict[str, tuple[str, dict[str, Any]]] = {
    "deepfm": ("DeepFM", {"l2_reg_linear": REG}),
    "dcnv2": ("DCN", {"cross_num": 3, "cross_parameterization": "matrix", "l2_reg_linear": REG, "l2_reg_cross": REG}),
    "autoint": ("AutoInt", {"att_layer_num": 3, "att_head_num": 2, "dnn_hidden_units": []}),
    "autoint_plus": ("AutoInt", {"att_layer_num": 3, "att_head_num": 2}),
}


# -- the two sides ----------------------------------------------------------------------------------


@dataclass
class Side:
    """What was measured of one side, over all rounds."""

    train: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    predict: list[float] = field(default_factory=list)
    auc: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)

    def row(self, name: str) -> dict[str, Any]:
        """Return medians and means; the first epoch of a round warms up."""
        return {
            f"{name} train rows/s": round(float(np.median(self.train))),
            f"{name} predict rows/s": round(float(np.median(self.predict))),
            f"{name} test auc": round(float(np.mean(self.auc)), 4),
            f"{name} auc by seed": [round(value, 4) for value in self.auc],
            f"{name} best epoch": self.epochs,
        }


def own(name: str, cut: Cut, seed: int, epochs: int, side: Side) -> None:
    """Fit Palate's, and predict the test part three times."""
    shared = {"dim": DIM, "hidden": HIDDEN, "dropout": DROPOUT, "lr": LR, "batch_size": BATCH, "embedding_reg": REG}
    system, own_settings = OWN[name]
    settings = {**shared, **own_settings, "fields": cut.fields, "epochs": epochs, "patience": PATIENCE}
    seconds: list[float] = []
    model = system(**settings)
    model.fit(
        cut.parts["train"],
        cut.parts["valid"],
        seed=seed,
        callbacks=[lambda event: seconds.append(float(event.history[-1]["seconds"]))],
    )
    rows, test = len(cut.parts["train"]), cut.parts["test"]
    side.train += [rows / s for s in seconds[1:]]
    for _ in range(3):
        started = time.perf_counter()
        found = model.predict(test).values[:, 0]
        side.predict.append(len(test) / (time.perf_counter() - started))
    side.auc.append(auc(test.labels["label"], found))
    side.epochs.append(int(model.record_.notes["best_epoch"]))


def peer(worker: Worker, load: Mapping[str, Any], cut: Cut, seed: int, epochs: int, side: Side) -> None:
    """Fit a peer's, epoch by epoch under the same rule, and predict the test part three times."""
    worker("load", seed=seed, threads=threads(), batch_size=BATCH, **load)
    path, rows = cut.folder / "predicted.npy", len(cut.parts["train"])
    best, at = -1.0, 0
    for epoch in range(1, epochs + 1):
        took = worker("epoch")
        if epoch > 1:
            side.train.append(rows / took["seconds"])
            side.whole.append(rows / (took["seconds"] + took["batches"]))
        worker("predict", part="valid", path=str(path))
        value = auc(cut.parts["valid"].labels["label"], np.load(path))
        if value > best:
            best, at = value, epoch
            worker("keep")
        if epoch - at >= PATIENCE:
            break
    worker("back")
    test = cut.parts["test"]
    side.predict += [len(test) / worker("predict", part="test", path=str(path))["seconds"] for _ in range(3)]
    side.auc.append(auc(test.labels["label"], np.load(path)))
    side.epochs.append(at)


def fuxictr_load(name: str) -> dict[str, Any]:
    """Return what FuxiCTR's worker is told of a model."""
    model, settings = FUXICTR[name]
    shared = {"embedding_dim": DIM, "net_dropout": DROPOUT, "learning_rate": LR, "embedding_regularizer": REG}
    return {"source": str(fuxictr_source()), "model": model, "settings": {**shared, **settings}}


def deepctr_load(name: str) -> dict[str, Any]:
    """Return what DeepCTR-Torch's worker is told of a model."""
    model, settings = DEEPCTR[name]
    shared = {"dnn_hidden_units": HIDDEN, "dnn_dropout": DROPOUT, "l2_reg_embedding": REG}
    return {"model": model, "settings": {**shared, **settings}, "dim": DIM, "lr": LR}


# -- the table --------------------------------------------------------------------------------------


def compare(name: str, cut: Cut, workers: Mapping[str, Worker], seeds: int, epochs: int) -> dict[str, Any]:
    """Return the row of a model on a set."""
    loads = {"fuxictr": fuxictr_load(name), "deepctr": deepctr_load(name)}
    sides = {side: Side() for side in ("palate", *workers)}
    own(name, cut, 0, 1, Side())  # compiles
    for seed in range(seeds):
        own(name, cut, seed, epochs, sides["palate"])
        for title, worker in workers.items():
            peer(worker, loads[title], cut, seed, epochs, sides[title])
    row: dict[str, Any] = {"what": f"{name} on {cut.name}"}
    for title, side in sides.items():
        row |= side.row(title)
        if side.whole:
            row[f"{title} train rows/s, its loader's time counted"] = round(float(np.median(side.whole)))
    mine = sides["palate"]
    for title in workers:
        row[f"train times faster than {title}"] = round(float(np.median(mine.train) / np.median(sides[title].train)), 1)
        row[f"predict times faster than {title}"] = round(float(np.median(mine.predict) / np.median(sides[title].predict)), 1)
        row[f"auc above {title}"] = round(float(np.mean(mine.auc) - np.mean(sides[title].auc)), 4)
    return row


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(NAMES), help="synth, frappe (default: both)")
    parser.add_argument("--models", nargs="+", default=list(OWN), choices=list(OWN))
    parser.add_argument("--peers", nargs="*", default=["fuxictr", "deepctr"], choices=["fuxictr", "deepctr"])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--quick", action="store_true", help="few rows, two epochs, one seed; nothing is recorded")
    given = parser.parse_args()
    set_threads(int(os.environ.get("PALATE_THREADS", 2)))
    path = RESULTS / f"{NAME}.json"
    known = {row["what"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]} if path.exists() else {}
    seeds, epochs = (1, 2) if given.quick else (given.seeds, EPOCHS)
    for at in given.sets:
        table = SETS[at]()
        with tempfile.TemporaryDirectory() as folder:
            cut = Cut.of(at, table.slice(0, 20_000) if given.quick else table, Path(folder))
            env = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(threads())}
            workers = {peer: Worker(peer, f"{peer}_worker.py", env) for peer in given.peers}
            for worker in workers.values():
                worker("data", folder=folder)
            for name in given.models:
                row = compare(name, cut, workers, seeds, epochs)
                known[row["what"]] = row
                print(json.dumps(row, indent=1), flush=True)
            for worker in workers.values():
                worker.close()
    if given.quick:
        return
    goal = "3 times the training rows/s of each peer; AUC within 0.001 of FuxiCTR's or above"
    record(
        NAME,
        [known[what] for what in (f"{name} on {at}" for at in NAMES for name in OWN) if what in known],
        what=__doc__.split("\n\n    ")[0],
        peers={"fuxictr": f"2.3.10, models of {FUXICTR_COMMIT}", "deepctr-torch": "0.3.0", "torch": "2.13.0"},
        seeds=list(range(seeds)),
        notes={"goal": goal, "without": "FuxiCTR's halving of the step when validation falls, so that the rule is one for all"},
    )


if __name__ == "__main__":
    main()
