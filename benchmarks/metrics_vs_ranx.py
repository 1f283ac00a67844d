"""Twenty metrics over 138,000 people x 100 ranks (10 relevant items each, 20,000 items): Palate's judge beside ranx.

Both run in one process, warm, and alternate; the best of three counts. ranx is given its own objects, whose making is timed
apart; Palate takes the arrays as they are and checks them in the time shown. Half of the relevant items are put among the
ranks, so that there is something to find.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ranx
from _record import record

from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.evaluation.facts import Facts
from palate.evaluation.judge import judge
from palate.runtime import generator, set_threads, threads, versions

PEOPLE, RANKS, RELEVANT, ITEMS, ROUNDS, SEED = 138_000, 100, 10, 20_000, 3, 0
KINDS = ("ndcg", "precision", "recall", "mrr", "map", "hit_rate", "f1")
THEIRS = [f"{kind}@{k}" for kind in KINDS for k in (10, 20, 100)][:20]
OURS = [name + "[denominator=relevant]" if name.startswith("map") else name for name in THEIRS]


def people() -> tuple[np.ndarray, np.ndarray]:
    """Return ``int32`` lists and relevant items; about half of the relevant ones stand somewhere in the list."""
    rng = generator(SEED, "metrics against ranx")
    steps = rng.integers(1, ITEMS // (RANKS + RELEVANT), (PEOPLE, RANKS + RELEVANT))
    drawn = (np.cumsum(steps, axis=1) - 1).astype(np.int32)
    drawn = rng.permuted(drawn, axis=1)
    lists, truth = drawn[:, :RANKS].copy(), drawn[:, RANKS:].copy()
    kept = rng.random(truth.shape) < 0.5
    truth[kept] = lists[:, :RELEVANT][kept]
    return np.ascontiguousarray(rng.permuted(lists, axis=1)), truth


def peer_objects(lists: np.ndarray, truth: np.ndarray) -> tuple[Any, Any, float, float]:
    """Return ranx's Qrels and Run, with the seconds of making the dicts and of making the objects."""
    started = time.perf_counter()
    names = np.array([f"d{item}" for item in range(ITEMS)], dtype=object)
    people_names = [f"q{person:06}" for person in range(len(lists))]
    scores = [float(RANKS - at) for at in range(RANKS)]
    wanted = {q: dict.fromkeys(names[row].tolist(), 1) for q, row in zip(people_names, truth, strict=True)}
    found = {q: dict(zip(names[row].tolist(), scores, strict=True)) for q, row in zip(people_names, lists, strict=True)}
    dicts = time.perf_counter() - started
    started = time.perf_counter()
    qrels, run = ranx.Qrels(wanted), ranx.Run(found)
    return qrels, run, dicts, time.perf_counter() - started


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def main() -> None:
    """Run and record."""
    set_threads(threads())
    lists, truth = people()
    offsets = np.arange(PEOPLE + 1, dtype=np.int64) * RELEVANT
    asked = HeldOut(np.arange(PEOPLE, dtype=np.int32), Histories.empty(PEOPLE), Ragged(offsets, truth.ravel()))
    facts = Facts(np.ones(ITEMS, np.int64), PEOPLE)
    our_first, _ = timed(lambda: judge(lists, asked, OURS, facts))
    qrels, run, dicts, objects = peer_objects(lists, truth)
    their_first, _ = timed(lambda: ranx.evaluate(qrels, run, THEIRS, return_mean=False))
    ours, theirs = [], []
    for _ in range(ROUNDS):
        seconds, verdict = timed(lambda: judge(lists, asked, OURS, facts))
        ours.append(seconds)
        seconds, answer = timed(lambda: ranx.evaluate(qrels, run, THEIRS, return_mean=False))
        theirs.append(seconds)
        print(f"palate {ours[-1]:.3f} s, ranx {theirs[-1]:.3f} s", flush=True)
    gaps = [np.abs(verdict.per_user[a] - answer[b]).max() for a, b in zip(OURS, THEIRS, strict=True)]
    row = {
        "people": PEOPLE,
        "ranks": RANKS,
        "metrics": len(OURS),
        "palate s": round(min(ours), 4),
        "ranx s": round(min(theirs), 3),
        "ranx / palate": round(min(theirs) / min(ours), 1),
        "largest difference of any value of any person": float(max(gaps)),
        "palate all rounds s": [round(s, 4) for s in ours],
        "ranx all rounds s": [round(s, 3) for s in theirs],
        "palate first call s (compiles, or reads its cache)": round(our_first, 2),
        "ranx first call s (compiles, or reads its cache)": round(their_first, 2),
        "ranx making dicts s": round(dicts, 1),
        "ranx making Qrels and Run s": round(objects, 1),
    }
    print(row)
    if max(gaps) > 1e-6:
        raise SystemExit(f"values differ by {max(gaps)}")
    goals = {"goal": "faster than ranx 0.3.21 warm, equal to 1e-6", "metrics": ", ".join(OURS)}
    record("metrics_vs_ranx", row, what=__doc__, peers=versions("ranx"), seeds=[SEED], notes=goals)


if __name__ == "__main__":
    main()
