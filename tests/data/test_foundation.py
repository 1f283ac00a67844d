"""The foundation: ragged rows, vocabularies, events, histories, data sets, splits and fingerprints."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.dataset import Dataset, Entities
from palate.data.fingerprint import file_sha256, fingerprint
from palate.data.histories import Histories
from palate.data.interactions import Interactions, concat
from palate.data.protocols import split
from palate.data.ragged import Ragged, in_sorted, offsets_of, renumbered, row_positions
from palate.data.split import Split
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError

ROWS = st.lists(st.lists(st.integers(0, 99), max_size=6), max_size=8)
EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=40)


def columns(events: list[tuple[int, int, int]]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(events, np.int64).reshape(-1, 3).T)


# ---------------------------------------------------------------------------------------------------- ragged rows


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_ragged_is_its_list_of_rows(rows: list[list[int]]) -> None:
    ragged = Ragged.from_rows(rows)
    assert ragged.tolist() == rows
    assert len(ragged) == len(rows)
    assert ragged.lengths.tolist() == [len(r) for r in rows]
    assert ragged.row_numbers.tolist() == [n for n, r in enumerate(rows) for _ in r]
    assert ragged.values.dtype == np.int32


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, data=st.data())
def test_ragged_take_and_slice(rows: list[list[int]], data: st.DataObject) -> None:
    ragged, n = Ragged.from_rows(rows), len(rows)
    wanted = data.draw(st.lists(st.integers(-1, n - 1), max_size=9))
    assert ragged.take(np.array(wanted, np.int64)).tolist() == [[] if w < 0 else rows[w] for w in wanted]
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n + 2))
    assert ragged.slice(start, stop).tolist() == rows[start:stop]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.integers(0, 4), max_size=30))
def test_ragged_group_keeps_order_within_rows(rows: list[int]) -> None:
    grouped = Ragged.group(np.array(rows, np.int64), np.arange(len(rows)), 5)
    assert grouped.tolist() == [[at for at, r in enumerate(rows) if r == row] for row in range(5)]


def test_ragged_of_nothing() -> None:
    assert Ragged.empty(3).tolist() == [[], [], []]
    assert Ragged.from_rows([]).tolist() == []
    assert offsets_of([]).tolist() == [0]
    offsets, at = row_positions(np.array([0]), np.array([-1, -1]))
    assert offsets.tolist() == [0, 0, 0]
    assert at.tolist() == []


# --------------------------------------------------------------------------------------------------- vocabularies


@settings(max_examples=60, deadline=None)
@given(raw=st.lists(st.one_of(st.integers(-(2**62), 2**62)), max_size=30))
def test_vocabulary_numbers_by_first_appearance(raw: list[int]) -> None:
    words, numbers = Vocabulary.of(pa.array(raw, pa.int64()))
    assert words.raw.to_pylist() == list(dict.fromkeys(raw))
    assert numbers.dtype == np.int32
    assert words.decode(numbers).to_pylist() == raw
    assert words.encode(pa.array(raw, pa.int64())).tolist() == numbers.tolist()
    assert [words.number(r) for r in raw] == numbers.tolist()


@settings(max_examples=60, deadline=None)
@given(raw=st.lists(st.text(max_size=5), min_size=1, max_size=20, unique=True), other=st.text(max_size=6))
def test_vocabulary_of_text(raw: list[str], other: str) -> None:
    words = Vocabulary(raw)
    assert words.is_text
    assert words.encode(raw).tolist() == list(range(len(raw)))
    assert words.number(other) == (raw.index(other) if other in raw else -1)


def test_vocabulary_edges() -> None:
    numbers = Vocabulary.range(3)
    assert numbers.encode([2, 7, "1", "x", None]).tolist() == [2, -1, 1, -1, -1]
    assert numbers.decode(np.array([[0, -1]])).to_pylist() == [0, None]
    assert numbers == Vocabulary([0, 1, 2]) != Vocabulary(["0", "1", "2"])
    assert len(Vocabulary([])) == 0
    with pytest.raises(DataError, match="all strings or all integers"):
        Vocabulary([0.5])
    chunks = pa.chunked_array([["a", "b"], ["b", "c"]])
    words, codes = Vocabulary.of(chunks)
    assert (words.raw.to_pylist(), codes.tolist()) == (["a", "b", "c"], [0, 1, 1, 2])


# --------------------------------------------------------------------------------------------------------- events


@settings(max_examples=60, deadline=None)
@given(events=EVENTS)
def test_events_are_sorted_by_user_time_and_file_order(events: list[tuple[int, int, int]]) -> None:
    user, item, time = columns(events)
    table = Interactions.sorted(user, item, time=time)
    by_hand = sorted(range(len(events)), key=lambda at: (user[at], time[at], at))
    assert table.item.tolist() == item[by_hand].tolist()
    assert table.file_order.tolist() == by_hand
    seen = table.time_order
    assert [(t, r) for t, r in zip(table.time[seen], table.file_order[seen], strict=True)] == sorted(
        zip(time.tolist(), range(len(events)), strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(events=EVENTS)
def test_without_times_file_order_is_kept(events: list[tuple[int, int, int]]) -> None:
    user, item, _ = columns(events)
    table = Interactions.sorted(user, item)
    by_hand = sorted(range(len(events)), key=lambda at: user[at])
    assert table.item.tolist() == item[by_hand].tolist()
    assert table.time_order.tolist() == np.argsort(by_hand).tolist()


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, data=st.data())
def test_parts_join_to_the_whole(events: list[tuple[int, int, int]], data: st.DataObject) -> None:
    user, item, time = columns(events)
    table = Interactions.sorted(user, item, time=time, value=item)
    cut = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(events), max_size=len(events))))
    joined = concat(*(table.take(cut == n) for n in data.draw(st.permutations(range(3)))))
    for name in ("user", "item", "time", "value"):
        assert np.array_equal(getattr(joined, name), getattr(table, name))


def test_events_are_frozen_and_typed() -> None:
    table = Interactions.sorted(np.array([1, 0]), np.array([5, 6]), value=np.array([1, 2]), time=np.array([3, 4]))
    assert [c.dtype.name for c in (table.user, table.item, table.time, table.value)] == ["int32", "int32", "int64", "float32"]
    for column in (table.user, table.item, table.time, table.value):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0
    with pytest.raises(FrozenInstanceError):
        table.user = table.item  # type: ignore[misc]
    assert set(table.without("value").columns) == {"user", "item", "time", "row"}


def test_concat_drops_columns_that_a_part_lacks() -> None:
    timed = Interactions.sorted(np.array([0]), np.array([1]), time=np.array([9]))
    plain = Interactions.sorted(np.array([1]), np.array([2]))
    assert concat(timed, plain).time is None
    assert concat(timed, plain.take(np.zeros(1, bool))).time is not None, "an empty part lacks nothing"


# ------------------------------------------------------------------------------------------------------ histories


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_histories_matrix_counts_and_merges(rows: list[list[int]]) -> None:
    histories = Histories.from_rows(rows)
    dense = np.zeros((len(rows), 100), np.float32)
    for n, row in enumerate(rows):
        dense[n, row] = 1
    assert np.array_equal(histories.matrix(100).toarray(), dense)
    values = Histories(histories.offsets, histories.items, values=np.ones(len(histories.items), np.float32))
    summed = np.array([np.bincount(row, minlength=100) for row in rows] or np.zeros((0, 100)))
    assert np.array_equal(values.matrix(100, values=True).toarray(), summed)
    assert histories.items.tolist() == [i for row in rows for i in row], "building a matrix changes nothing"


def test_histories_take_and_slice_carry_every_column() -> None:
    table = Interactions.sorted(
        np.array([0, 0, 1]),
        np.array([3, 4, 5]),
        time=np.array([7, 8, 9]),
        value=np.array([1, 2, 3]),
        action=np.array([0, 1, 0]),
    )
    histories = table.histories(3)
    assert histories.lengths.tolist() == [2, 1, 0]
    taken = histories.take(np.array([1, -1, 0]))
    assert taken.ragged.tolist() == [[5], [], [3, 4]]
    assert (taken.times.tolist(), taken.values.tolist(), taken.actions.tolist()) == ([9, 7, 8], [3, 1, 2], [0, 0, 1])
    part = histories.slice(1, 9)
    assert (part.ragged.tolist(), part.times.tolist()) == ([[5], []], [9])
    assert Histories.empty(2).ragged.tolist() == [[], []]


# ------------------------------------------------------------------------------------------------------ data sets


def test_data_set_facts(tiny_dataset: Dataset) -> None:
    assert (tiny_dataset.n_users, tiny_dataset.n_items, len(tiny_dataset)) == (5, 6, 14)
    assert tiny_dataset.item_counts.tolist() == [3, 3, 2, 2, 2, 2]
    assert tiny_dataset.matrix().sum() == 14
    assert repr(tiny_dataset) == "Dataset('tiny', 5 users, 6 items, 14 interactions)"
    step = tiny_dataset.derive({"step": "nothing"})
    assert step.spec[-1] == {"step": "nothing"}
    assert step.fingerprint == tiny_dataset.fingerprint


def test_labels_are_titles_where_known() -> None:
    ids = Vocabulary(["a", "b"])
    assert Entities(ids).labels(np.array([1, 0])) == ["b", "a"]
    titled = Entities(ids, pa.table({"title": ["Alien", None]}))
    assert titled.labels(np.array([0, 1])) == ["Alien", "b"]
    assert titled.column("genre") is None
    with pytest.raises(DataError, match="1 rows for 2 ids"):
        Entities(ids, pa.table({"title": ["Alien"]}))


# --------------------------------------------------------------------------------------------------- fingerprints


@settings(max_examples=60, deadline=None)
@given(events=EVENTS)
def test_fingerprint_is_of_content_alone(events: list[tuple[int, int, int]]) -> None:
    user, item, time = columns(events)
    one, two = (Dataset.from_columns(user, item, time=time, name=name) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    later = Dataset.from_columns(user, item, time=time + 1)
    text = Dataset.from_columns([str(u) for u in user], item, time=time)
    assert len({one.fingerprint, later.fingerprint, text.fingerprint}) == 3


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([1, 23], [12, 3]),
        (np.array([1, 2], np.int32), np.array([1, 2], np.int64)),
        (np.array([[1, 2]]), np.array([[1], [2]])),
        (pa.array(["a", "bc"]), pa.array(["ab", "c"])),
        (pa.array([1, None]), pa.array([1, 0])),
        ({"a": 1}, {"b": 1}),
        (pa.table({"x": [1]}), pa.table({"y": [1]})),
    ],
)
def test_fingerprints_differ(one: Any, two: Any) -> None:
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(two)


def test_fingerprint_does_not_see_chunks_or_key_order(tmp_path: Any) -> None:
    assert fingerprint(pa.chunked_array([[1, 2], [3]])) == fingerprint(pa.chunked_array([[1], [2, 3]]))
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint("a", "b") != fingerprint("ab")
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --------------------------------------------------------------------------------------------------------- splits


def test_questions_by_hand(small_split: Split) -> None:
    valid, test = small_split.held_out("valid"), small_split.held_out("test")
    assert valid.truth.tolist() == [[2], [1], [0], [3]]
    assert valid.histories.ragged.tolist() == [[0, 1], [0, 2], [1, 3], [0, 4]]
    assert test.truth.tolist() == [[3], [4], [2], [1]]
    assert test.histories.ragged.tolist() == [[0, 1, 2], [0, 2, 1], [1, 3, 0], [0, 4, 3]]
    assert test.times is not None and test.times.tolist() == [4, 4, 4, 4]
    some = test.take(np.array([2, 0]))
    assert (some.users.tolist(), some.truth.tolist(), some.part) == ([2, 0], [[2], [3]], "test")


def test_looks_at_the_test_part_are_counted(small_split: Split) -> None:
    small_split.held_out("valid")
    small_split.people("test")
    small_split.full_train()
    assert small_split.looks == 0
    for n in (1, 2):
        small_split.held_out("test")
        assert small_split.looks == n


def test_a_part_that_is_not_there() -> None:
    train = Dataset.from_columns([0], [0])
    with pytest.raises(DataError, match="no test part"):
        Split(train, None, None, {"protocol": "by hand"}).held_out("test")
    assert Split(train, None, None, {}).full_train() is train


def test_repeated_answers_count_once_and_the_first_is_the_next() -> None:
    train = Dataset.from_columns([0, 1], [0, 1], time=[0, 0], value=[1, 1])
    number = train.items.ids.encode([1, 0, 1, 0])
    test = Interactions.sorted(np.array([0, 0, 0, 1]), number, time=np.array([5, 6, 7, 8]), value=np.array([3, 4, 5, 2]))
    made = Split(train, None, test, {})
    every, first = made.held_out("test"), made.held_out("test", targets="first")
    assert every.truth.tolist() == [[1, 0], [0]]
    assert every.gains is not None and every.gains.tolist() == [3, 4, 2]
    assert first.truth.tolist() == [[1], [0]]


@settings(max_examples=60, deadline=None)
@given(events=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), min_size=12, max_size=50))
def test_held_out_never_leaks(events: list[tuple[int, int, int]]) -> None:
    """What may be known when asked is older than every answer; training alone is what validation knows."""
    user, item, time = columns(events)
    data = Dataset.from_columns(user, item, time=time, value=np.arange(len(user)))
    try:
        made = split(data, "leave_one_out")
    except DataError:
        return
    for part in ("valid", "test"):
        asked = made.held_out(part)
        users, known = made.people(part)
        assert np.array_equal(users, asked.users)
        assert np.array_equal(known.items, asked.histories.items)
        for row, person in enumerate(asked.users):
            history = asked.histories.slice(row, row + 1)
            assert asked.times is not None and history.times is not None and history.values is not None
            assert (history.times <= asked.times[row]).all()
            answers = made.valid if part == "valid" else made.test_part
            assert answers is not None and answers.value is not None
            assert not set(history.values.tolist()) & set(answers.value[answers.user == person].tolist())
            assert not set(made.train.interactions.value.tolist()) & set(answers.value.tolist())


def test_split_fingerprint_sees_every_part(small_split: Split) -> None:
    prints = {small_split.fingerprint}
    for name in ("valid", "test_part"):
        part = getattr(small_split, name)
        prints.add(replace(small_split, **{name: part.take(np.arange(3))}).fingerprint)
        prints.add(replace(small_split, **{name: None}).fingerprint)
    prints.add(replace(small_split, valid_context=small_split.valid).fingerprint)
    prints.add(replace(small_split, test_context=small_split.valid).fingerprint)
    assert len(prints) == 7
    assert replace(small_split, looks=9).fingerprint in prints, "looks are no content"


def test_full_train_joins_training_and_validation(small_split: Split) -> None:
    both = small_split.full_train()
    assert both.histories.ragged.tolist() == [[0, 1, 2], [0, 2, 1], [1, 3, 0], [0, 4, 3]]
    assert both.spec[-1] == {"step": "train + valid"}


@pytest.mark.parametrize("known", [[], [3], [1, 4, 9]])
def test_numbers_are_found_in_a_sorted_list(known: list[int]) -> None:
    asked = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(in_sorted(np.array(known, np.int64), asked), np.isin(asked, known))


@pytest.mark.parametrize("n", [40, 100_000])
def test_renumbered_by_a_table_or_by_sorting(n: int) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(40, size=(5, 3)), rng.integers(40, size=9).astype(np.int32)
    found, a, b = renumbered(n, first, second)
    np.testing.assert_array_equal(found, np.unique(np.concatenate([first.ravel(), second])))
    np.testing.assert_array_equal(found[a], first)
    np.testing.assert_array_equal(found[b], second)
    assert [len(part) for part in renumbered(n, np.empty(0, np.int64))] == [0, 0]
