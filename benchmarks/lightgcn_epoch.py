"""LightGCN's own speed: seconds an epoch on ml-100k and gowalla, and validation NDCG@10 over time on ml-100k.

``python benchmarks/lightgcn_epoch.py [--gowalla EPOCHS]``. The peer's side is in ``lightgcn_vs_recbole.py``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from _record import data_folder, record

import palate
from palate.data import public
from palate.data.readers import read
from palate.progress import ProgressEvent
from palate.study.evaluate import evaluate

SAME = {"dim": 64, "layers": 3, "batch_size": 2048}
CURVES: dict[str, dict[str, Any]] = {
    "bpr, batch 2048": {"epochs": 60},
    "bpr, batch 8192": {"batch_size": 8192, "lr": 0.02, "epochs": 60},
    "softmax, batch 8192": {"loss": "softmax", "batch_size": 8192, "lr": 0.02, "temperature": 0.2, "epochs": 40},
    "softmax, one batch": {
        "loss": "softmax",
        "batch_size": 10**9,
        "lr": 0.05,
        "temperature": 0.2,
        "epochs": 100,
        "eval_every": 5,
    },
}
MARKS = (0.15, 0.2, 0.22, 0.24, 0.25, 0.26)


class Curve:
    """Seconds since the start, and the value, of every validation look."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.points: list[tuple[float, float]] = []

    def __call__(self, event: ProgressEvent) -> None:
        """Note a look."""
        if "valid_ndcg@10" in event.metrics:
            self.points.append((time.perf_counter() - self.started, event.metrics["valid_ndcg@10"]))

    def seconds_to(self, goal: float) -> float | None:
        """Return when a value was first reached."""
        return next((round(seconds, 2) for seconds, value in self.points if value >= goal), None)


class Epochs:
    """Seconds of each epoch: the steps between two reports."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.last = time.perf_counter()

    def __call__(self, event: ProgressEvent) -> None:
        """Note an epoch's end."""
        if event.stage.endswith(": epoch"):
            now = time.perf_counter()
            self.seconds.append(now - self.last)
            self.last = now


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gowalla", type=int, default=1, metavar="EPOCHS", help="epochs on gowalla (0: leave it out)")
    asked = parser.parse_args()
    split = palate.split(public.load("ml-100k"), "user_ratio", order="random", seed=0)
    held_out = split.held_out("valid")
    palate.create("lightgcn", epochs=1, loss="softmax").fit(split.train, held_out)
    epochs = Epochs()
    palate.create("lightgcn", **SAME, epochs=6).fit(split.train, progress=epochs)
    rows: list[dict[str, Any]] = [
        {"what": "ml-100k, an epoch (64 dims, 3 layers, batch 2048)", "s": round(min(epochs.seconds[1:]), 3)}
    ]
    for name, settings in CURVES.items():
        curve = Curve()
        palate.create("lightgcn", **settings, patience=0).fit(split.train, held_out, progress=curve)
        reached = {f"s to {mark:g}": curve.seconds_to(mark) for mark in MARKS}
        best = max(value for _, value in curve.points)
        rows.append({"what": f"ml-100k, {name}", "best ndcg@10": round(best, 4), "s": round(curve.points[-1][0], 2), **reached})
        print(rows[-1], flush=True)
    if asked.gowalla:
        rows.append(gowalla(asked.gowalla))
    for row in rows:
        print(row)
    record("lightgcn_epoch", rows, what=__doc__, seeds=[0])


def gowalla(epochs: int) -> dict[str, Any]:
    """Train on the published parts; the test part is judged once, after the last epoch."""
    folder = data_folder("gowalla")
    parts = palate.split(
        read(folder / "train.txt.gz", format="lightgcn"), "given", test=read(folder / "test.txt.gz", format="lightgcn")
    )
    seconds = Epochs()
    model = palate.create("lightgcn", **SAME, epochs=epochs).fit(parts.train, progress=seconds)
    value = evaluate(model, parts.held_out("test"), ["recall@20"]).value("recall@20")
    return {
        "what": "gowalla, an epoch (64 dims, 3 layers, batch 2048)",
        "s": round(min(seconds.seconds), 1),
        "recall@20": round(value, 4),
    }


if __name__ == "__main__":
    main()
