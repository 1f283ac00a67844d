"""Protocols: hand-made cuts, properties that hold for all data, and specs that rebuild their split."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.dataset import Dataset, Entities, Graph
from palate.data.filters import k_core
from palate.data.interactions import Interactions, concat
from palate.data.protocols import PROTOCOLS, as_sessions, from_parts, rebuild, rolling, split
from palate.data.protocols.cut import moment
from palate.data.split import Split
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError

OPTIONS = {
    "leave_one_out": {},
    "global_time": {"valid": 0.2, "test": 0.2},
    "user_ratio": {"valid": 0.2, "test": 0.2, "order": "random"},
    "held_out_users": {"valid": 0.3, "test": 0.3, "min_events": 2},
    "held_out_items": {"valid": 0.3, "test": 0.3, "min_events": 1},
    "sessions": {"gap": 3, "valid": 0.2, "test": 0.3},
    "next_event": {"repeats": True},
}


def people(*rows: list[int], times: list[list[int]] | None = None) -> Dataset:
    """Build a data set: one list of items a user, in order; times count on through the file unless given."""
    user = [u for u, row in enumerate(rows) for _ in row]
    item = [i for row in rows for i in row]
    time = list(range(len(user))) if times is None else [t for row in times for t in row]
    return Dataset.from_columns(user, item, time=time, name="people")


def raw(data: Dataset, events: Interactions | None) -> list[tuple[int, int]]:
    """Return (user, item) raw ids."""
    if events is None:
        return []
    return list(
        zip(data.users.ids.decode(events.user).to_pylist(), data.items.ids.decode(events.item).to_pylist(), strict=True)
    )


def parts_of(made: Split) -> list[Interactions]:
    every = (made.train.interactions, made.valid, made.test_part, made.valid_context, made.test_context)
    return [p for p in every if p is not None]


@st.composite
def data_sets(draw: st.DrawFn) -> Dataset:
    """Draw data of 3 to 8 users with 4 to 9 events each, times full of ties."""
    n = draw(st.integers(3, 8))
    user = np.repeat(np.arange(n), draw(st.lists(st.integers(4, 9), min_size=n, max_size=n)))
    size = len(user)
    item = np.array(draw(st.lists(st.integers(0, 12), min_size=size, max_size=size)))
    time = np.array(draw(st.lists(st.integers(0, 30), min_size=size, max_size=size)))
    file_order = np.array(draw(st.permutations(range(size))))
    return Dataset.from_columns(user[file_order], item[file_order], time=time[file_order])


def test_leave_one_out_by_hand() -> None:
    data = people([1, 2, 3, 4], [5, 6], [7, 8, 9])
    made = split(data, "leave_one_out")
    assert raw(data, made.test_part) == [(0, 4), (2, 9)]
    assert raw(data, made.valid) == [(0, 3), (2, 8)]
    assert raw(data, made.train.interactions) == [(0, 1), (0, 2), (1, 5), (1, 6), (2, 7)]
    assert made.train.n_items == data.n_items, "training keeps the whole vocabulary"


def test_leave_one_out_of_more_than_one() -> None:
    data = people([1, 2, 3, 4, 5], [6, 7, 8])
    made = split(data, "leave_one_out", valid=0, test=2)
    assert raw(data, made.test_part) == [(0, 4), (0, 5), (1, 7), (1, 8)]
    assert made.valid is None


def test_equal_times_keep_file_order() -> None:
    data = Dataset.from_columns([0, 0, 0, 0], [9, 3, 7, 1], time=[5, 5, 5, 5])
    made = split(data, "leave_one_out")
    assert raw(data, made.valid) == [(0, 7)]
    assert raw(data, made.test_part) == [(0, 1)]
    assert data.items.ids.decode(made.held_out("test").histories.items).to_pylist() == [9, 3, 7]


def test_without_times_file_order_says_what_came_last() -> None:
    data = Dataset.from_columns(["b", "a", "b", "a", "b", "a"], [1, 2, 3, 4, 5, 6])
    made = split(data, "leave_one_out")
    assert raw(data, made.test_part) == [("b", 5), ("a", 6)]


def test_global_time_by_shares() -> None:
    data = people([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    made = split(data, "global_time", valid=0.2, test=0.3)
    assert (made.spec["valid_at"], made.spec["test_at"]) == (5, 7)
    assert raw(data, made.test_part) == [(1, 8), (1, 9), (1, 10)]
    assert raw(data, made.valid) == [(1, 6), (1, 7)]


def test_global_time_keeps_equal_times_together() -> None:
    data = Dataset.from_columns(range(10), range(10), time=[0, 1, 2, 3, 4, 7, 7, 7, 7, 7])
    made = split(data, "global_time", valid=0.0, test=0.2)
    assert made.spec["test_at"] == 7
    assert len(made.test_part or ()) == 5


def test_global_time_at_moments_and_dates() -> None:
    day = 86_400
    data = Dataset.from_columns([0] * 6, range(6), time=[n * day for n in range(6)])
    made = split(data, "global_time", valid_at=2 * day, test_at="1970-01-05", until="1970-01-06")
    assert [len(p) for p in parts_of(made)] == [2, 2, 1]
    assert moment("1970-01-02T00:00:01", "x") == day + 1
    alone = split(data, "global_time", test_at=3 * day)
    assert alone.valid is None
    assert len(alone.train) == 3


def test_global_time_of_no_test_share() -> None:
    made = split(people(list(range(10))), "global_time", valid=0.3, test=0)
    assert made.test_part is None
    assert len(made.valid or ()) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"valid_at": 5},
        {"valid_at": 7, "test_at": 5},
        {"test_at": 5, "until": 4},
        {"test_at": "yesterday"},
        {"test_at": "NaT"},
        {"test": 1.0},
        {"test": -0.1},
        {"test": float("nan")},
        {"test": "0.1"},
        {"valid": 0.6, "test": 0.5},
        {"valid": 0, "test": 0},
    ],
)
def test_global_time_refuses(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        split(people(list(range(10))), "global_time", **options)


def test_user_ratio_by_time() -> None:
    data = people(list(range(10)), [20, 21])
    made = split(data, "user_ratio", valid=0.2, test=0.3)
    assert raw(data, made.test_part) == [(0, 7), (0, 8), (0, 9), (1, 21)]
    assert raw(data, made.valid) == [(0, 5), (0, 6)]


def test_user_ratio_at_random_depends_on_the_seed_alone() -> None:
    data = people(list(range(30)), list(range(30, 60)))
    prints = [split(data, "user_ratio", order="random", seed=s, test=0.3).fingerprint for s in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]
    assert prints[0] != split(data, "user_ratio", order="time", seed=1, test=0.3).fingerprint


@pytest.mark.parametrize("protocol", ["leave_one_out", "held_out_users"])
def test_any_events_may_be_the_answers(protocol: str) -> None:
    """A file sorted by item: the latest are the items of the greatest numbers, any are like the others."""
    rng = np.random.default_rng(0)
    item = np.concatenate([np.sort(rng.choice(100, 10, replace=False)) for _ in range(300)])
    data = Dataset.from_columns(np.repeat(np.arange(300), 10), item)
    made = {order: split(data, protocol, order=order, seed=1) for order in ("time", "random")}
    means = {order: np.mean(data.items.ids.decode(one.test_part.item).to_pylist()) for order, one in made.items()}
    assert means["time"] > 75 and 40 < means["random"] < 60
    again, other = (split(data, protocol, order="random", seed=seed) for seed in (1, 2))
    assert again.fingerprint == made["random"].fingerprint != other.fingerprint
    assert made["time"].fingerprint == split(data, protocol, seed=1).fingerprint
    assert "order" not in made["time"].spec and rebuild(data, again.spec).fingerprint == again.fingerprint
    assert len(made["random"].test_part) == len(made["time"].test_part)
    with pytest.raises(ConfigError, match="unknown order"):
        split(data, protocol, order="tme")


def test_held_out_users_are_asked_for_their_latest_events() -> None:
    data = people(*([10 * u + n for n in range(5)] for u in range(10)))
    made = split(data, "held_out_users", valid=0.2, test=0.3, answers=0.4)
    assert made.test_part is not None and made.test_context is not None and made.valid is not None
    assert np.bincount(made.test_part.user, minlength=10).tolist().count(2) == 3
    assert set(made.test_part.item % 5) == {3, 4}
    assert set(made.test_context.item % 5) == {0, 1, 2}
    seen = set(made.train.interactions.user.tolist())
    assert not seen & set(made.test_part.user.tolist())
    assert not seen & set(made.valid.user.tolist())
    asked = made.held_out("test")
    assert (asked.histories.lengths == 3).all(), "the context is folded in"


def test_held_out_items_are_new_to_training_and_all_that_is_asked() -> None:
    rows = [[(u + k) % 12 for k in range(8)] for u in range(20)]
    data = people(*rows)
    made = split(data, "held_out_items", valid=0.25, test=0.25)
    parts = [made.train.interactions, made.valid, made.test_part]
    items = [set(part.item.tolist()) for part in parts]
    assert [len(group) for group in items] == [6, 3, 3] and not (
        items[0] & items[1] | items[0] & items[2] | items[1] & items[2]
    )
    assert made.train.n_items == 12
    other = split(data, "held_out_items", valid=0.25, test=0.25, seed=1)
    assert set(other.test_part.item.tolist()) != items[2]
    found = made.audit().findings
    assert "unseen-items" in {f.code for f in found} and all(f.severity != "hard" for f in found)


def test_held_out_items_needs_items_with_events() -> None:
    with pytest.raises(DataError, match="no item can be held out"):
        split(people([1, 2], [3, 4]), "held_out_items")


def test_held_out_users_needs_users_with_events() -> None:
    with pytest.raises(DataError, match="no user can be held out"):
        split(people([1, 2], [3, 4]), "held_out_users")


def test_sessions_by_gap() -> None:
    data = people([1, 2, 3, 4], [5, 6, 7], times=[[0, 10, 500, 510], [600, 605, 900]])
    by = as_sessions(data, gap=100)
    assert by.users.ids.raw.to_pylist() == ["0/0", "0/1", "1/0", "1/1"]
    assert by.histories.ragged.tolist() == [[0, 1], [2, 3], [4, 5], [6]]
    made = split(data, "sessions", gap=100, valid=0, test=0.5)
    assert raw(by, made.test_part) == [("1/0", 6)], "a session of one event asks nothing"
    assert raw(by, made.test_context) == [("1/0", 5)]
    assert raw(by, made.train.interactions) == [("0/0", 1), ("0/0", 2), ("0/1", 3), ("0/1", 4)]


def test_sessions_by_column_join_interrupted_pieces() -> None:
    data = people([1, 2, 3, 4], [5, 6])
    events = Interactions.sorted(
        data.interactions.user, data.interactions.item, time=data.interactions.time, session=np.array([7, 8, 7, 8, 7, 7])
    )
    by = as_sessions(replace(data, interactions=events))
    assert by.users.ids.raw.to_pylist() == ["0/0", "0/1", "1/0"]
    assert [by.items.ids.decode(row).to_pylist() for row in by.histories.ragged.tolist()] == [[1, 3], [2, 4], [5, 6]]


def test_sessions_need_a_column_or_times() -> None:
    with pytest.raises(DataError, match="session ids or times"):
        split(Dataset.from_columns([1, 1, 2], [1, 2, 3]), "sessions")


def test_rolling_windows_follow_each_other() -> None:
    day = 86_400
    data = Dataset.from_columns([n % 3 for n in range(20)], range(20), time=[n * day for n in range(20)])
    made = rolling(data, windows=3, days=2)
    assert [[len(p) for p in parts_of(s)] for s in made] == [[12, 2, 2], [14, 2, 2], [16, 2, 2]]
    tested = [s.test_part.time for s in made if s.test_part is not None]
    assert len(tested) == 3
    for earlier, later in pairwise(tested):
        assert earlier.max() < later.min()
    assert tested[-1].max() == data.interactions.time.max()
    for s in made:
        assert rebuild(data, s.spec).fingerprint == s.fingerprint
    assert all(s.valid is None for s in rolling(data, windows=1, days=2, valid_days=0))


def test_rolling_refuses_too_many_windows() -> None:
    data = Dataset.from_columns([0, 1], [0, 1], time=[0, 86_400])
    with pytest.raises(DataError, match="nothing to learn from"):
        rolling(data, windows=5, days=7)
    with pytest.raises(ConfigError):
        rolling(data, windows=0)
    with pytest.raises(ConfigError):
        rolling(data, days=0)


def test_given_parts_are_brought_together_by_raw_id() -> None:
    train = Dataset.from_columns(["a", "a", "b"], ["x", "y", "x"])
    test = Dataset.from_columns(["b", "c"], ["z", "y"])
    made = split(train, "given", test=test)
    assert made.train.users.ids.raw.to_pylist() == ["a", "b", "c"]
    assert made.train.items.ids.raw.to_pylist() == ["x", "y", "z"]
    assert raw(made.train, made.test_part) == [("b", "z"), ("c", "y")]
    assert raw(made.train, made.train.interactions) == raw(train, train.interactions)
    assert rebuild(train, made.spec, test=test).fingerprint == made.fingerprint


def test_given_carves_validation_from_training() -> None:
    train = people(list(range(10)), list(range(10, 20)))
    test = Dataset.from_columns([0, 1], [10, 0], time=[99, 99])
    made = split(train, "given", test=test, valid=0.2)
    assert np.bincount((made.valid or train.interactions).user).tolist() == [2, 2]
    assert len(made.train) == 16
    assert rebuild(train, made.spec, test=test).fingerprint == made.fingerprint
    latest = split(train, "given", test=test, valid=0.2, order="time")
    assert raw(latest.train, latest.valid) == [(0, 8), (0, 9), (1, 18), (1, 19)]


def test_given_validation_comes_after_training_in_histories() -> None:
    train = Dataset.from_columns([0, 0, 0], [1, 2, 3])
    valid, test = Dataset.from_columns([0, 0], [4, 5]), Dataset.from_columns([0], [6])
    made = split(train, "given", valid=valid, test=test)
    asked = made.held_out("test")
    assert made.train.items.ids.decode(asked.histories.items).to_pylist() == [1, 2, 3, 4, 5]


def test_given_keeps_attributes_names_and_graphs() -> None:
    def part(items: list[str], titles: list[str], actions: list[str], codes: list[int]) -> Dataset:
        data = Dataset.from_columns([0] * len(items), items)
        events = Interactions.sorted(data.interactions.user, data.interactions.item, action=np.array(codes))
        known = Entities(data.items.ids, pa.table({"title": titles}))
        return replace(data, interactions=events, items=known, actions=Vocabulary(pa.array(actions)))

    train = part(["x", "y"], ["X", "Y"], ["view", "buy"], [0, 1])
    links = Graph(
        np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32), "entity", "entity", Vocabulary.range(1),
        Vocabulary.range(1), np.array([0, -1], np.int32),
    )  # fmt: skip
    train = replace(train, graphs={"knowledge": links})
    made = split(train, "given", test=part(["z", "x"], ["Z", "other"], ["buy", "rate"], [1, 0]))
    assert made.train.items.labels(np.arange(3)) == ["X", "Y", "Z"]
    assert made.train.actions is not None and made.test_part is not None
    assert made.train.actions.decode(made.test_part.action).to_pylist() == ["rate", "buy"]
    entity = made.train.graphs["knowledge"].item_entity
    assert entity is not None and entity.tolist() == [0, -1, -1]


def test_parts_are_taken_by_their_names() -> None:
    train, valid, test = people([1, 2, 3], [4, 5]), people([6], [1]), people([7], [2])
    made = from_parts({"train": replace(train, name="mine/train"), "valid": valid, "test": test})
    assert (made.train.name, len(made.valid or ()), len(made.test_part or ())) == ("mine", 2, 2)
    carved = from_parts({"train": train, "test": test}, valid=0.4, order="time")
    assert raw(carved.train, carved.valid) == [(0, 3), (1, 5)]
    with pytest.raises(DataError, match="a training and a test part"):
        from_parts({"train": train, "valid": valid})


def test_given_refuses_ids_of_two_types_and_empty_parts() -> None:
    train = Dataset.from_columns(["a"], ["x"])
    with pytest.raises(DataError, match="user ids are of different types"):
        split(train, "given", test=Dataset.from_columns([1], ["x"]))
    with pytest.raises(DataError, match="empty"):
        split(train, "given", test=Dataset.from_columns([], []))
    with pytest.raises(ConfigError, match="test part"):
        split(train, "given")


def test_unknown_protocol_and_option_name_the_nearest() -> None:
    data = people([1, 2, 3, 4])
    with pytest.raises(ConfigError, match="global_time"):
        split(data, "globaltime")
    with pytest.raises(ConfigError, match="did you mean 'answers'"):
        split(data, "held_out_users", answer=0.5)
    with pytest.raises(ConfigError, match="random"):
        split(data, "user_ratio", order="randomly")


def test_nothing_held_out_and_nothing_learnt_are_errors() -> None:
    with pytest.raises(DataError, match="nothing is held out"):
        split(people([1], [2, 3]), "leave_one_out")
    with pytest.raises(DataError, match="nothing is left to learn from"):
        split(people([1, 2, 3]), "global_time", test_at=0)
    with pytest.raises(DataError, match="needs times"):
        split(Dataset.from_columns([1, 2], [1, 2]), "global_time")


def test_rebuild_refuses_other_data() -> None:
    data, other = people([1, 2, 3, 4]), people([1, 2, 4, 3])
    with pytest.raises(DataError, match="not the data"):
        rebuild(other, split(data, "leave_one_out").spec)


def test_rebuild_from_the_source_as_it_was_read() -> None:
    source = people([1, 2, 3, 4, 9], [1, 2, 3, 4], [1, 2])
    made = split(k_core(source, user=3, item=2), "leave_one_out")
    with pytest.raises(DataError, match="not the data"):
        rebuild(source, made.spec)
    again = rebuild(source, made.spec, steps=made.train.spec)
    assert again.fingerprint == made.fingerprint
    assert again.train.spec == made.train.spec


@pytest.mark.parametrize("protocol", sorted(OPTIONS))
@settings(max_examples=25, deadline=None)
@given(data=data_sets(), seed=st.integers(0, 5))
def test_every_protocol(protocol: str, data: Dataset, seed: int) -> None:
    try:
        made = split(data, protocol, seed=seed, **OPTIONS[protocol])
    except DataError:
        assert protocol in ("global_time", "sessions", "held_out_items", "next_event"), (
            "only ties, lone events and one item may leave a side empty"
        )
        return
    whole = as_sessions(data, gap=3) if protocol == "sessions" else data
    assert rebuild(data, made.spec).fingerprint == made.fingerprint
    assert made.train.users.ids == whole.users.ids
    assert made.train.items.ids == whole.items.ids
    rows = np.concatenate([p.file_order for p in parts_of(made)])
    assert len(np.unique(rows)) == len(rows), "no event stands in two parts"
    assert set(rows.tolist()) <= set(whole.interactions.file_order.tolist())
    if protocol != "sessions":
        assert len(rows) == len(data), "no event is lost"
        joined = concat(*parts_of(made))
        assert np.array_equal(joined.item, data.interactions.item)
        assert np.array_equal(joined.time, data.interactions.time)
    if protocol == "global_time":
        assert made.train.interactions.time.max() < made.spec["valid_at"] <= made.spec["test_at"]


def test_the_table_of_protocols_is_complete() -> None:
    assert set(OPTIONS) | {"given", "next_product"} == set(PROTOCOLS)  # next_product: tests/data/test_event_sequences.py
