"""SASRec on amazon-beauty: time to the same validation NDCG@10, beside RecTools 0.19 and RecBole 1.2.1.

Last item of each user for the test (closed here), the one before it for validation, full ranking, seen items left out. All: 64
dims, 2 blocks, length 50. RecTools: sampled softmax with 256 negatives a position, batch 128. RecBole: its full softmax over
one row a prefix, batch 2,048. Palate: its defaults. Palate's seconds count its looks at validation, the peers' seconds count
their training alone. Palate is fitted before and after the peers; the slower of both runs counts. A peer is stopped once it
took so many times longer that the goal is met whatever follows: then the ratio is a lower bound.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _curve import Curve, seconds_to
from _peers import Worker
from _recbole import recbole
from _record import record

import palate
from palate.data import public
from palate.data.split import HeldOut, Split
from palate.study.tune import blind

Points = list[tuple[float, float]]

EPOCHS, ENOUGH = 8, 1.15
GOALS = {"rectools": 20.0, "recbole": 50.0}
RECTOOLS = {
    "n_blocks": 2, "n_heads": 2, "n_factors": 64, "dropout_rate": 0.2, "session_max_len": 50, "loss": "sampled_softmax",
    "n_negatives": 256, "lr": 1e-3, "batch_size": 128,
}  # fmt: skip
RECBOLE: dict[str, Any] = {
    "benchmark_filename": None, "train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 50, "hidden_size": 64, "inner_size": 256,
    "n_layers": 2, "n_heads": 2, "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
}  # fmt: skip


def ours(split: Split, held_out: HeldOut) -> Points:
    """Fit with the defaults; return seconds and validation NDCG@10 after each epoch."""
    model, curve = palate.create("sasrec", epochs=EPOCHS, patience=0), Curve()
    model.fit(split.train, held_out, seed=0, progress=curve)
    return curve.points


def rectools(split: Split, held_out: HeldOut, folder: Path) -> Worker:
    """Start RecTools on the same sequences."""
    events, path = split.train.interactions, str(folder / "sequences.npz")
    np.savez(path, users=events.user, items=events.item, asked=held_out.users, truth=held_out.truth.values)
    peer = Worker("rectools", "rectools_worker.py", {"OMP_WAIT_POLICY": "passive"})
    peer("load", data=path, settings=RECTOOLS)
    return peer


def recbole_sasrec(split: Split, whole: Any, folder: Path) -> Worker:
    """Start RecBole on the whole sequences, which it cuts in the same way; places stand for times."""
    (folder / "beauty").mkdir()
    events = whole.interactions
    with (folder / "beauty" / "beauty.inter").open("w", encoding="utf-8") as out:
        out.write("user_id:token\titem_id:token\ttimestamp:float\n")
        out.writelines(f"{u}\t{i}\t{t}\n" for t, (u, i) in enumerate(zip(events.user, events.item, strict=True)))
    return recbole(folder, "beauty", "SASRec", **RECBOLE)


def follow(peer: Worker, level: float, most: float) -> Points:
    """Train by epochs until the level is reached or ``most`` seconds of training have passed."""
    points: Points = []
    passed = 0.0
    while passed < most and seconds_to(points, level) is None:
        passed += peer("epoch")["seconds"]
        judged = peer("evaluate")
        points.append((passed, judged.get("ndcg@10", judged.get("ndcg"))))
        print(points[-1], flush=True)
    return points


def row(name: str, level: float, own: float, points: Points) -> dict[str, Any]:
    """Say how many times longer a peer took."""
    reached, last = seconds_to(points, level), points[-1][0]
    return {
        "peer": name,
        "validation NDCG@10": level,
        "palate s": round(own, 2),
        "peer s": round(reached or last, 1),
        "times faster": round((reached or last) / own, 1),
        "bound": "" if reached else "at least: the peer had not reached it",
        "peer's best": round(max(value for _, value in points), 4),
        "peer s/epoch": round(last / len(points), 1),
        "goal": GOALS[name],
    }


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", type=float, default=0.04, help="validation NDCG@10 to reach")
    parser.add_argument("--peers", nargs="+", default=list(GOALS), choices=list(GOALS))
    given = parser.parse_args()
    whole = public.load("amazon-beauty")
    split = blind(palate.split(whole, "leave_one_out"))
    held_out = split.held_out("valid")
    palate.create("sasrec", epochs=1).fit(split.train, held_out)
    curves = [ours(split, held_out)]
    times = [seconds_to(curves[0], given.level)]
    if times[0] is None:
        raise SystemExit(f"Palate did not reach {given.level} in {EPOCHS} epochs: {curves[0]}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.peers:
            at = Path(folder)
            peer = rectools(split, held_out, at) if name == "rectools" else recbole_sasrec(split, whole, at)
            found[name] = follow(peer, given.level, ENOUGH * GOALS[name] * times[0])
            peer.close()
            curves.append(ours(split, held_out))
            times.append(seconds_to(curves[-1], given.level))
    own = max(t for t in times if t is not None)
    rows = [row(name, given.level, own, points) for name, points in found.items()]
    print(*rows, sep="\n")
    notes = {"seconds, NDCG@10 of Palate's fits": curves, "seconds, NDCG@10 of the peers": found}
    record("sasrec_vs_peers", rows, what=__doc__, peers={"rectools": "0.19.0", "recbole": "1.2.1"}, seeds=[0], notes=notes)


if __name__ == "__main__":
    main()
