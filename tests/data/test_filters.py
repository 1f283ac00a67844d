"""Filters against hand-computed cases and plain references."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.dataset import Dataset, Entities, Graph
from palate.data.filters import (
    FILTERS,
    compact,
    dedup,
    k_core,
    min_value,
    positive,
    random_places,
    replay,
    subset_users,
    time_window,
)
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError

EVENTS = [  # user, item, time, value
    ("a", "x", 30, 5.0),
    ("a", "y", 10, 2.0),
    ("a", "x", 20, 1.0),
    ("b", "x", 40, 4.0),
    ("b", "z", 50, 3.0),
    ("c", "w", 60, 5.0),
]


def toy() -> Dataset:
    user, item, time, value = zip(*EVENTS, strict=True)
    return Dataset.from_columns(list(user), list(item), time=list(time), value=list(value), name="toy")


def full() -> Dataset:
    """The toy data with attributes, graphs and logs: users a b c, items x y z w."""
    data = toy()
    entities = Vocabulary(["e1", "e2"])
    social = Graph(*_int([0, 1, 2], [0, 0, 0], [1, 2, 0]), "user", "user", Vocabulary(["friend"]), weight=np.float32([1, 2, 3]))
    knowledge = Graph(*_int([0], [0], [1]), "entity", "entity", Vocabulary(["r"]), entities, np.int32([0, 1, -1, 1]))
    return replace(
        data,
        users=Entities(data.users.ids, pa.table({"age": [1, 2, 3]})),
        items=Entities(data.items.ids, pa.table({"title": ["X", "Y", "Z", "W"], "tags": [["p"], [], None, ["q", "r"]]})),
        graphs={"social": social, "knowledge": knowledge},
        impressions=pa.table({"user": pa.array([0, 2, None], pa.int32()), "item": pa.array([3, 1, 0], pa.int32())}),
        searches=pa.table({"query": ["q", "r"], "items": pa.array([[0, 3], []], pa.list_(pa.int32()))}),
    )


def _int(*columns):
    return (np.array(c, np.int32) for c in columns)


def rows(data: Dataset):
    events = data.interactions
    users, items = data.users.ids.decode(events.user).to_pylist(), data.items.ids.decode(events.item).to_pylist()
    times = [None] * len(events) if events.time is None else events.time.tolist()
    values = [None] * len(events) if events.value is None else events.value.tolist()
    return list(zip(users, items, times, values, strict=True))


def test_min_value_keeps_rows_and_renumbers():
    kept = min_value(toy(), 4)
    assert rows(kept) == [("a", "x", 30, 5.0), ("b", "x", 40, 4.0), ("c", "w", 60, 5.0)]
    assert kept.items.ids.raw.to_pylist() == ["x", "w"]
    assert kept.interactions.file_order.tolist() == [0, 3, 5]


def test_every_filter_is_recorded():
    kept = time_window(min_value(toy(), 2), 20)
    steps = [step["step"] for step in kept.spec]
    assert steps[:2] == ["columns", "min_value"]
    assert {"step": "min_value", "threshold": 2, "rows": 5, "rows_removed": 1} in kept.spec
    assert {"step": "time_window", "start": 20, "end": None, "rows": 4, "rows_removed": 1} in kept.spec
    assert toy().spec == ({"step": "columns"},)


def test_a_spec_replays_its_filters():
    some = positive(subset_users(time_window(min_value(toy(), 2), 20), 3, seed=1), [":3"])
    kept = k_core(dedup(some, keep="first"), user=1, item=1, iterate=False)
    again = replay(toy(), json.loads(json.dumps(kept.spec)))
    assert again.fingerprint == kept.fingerprint != toy().fingerprint
    assert [step["step"] for step in again.spec] == [step["step"] for step in kept.spec]
    assert set(FILTERS) <= {step["step"] for step in kept.spec}
    assert replay(toy(), toy().spec).fingerprint == toy().fingerprint


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("first", [("a", "y", 10, 2.0), ("a", "x", 20, 1.0)]),
        ("last", [("a", "y", 10, 2.0), ("a", "x", 30, 5.0)]),
        ("max", [("a", "y", 10, 2.0), ("a", "x", 30, 5.0)]),
        ("sum", [("a", "y", 10, 2.0), ("a", "x", 30, 6.0)]),
    ],
)
def test_dedup(keep, expected):
    merged = dedup(toy(), keep)
    assert rows(merged)[:2] == expected
    assert merged.spec[-1] == {"step": "dedup", "keep": keep, "rows": 5, "rows_removed": 1}


def test_dedup_max_takes_the_earliest_of_equals():
    data = Dataset.from_columns([1, 1, 1, 2], [7, 7, 7, 7], time=[1, 2, 3, 1], value=[4.0, 5.0, 5.0, 1.0])
    assert rows(dedup(data, "max")) == [(1, 7, 2, 5.0), (2, 7, 1, 1.0)]


def test_dedup_sum_counts_where_there_are_no_values():
    data = Dataset.from_columns([1, 1, 1, 2], [7, 8, 7, 7])
    assert dedup(data, "sum").interactions.value.tolist() == [1.0, 2.0, 1.0]
    assert dedup(data, "sum").interactions.item.tolist() == [1, 0, 0]


def test_dedup_without_times_goes_by_file_order():
    data = Dataset.from_columns([1, 2, 1], [7, 7, 7], value=[1.0, 2.0, 3.0])
    assert dedup(data, "first").interactions.value.tolist() == [1.0, 2.0]
    assert dedup(data, "last").interactions.value.tolist() == [3.0, 2.0]


def test_time_window_is_half_open_and_reads_dates():
    assert [r[2] for r in rows(time_window(toy(), 20, 50))] == [20, 30, 40]
    day = 86_400
    data = Dataset.from_columns([1, 2, 3], [1, 2, 3], time=[day - 1, day, 2 * day])
    for start in ("1970-01-02", date(1970, 1, 2), "1970-01-02T00:00:00", np.int64(day), str(day)):
        assert time_window(data, start, "1970-01-03").interactions.time.tolist() == [day]


def test_k_core_iterated_and_once():
    #  u1: a b, u2: a b, u3: b c, u4: c.  Once: u4 and nothing else goes; iterated: then c (1 event), then u3.
    data = Dataset.from_columns([1, 1, 2, 2, 3, 3, 4], ["a", "b", "a", "b", "b", "c", "c"])
    once = k_core(data, 2, 2, iterate=False)
    assert [r[:2] for r in rows(once)] == [(1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "b"), (3, "c")]
    core = k_core(data, 2, 2)
    assert core.users.ids.raw.to_pylist() == [1, 2]
    assert core.items.ids.raw.to_pylist() == ["a", "b"]
    assert next(s for s in core.spec if s["step"] == "k_core")["rounds"] == 3


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=60), st.integers(0, 4), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_k_core_equals_plain_reference(pairs, user, item):
    expected = list(pairs)
    while True:
        kept = [p for p in expected if sum(q[0] == p[0] for q in expected) >= user]
        kept = [p for p in kept if sum(q[1] == p[1] for q in kept) >= item]
        if kept == expected:
            break
        expected = kept
    data = Dataset.from_columns(*map(list, zip(*pairs, strict=True)))
    if not expected:
        with pytest.raises(DataError):
            k_core(data, user, item)
        return
    core = k_core(data, user, item)
    assert sorted(r[:2] for r in rows(core)) == sorted(expected)
    assert core.item_counts.min() >= max(1, item)
    assert core.histories.lengths.min() >= max(1, user)


def test_subset_users_is_repeatable_and_whole():
    data = toy()
    first, again = subset_users(data, 2, seed=3), subset_users(data, 2, seed=3)
    assert first.fingerprint == again.fingerprint
    assert first.n_users == 2
    chosen = set(first.users.ids.raw.to_pylist())
    assert sorted(rows(first)) == sorted(r for r in rows(data) if r[0] in chosen)
    assert len({tuple(subset_users(data, 1, seed=s).users.ids.raw.to_pylist()) for s in range(20)}) == 3
    assert subset_users(data, 99).n_users == 3


def test_compact_takes_attributes_graphs_and_logs_along():
    kept = min_value(full(), 3)  # y goes, all users stay
    assert kept.items.ids.raw.to_pylist() == ["x", "z", "w"]
    assert kept.items.attributes.to_pydict() == {"title": ["X", "Z", "W"], "tags": [["p"], None, ["q", "r"]]}
    assert kept.graphs["knowledge"].item_entity.tolist() == [0, -1, 1]
    assert kept.impressions.column("item").to_pylist() == [2, None, 0]
    assert kept.searches.column("items").to_pylist() == [[0, 2], []]
    assert kept.impressions.column("user").to_pylist() == [0, 2, None]


def test_compact_drops_links_of_users_that_go():
    kept = time_window(full(), end=55)  # c goes
    social = kept.graphs["social"]
    assert (social.head.tolist(), social.tail.tolist(), social.weight.tolist()) == ([0], [1], [1.0])
    assert kept.users.attributes.to_pydict() == {"age": [1, 2]}
    assert kept.impressions.column("user").to_pylist() == [0, None, None]
    assert len(kept.graphs["knowledge"]) == 1


def test_compact_of_what_is_compact_is_the_same():
    data = toy()
    assert compact(data) is data


def test_columns_stay_read_only():
    kept = min_value(toy(), 4)
    with pytest.raises(ValueError, match="read-only"):
        kept.interactions.item[0] = 9


def test_bad_settings_are_errors():
    plain = Dataset.from_columns([1, 2], [1, 2])
    for wrong in (
        lambda: min_value(plain, 1),
        lambda: time_window(plain, 1),
        lambda: dedup(plain, "max"),
        lambda: min_value(toy(), 9),
    ):
        with pytest.raises(DataError):
            wrong()
    for wrong in (
        lambda: dedup(toy(), "frist"),
        lambda: k_core(toy(), -1),
        lambda: subset_users(toy(), 0),
        lambda: time_window(toy(), "x"),
    ):
        with pytest.raises(ConfigError):
            wrong()


def test_random_places_number_the_events_of_each_person() -> None:
    user = np.repeat(np.arange(400), 5)[:-2]
    data = Dataset.from_columns(user, np.arange(len(user)))
    place = random_places(data, np.random.default_rng(0))
    rows = data.interactions.user
    assert all(sorted(place[rows == person]) == list(range((rows == person).sum())) for person in range(data.n_users))
    first = [int(np.flatnonzero(place[rows == person] == 0)[0]) for person in range(399)]
    assert np.bincount(first, minlength=5).min() > 50, "each event is as likely to be the first"
    assert (place == random_places(data, np.random.default_rng(0))).all()
