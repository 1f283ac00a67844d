"""New items: those without any training event are placed by what is known of them, among all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from palate.catalog.registry import systems
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.simulate.world import World

WORLD = World(users=200, items=100, events=3_500, topics=4, interests=1, background=0.05, spread=0.0, seed=3)
#: Systems that place an item by its attributes, and settings under which they learn this world in seconds.
TOWERS = {"dim": 16, "field_dim": 8, "history_dim": 16, "hidden": (16,), "batch_size": 256, "epochs": 25, "lr": 0.01}
GRAPH = {
    "graph_dim": 16,
    "text_dim": 16,
    "graph_epochs": 15,
    "min_links": 1_000,
    "graph_batch_size": 128,
    "graph_lr": 5e-3,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "two_tower": TOWERS,
    "ssl_two_tower": TOWERS,
    "two_tower_hgnn": {**TOWERS, **GRAPH},
    "rlmrec": {"dim": 16, "batch_size": 256, "epochs": 25, "lr": 0.02},
    "llmrec": {"dim": 16, "batch_size": 256, "epochs": 25, "lr": 0.01},
    "graphsage": {"dim": 16, "batch_size": 256, "epochs": 8, "lr": 0.01},
    "easyrec": {"buckets": 2**12, "width": 32, "hidden": (32,), "dim": 32, "lr": 0.01},
    "mercatran": {
        "dim": 32,
        "heads": 2,
        "blocks": 1,
        "hidden": 64,
        "tokens": "words",
        "n_tokens": 2**12,
        "lr": 4e-3,
        "epochs": 25,
        "batch_size": 32,
        "fields": ("title", "brand"),
    },
}


def without(data: Dataset, items: np.ndarray) -> Dataset:
    events = data.interactions
    return data.derive({"step": "withheld"}, interactions=events.take(np.flatnonzero(~np.isin(events.item, items))))


@pytest.mark.parametrize("name", list(SETTINGS))
def test_new_items_reach_the_people_whose_topic_they_have(name: str) -> None:
    system = systems()[name]
    assert "new items" in system.abilities
    if "torch" in system.needs:
        pytest.importorskip("torch")
    whole = WORLD.dataset(impressions=False)
    topic = WORLD.items.topics[:, 0]
    new = np.sort(np.random.default_rng(0).choice(whole.n_items, 20, replace=False)).astype(np.int32)
    train = without(whole, new)
    model = system.load()(**SETTINGS[name]).fit(train)
    users = np.flatnonzero(train.histories.lengths > 3)[:200].astype(np.int32)
    asked = Requests.of_users(train, users)
    scores = model.score(asked, np.tile(new, (len(users), 1)))
    taste = WORLD.interests(users)[0][:, 0]
    fits = topic[new][None, :] == taste[:, None]
    better = [
        float((row[own][:, None] > row[~own][None, :]).mean()) for row, own in zip(scores, fits, strict=True) if own.any()
    ]
    assert np.mean(better) > 0.85, "new items of a person's own topic don't score above others"
    offered = model.recommend(asked, 20).items
    assert np.isin(offered, new).mean() > 0.05, "new items are never offered"


@pytest.mark.parametrize("name", ["rlmrec", "llmrec"])
def test_placing_by_text_alters_new_items_alone(name: str) -> None:
    pytest.importorskip("torch")
    whole = WORLD.dataset(impressions=False)
    new = np.arange(0, whole.n_items, 7, dtype=np.int32)
    train, kind = without(whole, new), systems()[name].load()
    settings = {**SETTINGS[name], "epochs": 2}
    placed, plain = (kind(**settings, place_new=on).fit(train).item_vectors for on in (True, False))
    old = np.setdiff1d(np.arange(whole.n_items), new)
    np.testing.assert_array_equal(placed[old], plain[old])
    assert placed[new].any(axis=1).all() and not plain[new].any()
