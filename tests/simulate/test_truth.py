"""What is true in the world: chances sum to one, counting finds them, and nobody ranks better."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.data.split import Split
from palate.errors import DataError, UnsupportedError
from palate.recommend.ease import EASE
from palate.recommend.popularity import Popularity
from palate.simulate.world import World
from palate.study.evaluate import evaluate


def test_chances_are_chances():
    world = World(users=50, items=70, events=500, topics=6, exposure=0.7)
    users = np.arange(50)
    truth = world.truth
    np.testing.assert_allclose(truth.tastes(users).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(truth.preference(users).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(truth.observed(users).sum(axis=1), 1, rtol=1e-5)
    assert truth.appeal.sum() == pytest.approx(1)
    assert truth.exposure.max() == 1
    np.testing.assert_allclose(truth.exposure, (truth.appeal / truth.appeal.max()) ** 0.7)


def test_relevance_of_pairs_is_that_of_the_table():
    world = World(users=30, items=40, events=500, topics=5, interests=3)
    users, items = np.repeat(np.arange(30), 40), np.tile(np.arange(40), 30)
    table = world.truth.relevance(np.arange(30))
    np.testing.assert_allclose(world.truth.relevance_of(users, items), table.ravel(), rtol=1e-5)
    utility = world.truth.utilities(np.arange(30))
    np.testing.assert_allclose(table, 1 / (1 + np.exp(-utility)), rtol=1e-5)


def test_mean_taste_is_appeal():
    world = World(users=30_000, items=60, events=100, topics=6)
    mean = np.mean([world.truth.preference(np.arange(at, at + 3_000)).mean(axis=0) for at in range(0, 30_000, 3_000)], axis=0)
    np.testing.assert_allclose(mean, world.truth.appeal, rtol=0.04)


@pytest.mark.parametrize("exposure", [0.0, 0.6])
def test_counting_finds_the_truth_in_the_limit(exposure):
    settings = {"users": 20, "items": 25, "topics": 4, "exposure": exposure, "repeats": True, "activity": 0.0, "seed": 5}
    distance = []
    for each in (200, 3_200, 51_200):
        world = World(**settings, events=20 * each)
        events = world.events(0)
        counts = np.zeros((20, 25))
        np.add.at(counts, (events.user, events.item), 1)
        chance = world.truth.observed(np.arange(20))
        distance.append(np.abs(counts / counts.sum(axis=1, keepdims=True) - chance).sum(axis=1).mean() / 2)
    # Sixteen times the events: a quarter of the distance (events of a session cling together, so a little slower).
    assert distance[1] < 0.4 * distance[0]
    assert distance[2] < 0.4 * distance[1]
    assert distance[2] < 0.02
    by_count, by_truth = np.argsort(-counts, axis=1)[:, :3], np.argsort(-chance, axis=1)[:, :3]
    assert (by_count == by_truth).mean() > 0.85


def _last_out(data) -> Split:
    """Hold each person's last event out, and the one before for validation."""
    events = data.interactions
    last = np.ones(len(events), bool)
    last[:-1] = events.user[1:] != events.user[:-1]
    second = np.zeros(len(events), bool)
    second[:-1] = last[1:]
    train = data.derive({"step": "train"}, interactions=events.take(~last & ~second))
    return Split(train, events.take(second), events.take(last), {"protocol": "leave_one_out"})


def test_nobody_beats_the_optimal_ranking():
    world = World(users=3_000, items=300, events=60_000, topics=12, focus=0.0, min_events=5)
    split = _last_out(world.dataset(text=False, graphs=False, impressions=False))
    held_out = split.held_out("test")
    oracle = world.truth.recommender(split.train)
    best = evaluate(oracle, held_out, ["ndcg@10"], train=split.train)
    per_user = best.per_user["ndcg@10"]
    for model in (Popularity(), EASE(reg=100.0)):
        found = evaluate(model.fit(split.train), held_out, ["ndcg@10"], train=split.train)
        gap = per_user - found.per_user["ndcg@10"]
        assert gap.mean() > 3 * gap.std() / np.sqrt(len(gap)), model.name
    personal = evaluate(EASE(reg=100.0).fit(split.train), held_out, ["ndcg@10"], train=split.train)
    popular = evaluate(Popularity().fit(split.train), held_out, ["ndcg@10"], train=split.train)
    assert personal.value("ndcg@10") > popular.value("ndcg@10")


def test_the_oracle_says_what_it_cannot_do(tmp_path):
    world = World(users=20, items=30, events=300)
    data = world.dataset(text=False)
    oracle = world.truth.recommender(data)
    with pytest.raises(UnsupportedError, match="only the people of its world"):
        oracle.recommend(Requests.of_histories([[1, 2]]), 3)
    with pytest.raises(UnsupportedError, match="be saved"):
        oracle.save(tmp_path / "oracle")
    named = type(data).from_columns(["a"], ["b"])
    with pytest.raises(DataError, match="not those of a synthetic world"):
        world.truth.recommender(named)


def test_the_oracle_ranks_by_raw_ids():
    world = World(users=40, items=30, events=600, topics=4)
    data = world.dataset(text=False)
    oracle = world.truth.recommender(data)
    found = oracle.recommend(Requests.of_users(data, np.arange(40), exclude_seen=False), 5)
    chance = world.truth.observed(np.arange(40))
    np.testing.assert_allclose(found.scores, -np.sort(-chance, axis=1)[:, :5], rtol=1e-6)
