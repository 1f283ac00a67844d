"""Full-ranking evaluation of BPR-MF on ml-100k (scores, masks, ranks, metrics) beside RecBole 1.2.1, same split.

Sides alternate; in each round a side evaluates several times in a row, as between the epochs of a fit; its best counts.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from _recbole import recbole, write_parts
from _record import record

import palate
from palate.data import public
from palate.evaluation.judge import Facts
from palate.study.evaluate import evaluate

METRICS = ["ndcg@10", "recall@10"]
ROUNDS, TIMES = 5, 5


def main() -> None:
    """Run and record."""
    split = palate.split(public.load("ml-100k"), "user_ratio", order="random", seed=0)
    held_out, facts = split.held_out("valid"), Facts.of(split.train)
    model = palate.create("bpr_mf", dim=64).fit(split.train, held_out)
    with tempfile.TemporaryDirectory() as folder:
        write_parts(split, Path(folder), "ml")
        peer = recbole(Path(folder), "ml", "BPR")
        for _ in range(30):
            peer("epoch")
        evaluate(model, held_out, METRICS, facts=facts)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            for _ in range(TIMES):
                started = time.perf_counter()
                judged = evaluate(model, held_out, METRICS, facts=facts)
                ours.append(time.perf_counter() - started)
            for _ in range(TIMES):
                answer = peer("evaluate")
                theirs.append(answer["seconds"])
        peer.close()
    rows = [
        {
            "users": len(held_out),
            "palate ms": round(min(ours) * 1e3, 2),
            "recbole ms": round(min(theirs) * 1e3, 2),
            "times faster": round(min(theirs) / min(ours), 1),
            "palate ndcg@10": round(judged.overall["ndcg@10"], 4),
            "recbole ndcg@10": answer["ndcg@10"],
        }
    ]
    print(rows)
    record(
        "evaluation_vs_recbole",
        rows,
        what=__doc__,
        peers={"recbole": "1.2.1"},
        seeds=[0],
        notes={"goal": "at least 20 times faster"},
    )


if __name__ == "__main__":
    main()
