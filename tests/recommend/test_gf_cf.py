"""GF-CF: the dense formula; any history; what is known of nobody; forgetting."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.kernels import lanczos
from palate.recommend.gf_cf import GFCF, normalised

DIM, ALPHA = 4, 0.3


@pytest.fixture(scope="module")
def model(events):
    return GFCF(dim=DIM, alpha=ALPHA).fit(events)


def dense_filter(ones, dim=DIM, alpha=ALPHA):
    """``R̃ᵀR̃ + α D^-1/2 V Vᵀ D^1/2`` in float64, with the singular vectors of the dense matrix."""
    du, di = ones.sum(1), ones.sum(0)
    with np.errstate(divide="ignore"):
        left, right = np.where(du > 0, 1 / np.sqrt(du), 0), np.where(di > 0, 1 / np.sqrt(di), 0)
    r = left[:, None] * ones * right
    v = np.linalg.svd(r)[2][:dim].T
    return r.T @ r + alpha * right[:, None] * (v @ v.T) * np.sqrt(di)


def rows_of(requests, n_items):
    h = np.zeros((len(requests), n_items))
    h[requests.histories.ragged.row_numbers, requests.histories.items] = 1
    return h


def test_known_people_equal_the_dense_formula(model, events, ones, all_scores):
    asked = Requests.of_users(events, np.flatnonzero(events.histories.lengths).astype(np.int32))
    wanted = rows_of(asked, events.n_items) @ dense_filter(ones)
    np.testing.assert_allclose(all_scores(model, asked), wanted, atol=1e-5)


def test_unseen_people_equal_the_dense_formula(model, events, ones, unseen, all_scores):
    np.testing.assert_allclose(all_scores(model, unseen), rows_of(unseen, events.n_items) @ dense_filter(ones), atol=1e-5)


@pytest.mark.parametrize("settings", [{"dim": 0}, {"alpha": 0.0}])
def test_without_the_low_pass_filter_only_the_linear_one_is_left(events, ones, unseen, all_scores, settings):
    plain = GFCF(**settings).fit(events)
    wanted = rows_of(unseen, events.n_items) @ dense_filter(ones, alpha=0)
    np.testing.assert_allclose(all_scores(plain, unseen), wanted, atol=1e-5)
    assert plain.directions_.shape == (events.n_items, 0)


def test_more_directions_than_there_are(events, ones, unseen, all_scores):
    """All directions that exist: ``V Vᵀ`` projects on the row space."""
    rank = np.linalg.matrix_rank(ones)
    whole = GFCF(dim=500, alpha=ALPHA).fit(events)
    assert len(whole.values_) == rank
    wanted = rows_of(unseen, events.n_items) @ dense_filter(ones, rank)
    np.testing.assert_allclose(all_scores(whole, unseen), wanted, atol=1e-5)


def test_the_normalised_matrix_has_a_largest_singular_value_of_one(events, ones):
    r = normalised(events.matrix()).toarray()
    assert np.linalg.svd(r)[1].max() == pytest.approx(1, abs=1e-6)
    roots = np.sqrt(ones.sum(0))
    np.testing.assert_allclose(r.T @ (r @ roots), roots, atol=1e-5)  # and its vector is √d


def test_large_and_small_catalogues_take_paths_that_agree(events, unseen, all_scores, model, monkeypatch):
    monkeypatch.setattr(lanczos, "SMALL", 0)
    monkeypatch.setattr(lanczos, "BLOCK", 2)
    other = GFCF(dim=DIM, alpha=ALPHA).fit(events)
    np.testing.assert_allclose(all_scores(other, unseen), all_scores(model, unseen), atol=2e-3)


def test_explanations_sum_up(model, events, unseen, sums_up):
    sums_up(model, unseen)
    sums_up(model, Requests.of_users(events, np.array([0, 4], np.int32)))


def test_similar_items_are_those_of_a_history_of_one(model, events):
    found = model.similar(np.array([3, 5], np.int32), 4)
    alone = model.recommend(Requests.of_histories([[3], [5]]), 4)
    np.testing.assert_array_equal(found.items, alone.items)
    np.testing.assert_array_equal(found.scores, alone.scores)


def test_an_item_never_seen_scores_zero_and_says_nothing(model, events, unseen, all_scores):
    silent = int(np.flatnonzero(events.item_counts == 0)[0])
    assert not all_scores(model, unseen)[:, silent].any()
    with_it, without = all_scores(model, Requests.of_histories([[0, silent, 1], [0, 1]]))
    np.testing.assert_array_equal(with_it, without)
    assert model.recommend(Requests.of_histories([[silent]]), 3).cold.all()


def test_forgotten_people_carry_nothing_any_more(events, ones, unseen, all_scores):
    model = GFCF(dim=0).fit(events)
    kept = ones.copy()
    kept[2] = 0
    model.forget([events.users.ids.raw[2].as_py()])
    du, di = np.maximum(kept.sum(1), 1), np.maximum(ones.sum(0), 1)  # degrees of items stay as learnt
    p = (kept / du[:, None]).T @ kept / np.sqrt(di)[:, None] / np.sqrt(di)
    np.testing.assert_allclose(all_scores(model, unseen), rows_of(unseen, events.n_items) @ p, atol=1e-5)


def test_a_bundle_answers_alike(model, unseen, all_scores, tmp_path):
    again = GFCF.load(model.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(all_scores(again, unseen), all_scores(model, unseen))
