"""LightGCN on ml-100k beside RecBole 1.2.1: same split, dims, layers and batch, by epochs; then with batch size free.

RecBole's seconds to a value count its training and its looks at validation, as Palate's do. Palate runs before and after; the
slower of both counts.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _curve import Curve, seconds_to
from _recbole import recbole, write_parts
from _record import record

import palate
from palate.data import public
from palate.data.split import HeldOut, Split
from palate.study.evaluate import evaluate

EPOCHS, LAYERS, BATCH = 40, 2, 2048
SAME = {"dim": 64, "layers": LAYERS, "lr": 0.001, "batch_size": BATCH, "epochs": EPOCHS, "patience": 0}
FREE: dict[str, dict[str, Any]] = {
    "BPR, batch 8,192": {"dim": 64, "layers": LAYERS, "batch_size": 8192, "lr": 0.02, "epochs": 40, "patience": 0},
    "softmax, batch 8,192": {
        **{"dim": 64, "layers": LAYERS, "loss": "softmax", "batch_size": 8192, "lr": 0.02, "temperature": 0.2},
        **{"epochs": 20, "patience": 0},
    },
}


def peer_points(peer: Any, epochs: int) -> tuple[list[float], list[tuple[float, float]]]:
    """Train the peer; return the seconds of each epoch, and the course with its evaluations counted."""
    seconds, points, passed = [], [], 0.0
    for _ in range(epochs):
        one, judged = peer("epoch")["seconds"], peer("evaluate")
        passed += one + judged["seconds"]
        seconds.append(one)
        points.append((passed, judged["ndcg@10"]))
    return seconds, points


def same(split: Split, held_out: HeldOut) -> tuple[float, float]:
    """Fit with the peer's settings and no looks; return the median epoch's seconds, and the final NDCG@10."""
    curve = Curve()
    model = palate.create("lightgcn", **SAME).fit(split.train, seed=0, progress=curve)
    return float(np.median(np.diff([0.0, *curve.ends]))), evaluate(model, held_out, ["ndcg@10"]).overall["ndcg@10"]


def free(split: Split, held_out: HeldOut) -> dict[str, Curve]:
    """Fit with other batch sizes; return the courses."""
    curves = {}
    for name, settings in FREE.items():
        model = palate.create("lightgcn", **settings)
        curves[name] = Curve()
        model.fit(split.train, held_out, seed=0, progress=curves[name])
    return curves


def main() -> None:
    """Run and record."""
    split = palate.split(public.load("ml-100k"), "user_ratio", order="random", seed=0)
    held_out = split.held_out("valid")
    for loss in ("bpr", "softmax"):
        palate.create("lightgcn", layers=LAYERS, epochs=1, loss=loss).fit(split.train, held_out)
    own, courses = [same(split, held_out)], [free(split, held_out)]
    with tempfile.TemporaryDirectory() as folder:
        write_parts(split, Path(folder), "ml")
        peer = recbole(Path(folder), "ml", "LightGCN", n_layers=LAYERS)
        their_seconds, points = peer_points(peer, EPOCHS)
        peer.close()
    own.append(same(split, held_out))
    courses.append(free(split, held_out))
    level = max(value for _, value in points)
    epoch = max(seconds for seconds, _ in own)
    rows = [
        {
            "what": f"an epoch (batch {BATCH:,}, 64 dims, {LAYERS} layers)",
            "palate s": round(epoch, 4),
            "recbole s": round(float(np.median(their_seconds)), 4),
            "times faster": round(float(np.median(their_seconds)) / epoch, 1),
            "palate ndcg@10": round(own[0][1], 4),
            "recbole ndcg@10": round(points[-1][1], 4),
        }
    ]
    reached = seconds_to(points, level)
    assert reached is not None
    for name in FREE:
        times = [seconds_to(course[name].points, level) for course in courses]
        slower = None if None in times else max(t for t in times if t is not None)
        rows.append(
            {
                "what": f"to validation NDCG@10 {level:.4f}, RecBole's best of {EPOCHS} epochs ({name})",
                "palate s": None if slower is None else round(slower, 2),
                "recbole s": round(reached, 2),
                "times faster": None if slower is None else round(reached / slower, 1),
                "palate ndcg@10": round(courses[0][name].best, 4),
                "recbole ndcg@10": round(level, 4),
            }
        )
    print(*rows, sep="\n")
    notes = {"goal": "an epoch at least 6 times faster at NDCG@10 no lower; time to the same value at least 15 times shorter"}
    record("lightgcn_vs_recbole", rows, what=__doc__, peers={"recbole": "1.2.1"}, seeds=[0], notes=notes)


if __name__ == "__main__":
    main()
