"""Rerankers: order of scores, company, many queries at once, odd texts."""

from __future__ import annotations

import numpy as np
import pytest

from palate.errors import ConfigError, DataError, MissingExtraError
from palate.language.encoders import packages
from palate.language.reranker import Reranker, reranker

ITEMS = ["Bluetooth sport earbuds, sweat resistant", "Men's road running shoes", "Cast iron frying pan, 26 cm"]
QUERY = "wireless headphones for running"


class Overlap(Reranker):
    """Words in common; remembers what it was asked."""

    name = "overlap"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def _pairs(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        self.asked += pairs
        return np.array([len(set(q.split()) & set(t.split())) for q, t in pairs], np.float32)


def test_scores_by_hand_and_each_distinct_pair_once() -> None:
    own = Overlap()
    assert own.score("a b", ["b a", "c", "b", "c"]).tolist() == [2, 0, 1, 0]
    assert own.asked == [("a b", "b a"), ("a b", "c"), ("a b", "b")]


def test_many_queries_with_lists_of_any_length() -> None:
    scores = Overlap().score_many(["a", "b", "", "a"], [["a", "a b"], [], ["x"], ["b", "a"]])
    assert [row.tolist() for row in scores] == [[1, 1], [], [0], [0, 1]]
    assert all(row.dtype == np.float32 for row in scores)
    assert Overlap().score_many([], []) == [] and Overlap().score("a", []).shape == (0,)


def test_bad_rows_are_refused_with_their_place() -> None:
    with pytest.raises(DataError) as caught:
        Overlap().score_many(["a", "b"], [["x"], ["y", None]])
    assert "query 1, row 1" in str(caught.value)
    with pytest.raises(DataError):
        Overlap().score(3, ["x"])
    with pytest.raises(DataError, match="one text"):
        Overlap().score("a", "x")
    with pytest.raises(DataError, match="differ in number"):
        Overlap().score_many(["a"], [["x"], ["y"]])


def test_absent_packages_and_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"model\.onnx"):
        reranker("no such")
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda *rest: None)
    with pytest.raises(MissingExtraError, match=r"palate\[text-more\]"):
        reranker()


@pytest.fixture(scope="module")
def own() -> Reranker:
    try:
        return reranker()
    except MissingExtraError as error:
        pytest.skip(f"the reranker is not installed: {error.remedy}")


def test_the_right_item_comes_first(own: Reranker) -> None:
    scores = own.score(QUERY, ITEMS)
    assert scores.dtype == np.float32 and scores[0] > scores[1] > scores[2]
    answer = own.score(
        "how many people live in Berlin?", ["Berlin has 3.5 million inhabitants.", "New York is known for its museums."]
    )
    assert answer[0] > 2 and answer[1] < 0


def test_a_pair_has_the_same_score_in_any_company_to_the_bit(own: Reranker) -> None:
    texts = [*ITEMS, "word " * 400]
    together = own.score_many([QUERY, "pan"], [texts, texts])
    assert np.array_equal(together[0], np.array([own.score(QUERY, [text])[0] for text in texts]))
    assert np.array_equal(together[1][::-1], own.score("pan", texts[::-1]))


def test_odd_texts(own: Reranker) -> None:
    assert np.isfinite(own.score(QUERY, ["", "word " * 20_000, "a\0b", "\ud800", "x" * 100_000])).all()
    assert np.isfinite(own.score("long " * 20_000, ["", "short"])).all()
    assert own.fingerprint == reranker().fingerprint
