"""BM25: hand-computed scores, the plain formula, and an index that changes while it answers."""

from __future__ import annotations

import json
import threading
from collections import Counter
from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.ragged import Ragged
from palate.errors import BundleError, ConfigError, DataError
from palate.kernels.topk import tie_key
from palate.retrieval.bm25 import BM25
from palate.retrieval.tokens import tokens

WORDS = ["red", "blue", "bike", "car", "fast", "old", "東京", "café", "a", "the", "x1", "x2", "x3"]


def texts_of(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, len(WORDS) + 1)
    return [" ".join(rng.choice(WORDS, rng.integers(0, 9), p=chance / chance.sum())) for _ in range(n)]


def plain(texts: dict[int, str], query: str, k: int, k1: float = 1.2, b: float = 0.75) -> tuple[list[int], list[float]]:
    """The formula, in Python's own numbers."""
    documents = {item: Counter(tokens(text)) for item, text in texts.items()}
    lengths = {item: words.total() for item, words in documents.items()}
    n = sum(length > 0 for length in lengths.values())
    mean = sum(lengths.values()) / max(n, 1)
    scores: dict[int, float] = {}
    for word, count in Counter(tokens(query)).items():
        held = sum(word in words for words in documents.values())
        for item, words in documents.items():
            if word in words:
                part = words[word] / (words[word] + k1 * (1 - b + b * lengths[item] / mean))
                scores[item] = scores.get(item, 0.0) + count * log(1 + (n - held + 0.5) / (held + 0.5)) * part
    order = sorted(scores, key=lambda i: (-np.float32(scores[i]), tie_key(np.array([i]))[0]))[:k]
    return order, [scores[i] for i in order]


def check(index: BM25, texts: dict[int, str], query: str, k: int = 5) -> None:
    """Scores equal the formula's; where they tie to float32's last bits, items may change places."""
    items, scores = index.search(query, k)
    wanted, exact = plain(texts, query, len(texts))
    np.testing.assert_allclose(scores[0][scores[0] > 0], exact[: min(k, len(exact))], rtol=2e-6)
    by_item = dict(zip(wanted, exact, strict=True))
    for item, score in zip(items[0], scores[0], strict=True):
        assert (item == -1) == (score == -np.inf)
        if item >= 0:
            assert by_item[item] == pytest.approx(score, rel=2e-6)


def test_by_hand() -> None:
    # Three documents of 2, 2 and 4 words: mean length 8/3. "red" stands in two, idf = ln(1 + 1.5/2.5).
    index = BM25(k1=1.0, b=0.5)
    index.add([10, 20, 30], ["red bike", "blue car", "red red red car"])
    items, scores = index.search("red", 3)
    assert items.tolist() == [[30, 10, -1]]
    idf = log(1 + 1.5 / 2.5)
    first, second = 3 / (3 + 0.5 + 0.5 * 4 / (8 / 3)), 1 / (1 + 0.5 + 0.5 * 2 / (8 / 3))
    np.testing.assert_allclose(scores[0, :2], [idf * first, idf * second], rtol=1e-6)
    np.testing.assert_allclose(index.search("red red", 1)[1], 2 * scores[:, :1], rtol=1e-6)


@pytest.mark.parametrize(("k1", "b", "same"), [(1.2, 0.0, "length"), (0.0, 0.75, "count")])
def test_settings_switch_parts_off(k1: float, b: float, same: str) -> None:
    index = BM25(k1=k1, b=b)
    index.add([1, 2], ["red", "red bike car old" if same == "length" else "red red red red"])
    assert len(set(index.search("red", 2)[1][0].tolist())) == 1


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 60), query=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_equals_the_formula(n: int, query: list[str], seed: int) -> None:
    texts = dict(enumerate(texts_of(n, seed)))
    index = BM25()
    index.add(list(texts), list(texts.values()))
    check(index, texts, " ".join(query))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_adding_and_removing_equals_building_anew(data: st.DataObject) -> None:
    index, texts = BM25(), dict[int, str]()
    for step in range(data.draw(st.integers(1, 12), label="steps")):
        items = data.draw(st.lists(st.integers(0, 30), unique=True, max_size=8), label="items")
        if data.draw(st.booleans(), label="add"):
            new = texts_of(len(items), seed=step)
            index.add(items, new)
            texts.update(zip(items, new, strict=True))
        else:
            assert index.remove(items) == len(set(items) & set(texts))
            texts = {item: text for item, text in texts.items() if item not in items}
        assert len(index) == len(texts)
        fresh = BM25()
        fresh.add(list(texts), list(texts.values()))
        for query in ("red bike", "the old 東京 car", "x1 x2 a"):
            for changed, built in zip(index.search(query, 7), fresh.search(query, 7), strict=True):
                np.testing.assert_array_equal(changed, built)
            check(index, texts, query)
    assert all(item in index for item in texts) and 31 not in index


def test_segments_stay_few() -> None:
    index = BM25()
    for item, text in enumerate(texts_of(300)):
        index.add([item], [text])
    sizes = [segment.size for segment in index._state.segments]
    assert sum(sizes) == 300 and len(sizes) <= 9
    assert all(a >= 2 * b for a, b in pairwise(sizes))
    index.remove(list(range(0, 300, 2)))
    index.remove(list(range(1, 200, 2)))
    assert sum(len(segment.live) for segment in index._state.segments) <= 2 * len(index) == 100


