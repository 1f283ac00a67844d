"""LightGCN, SGL, SimGCL and XSimGCL beside SELFRec (commit 5b02294): the same pairs, dims, layers, weights and batch.

An epoch on Gowalla is the median batch times the batches of an epoch; drawing negatives counts on both sides, drawing SGL's
two graphs once an epoch on neither. Palate is timed before and after SELFRec, and the slower of both counts. The time to
SELFRec's best validation Recall@20 is measured on MovieLens 100K, where its epochs are short, with a lighter contrast (λ =
0.01; with the published weights, made for sparser data, both sides fall from the first epoch on). Rows that say so (part far)
measure it on Gowalla, with the published weights on SELFRec's side, to what it reaches in six epochs (SimGCL: three, of which
the first is its best). Evaluations count on both sides; Palate's batches and step size are free there, chosen on that
validation part. Both sides have as many threads, which each row tells (``PALATE_THREADS``).

    python benchmarks/graph_vs_selfrec.py                       all (many hours, nearly all of them SELFRec's on Gowalla)
    python benchmarks/graph_vs_selfrec.py xsimgcl --part far    one system, one part (other rows stay as they are)
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
from palate.runtime import threads

NAME = "graph_vs_selfrec"
SOURCE, COMMIT = "https://github.com/Coder-Yu/SELFRec", "5b02294"
PARTS = ("base", "conf", "data", "model", "util")
EPOCHS = 40
#: The same on Gowalla: half as many where one takes twice as long; SELFRec looks at SGL from the sixth epoch on only.
FAR_EPOCHS = {"lightgcn": 6, "sgl": 6, "simgcl": 3, "xsimgcl": 6}
#: Parts, and how the rows of each begin.
KINDS = {"epoch": "an epoch on", "course": "to validation Recall@20 on ml-100k", "far": "to validation Recall@20 on gowalla"}
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
#: The same on Gowalla: a weak contrast, which a validation part preferred for XSimGCL, and for SimGCL a longer step.
WIDE = {"batch_size": 8192, "lr": 0.02, "epochs": 12}
WEAK = {**WIDE, "cl_weight": 0.02, "contrast_size": 1024}
FAR: dict[str, dict[str, Any]] = {"lightgcn": WIDE, "sgl": WEAK, "simgcl": {**WEAK, "lr": 0.08, "epochs": 4}, "xsimgcl": WEAK}


def own_course(name: str, split: Split, held_out: HeldOut, far: bool) -> list[tuple[float, float]]:
    """Fit with Palate's own batch size; return seconds and the metric after each epoch."""
    light = {"cl_weight": LIGHT} if name != "lightgcn" else {}
    return course(name, {**SHARED, **SAME[name], **(FAR[name] if far else {**light, **FREE[name]})}, split, held_out)


def write(path: Path, split: Split, events: Interactions) -> str:
    """Write lines ``user item 1``."""
    users, items = (
        ids.decode(numbers).to_pylist()
        for ids, numbers in ((split.train.users.ids, events.user), (split.train.items.ids, events.item))
    )
    path.write_text("".join(f"{u} {i} 1\n" for u, i in zip(users, items, strict=True)), encoding="utf-8")
    return str(path)


def selfrec(name: str, split: Split, part: str, folder: Path, epochs: int = 1, light: bool = False) -> Worker:
    """Start SELFRec with a model on a split."""
    events = split.test_part if part == "test" else split.valid
    assert events is not None
    files = {
        "train": write(folder / "train.txt", split, split.train.interactions),
        "held_out": write(folder / "held.txt", split, events),
    }
    model, own = PEER[name]
    if light and "lambda" in own:
        own = {**own, "lambda": LIGHT}
    worker = Worker("selfrec", "selfrec_worker.py", {"OMP_WAIT_POLICY": "passive"})
    worker(
        "load",
        source=str(source("selfrec", SOURCE, COMMIT, PARTS)),
        model=model,
        own=own,
        threads=threads(),
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
        "threads": threads(),
    }


def course_row(name: str, split: Split, *, far: bool = False) -> dict[str, Any]:
    """Compare the time to SELFRec's best validation value on MovieLens 100K, or far away on Gowalla."""
    held_out, epochs = split.held_out("valid"), FAR_EPOCHS[name] if far else EPOCHS
    palate.create(name, **{**SHARED, "epochs": 1}).fit(split.train, held_out)  # warms up
    courses = [own_course(name, split, held_out, far)]
    with tempfile.TemporaryDirectory() as folder:
        peer = selfrec(name, split, "valid", Path(folder), epochs, light=not far)
        points = [(seconds, value) for seconds, value, _ in peer("course", epochs=epochs)]
        peer.close()
    courses.append(own_course(name, split, held_out, far))
    what = f"{name}: {KINDS['far' if far else 'course']} of {{:.4f}}, SELFRec's best of {epochs} epochs"
    row = compared(what, "selfrec", courses, points, (FAR if far else FREE)[name])
    return {**row, "threads": threads()}


def row_of(part: str, name: str) -> dict[str, Any]:
    """Return the row of a part; the split of Gowalla has no validation part, so one is cut from its training part."""
    if part == "epoch":
        return epoch_row(name, public.load_split("gowalla"))
    data = public.load_split("gowalla").train if part == "far" else public.load("ml-100k")
    return course_row(name, palate.split(data, "user_ratio", order="random", seed=0), far=part == "far")


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SAME), help="systems (default: all)")
    parser.add_argument("--part", choices=list(KINDS), help="one part of it")
    given = parser.parse_args()
    rows = known(RESULTS / f"{NAME}.json")
    for name in given.names:
        for part in [given.part] if given.part else KINDS:
            rows.append(row_of(part, name))
            print(rows[-1], flush=True)
            save(rows)


def save(rows: list[dict[str, Any]]) -> None:
    """Write the table, in the order of systems and parts."""
    notes = {"goal": "an epoch at least 3 times faster; time to the same value at least 10 times shorter"}
    last = ordered(rows, list(SAME), list(KINDS.values()))
    record(NAME, last, what=__doc__.split("\n\n    ")[0], peers={"SELFRec": COMMIT, "torch": "2.13.0"}, seeds=[0], notes=notes)


if __name__ == "__main__":
    main()
