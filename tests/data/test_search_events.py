"""Which interactions a search led to, by hand; and that what is held out doesn't come back in through queries."""

import numpy as np
import pyarrow as pa
import pytest

from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.readers.logs import read_searches
from palate.data.search_events import asked, query_texts, searches_of_events
from palate.data.split import HeldOut
from palate.errors import DataError

DAY = 86_400


def made(events, searches, *, times=True, search_times=True):
    """Return a data set of (user, item, time) events and (user, query, items, time) searches."""
    user, item, time = (list(c) for c in zip(*events, strict=True))
    data = Dataset.from_columns(user, item, time=[t * DAY for t in time] if times else None)
    columns = {
        "user": pa.array([s[0] for s in searches]),
        "query": [s[1] for s in searches],
        "items": pa.array([s[2] for s in searches], pa.list_(pa.string())),
    }
    if search_times:
        columns["time"] = [int(s[3] * DAY) for s in searches]
    return read_searches(data, pa.table(columns))


EVENTS = [("a", "x", 10), ("a", "y", 11), ("a", "x", 12), ("b", "x", 10), ("b", "z", 20)]


def led(data, **settings):
    """Return {(user, item, time in days): query} of what a search led to."""
    found, texts, e = searches_of_events(data, **settings), query_texts(data), data.interactions
    raw = zip(data.users.ids.decode(e.user).to_pylist(), data.items.ids.decode(e.item).to_pylist(), strict=True)
    days = [None] * len(e) if e.time is None else (e.time // DAY).tolist()
    return [(u, i, t, texts[row]) for (u, i), t, row in zip(raw, days, found, strict=True) if row >= 0]


def test_the_latest_search_before_an_interaction_led_to_it():
    searches = [
        ("a", "older", ["x"], 9.5),
        ("a", "red", ["x", "y"], 9.75),
        ("a", "after", ["x"], 10.5),
        ("a", "late", ["y"], 12),
        ("b", "long ago", ["z"], 18),
        ("c", "stranger", ["x"], 10),
        ("b", "nothing", [], 10),
        (None, "nobody", ["x"], 10),
    ]
    data = made(EVENTS, searches)
    # "after" is older than a day when x comes again; "late" and "long ago" lie after the interaction, or too far before it.
    assert led(data) == [("a", "x", 10, "red")]
    assert led(data, within=2 * DAY) == [
        ("a", "x", 10, "red"), ("a", "y", 11, "red"), ("a", "x", 12, "after"), ("b", "z", 20, "long ago"),
    ]  # fmt: skip
    assert led(data, within=DAY // 4) == [("a", "x", 10, "red")]


def test_a_search_at_the_very_second_counts():
    assert led(made(EVENTS, [("b", "now", ["x"], 10)]), within=0) == [("b", "x", 10, "now")]


@pytest.mark.parametrize(("times", "search_times"), [(False, True), (True, False), (False, False)])
def test_without_times_the_first_search_led_to_the_first_interaction(times, search_times):
    searches = [("a", "one", ["x"], 90), ("a", "two", ["x", "y", "x"], 1), ("a", "three", ["x"], 5), ("b", "four", ["y"], 5)]
    found = [(u, i, q) for u, i, _, q in led(made(EVENTS, searches, times=times, search_times=search_times))]
    assert sorted(found) == [("a", "x", "one"), ("a", "x", "two"), ("a", "y", "two")]


def test_nothing_to_find():
    assert (searches_of_events(Dataset.from_columns(["a"], ["x"])) == -1).all()
    assert led(made(EVENTS, [("c", "stranger", ["x"], 1)])) == []
    assert query_texts(Dataset.from_columns(["a"], ["x"])) == []


def test_codes_and_lists_of_codes_are_words():
    data = Dataset.from_columns(["a"], ["x"])
    table = pa.table({"query": pa.array([[12, 7], [], None], pa.list_(pa.int64()))})
    assert query_texts(data.derive({}, searches=table)) == ["12 7", "", ""]
    assert query_texts(data.derive({}, searches=pa.table({"query": [4, None]}))) == ["4", ""]


@pytest.mark.parametrize("column", ["user", "items"])
def test_a_table_that_lacks_what_is_needed_is_refused(column):
    data = made(EVENTS, [("a", "q", ["x"], 9)])
    with pytest.raises(DataError, match="lacks a column") as told:
        searches_of_events(data.derive({}, searches=data.searches.drop_columns([column])))
    assert told.value.value == column


def held(data, answers):
    """Return the questions of some people: {user: items}."""
    users = data.users.ids.encode(list(answers))
    truth = Ragged.from_rows([data.items.ids.encode(items) for items in answers.values()])
    return HeldOut(users, data.histories.take(users), truth, times=np.arange(len(users)), part="test")


def test_answers_are_told_apart_by_the_searches_that_led_to_no_training_interaction():
    searches = [
        ("a", "red", ["x", "z"], 9.75),  # led to x in training, and to z, which is held out
        ("a", "blue", ["w"], 13),
        ("a", "later blue", ["w"], 14),
        ("b", "of another", ["y"], 30),
    ]
    data = made([*EVENTS, ("b", "w", 1)], searches)
    found = asked(data, held(data, {"a": ["z", "w", "x"], "b": ["x", "y"]}))
    raw = lambda part: [  # noqa: E731
        (data.users.ids.raw[u].as_py(), data.items.ids.raw[i].as_py())
        for u, i in zip(part.users.tolist(), part.truth.values.tolist(), strict=True)
    ]
    assert raw(found.search) == [("a", "z"), ("a", "w"), ("b", "y")]
    assert found.texts == ["red", "later blue", "of another"]
    assert raw(found.recommendation) == [("a", "x"), ("b", "x")]
    assert found.search.part == "test" and found.search.truth.lengths.tolist() == [1, 1, 1]
    assert found.search.histories.ragged.tolist() == data.histories.take(found.search.users).ragged.tolist()
    assert found.search.times.tolist() == [0, 0, 1]


def test_answers_without_any_search():
    data = Dataset.from_columns(["a", "b"], ["x", "y"])
    question = HeldOut(np.array([0, -1], np.int32), Histories.empty(2), Ragged.from_rows([[1], [0]]))
    found = asked(data, question)
    assert len(found.search) == 0 and found.texts == [] and found.recommendation.users.tolist() == [0, -1]
    one = made(EVENTS, [("a", "q", ["z"], 50)])
    assert len(asked(one, HeldOut(np.array([-1], np.int32), Histories.empty(1), Ragged.from_rows([[2]]))).search) == 0


def test_what_was_held_out_does_not_come_back_in():
    """Training without an interaction reads nothing from the search that led to it, though the table still holds it."""
    data = made(EVENTS, [("a", "red", ["x"], 9.75), ("b", "secret", ["z"], 19.75)])
    train = data.derive({}, interactions=data.interactions.take(np.flatnonzero(data.interactions.time < 15 * DAY)))
    assert [q for *_, q in led(train)] == ["red"]
    assert asked(train, held(train, {"b": ["z"]})).texts == ["secret"]
