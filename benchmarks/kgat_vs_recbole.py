"""KGAT on ml-100k with its knowledge graph beside RecBole 1.2.1: same split, triples, dims, layers, batches and step size.

RecBole walks the triples once an epoch, forwards only; Palate takes as many links an epoch, drawn from all (interactions and
inverses are links too). Palate runs before and after; the slower of both counts.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _curve import Curve, seconds_to
from _peers import Worker
from _recbole import SETTINGS, write_parts
from _record import record

import palate
from palate.data import public
from palate.data.dataset import Dataset
from palate.data.split import HeldOut, Split

EPOCHS, PEER_EPOCHS, BATCH = 6, 4, 2048
DIM, LAYERS = 64, [64, 32, 16]


def write_graph(dataset: Dataset, folder: Path, name: str) -> None:
    """Write triples and links of items as RecBole's files."""
    graph = dataset.graphs["knowledge"]
    assert graph.entities is not None and graph.item_entity is not None
    entities, relations = graph.entities.raw.to_pylist(), graph.relations.raw.to_pylist()
    with (folder / name / f"{name}.kg").open("w", encoding="utf-8") as out:
        out.write("head_id:token\trelation_id:token\ttail_id:token\n")
        ends = zip(graph.head.tolist(), graph.relation.tolist(), graph.tail.tolist(), strict=True)
        out.writelines(f"{entities[h]}\t{relations[r]}\t{entities[t]}\n" for h, r, t in ends)
    with (folder / name / f"{name}.link").open("w", encoding="utf-8") as out:
        out.write("item_id:token\tentity_id:token\n")
        items = dataset.items.ids.raw.to_pylist()
        out.writelines(f"{items[i]}\t{entities[e]}\n" for i, e in enumerate(graph.item_entity.tolist()) if e >= 0)


def own(split: Split, held_out: HeldOut, links: int) -> tuple[list[float], Curve]:
    """Fit with the peer's settings; return the seconds of each epoch without its look, and the course with them."""
    curve = Curve()
    settings: dict[str, Any] = {"dim": DIM, "layers": LAYERS, "lr": 0.001, "batch_size": BATCH, "epochs": EPOCHS, "patience": 0}
    settings |= {"kg_batch_size": BATCH, "kg_batches": -(-links // BATCH), "dropout": 0.1}
    seconds: list[float] = []
    notes = [lambda event: seconds.append(float(event.history[-1]["seconds"]))]
    palate.create("kgat", **settings).fit(split.train, held_out, seed=0, progress=curve, callbacks=notes)
    return seconds, curve


def peer(split: Split) -> tuple[list[float], list[tuple[float, float]]]:
    """Train RecBole; return the seconds of each epoch, and the course with its evaluations counted."""
    seconds, points, passed = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        write_parts(split, Path(folder), "ml")
        write_graph(split.train, Path(folder), "ml")
        worker = Worker("recbole_kg", "recbole_kg_worker.py", {"OMP_WAIT_POLICY": "passive", "DGLBACKEND": "pytorch"})
        settings = {**SETTINGS, "layers": LAYERS, "kg_embedding_size": DIM, "mess_dropout": 0.1, "reg_weight": 1e-5}
        worker("load", folder=folder, name="ml", model="KGAT", settings=settings)
        for _ in range(PEER_EPOCHS):
            one, judged = worker("epoch")["seconds"], worker("evaluate")
            passed += one + judged["seconds"]
            seconds.append(one)
            points.append((passed, judged["ndcg@10"]))
        worker.close()
    return seconds, points


def main() -> None:
    """Run and record."""
    split = palate.split(public.load("ml-100k"), "user_ratio", order="random", seed=0)
    held_out, links = split.held_out("valid"), len(split.train.graphs["knowledge"])
    palate.create("kgat", epochs=1, kg_batches=1).fit(split.train, held_out)
    courses = [own(split, held_out, links)]
    their_seconds, points = peer(split)
    courses.append(own(split, held_out, links))
    mine, theirs = max(float(np.median(s)) for s, _ in courses), float(np.median(their_seconds))
    level = max(value for _, value in points)
    reached = [seconds_to(curve.points, level) for _, curve in courses]
    slower = None if None in reached else max(t for t in reached if t is not None)
    their_time = seconds_to(points, level)
    assert their_time is not None
    rows: list[dict[str, Any]] = [
        {
            "what": f"an epoch (batch {BATCH:,}, {DIM} dims, layers {LAYERS}, {links:,} links)",
            "palate s": round(mine, 3),
            "recbole s": round(theirs, 3),
            "times faster": round(theirs / mine, 1),
            f"palate ndcg@10 after {PEER_EPOCHS} epochs": round(courses[0][1].points[PEER_EPOCHS - 1][1], 4),
            f"recbole ndcg@10 after {PEER_EPOCHS} epochs": round(points[-1][1], 4),
        },
        {
            "what": f"to validation NDCG@10 {level:.4f}, RecBole's best of {PEER_EPOCHS} epochs",
            "palate s": None if slower is None else round(slower, 2),
            "recbole s": round(their_time, 2),
            "times faster": None if slower is None else round(their_time / slower, 1),
        },
    ]
    print(*rows, sep="\n")
    goal = "an epoch at least 5 times faster at NDCG@10 no lower after as many epochs"
    record("kgat_vs_recbole", rows, what=__doc__, peers={"recbole": "1.2.1", "dgl": "1.1.3"}, seeds=[0], notes={"goal": goal})


if __name__ == "__main__":
    main()
