"""Drawing events: the fast form equals the plain one, and a person's events depend on nobody else."""

import numpy as np
import pytest

from palate.kernels.events import Draw, draw_events, draw_events_reference
from palate.simulate.world import World


@pytest.mark.parametrize("repeats", [False, True])
def test_events_equal_the_plain_form(repeats):
    world = World(users=60, items=50, events=1_500, topics=5, repeats=repeats)
    people = world.people(0)
    shares, base = world._observed_shares(people)
    draw = Draw(2**62 + 12_345, 0.4, 4.0, 1_000, 86_400, repeats)
    arguments = (people.users, people.counts, shares, people.topics, base, world.items.table, draw)
    for fast, plain in zip(draw_events(*arguments), draw_events_reference(*arguments), strict=True):
        np.testing.assert_array_equal(fast, plain)
        assert fast.dtype == plain.dtype


def test_people_do_not_depend_on_their_company():
    world = World(users=40, items=50, events=1_000, topics=5)
    people = world.people(0)
    shares, base = world._observed_shares(people)
    draw = Draw(99, 0.4, 4.0, 0, 86_400, False)
    whole = draw_events(people.users, people.counts, shares, people.topics, base, world.items.table, draw)
    ends = np.cumsum(people.counts)
    for at in (0, 7, 39):
        rows = slice(at, at + 1)
        alone = draw_events(
            people.users[rows], people.counts[rows], shares[rows], people.topics[rows], base, world.items.table, draw
        )
        for column, expected in zip(alone, whole, strict=True):
            np.testing.assert_array_equal(column, expected[ends[at] - people.counts[at] : ends[at]])


def test_nobody_and_nothing():
    world = World(users=3, items=5, events=10, topics=2)
    people = world.people(0)
    shares, base = world._observed_shares(people)
    draw = Draw(1, 0.0, 2.0, 0, 10, True)
    none = np.zeros(3, np.int64)
    found = draw_events(people.users, none, shares, people.topics, base, world.items.table, draw)
    assert [len(column) for column in found] == [0, 0, 0]
