"""EASE: its weights are ridge regressions without the item itself; scores, likeness and reasons follow from them."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.errors import ConfigError, DataError
from palate.recommend.ease import EASE


def by_regression(x, reg):
    """Each column of B: the ridge regression of an item on all the others."""
    n = x.shape[1]
    weights = np.zeros((n, n))
    for j in range(n):
        others = np.delete(np.arange(n), j)
        a = x[:, others]
        weights[others, j] = np.linalg.solve(a.T @ a + reg * np.eye(n - 1), a.T @ x[:, j])
    return weights


@pytest.fixture(scope="module")
def model(events):
    return EASE(reg=4.0, precision="float64").fit(events)


@pytest.mark.parametrize(("precision", "near"), [("float64", 1e-7), ("float32", 1e-5)])
@pytest.mark.parametrize("reg", [0.5, 4.0, 250.0])
def test_weights_are_regressions_without_the_item_itself(events, ones, precision, near, reg):
    found = EASE(reg=reg, precision=precision).fit(events).weights_
    np.testing.assert_allclose(found, by_regression(ones, reg), atol=near)
    assert not np.diag(found).any()


def test_scores_are_histories_times_weights(events, ones, model, unseen, all_scores):
    people = np.flatnonzero(events.histories.lengths > 0).astype(np.int32)
    known = Requests.of_users(events, people)
    np.testing.assert_allclose(all_scores(model, known), ones[people] @ by_regression(ones, 4.0), atol=1e-6)
    rows = unseen.histories.matrix(model.n_items).toarray()
    np.testing.assert_allclose(all_scores(model, unseen), rows @ by_regression(ones, 4.0), atol=1e-6)


def test_a_known_person_is_answered_by_the_history_given(events, model, unseen, all_scores):
    asked = Requests(np.array([0, 1, 2], np.int32), unseen.histories)
    np.testing.assert_array_equal(all_scores(model, asked), all_scores(model, unseen))


def test_likeness_is_a_row_of_the_weights(model):
    found = model.similar(np.array([4, 0]), 3)
    for row, item in enumerate((4, 0)):
        weights = np.delete(model.weights_[item], item)
        np.testing.assert_allclose(found.scores[row], np.sort(weights)[::-1][:3], rtol=1e-6)


def test_reasons_are_weights(events, model, unseen, sums_up):
    sums_up(model, unseen)
    sums_up(model, Requests.of_users(events, np.array([0, 29])))
    why = model.explain(unseen.take(np.array([1])), 4)
    assert {e.subject: e.weight for e in why.evidence} == pytest.approx({i: float(model.weights_[i, 4]) for i in (7, 2, 5)})


@pytest.mark.parametrize("item", [-1, 12])
def test_items_outside_the_catalogue_are_refused(model, unseen, item):
    one = unseen.take(np.array([0]))
    for ask in (lambda: model.explain(one, item), lambda: model.similar(np.array([item])), lambda: model.explain(unseen, 3)):
        with pytest.raises(DataError):
            ask()


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="reg"):
        EASE(reg=0)
