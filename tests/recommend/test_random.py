"""Random: a lot that is the same whenever a person asks, and fair to every item."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.errors import UnsupportedError
from palate.recommend.random import Random

DATA = Dataset.from_columns(np.repeat(np.arange(3000), 1), np.arange(3000) % 20)


@pytest.fixture(scope="module")
def model():
    return Random().fit(DATA, seed=1)


def test_every_item_is_first_about_as_often(model):
    first = model.recommend(Requests.of_users(DATA, np.arange(3000), exclude_seen=False), 1).items[:, 0]
    counts = np.bincount(first, minlength=20)
    assert ((counts - 150) ** 2 / 150).sum() < 50  # chi-square, 19 degrees of freedom: p about 1e-4


def test_scores_are_uniform(model, all_scores):
    scores = np.sort(all_scores(model, Requests.of_users(DATA, np.arange(500))).ravel())
    assert scores[0] >= 0 and scores[-1] < 1
    assert np.abs(scores - np.linspace(0, 1, len(scores))).max() < 0.02  # Kolmogorov-Smirnov, 10,000 values


def test_a_person_gets_the_same_lot_and_a_seed_another(model, all_scores):
    asked = Requests.of_users(DATA, np.arange(50))
    np.testing.assert_array_equal(all_scores(model, asked)[7:8], all_scores(model, asked.take(np.array([7]))))
    assert not np.array_equal(all_scores(model, asked), all_scores(Random().fit(DATA, seed=2), asked))
    assert len(np.unique(all_scores(model, asked)[:, 0])) == 50


def test_unseen_people_are_told_apart_by_the_set_of_their_items(model, all_scores):
    scores = all_scores(model, Requests.of_histories([[1, 2], [2, 1, 1], [1, 3], []]))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2]) and not np.array_equal(scores[0], scores[3])


def test_chance_has_no_reasons(model):
    with pytest.raises(UnsupportedError, match="say why"):
        model.explain(Requests.of_histories([[1]]), 2)
