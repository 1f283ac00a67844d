"""Posting lists: the search that leaves things out has the bits of the one that scores everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.kernels import postings as module
from palate.kernels.postings import Postings, Query, search_postings, search_postings_reference


def collection(m: int, vocabulary: int, fields: int = 1, seed: int = 0, items: int = 1) -> tuple[Postings, np.ndarray]:
    """Documents of words drawn by a power law; word ``w`` belongs to field ``w % fields``."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, vocabulary + 1)
    rows = [rng.choice(vocabulary, rng.integers(0, 12), p=chance / chance.sum()) for _ in range(m)]
    unique = [np.unique(row, return_counts=True) for row in rows]
    field_of = (np.arange(vocabulary) % fields).astype(np.int8)
    lengths = np.array([[(row % fields == f).sum() for f in range(fields)] for row in rows], np.float32).reshape(m, fields)
    offsets = np.concatenate([[0], np.cumsum([len(words) for words, _ in unique])]).astype(np.int64)
    words = np.concatenate([np.empty(0, np.int64), *(u for u, _ in unique)]).astype(np.int32)
    times = np.concatenate([np.empty(0, np.int64), *(c for _, c in unique)]).astype(np.float32)
    return Postings.of(np.arange(m, dtype=np.int32) * items, offsets, words, times, lengths, field_of), field_of


def question(words: list[int], postings: Postings, field_of: np.ndarray, b: float = 0.75) -> Query:
    """Weigh by rarity, the rarest first."""
    numbers = np.array(words, np.int32)
    held = np.array([(postings.words == w).sum() for w in words])
    weights = np.log1p((len(postings) - held + 0.5) / (held + 0.5)).astype(np.float32)
    order = np.argsort(-weights, kind="stable")
    fields = field_of[numbers[order]]
    mean = postings.lengths.sum(0) / max(len(postings), 1) + 1e-3
    a, slope = np.full(len(words), 1.2 * (1 - b), np.float32), (1.2 * b / mean).astype(np.float32)
    return Query(numbers[order], weights[order], a, slope[fields], fields)


def ask(postings: Postings, query: Query, k: int, **options: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    items, best = np.full(k, -1, np.int32), np.full(k, -np.inf, np.float32)
    search_postings(postings, query, items, best, **options)
    return items, best


def same(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


def test_lists_by_hand() -> None:
    # documents 0: a a b, 1: a, 2: b b b b
    items, offsets = np.array([3, 5, 9], np.int32), np.array([0, 2, 3, 4])
    words, times = np.array([0, 1, 0, 1], np.int32), np.array([2, 1, 1, 4], np.float32)
    p = Postings.of(items, offsets, words, times, np.array([[3], [1], [4]], np.float32), np.zeros(2, np.int8))
    assert p.heads.tolist() == [0, 1] and p.starts.tolist() == [0, 2, 4]
    assert p.documents.tolist() == [0, 1, 2, 0] and p.counts.tolist() == [2, 1, 4, 1] and p.sizes.tolist() == [3, 1, 4, 3]
    one = Query(np.array([0], np.int32), *(np.array([x], np.float32) for x in (1, 0.5, 0.25)), np.zeros(1, np.int8))
    found, scores = ask(p, one, 3)
    # 2 / (2 + .5 + .75) and 1 / (1 + .5 + .25)
    assert found.tolist() == [3, 5, -1]
    np.testing.assert_allclose(scores[:2], [2 / 3.25, 1 / 1.75], rtol=1e-6)


@settings(max_examples=150, deadline=None)
@given(
    m=st.integers(0, 300),
    fields=st.integers(1, 3),
    words=st.lists(st.integers(0, 59), min_size=1, max_size=8, unique=True),
    k=st.integers(1, 12),
    b=st.sampled_from([0.0, 0.75, 1.0]),
    seed=st.integers(0, 200),
    costly=st.sampled_from([0, 1, 8, 1000]),
)
def test_fast_equals_plain_to_the_bit(m: int, fields: int, words: list[int], k: int, b: float, seed: int, costly: int) -> None:
    postings, field_of = collection(m, 60, fields, seed, items=2)
    query = question(words, postings, field_of, b)
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COSTLY", costly)
        check(postings, query, k, rng.random(2 * m + 1) < 0.5, np.unique(rng.integers(0, 2 * m + 1, 9)).astype(np.int32))


def check(postings: Postings, query: Query, k: int, allowed: np.ndarray, exclude: np.ndarray) -> None:
    same(ask(postings, query, k), search_postings_reference(postings, query, k))
    wanted = search_postings_reference(postings, query, k, allowed, exclude)
    same(ask(postings, query, k, allowed=allowed, exclude=exclude), wanted)


@pytest.mark.parametrize("words", [[0], [0, 1], [0, 30], [0, 1, 2, 3, 4, 50, 55], [59, 0]])
@pytest.mark.parametrize("k", [1, 10])
def test_long_lists(words: list[int], k: int) -> None:
    postings, field_of = collection(6000, 60, seed=4)
    query = question(words, postings, field_of)
    same(ask(postings, query, k), search_postings_reference(postings, query, k))


def test_a_common_word_is_not_read_to_its_end() -> None:
    postings, field_of = collection(6000, 60, seed=4)
    at = int(postings.starts[0]), int(postings.starts[1])
    query = question([0], postings, field_of)
    wanted = ask(postings, query, 10)
    # Whoever reads further meets documents that would win.
    counts, sizes = postings.counts.copy(), postings.sizes.copy()
    ones = at[0] + np.flatnonzero(counts[at[0] : at[1]] == 1)
    sizes[ones[len(ones) // 2 : -1]] = 1e-3
    spoiled = Postings(*(getattr(postings, n) if n != "sizes" else sizes for n in Postings.__dataclass_fields__))
    same(ask(spoiled, query, 10), wanted)


def test_other_documents_may_stand_there_already() -> None:
    postings, field_of = collection(400, 60, seed=6)
    query = question([3, 17, 40], postings, field_of)
    half = np.arange(400) < 200
    items, best = np.full(7, -1, np.int32), np.full(7, -np.inf, np.float32)
    search_postings(postings, query, items, best, live=half)
    search_postings(postings, query, items, best, live=~half)
    same((items, best), search_postings_reference(postings, query, 7))


def test_dead_documents_are_no_answer() -> None:
    postings, field_of = collection(300, 60, seed=7)
    query = question([0, 5], postings, field_of)
    live = np.arange(300) % 3 > 0
    same(ask(postings, query, 20, live=live), search_postings_reference(postings, query, 20, allowed=live))


def test_unknown_words_and_nothing() -> None:
    postings, field_of = collection(50, 20, seed=1)
    query = question([19], postings, field_of)
    unknown = Query(np.array([77], np.int32), *(getattr(query, n) for n in ("weights", "a", "b", "fields")))
    assert (ask(postings, unknown, 3)[0] == -1).all()
    empty = Query(*(getattr(query, n)[:0] for n in ("words", "weights", "a", "b", "fields")))
    assert (ask(postings, empty, 3)[0] == -1).all()


def test_groups_end_where_counts_fall() -> None:
    counts = np.array([5, 5, 5, 2, 1, 1], np.float32)
    assert [module._next_group(counts, at, 6) for at in range(6)] == [3, 3, 3, 4, 6, 6]
