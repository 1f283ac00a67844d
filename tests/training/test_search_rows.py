"""Interactions with their queries: order, lists with a query left out, told pairs, and epochs."""

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset
from palate.data.readers.logs import read_searches
from palate.retrieval.tokens import tokens
from palate.training.samplers import Unseen
from palate.training.search_rows import RowEpoch, SearchRows, ToldPairs

SEARCHES = {
    "user": ["a", "a", "b", "b", "a"],
    "query": ["red shoe", "red hat", "red", "???", "blue"],
    "items": [["x"], ["y"], ["x"], ["y"], ["x"]],
}


@pytest.fixture
def data():
    """Without times: a had x three times (twice by search), y (by search) and z; b had x (by search) and y (by no word)."""
    plain = Dataset.from_columns(["a", "a", "a", "a", "a", "b", "b"], ["x", "y", "x", "x", "z", "x", "y"])
    return read_searches(plain, pa.table(SEARCHES))


@pytest.fixture
def rows_and_words(data):
    return SearchRows.of(data, tokens, longest=2, most=10, within=0)


def test_rows_that_a_search_led_to_come_first(rows_and_words):
    rows, words = rows_and_words
    assert words.words == ("red", "blue", "hat", "shoe")
    assert (rows.n_told, len(rows)) == (4, 7)
    assert rows.users.tolist() == [0, 0, 0, 1, 0, 0, 1] and rows.items.tolist() == [0, 1, 0, 0, 0, 2, 1]
    assert [[words.words[w] for w in row.nonzero()[0]] for row in rows.bags.toarray()] == [
        ["red", "shoe"], ["red", "hat"], ["blue"], ["red"],
    ]  # fmt: skip


def test_lists_leave_a_rows_own_query_out_where_asked(rows_and_words):
    rows, words = rows_and_words
    spelt = lambda ragged: [[words.words[w] for w in row] for row in ragged.tolist()]  # noqa: E731
    honest, copied = (rows.lists(3, 10, leave_out=left) for left in (True, False))
    assert spelt(honest.people) == [["red", "blue", "hat"], ["red"]]
    assert spelt(honest.items) == [["red", "blue", "shoe"], ["red", "hat"], []]
    assert spelt(honest.people_left) == [["red", "blue", "hat"], ["red", "blue", "shoe"], ["red", "hat", "shoe"], []]
    assert spelt(honest.items_left) == [["red", "blue"], [], ["red", "shoe"], ["red", "blue", "shoe"]]
    assert spelt(copied.people_left) == [spelt(copied.people)[u] for u in (0, 0, 0, 1)]
    assert spelt(copied.items_left) == [spelt(copied.items)[i] for i in (0, 1, 0, 0)]


def test_a_query_that_led_to_several_items_is_left_out_whole():
    searches = {"user": ["a", "a"], "query": ["red shoe", "red hat"], "items": [["x", "y"], ["x"]]}
    plain = Dataset.from_columns(["a", "a", "a"], ["x", "y", "x"], time=[2_000, 2_100, 5_000])
    data = read_searches(plain, pa.table({**searches, "time": [1_900, 4_900]}))
    rows, words = SearchRows.of(data, tokens, longest=2, most=10, within=900)
    lists = rows.lists(3, 10, leave_out=True)
    spelt = lambda ragged: [sorted(words.words[w] for w in row) for row in ragged.tolist()]  # noqa: E731
    queries = [sorted(words.words[w] for w in row.nonzero()[0]) for row in rows.bags.toarray()]
    assert sorted(queries) == [["hat", "red"], ["red", "shoe"], ["red", "shoe"]]
    other = {"hat": ["red", "shoe"], "shoe": ["hat", "red"]}
    assert spelt(lists.people_left) == [other["hat" if "hat" in query else "shoe"] for query in queries]
    left = dict(zip(zip(rows.items.tolist(), map(tuple, queries), strict=True), spelt(lists.items_left), strict=True))
    assert left == {(0, ("red", "shoe")): ["hat", "red"], (1, ("red", "shoe")): [], (0, ("hat", "red")): ["red", "shoe"]}


def test_pairs_are_told_as_far_as_queries_led_there(rows_and_words):
    rows, words = rows_and_words
    told = rows.told()
    assert told.offsets.tolist() == [0, 2, 3] and told.items.tolist() == [0, 1, 0]
    np.testing.assert_allclose(told.shares, [2 / 3, 1, 1])
    vectors = np.eye(len(words), dtype=np.float32)
    users, items = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 1, 2, 0, 1, 0])
    guess = np.full((6, 4), 9, np.float32)
    found = told.mixed(users, items, guess, vectors)
    red, blue, hat, shoe = np.eye(4)
    expected = [(red + shoe + blue + 9) / 3, red + hat, [9] * 4, red, [9] * 4, [9] * 4]
    np.testing.assert_allclose(found, np.array([np.broadcast_to(e, 4) for e in expected]), rtol=1e-6)
    assert (guess == 9).all()
    again = ToldPairs.unpacked(told.packed())
    np.testing.assert_array_equal(again.mixed(users, items, guess, vectors), found)
    left = told.without(np.array([0]))
    np.testing.assert_allclose(left.mixed(users, items, guess, vectors), [*[[9] * 4] * 3, red, [9] * 4, [9] * 4])
    assert len(left.items) == 1 and left.ends.tolist() == [0, 1]


def test_no_searches_at_all():
    rows, words = SearchRows.of(Dataset.from_columns(["a", "b"], ["x", "y"]), tokens, longest=2, most=9, within=9)
    assert rows.n_told == 0 and len(words) == 0
    guess = np.ones((1, 2), np.float32)
    assert rows.told().mixed(np.array([0]), np.array([0]), guess, np.zeros((0, 2), np.float32)) is guess
    assert rows.lists(3, 3, leave_out=True).people.tolist() == [[], []]


def test_an_epoch_has_every_row_once_with_items_never_had(data, rows_and_words):
    rows = rows_and_words[0]
    epoch = RowEpoch.draw(rows, Unseen(data.matrix()), 3, np.random.default_rng(0))
    batches = list(epoch)
    assert len(epoch) == len(batches) == 3 and [len(b) for b in batches] == [3, 3, 1]
    drawn, others = (np.concatenate([getattr(b, name) for b in batches]) for name in ("rows", "negatives"))
    assert sorted(drawn.tolist()) == list(range(7))
    assert (others[rows.users[drawn] == 0] == -1).all() and (others[rows.users[drawn] == 1] == 2).all()
