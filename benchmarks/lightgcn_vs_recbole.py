"""LightGCN on ml-100k beside RecBole 1.2.1: same split, dims, layers and batch, by epochs; then with batch size free."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from _recbole import recbole, write_parts
from _record import record

import palate
from palate.data import public
from palate.data.split import HeldOut, Split
from palate.progress import ProgressEvent
from palate.study.evaluate import evaluate

EPOCHS, LAYERS, BATCH = 40, 2, 2048
SAME = {"dim": 64, "layers": LAYERS, "lr": 0.001, "batch_size": BATCH, "epochs": EPOCHS, "patience": 0, "eval_every": 1}
FREE = {"dim": 64, "layers": LAYERS, "patience": 0, "eval_every": 1, "epochs": 60}


class Curve:
    """Seconds and validation NDCG@10 after each epoch."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.points: list[tuple[float, float]] = []

    def __call__(self, event: ProgressEvent) -> None:
        """Note an epoch's end."""
        value = event.metrics.get("valid_ndcg@10")
        if value is not None and (not self.points or event.done > len(self.points)):
            self.points.append((time.perf_counter() - self.started, value))

    def seconds_to(self, goal: float) -> float | None:
        """Return the time to reach a value."""
        return next((seconds for seconds, value in self.points if value >= goal), None)


def peer_curve(peer: Any, epochs: int) -> tuple[list[float], list[tuple[float, float]]]:
    """Train the peer; return the seconds of each epoch, and the curve with its evaluations counted."""
    seconds, points, passed = [], [], 0.0
    for _ in range(epochs):
        one = peer("epoch")["seconds"]
        judged = peer("evaluate")
        passed += one + judged["seconds"]
        seconds.append(one)
        points.append((passed, judged["ndcg@10"]))
    return seconds, points


def ours(split: Split, held_out: HeldOut, settings: dict[str, Any], validate: bool) -> tuple[float, Curve, float]:
    """Fit; return seconds an epoch, the curve, and the final NDCG@10."""
    curve = Curve()
    model = palate.create("lightgcn", **settings)
    model.fit(split.train, held_out if validate else None, seed=0, progress=curve)
    seconds = model.record_.seconds / settings["epochs"]
    return seconds, curve, evaluate(model, held_out, ["ndcg@10"]).overall["ndcg@10"]


def main() -> None:
    """Run and record."""
    split = palate.split(public.load("ml-100k"), "user_ratio", order="random", seed=0)
    held_out = split.held_out("valid")
    palate.create("lightgcn", dim=64, layers=LAYERS, epochs=1).fit(split.train, held_out)
    with tempfile.TemporaryDirectory() as folder:
        write_parts(split, Path(folder), "ml")
        peer = recbole(Path(folder), "ml", "LightGCN", n_layers=LAYERS)
        their_seconds, their_points = peer_curve(peer, EPOCHS)
        peer.close()
    our_seconds, _, our_value = ours(split, held_out, SAME, validate=False)
    goal = max(value for _, value in their_points)
    reached = next(s for s, v in their_points if v >= goal)
    _, curve, _ = ours(split, held_out, FREE, validate=True)
    free = curve.seconds_to(goal)
    rows = [
        {
            "what": f"an epoch (batch {BATCH}, 64 dims, {LAYERS} layers)",
            "palate s": round(our_seconds, 4),
            "recbole s": round(min(their_seconds), 4),
            "times faster": round(min(their_seconds) / our_seconds, 1),
            "palate ndcg@10": round(our_value, 4),
            "recbole ndcg@10": round(their_points[-1][1], 4),
        },
        {
            "what": f"time to validation NDCG@10 {goal:.4f} (RecBole's best of {EPOCHS} epochs), batch size free",
            "palate s": None if free is None else round(free, 2),
            "recbole s": round(reached, 2),
            "times faster": None if free is None else round(reached / free, 1),
            "palate ndcg@10": round(max(v for _, v in curve.points), 4),
            "recbole ndcg@10": round(goal, 4),
        },
    ]
    for row in rows:
        print(row)
    record("lightgcn_vs_recbole", rows, what=__doc__, peers={"recbole": "1.2.1"}, seeds=[0])


if __name__ == "__main__":
    main()
