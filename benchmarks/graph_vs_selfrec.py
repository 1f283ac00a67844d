"""LightGCN, SGL, SimGCL and XSimGCL beside SELFRec (commit 5b02294): the same pairs, dims, layers, weights and batch.

An epoch on Gowalla is the median batch times the batches of an epoch; drawing negatives counts on both sides, drawing SGL's
two graphs once an epoch on neither. Palate is timed before and after SELFRec, and the slower of both counts. The time to
SELFRec's best validation Recall@20 is measured on MovieLens 100K, where its epochs are short, with a lighter contrast (λ =
0.01; with the published weights, made for sparser data, both sides fall from the first epoch on). Evaluations count on both
sides; Palate's batches and step size are free there.

    python benchmarks/graph_vs_selfrec.py            all
    python benchmarks/graph_vs_selfrec.py xsimgcl    one system (rows of the others stay as they are)
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _graph_sides import BATCHES, batch_seconds, compared, course, known, ordered, source
from _peers import Worker
from _record import RESULTS, record

import palate
from palate.data import public
from palate.data.interactions import Interactions
from palate.data.split import HeldOut, Split

NAME = "graph_vs_selfrec"
SOURCE, COMMIT = "https://github.com/Coder-Yu/SELFRec", "5b02294"
PARTS = ("base", "conf", "data", "model", "util")
EPOCHS = 40
#: Settings of both sides: SELFRec's own configuration, in Palate's words.
SAME: dict[str, dict[str, Any]] = {
    "lightgcn": {"layers": 3},
    "sgl": {"layers": 2, "cl_weight": 0.1, "temperature": 0.2, "drop": "edges", "drop_rate": 0.1},
    "simgcl": {"layers": 2, "cl_weight": 0.5, "eps": 0.1, "temperature": 0.2},
    "xsimgcl": {"layers": 2, "cl_weight": 0.2, "eps": 0.2, "temperature": 0.15, "contrast_layer": 1},
}
SHARED = {"dim": 64, "lr": 1e-3, "reg": 1e-4, "batch_size": 2048, "patience": 0}
PEER: dict[str, tuple[str, dict[str, Any]]] = {
    "lightgcn": ("LightGCN", {"n_layer": 3}),
    "sgl": ("SGL", {"n_layer": 2, "lambda": 0.1, "drop_rate": 0.1, "aug_type": 1, "temp": 0.2}),
    "simgcl": ("SimGCL", {"n_layer": 2, "lambda": 0.5, "eps": 0.1}),
    "xsimgcl": ("XSimGCL", {"n_layer": 2, "l_star": 1, "lambda": 0.2, "eps": 0.2, "tau": 0.15}),
}
#: λ on MovieLens 100K, on both sides.
LIGHT = 0.01
#: Palate's own batch and step size, for the time to a value.
FREE: dict[str, dict[str, Any]] = {
    "lightgcn": {"batch_size": 8192, "lr": 0.02, "layers": 2, "epochs": 40},
    "sgl": {"batch_size": 8192, "lr": 0.05, "contrast_size": 256, "epochs": 30},
    "simgcl": {"batch_size": 8192, "lr": 0.05, "contrast_size": 256, "epochs": 30},
    "xsimgcl": {"batch_size": 8192, "lr": 0.08, "contrast_size": 256, "epochs": 30},
}


def own_course(name: str, split: Split, held_out: HeldOut) -> list[tuple[float, float]]:
    """Fit with Palate's own batch size; return seconds and the metric after each epoch."""
    light = {"cl_weight": LIGHT} if name != "lightgcn" else {}
    return course(name, {**SHARED, **SAME[name], **light, **FREE[name]}, split, held_out)


def write(path: Path, split: Split, events: Interactions) -> str:
    """Write lines ``user item 1``."""
    users, items = (
        ids.decode(numbers).to_pylist()
        for ids, numbers in ((split.train.users.ids, events.user), (split.train.items.ids, events.item))
    )
    path.write_text("".join(f"{u} {i} 1\n" for u, i in zip(users, items, strict=True)), encoding="utf-8")
    return str(path)


def selfrec(name: str, split: Split, part: str, folder: Path, epochs: int = 1) -> Worker:
    """Start SELFRec with a model on a split."""
    events = split.test_part if part == "test" else split.valid
    assert events is not None
    files = {
        "train": write(folder / "train.txt", split, split.train.interactions),
        "held_out": write(folder / "held.txt", split, events),
    }
    model, own = PEER[name]
    if part == "valid" and "lambda" in own:
        own = {**own, "lambda": LIGHT}
    worker = Worker("selfrec", "selfrec_worker.py", {"OMP_WAIT_POLICY": "passive"})
    worker(
        "load",
        source=str(source("selfrec", SOURCE, COMMIT, PARTS)),
        model=model,
        own=own,
        **{"max.epoch": epochs, "batch.size": 2048, "output": f"{folder}/"},
        **files,
    )
    return worker


def epoch_row(name: str, split: Split) -> dict[str, Any]:
    """Compare an epoch on Gowalla."""
    settings = {**SHARED, **SAME[name]}
    before, of = batch_seconds(name, settings, split)
    with tempfile.TemporaryDirectory() as folder:
        peer = selfrec(name, split, "test", Path(folder))
        theirs = peer("batches", n=BATCHES)
        peer.close()
    after, _ = batch_seconds(name, settings, split)
    own, their = max(np.median(before), np.median(after)), float(np.median(theirs["seconds"]))
    assert theirs["of"] == of
    return {
        "what": f"{name}: an epoch on gowalla ({of} batches of 2,048, 64 dims, {SAME[name]['layers']} layers)",
        "palate s": round(float(own) * of, 1),
        "selfrec s": round(their * of, 1),
        "times faster": round(their / float(own), 1),
        "palate s/batch": round(float(own), 4),
        "selfrec s/batch": round(their, 4),
    }


def course_row(name: str, split: Split) -> dict[str, Any]:
    """Compare the time to SELFRec's best validation value on MovieLens 100K."""
    held_out = split.held_out("valid")
    palate.create(name, **{**SHARED, "epochs": 1}).fit(split.train, held_out)  # warms up
    courses = [own_course(name, split, held_out)]
    with tempfile.TemporaryDirectory() as folder:
        peer = selfrec(name, split, "valid", Path(folder), EPOCHS)
        points = [(seconds, value) for seconds, value, _ in peer("course", epochs=EPOCHS)]
        peer.close()
    courses.append(own_course(name, split, held_out))
    what = f"{name}: to validation Recall@20 {{:.4f}} on ml-100k, SELFRec's best of {EPOCHS} epochs"
    return compared(what, "selfrec", courses, points, FREE[name])


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SAME), help="systems (default: all)")
    parser.add_argument("--part", choices=["epoch", "course"], help="one half of it")
    given = parser.parse_args()
    rows = known(RESULTS / f"{NAME}.json")
    large = public.load_split("gowalla")
    small = palate.split(public.load("ml-100k"), "user_ratio", order="random", seed=0)
    for name in given.names:
        found = [epoch_row(name, large)] if given.part != "course" else []
        found += [course_row(name, small)] if given.part != "epoch" else []
        for row in found:
            print(row, flush=True)
            rows.append(row)
    notes = {"goal": "an epoch at least 3 times faster; time to the same value at least 10 times shorter"}
    last = ordered(rows, list(SAME), ("an epoch on", "to validation"))
    record(NAME, last, what=__doc__.split("\n\n    ")[0], peers={"SELFRec": COMMIT, "torch": "2.13.0"}, seeds=[0], notes=notes)


if __name__ == "__main__":
    main()
