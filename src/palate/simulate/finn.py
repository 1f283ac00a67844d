"""Files in the form of FINN.no's slate data, from a made-up market: to try what reads and learns from them.

The three files and their arrays are described in :mod:`palate.data.readers.finn`. Some items are left unknown, and rows are
padded, as in the real ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from palate.data.readers.finn import FIRST, NO_CLICK, PADDING, UNKNOWN
from palate.data.whole import whole_folder
from palate.errors import DataError
from palate.runtime import generator
from palate.simulate.slates import SlateMarket

#: Names of the kinds of slates.
KINDS = {0: "undefined", 1: "search", 2: "rec"}


def write_finn_slates(
    folder: str | Path,
    market: SlateMarket,
    *,
    steps: int = 20,
    slots: int = 25,
    unknown: float = 0.02,
    recommended: float = 0.3,
) -> Path:
    """Let a market log slates of different lengths, and write them in FINN.no's form; the folder appears whole or not at all.

    Parameters
    ----------
    steps, slots
        Most slates of a person, and slots of a slate with the one of no click.
    unknown
        Share of items shown whose id is not known.
    recommended
        Share of slates that were recommended; the others were searched for.
    """
    target, c = Path(folder), market.config
    if target.exists():
        raise DataError("the folder exists already.", where=target, remedy="name a new one")
    rng = generator(c.seed, "finn", "files")
    width = min(c.slate, slots - 1)
    slate = np.full((c.users, steps, slots), PADDING, np.int32)
    click, index, length = (np.zeros((c.users, steps), np.int32) for _ in range(3))
    users = np.arange(c.users, dtype=np.int32)
    used = np.arange(steps) < rng.integers(1, steps + 1, c.users)[:, None]
    for step in range(steps):
        who = users[used[:, step]]
        shown, _ = market.logged_slates(len(who), rng)
        shown = shown[:, :width]
        depth = rng.integers(1, width + 1, len(who))
        shown = np.where(np.arange(width) < depth[:, None], shown, -1)
        at = market.show(who, shown, rng)
        raw = np.where(shown < 0, PADDING, shown + FIRST)
        raw[(shown >= 0) & (rng.random(shown.shape) < unknown)] = UNKNOWN
        slate[who, step, 0] = NO_CLICK
        slate[who, step, 1 : width + 1] = raw
        index[who, step], length[who, step] = at, depth + 1
        click[who, step] = slate[who, step, at]
    kind = np.where(used, np.where(rng.random(used.shape) < recommended, 2, 1), 0)
    ids = rng.permutation(10 * c.users)[: c.users].astype(np.int32)
    arrays = {"userId": ids, "click": click, "click_idx": index, "slate": slate, "slate_lengths": length}
    names = ["PAD", "noClick", "<UNK>", *(f"group {g}" for g in range(c.groups))]
    table = {"category": dict(enumerate(names)), "interaction_type": KINDS}
    with whole_folder(target, "ind2val.json") as work:
        np.savez_compressed(work / "data.npz", **arrays, interaction_type=kind.astype(np.int32))  # type: ignore[arg-type]
        np.savez_compressed(
            work / "itemattr.npz", category=np.concatenate([np.arange(FIRST), market.group + FIRST]).astype(float)
        )
        (work / "ind2val.json").write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    return target