def test_fields_and_their_weights() -> None:
    index = BM25({"title": 3.0, "text": 1.0})
    index.add([1, 2, 3], {"title": ["red bike", "old car", ""], "text": ["old", "red red fast", "red"]})
    assert index.search("red", 3)[0][0, 0] == 1
    # The same words in one field alone give that field's sum; both together give the weighted sum.
    single = {}
    for field, texts in {"title": ["red bike", "old car", ""], "text": ["old", "red red fast", "red"]}.items():
        single[field] = BM25()
        single[field].add([1, 2, 3], texts)
    parts = {f: dict(zip(*(a[0].tolist() for a in index_.search("red old", 3)), strict=True)) for f, index_ in single.items()}
    items, scores = index.search("red old", 3)
    for item, score in zip(items[0].tolist(), scores[0], strict=True):
        assert score == pytest.approx(3 * parts["title"].get(item, 0) + parts["text"].get(item, 0), rel=1e-5)


def test_parts_sum_to_the_score() -> None:
    index = BM25({"title": 2.0, "text": 1.0})
    index.add([4, 5], {"title": ["red bike", "car"], "text": ["a fast red bike", "old"]})
    parts = index.parts("fast red plane", 4)
    assert next((field, word) for field, word, _ in parts) == ("title", "red")
    assert {(f, w) for f, w, _ in parts} == {("title", "red"), ("text", "red"), ("text", "fast")}
    assert sum(p for *_, p in parts) == pytest.approx(index.search("fast red plane", 1)[1][0, 0], rel=1e-6)
    assert index.parts("fast", 99) == []


def test_allowed_and_excluded() -> None:
    index, texts = BM25(), texts_of(200, 3)
    index.add(np.arange(200), texts)
    everything = index.search("red car", 200)[0][0]
    allowed = np.random.default_rng(0).random(250) < 0.3
    some = index.search("red car", 200, allowed=allowed)[0][0]
    np.testing.assert_array_equal(some[some >= 0], [item for item in everything if item >= 0 and allowed[item]])
    gone = Ragged.from_rows([everything[:5][::-1], []])
    both = index.search(["red car", "red car"], 10, exclude=gone)[0]
    np.testing.assert_array_equal(both[0], everything[5:15])
    np.testing.assert_array_equal(both[1], everything[:10])


def test_a_search_sees_the_index_as_it_was_when_it_began() -> None:
    index = BM25()
    index.add(np.arange(500), texts_of(500))
    state, wanted = index._state, index.search("red bike", 10)
    frozen = BM25()
    frozen._numbers, frozen._state = index._numbers, state
    index.remove(np.arange(0, 500, 3))
    index.add([1000], ["red bike unheard"])
    np.testing.assert_array_equal(frozen.search("red bike unheard", 10)[1], wanted[1])


def test_readers_and_writers_at_once() -> None:
    index, stop, broken = BM25(), threading.Event(), []
    index.add(np.arange(200), ["red bike"] * 200)

    def read() -> None:
        while not stop.is_set():
            items, scores = index.search("red", 5)
            if (items < 0).any() or len(set(scores[0].tolist())) != 1:
                broken.append(items)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for step in range(60):
        index.add([200 + step], ["red bike"])
        index.remove([step])
    stop.set()
    for reader in readers:
        reader.join()
    assert not broken and len(index) == 200


def test_saved_and_loaded(tmp_path: Path) -> None:
    index = BM25({"title": 2.0, "text": 1.0}, k1=0.9, b=0.4)
    index.add(np.arange(100), {"title": texts_of(100, 1), "text": texts_of(100, 2)})
    index.add(np.arange(90, 120), {"text": texts_of(30, 4)})
    index.remove(np.arange(10))
    again = BM25.load(index.save(tmp_path / "words"))
    assert len(again) == len(index) == 110
    for query in ("red bike", "東京 the x3"):
        for a, b in zip(index.search(query, 20), again.search(query, 20), strict=True):
            np.testing.assert_array_equal(a, b)
    again.add([500], {"title": ["unheard"]})
    assert again.search("unheard", 1)[0].tolist() == [[500]]
    empty = BM25.load(BM25().save(tmp_path / "empty"))
    assert len(empty) == 0 and (empty.search("red")[0] == -1).all()


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    index = BM25()
    index.add([1], ["red"])
    folder = index.save(tmp_path / "words")
    (folder / "words.json").write_text(json.dumps([["blue"]]))
    with pytest.raises(BundleError, match="changed or cut short"):
        BM25.load(folder)


def test_what_makes_no_sense_is_refused() -> None:
    index = BM25({"title": 1.0})
    with pytest.raises(DataError, match="named twice"):
        index.add([1, 1], ["a", "b"])
    with pytest.raises(DataError, match="whole numbers"):
        index.add([-1], ["a"])
    with pytest.raises(DataError, match="whole numbers"):
        index.remove([1.5])  # type: ignore[list-item]
    with pytest.raises(DataError, match="one text for each item"):
        index.add([1, 2], ["a"])
    with pytest.raises(DataError, match="one text for each item"):
        index.add([1], "a")
    with pytest.raises(DataError, match="no such field"):
        index.add([1], {"body": ["a"]})
    index.add([5], ["a"])
    with pytest.raises(DataError, match="yes or no"):
        index.search("a", allowed=np.ones(3, bool))
    with pytest.raises(DataError, match="k must"):
        index.search("a", 0)
    with pytest.raises(ConfigError, match="k1"):
        BM25(b=2)
    assert len(index) == 1


def test_against_bm25s() -> None:
    bm25s = pytest.importorskip("bm25s")
    texts = [text for text in texts_of(300, 8) if text]
    peer = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    peer.index([tokens(text) for text in texts], show_progress=False)
    index = BM25()
    index.add(np.arange(len(texts)), texts)
    for query in ("red bike", "old 東京 x3", "the a car fast"):
        theirs = np.sort(peer.get_scores(tokens(query)))[::-1][:10]
        np.testing.assert_allclose(index.search(query, 10)[1][0], theirs, rtol=1e-5)
