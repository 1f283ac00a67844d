"""The recommender's shared machinery, on models whose scores are written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from palate.contracts import recommender as module
from palate.contracts.model import Fitting
from palate.contracts.recommender import Recommender, VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.errors import DataError, NotFittedError, UnsupportedError
from palate.kernels.topk import tie_key
from palate.recommend.ease import EASE


class Fixed(Recommender):
    """Scores item j by ``table_[last item of the history, j]``."""

    name: ClassVar[str] = "fixed"
    table_: np.ndarray

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        n = dataset.n_items
        self.table_ = ((np.arange(n)[:, None] * 3 + np.arange(n)[None, :] * 5) % 7).astype(np.float32)

    def _scores(self, requests: Requests) -> np.ndarray:
        last = requests.histories.items[np.maximum(requests.histories.offsets[1:] - 1, 0)]
        return self.table_[last].copy()

    def _state(self) -> dict[str, np.ndarray]:
        return {"table": self.table_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.table_ = state["table"]


class Vectors(VectorRecommender):
    """One vector an item; a person is the sum of their items."""

    name: ClassVar[str] = "vectors"
    vectors_: np.ndarray

    def _fit(self, dataset: Dataset, fitting: Fitting) -> None:
        self.vectors_ = fitting.rng("vectors").normal(size=(dataset.n_items, 3)).astype(np.float32)

    @property
    def item_vectors(self) -> np.ndarray:
        return self.vectors_

    def request_vectors(self, requests: Requests) -> np.ndarray:
        counts = np.zeros((len(requests), self.n_items), np.float32)
        np.add.at(counts, (requests.histories.ragged.row_numbers, requests.histories.items), 1)
        return counts @ self.vectors_


@pytest.fixture
def fixed(tiny_dataset: Dataset) -> Fixed:
    return Fixed().fit(tiny_dataset)


@pytest.fixture
def vectors(tiny_dataset: Dataset) -> Vectors:
    return Vectors().fit(tiny_dataset, seed=1)


def by_hand(scores: np.ndarray, left: list[int], k: int) -> list[int]:
    """Sort by score, then by the tie rule."""
    order = sorted(left, key=lambda item: (-scores[item], int(tie_key(np.array([item]))[0])))[:k]
    return order + [-1] * (k - len(order))


def test_lists_by_hand(fixed: Fixed) -> None:
    asked = Requests.of_histories([[0, 2], [5]])
    ranking = fixed.recommend(asked, 6)
    assert ranking.items.tolist() == [by_hand(fixed.table_[2], [1, 3, 4, 5], 6), by_hand(fixed.table_[5], [0, 1, 2, 3, 4], 6)]
    assert not ranking.cold.any()


def test_candidates_and_exclude_by_hand(fixed: Fixed) -> None:
    asked = Requests.of_histories([[0], [1]])
    asked = Requests(asked.users, asked.histories, Ragged.from_rows([[3], []]), Ragged.from_rows([[3, 4, 5], [2]]))
    ranking = fixed.recommend(asked, 3)
    assert ranking.items.tolist() == [by_hand(fixed.table_[0], [4, 5], 3), [2, -1, -1]]
    assert np.isneginf(ranking.scores[1, 1:]).all()


def test_no_candidates_no_list(fixed: Fixed) -> None:
    asked = Requests(np.array([-1, -1]), Histories.from_rows([[0], []]), candidates=Ragged.empty(2))
    assert (fixed.recommend(asked, 2).items == -1).all()


def test_cold_people_stand_in_their_place(fixed: Fixed) -> None:
    counts = fixed.item_counts_.astype(float)
    ranking = fixed.recommend(Requests.of_histories([[], [5], []]), 4)
    popular = by_hand(counts, list(range(6)), 4)
    assert ranking.cold.tolist() == [True, False, True]
    assert ranking.items.tolist() == [popular, by_hand(fixed.table_[5], [0, 1, 2, 3, 4], 4), popular]
    np.testing.assert_allclose(ranking.scores[0], counts[popular] / counts.sum(), rtol=1e-6)
    scores = fixed.score(Requests.of_histories([[], [5]]), np.array([[0, -1], [1, -1]]))
    np.testing.assert_allclose(scores, [[counts[0] / counts.sum(), -np.inf], [fixed.table_[5, 1], -np.inf]], rtol=1e-6)


@pytest.mark.parametrize("kind", [Fixed, Vectors])
def test_small_blocks_change_nothing(kind: type[Recommender], tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = kind().fit(tiny_dataset)
    asked = Requests.of_users(tiny_dataset, np.array([0, 1, 2, 3, 4, -1]))
    whole, scores = model.recommend(asked, 4), model.score(asked, np.tile(np.arange(6), (6, 1)))
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    assert model._block_rows() == 1
    cut = model.recommend(asked, 4)
    np.testing.assert_array_equal(cut.items, whole.items)
    np.testing.assert_array_equal(cut.scores, whole.scores)
    np.testing.assert_array_equal(model.score(asked, np.tile(np.arange(6), (6, 1))), scores)


def test_vectors_rank_by_inner_products(vectors: Vectors) -> None:
    asked = Requests.of_histories([[0, 1], [2]])
    dense = vectors.request_vectors(asked) @ vectors.item_vectors.T
    ranking = vectors.recommend(asked, 5)
    assert ranking.items.tolist() == [by_hand(dense[0], [2, 3, 4, 5], 5), by_hand(dense[1], [0, 1, 3, 4, 5], 5)]
    np.testing.assert_allclose(vectors.score(asked, ranking.items)[1], ranking.scores[1], rtol=1e-5)
    chosen = Requests(asked.users, asked.histories, candidates=Ragged.from_rows([[5, 0], [1]]))
    assert vectors.recommend(chosen, 2).items.tolist() == [by_hand(dense[0], [0, 5], 2), [1, -1]]


def test_vectors_say_what_is_alike(vectors: Vectors) -> None:
    unit = vectors.vectors_ / np.linalg.norm(vectors.vectors_, axis=1, keepdims=True)
    cosines = unit @ unit.T
    ranking = vectors.similar(np.array([4]), 5)
    assert ranking.items[0].tolist() == by_hand(cosines[4], [0, 1, 2, 3, 5], 5)
    np.testing.assert_allclose(ranking.scores[0], cosines[4, ranking.items[0]], atol=1e-6)


def test_a_model_without_likeness_refuses(fixed: Fixed) -> None:
    with pytest.raises(UnsupportedError, match="fixed can't say which items are alike"):
        fixed.similar(np.array([0]))


def test_leaving_one_out_by_hand(vectors: Vectors) -> None:
    found = vectors.explain(Requests.of_histories([[0, 1, 2]]), 4)
    shares = vectors.vectors_[[0, 1, 2]] @ vectors.vectors_[4]
    expected = sorted(zip(shares.tolist(), [0, 1, 2], strict=True), key=lambda pair: -abs(pair[0]))
    assert not found.exact and found.score == pytest.approx(shares.sum(), rel=1e-5)
    assert [e.subject for e in found.evidence] == [item for _, item in expected]
    np.testing.assert_allclose([e.weight for e in found.evidence], [share for share, _ in expected], rtol=1e-4, atol=1e-5)


def test_asking_by_raw_ids(fixed: Fixed) -> None:
    asked = fixed.requests(["u1", "nobody"])
    assert asked.users.tolist() == [1, -1] and asked.histories.ragged.tolist() == [[0, 1, 3], []]
    assert asked.exclude.tolist() == [[0, 1, 3], []]
    asked = fixed.requests(histories=[["i5", "what", "i0"]], include_seen=True)
    assert asked.histories.ragged.tolist() == [[5, 0]] and asked.exclude is None
    for wrong in ({}, {"users": ["u1"], "histories": [[]]}):
        with pytest.raises(DataError, match="either"):
            fixed.requests(**wrong)


@pytest.mark.parametrize(
    ("wrong", "value"),
    [
        ({"users": "u1"}, "u1"),
        ({"users": 1}, 1),
        ({"histories": "i5"}, "i5"),
        ({"histories": ["i5", "i0"]}, "i5"),
        ({"histories": [["i5"], 3]}, 3),
    ],
)
def test_one_id_where_a_list_belongs_is_not_read_letter_by_letter(
    fixed: Fixed, wrong: dict[str, object], value: object
) -> None:
    with pytest.raises(DataError, match=r"histories=\[\[ID") as caught:
        fixed.requests(**wrong)
    assert caught.value.value == value


@pytest.mark.parametrize("number", [-1, 6, 2**31 - 1])
def test_numbers_outside_the_catalogue_reach_no_kernel(fixed: Fixed, vectors: Vectors, number: int) -> None:
    """They would be read or written past the end of an array."""
    one = Requests.of_histories([[0]])
    wrong = Ragged.from_rows([[1, number]])
    asks = [
        lambda model: model.recommend(replace(one, exclude=wrong), 2),
        lambda model: model.recommend(replace(one, candidates=wrong), 2),
        lambda model: model.recommend(Requests.of_histories([[number]]), 2),
        lambda model: model.explain(one, number),
    ]
    for model in (fixed, vectors):
        for ask in asks:
            with pytest.raises(DataError, match="outside the catalogue of 6") as caught:
                ask(model)
            assert caught.value.value == number
    with pytest.raises(DataError, match="outside the catalogue"):
        vectors.similar(np.array([number]))
    for model in (fixed, vectors):
        beyond = np.array([[0, number if number > 0 else -2]])
        with pytest.raises(DataError, match="outside the catalogue"):
            model.score(one, beyond)


@pytest.mark.parametrize("number", [-2, 5])
def test_user_numbers_that_nobody_has_are_refused(fixed: Fixed, number: int) -> None:
    asked = Requests(np.array([number], np.int32), Histories.from_rows([[0]]))
    with pytest.raises(DataError, match="user number") as caught:
        fixed.recommend(asked, 2)
    assert caught.value.value == number


def test_a_candidate_named_twice_counts_once(fixed: Fixed, vectors: Vectors) -> None:
    for model in (fixed, vectors):
        one = Requests.of_histories([[0], [1]], exclude_seen=False)
        once, twice = (
            model.recommend(replace(one, candidates=Ragged.from_rows(rows)), 4)
            for rows in ([[3, 5], [2, 4]], [[5, 3, 5, 3, 3], [4, 2, 2]])
        )
        np.testing.assert_array_equal(once.items, twice.items)
        np.testing.assert_array_equal(once.scores, twice.scores)


def test_what_can_not_be_asked(fixed: Fixed, vectors: Vectors) -> None:
    with pytest.raises(NotFittedError, match="fixed has not been fitted"):
        Fixed().recommend(Requests.of_histories([[0]]))
    with pytest.raises(DataError, match="outside the catalogue"):
        fixed.recommend(Requests.of_histories([[6]], exclude_seen=False))
    with pytest.raises(DataError, match="k must be"):
        fixed.recommend(Requests.of_histories([[0]]), 0)
    with pytest.raises(DataError, match="k must be"):
        vectors.similar(np.array([0]), 0)
    with pytest.raises(DataError, match="one request"):
        fixed.explain(Requests.of_histories([[0], [1]]), 2)


def test_a_fit_that_fails_leaves_no_fitted_model(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = EASE().fit(tiny_dataset)
    monkeypatch.setattr(EASE, "_fit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.fit(tiny_dataset)
    with pytest.raises(NotFittedError):
        model.recommend(Requests.of_histories([[0]]))


def test_a_fit_is_recorded(tiny_dataset: Dataset) -> None:
    model = EASE().fit(tiny_dataset, seed=3)
    assert model.record_.seed == 3 and model.record_.seconds > 0
    assert model.record_.data["fingerprint"] == tiny_dataset.fingerprint and model.record_.data["interactions"] == 14
    assert repr(model) == "EASE(reg=250.0, precision='float32')"
    assert EASE(model.config, reg=1.0).config.reg == 1.0
