"""The synthetic world: what it promises about popularity, tastes, blocks, text, ties, slates."""

import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from palate.errors import ConfigError, DataError
from palate.runtime import set_threads, threads
from palate.simulate.people import BLOCK
from palate.simulate.world import World

SMALL = {"users": 400, "items": 120, "events": 12_000, "topics": 8, "seed": 3}


def _columns(events):
    return [events.user, events.item, events.time, events.session]


def test_same_settings_give_the_same_world_for_any_number_of_threads():
    before = threads()
    first = World(**SMALL).dataset()
    try:
        set_threads(1)
        second = World(**SMALL).dataset()
    finally:
        set_threads(before)
    assert first.fingerprint == second.fingerprint
    assert first.impressions.equals(second.impressions)
    assert World(**{**SMALL, "seed": 4}).dataset().fingerprint != first.fingerprint


def test_a_block_is_the_same_alone_and_among_others():
    world = World(users=BLOCK + 500, items=200, events=60_000, topics=8)
    assert world.n_blocks == 2
    alone = World(users=BLOCK + 500, items=200, events=60_000, topics=8).events(1)
    data = world.dataset(text=False, graphs=False, impressions=False)
    rows = data.interactions.user >= BLOCK
    np.testing.assert_array_equal(data.interactions.item[rows], alone.item)
    np.testing.assert_array_equal(data.interactions.time[rows], alone.time)


def test_events_are_sorted_and_sessions_are_runs():
    data = World(**SMALL).dataset(text=False, graphs=False, impressions=False)
    events = data.interactions
    same = events.user[1:] == events.user[:-1]
    assert (np.diff(events.user) >= 0).all()
    assert (np.diff(events.time)[same] > 0).all()
    assert (np.diff(events.session) >= 0).all()
    assert (np.diff(events.session)[~same] == 1).all()
    sessions = len(np.unique(events.session))
    assert len(events) / sessions == pytest.approx(5.0, rel=0.15)


def test_nobody_takes_an_item_twice_unless_repeats_are_on():
    once = World(**SMALL).dataset(text=False).interactions
    pairs = once.user.astype(np.int64) * SMALL["items"] + once.item
    assert len(np.unique(pairs)) == len(pairs)
    again = World(**SMALL, repeats=True).dataset(text=False).interactions
    pairs = again.user.astype(np.int64) * SMALL["items"] + again.item
    assert len(np.unique(pairs)) < len(pairs)


def test_number_of_events_is_about_what_was_asked():
    assert len(World(users=5_000, items=2_000, events=100_000).dataset(text=False)) == pytest.approx(100_000, rel=0.05)


@pytest.mark.parametrize(("exponent", "exposure"), [(0.6, 0.0), (1.0, 0.0), (0.6, 0.5)])
def test_popularity_follows_the_power_law(exponent, exposure):
    world = World(users=20_000, items=500, events=1_000_000, exponent=exponent, exposure=exposure, repeats=True, focus=0.0)
    counts = np.zeros(500)
    for block in range(world.n_blocks):
        counts += np.bincount(world.events(block).item, minlength=500)
    ranked = np.sort(counts)[::-1]
    rank = np.arange(1, 501)
    slope = np.polyfit(np.log(rank), np.log(ranked), 1)[0]
    # With exposure an item is chosen by appeal and seen by appeal^η; topics renormalise a little.
    assert slope == pytest.approx(-exponent * (1 + exposure), abs=0.04 if exposure == 0 else 0.08)


def test_item_numbers_do_not_betray_appeal():
    world = World(users=10, items=2_000, events=100)
    assert abs(np.corrcoef(np.arange(2_000), world.truth.appeal)[0, 1]) < 0.08


def test_words_categories_and_triples_follow_the_topics():
    world = World(**SMALL)
    data = world.dataset()
    table = data.items.attributes.to_pylist()
    names = {i: row["categories"] for i, row in enumerate(table)}
    knowledge = data.graphs["knowledge"]
    for head, relation, tail in zip(knowledge.head, knowledge.relation, knowledge.tail, strict=True):
        entity = knowledge.entities.raw[int(tail)].as_py()
        expected = names[int(head)] if relation == 0 else [table[int(head)]["maker"]]
        assert entity in expected
    main = world.items.topics[:, 0]
    words = [set(row["description"].split()) for row in table]
    alike = [len(words[a] & words[b]) for a in range(60) for b in range(a) if main[a] == main[b]]
    other = [len(words[a] & words[b]) for a in range(60) for b in range(a) if main[a] != main[b]]
    assert np.mean(alike) > 2 * np.mean(other)
    assert len({row["title"] for row in table}) == len(table)


