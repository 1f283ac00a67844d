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
import copy
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _curve import seconds_to
from _peers import HOME, Worker
from _record import RESULTS, record

import palate
from palate.catalog.registry import systems
from palate.contracts.fitted import FitRecord
from palate.data import public
from palate.data.interactions import Interactions
from palate.data.split import HeldOut, Split
from palate.study.evaluate import evaluate

NAME = "graph_vs_selfrec"
SOURCE, COMMIT = "https://github.com/Coder-Yu/SELFRec", "5b02294"
BATCHES, EPOCHS, METRIC = 20, 40, "recall@20"
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
    "xsimgcl": {"batch_size": 8192, "lr": 0.05, "contrast_size": 256, "epochs": 30},
}


class Few:
    """The first batches of an epoch, with the time of each."""

    def __init__(self, whole: Any, made: float, seconds: list[float]) -> None:
        self.whole, self.made, self.seconds = whole, made / len(whole), seconds

    def __len__(self) -> int:
        return BATCHES + 1

    def __iter__(self) -> Iterator[Any]:
        for at, batch in enumerate(self.whole):
            if at > BATCHES:
                return
            started = time.perf_counter()
            yield batch
            if at:  # the first one warms up
                self.seconds.append(time.perf_counter() - started + self.made)


def batch_seconds(name: str, split: Split) -> tuple[list[float], int]:
    """Return the seconds of some batches of a fit, and how many an epoch has."""
    seconds: list[float] = []
    of: list[int] = []

    class Timed(systems()[name].load()):  # type: ignore[misc]
        def _descend(self, setting: Any, table: Any, loss: Any, batches: Any) -> Mapping[str, Any]:
            def few(epoch: int, rng: np.random.Generator) -> Few:
                started = time.perf_counter()
                whole = batches(epoch, rng)
                of.append(len(whole))
                return Few(whole, time.perf_counter() - started, seconds)

            found: Mapping[str, Any] = super()._descend(setting, table, loss, few)
            return found

    Timed(**{**SHARED, **SAME[name], "epochs": 1}).fit(split.train, seed=0)
    return seconds, of[0]


def course(name: str, split: Split, held_out: HeldOut) -> list[tuple[float, float]]:
    """Fit with Palate's own batch size; return seconds and the metric after each epoch."""
    points: list[tuple[float, float]] = []
    started = time.perf_counter()

    class Watched(systems()[name].load()):  # type: ignore[misc]
        def _finish(self, table: Any, graph: Any, n_users: int) -> None:
            super()._finish(table, graph, n_users)
            answering = copy.copy(self)
            answering.record_ = FitRecord(seed=0, seconds=0.0)
            value = evaluate(answering, held_out, [METRIC]).overall[METRIC]
            points.append((time.perf_counter() - started, float(value)))

    light = {"cl_weight": LIGHT} if name != "lightgcn" else {}
    Watched(**{**SHARED, **SAME[name], **light, **FREE[name]}).fit(split.train, held_out, seed=0)
    return points


def source() -> Path:
    """Return the folder of SELFRec, fetched when it is not there."""
    folder = HOME / "selfrec-source"
    if not folder.exists():
        subprocess.run(["git", "clone", "-q", "--filter=blob:none", "--no-checkout", SOURCE, str(folder)], check=True)
        subprocess.run(
            ["git", "-C", str(folder), "checkout", "-q", COMMIT, "--", "base", "conf", "data", "model", "util"], check=True
        )
    return folder


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
        source=str(source()),
        model=model,
        own=own,
        **{"max.epoch": epochs, "batch.size": 2048, "output": f"{folder}/"},
        **files,
    )
    return worker


def epoch_row(name: str, split: Split) -> dict[str, Any]:
    """Compare an epoch on Gowalla."""
    before, of = batch_seconds(name, split)
    with tempfile.TemporaryDirectory() as folder:
        peer = selfrec(name, split, "test", Path(folder))
        theirs = peer("batches", n=BATCHES)
        peer.close()
    after, _ = batch_seconds(name, split)
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
    courses = [course(name, split, held_out)]
    with tempfile.TemporaryDirectory() as folder:
        peer = selfrec(name, split, "valid", Path(folder), EPOCHS)
        points = [(seconds, value) for seconds, value, _ in peer("course", epochs=EPOCHS)]
        peer.close()
    courses.append(course(name, split, held_out))
    level = max(value for _, value in points)
    theirs, times = seconds_to(points, level), [seconds_to(c, level) for c in courses]
    assert theirs is not None
    own = None if None in times else max(t for t in times if t is not None)
    return {
        "what": f"{name}: to validation Recall@20 {level:.4f} on ml-100k, SELFRec's best of {EPOCHS} epochs",
        "palate s": None if own is None else round(own, 2),
        "selfrec s": round(theirs, 2),
        "times faster": None if own is None else round(theirs / own, 1),
        "palate recall@20": round(max(v for _, v in courses[0]), 4),
        "selfrec recall@20": round(level, 4),
        "palate settings": FREE[name],
    }


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SAME), help="systems (default: all)")
    parser.add_argument("--part", choices=["epoch", "course"], help="one half of it")
    given = parser.parse_args()
    path = RESULTS / f"{NAME}.json"
    rows = {_key(row): row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]} if path.exists() else {}
    large = public.load_split("gowalla")
    small = palate.split(public.load("ml-100k"), "user_ratio", order="random", seed=0)
    for name in given.names:
        found = [epoch_row(name, large)] if given.part != "course" else []
        found += [course_row(name, small)] if given.part != "epoch" else []
        for row in found:
            print(row, flush=True)
            rows[_key(row)] = row
    notes = {"goal": "an epoch at least 3 times faster; time to the same value at least 10 times shorter"}
    ordered = [rows[key] for name in SAME for key in ((name, "epoch"), (name, "course")) if key in rows]
    record(
        NAME, ordered, what=__doc__.split("\n\n    ")[0], peers={"SELFRec": COMMIT, "torch": "2.13.0"}, seeds=[0], notes=notes
    )


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["what"].split(":")[0], "epoch" if "an epoch on" in row["what"] else "course"


if __name__ == "__main__":
    main()
