"""Words of queries: numbers, bags, and lists of most used words against plain counters."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data.query_words import QueryWords, counts_of, top_words, top_words_without

QUERIES = [["red", "shoe"], ["red"], ["shoe", "red", "red"], [], ["hat"]]


def test_words_and_bags_by_hand():
    words = QueryWords.learn(QUERIES, longest=3)
    assert words.words == ("red", "shoe", "hat")
    assert words.bags([["red", "red", "shoe", "hat"], ["?"], []]).toarray().tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert QueryWords.learn(QUERIES, longest=1).words == ("red", "hat", "shoe")
    assert QueryWords.learn(QUERIES, longest=3, most=1).words == ("red",)
    assert QueryWords.learn([], 3).bags([["red"]]).shape == (1, 0)


def test_they_are_saved_in_any_script():
    words = QueryWords.learn([["東京", "café", "x\n", "\ud800"]], 9)
    assert QueryWords.unpacked(words.packed(), 9) == words
    assert QueryWords.unpacked(QueryWords((), 3).packed(), 3) == QueryWords((), 3)


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 5), max_size=4)), max_size=25), st.integers(1, 4))
def test_lists_are_those_of_counters(rows, k):
    words = QueryWords(tuple("abcdef"), 4)
    owners = np.array([owner for owner, _ in rows], np.int64)
    bags = words.bags([["abcdef"[w] for w in query] for _, query in rows])
    counts = counts_of(owners, bags, 4)

    def top(own, left=()):
        counter = Counter(w for o, query in rows if o == own for w in query)
        counter.subtract(left)
        return sorted((w for w in counter if counter[w] > 0), key=lambda w: (-counter[w], w))[:k]

    assert top_words(counts, k).tolist() == [top(own) for own in range(4)]
    assert top_words_without(counts, owners, bags, k).tolist() == [top(own, query) for own, query in rows]


def test_what_is_copied_without_leaving_out():
    """Of somebody with one query, the list with it is the query; the list without it says nothing."""
    words = QueryWords.learn(QUERIES, 3)
    bags, owners = words.bags(QUERIES[:1]), np.array([0])
    counts = counts_of(owners, bags, 1)
    assert top_words(counts, 3).tolist() == [[0, 1]]
    assert top_words_without(counts, owners, bags, 3).tolist() == [[]]


@pytest.mark.parametrize("k", [1, 3])
def test_no_queries(k):
    empty = QueryWords((), 3)
    counts = counts_of(np.empty(0, np.int64), empty.bags([]), 2)
    assert top_words(counts, k).tolist() == [[], []]
    assert len(top_words_without(counts, np.empty(0, np.int64), empty.bags([]), k)) == 0