def test_friends_are_alike():
    world = World(users=2_000, items=100, events=10_000, topics=16, homophily=0.8, friends=10)
    social = world.social()
    pairs = set(zip(social.head.tolist(), social.tail.tolist(), strict=True))
    assert len(pairs) == len(social)
    assert all(a != b and (b, a) in pairs for a, b in pairs)
    assert len(social) / 2_000 == pytest.approx(10, rel=0.1)
    main = world.people(0).main
    chance = np.square(np.bincount(main) / len(main)).sum()
    share = (main[social.head] == main[social.tail]).mean()
    assert share == pytest.approx(0.8 + 0.2 * chance, abs=0.04)
    plain = World(users=2_000, items=100, events=10_000, topics=16, homophily=0.0, friends=10)
    ties = plain.social()
    assert (plain.people(0).main[ties.head] == plain.people(0).main[ties.tail]).mean() == pytest.approx(chance, abs=0.03)


def test_slates_have_the_propensities_they_state():
    world = World(users=4_000, items=40, events=20_000, topics=6, slates=5, exposure=0.3)
    table = world.impressions(0)
    item, propensity = table["item"].to_numpy(), table["propensity"].to_numpy()
    policy = world.truth.logging_policy()
    assert policy.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(np.bincount(item, minlength=40) / len(item), policy, atol=5 * np.sqrt(policy.max() / len(item)))
    np.testing.assert_allclose(propensity, policy[item], rtol=1e-6)
    user, position = table["user"].to_numpy(), table["position"].to_numpy()
    relevance = world.truth.relevance(np.arange(4_000))
    chance = relevance[user, item] / position
    clicks = table["click"].to_numpy(zero_copy_only=False)
    for place in (1, 3, 10):
        rows = position == place
        assert clicks[rows].mean() == pytest.approx(chance[rows].mean(), abs=4 * np.sqrt(0.25 / rows.sum()))
    # Weighting clicks by examination and propensity gives back the mean relevance of every item shown.
    weights = clicks * position / propensity / len(item)
    assert weights.sum() == pytest.approx(relevance.mean(axis=0).sum(), rel=0.05)


def test_slate_times_rise_for_each_person_only():
    table = World(users=500, items=40, events=2_000, slates=3).impressions(0)
    user, when = table["user"].to_numpy(), table["time"].to_numpy()
    same = user[1:] == user[:-1]
    assert (np.diff(when)[same] >= 0).all()
    assert abs(np.corrcoef(user, when)[0, 1]) < 0.15


def test_writing_streams_the_same_world(tmp_path):
    world = World(**SMALL)
    folder = world.write(tmp_path / "world")
    data = world.dataset()
    table = pq.read_table(folder / "interactions.parquet")
    for name, column in zip(("user", "item", "time", "session"), _columns(data.interactions), strict=True):
        np.testing.assert_array_equal(table[name].to_numpy(), column)
    assert pq.read_table(folder / "impressions.parquet").equals(data.impressions)
    assert pq.read_table(folder / "items.parquet").num_rows == SMALL["items"]
    assert len(pq.read_table(folder / "social.parquet")) == len(data.graphs["social"])
    assert [p.name for p in tmp_path.iterdir()] == ["world"]
    with pytest.raises(DataError, match="exists already"):
        world.write(tmp_path / "world")


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="unknown setting"):
        World(user=3)
    with pytest.raises(ConfigError, match="exponent"):
        World(exponent=-1)
    with pytest.raises(DataError, match="no such block"):
        World(**SMALL).events(1)


@pytest.mark.parametrize("settings", [
    {"users": 1, "items": 2, "events": 1, "topics": 1},
    {"users": 5, "items": 3, "events": 40, "topics": 10, "friends": 0, "slates": 0},
    {"users": 3, "items": 2, "events": 3, "topics": 3, "min_events": 0, "spread": 0.0},
])  # fmt: skip
def test_tiny_worlds(settings):
    data = World(**settings).dataset()
    assert data.n_items == settings["items"]
    assert data.n_users == settings["users"]
    assert len(data) <= settings["users"] * settings["items"]


PEAK = """
import resource, sys
from palate.simulate.world import World

World(users=int(sys.argv[1]), items=2_000, events=8 * int(sys.argv[1]), slates=0.5).write(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux alone")
def test_writing_takes_no_more_memory_for_a_larger_world(tmp_path):
    def peak(blocks: int) -> int:
        words = [sys.executable, "-c", PEAK, str(blocks * BLOCK), str(tmp_path / f"world{blocks}")]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    small, large = peak(5), peak(15)
    # Held in memory, ten blocks more would take 26 MB of events, 27 MB of slates and 10 MB of ties.
    assert large - small < 20_000


@pytest.mark.slow
def test_throughput():
    world = World(users=BLOCK, items=100_000, events=BLOCK * 50, topics=64)
    world.events(0)
    started = time.perf_counter()
    drawn = len(world.events(0))
    # Measured 5 million a second on two cores; the bar leaves room for a busy machine.
    assert drawn / (time.perf_counter() - started) > 300_000
