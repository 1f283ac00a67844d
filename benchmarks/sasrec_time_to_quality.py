"""SASRec: validation NDCG@10 over seconds on amazon-beauty and ml-1m (last item out, full ranking, seen items left out).

The answers are each person's last item (test) and the one before it (validation); training sees the rest. Seconds run from the
start of the fit, looks at validation included. ``--test`` opens the test part once, with the best epoch's weights.

    python benchmarks/sasrec_time_to_quality.py amazon-beauty --epochs 20 --test
    python benchmarks/sasrec_time_to_quality.py ml-1m --set epochs=40 --set dropout=0.2
"""

from __future__ import annotations

import argparse
import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
from _record import data_folder, record

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.split import HeldOut, Split
from palate.progress import ProgressEvent
from palate.recommend.sasrec import SASRec

#: What differs from SASRec's defaults, and why: long dense histories, a small catalogue.
SETTINGS: dict[str, dict[str, Any]] = {
    "amazon-beauty": {"epochs": 20, "patience": 0},
    "ml-1m": {"epochs": 40, "max_len": 200, "dropout": 0.2, "batch_size": 4096, "loss": "full_softmax", "patience": 6},
}


def leave_one_out(path: Path) -> Split:
    """Read ``user item item …`` lines and hold out the last two items of each user."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [line.split() for line in lines]
    lengths = np.array([len(row) - 1 for row in rows])
    whole = Dataset.from_columns(
        [row[0] for row in rows for _ in row[1:]], [item for row in rows for item in row[1:]], name=path.parent.name
    )
    # Users are numbered by their raw ids, so the file's order is found again through the vocabulary.
    events = whole.interactions
    counts = np.bincount(events.user, minlength=whole.n_users)
    if sorted(counts) != sorted(lengths):
        raise ValueError(f"{path} holds a user twice")
    left = np.repeat(counts, counts) - 1 - (np.arange(len(events)) - np.repeat(np.cumsum(counts) - counts, counts))
    train = whole.derive({"step": "leave_one_out"}, interactions=events.take(left >= 2))
    return Split(train, events.take(left == 1), events.take(left == 0), {"protocol": "leave_one_out"})


def quality(model: SASRec, held_out: HeldOut) -> dict[str, float]:
    """Return NDCG@10 and Recall@10 of one answer a person, and the seconds it took to rank."""
    started = time.perf_counter()
    answers = model.recommend(Requests.of_held_out(held_out), 10).items
    seconds = time.perf_counter() - started
    hit = answers == held_out.truth.values[:, None]
    gain = np.where(hit.any(1), 1 / np.log2(hit.argmax(1) + 2), 0.0)
    return {"ndcg@10": float(gain.mean()), "recall@10": float(hit.any(1).mean()), "rank_seconds": seconds}


class Curve:
    """Seconds of training and the validation value after each epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def __call__(self, event: ProgressEvent) -> None:
        """Note the end of an epoch."""
        if event.stage.endswith(": epoch"):
            row = {"epoch": event.done, "wall_seconds": time.perf_counter() - self.started, **event.metrics}
            self.rows.append(row)
            print("  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)

    def start(self) -> None:
        """Begin to count."""
        self.started = time.perf_counter()


def run(name: str, settings: dict[str, Any], seed: int, test: bool) -> dict[str, Any]:
    """Fit and return the curve with the final figures."""
    split = leave_one_out(data_folder(name) / "sequences.txt.gz")
    valid, curve = split.held_out("valid"), Curve()
    model = SASRec(**settings)
    print(name, repr(model), flush=True)
    warm = SASRec(**{**settings, "epochs": 1, "dim": 8, "max_len": 4, "heads": 1}).fit(split.train, valid)
    del warm
    curve.start()
    model.fit(split.train, valid, seed=seed, progress=curve)
    row = {"data": name, "settings": model.config.model_dump(), "notes": dict(model.record_.notes), "curve": curve.rows}
    row["fit_seconds"], row["valid"] = model.record_.seconds, quality(model, valid)
    if test:
        row["test"] = quality(model, split.held_out("test"))
    print(name, {k: row[k] for k in ("fit_seconds", "valid", "test") if k in row}, flush=True)
    return row


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=list(SETTINGS), help="amazon-beauty, ml-1m (default: both)")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of SASRec")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help="open the test part at the end")
    parser.add_argument("--no-record", action="store_true", help="print only")
    given = parser.parse_args()
    changed: dict[str, Any] = dict(pair.split("=", 1) for pair in given.set)
    if given.epochs is not None:
        changed["epochs"] = given.epochs
    rows = [run(name, {**SETTINGS[name], **changed}, given.seed, given.test) for name in given.data]
    if not given.no_record:
        record("sasrec_time_to_quality", rows, what=__doc__.split("\n\n")[0], seeds=[given.seed])


if __name__ == "__main__":
    main()
