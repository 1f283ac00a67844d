"""The popularity baseline, written out by hand in plain Python, gives the same lists and the same figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.protocols import split as cut
from palate.data.split import Split
from palate.recommend.popularity import Popularity
from palate.simulate.world import World
from palate.study.claims import Bar, Claim, Effect, Trial
from palate.study.evaluate import evaluate

K = 10


def tie_key(item: int) -> int:
    """Return the order of items with equal counts: the hash that the documentation states."""
    word = 0xFFFFFFFF
    x = (((item ^ (item >> 16)) & word) * 0x7FEB352D) & word
    x = ((x ^ (x >> 15)) * 0x846CA68B) & word
    return x ^ (x >> 16)


def lists_by_hand(split: Split, histories: list[list[int]]) -> list[list[int]]:
    """Count, sort, leave out what was seen."""
    counts = Counter(split.train.interactions.item.tolist())
    order = sorted(range(split.train.n_items), key=lambda item: (-counts[item], tie_key(item)))
    return [[item for item in order if item not in set(seen)][:K] for seen in histories]


def ndcg_by_hand(lists: list[list[int]], truths: list[list[int]]) -> list[float]:
    """Discounted gain of the hits, over that of an ideal list."""
    values = []
    for found, wanted in zip(lists, truths, strict=True):
        gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(found) if item in wanted)
        values.append(gain / sum(1 / math.log2(rank + 2) for rank in range(min(K, len(wanted)))))
    return values


def agreement(dataset: Dataset) -> tuple[float, float]:
    """Return the share of equal lists, and the largest difference of a person's NDCG@10."""
    split = cut(dataset, "leave_one_out")
    held_out = split.held_out("test")
    model = Popularity().fit(split.train)
    found = model.recommend(Requests.of_held_out(held_out), K).items
    lists = lists_by_hand(split, held_out.histories.ragged.tolist())
    padded = [row + [-1] * (K - len(row)) for row in lists]
    equal = (found == np.array(padded)).all(axis=1).mean()
    judged = evaluate(model, held_out, [f"ndcg@{K}"], train=split.train).per_user[f"ndcg@{K}"]
    by_hand = np.array(ndcg_by_hand(lists, held_out.truth.tolist()))
    return float(equal), float(np.abs(judged - by_hand).max())


def run(trial: Trial) -> Mapping[str, Effect]:
    """Compare on a synthetic world and, unless reduced, on MovieLens 100K."""
    world = World(users=300, items=200, events=6_000, topics=8).dataset(text=False, graphs=False, impressions=False)
    used = {"world": trial.used("world", world)}
    if not trial.reduced:
        used["ml-100k"] = trial.dataset("ml-100k")
    shares, gaps = zip(*(agreement(data) for data in used.values()), strict=True)
    return {
        "share of equal lists": Effect.exact(min(shares)),
        "agreement of NDCG@10 (minus the largest difference)": Effect.exact(0.0 - max(gaps)),
    }


CLAIM = Claim(
    name="popularity_by_hand",
    title="Popularity reproduces by hand",
    statement="Counting and sorting in plain Python gives exactly Popularity's lists, and its NDCG@10 to the last rounding.",
    bars={
        "share of equal lists": Bar(1.0, inclusive=True),
        "agreement of NDCG@10 (minus the largest difference)": Bar(-1e-12, inclusive=True),
    },
    run=run,
    data=("synthetic world", "ml-100k"),
    minutes=0.5,
)
