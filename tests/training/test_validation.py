"""The validation value: NDCG over the whole catalogue, seen items left out, on a model that is not fitted yet."""

import numpy as np
import pytest

from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.recommend.popularity import Popularity
from palate.training.validation import validator

# Items 0, 1, 2, 3 have 4, 3, 2, 1 events.
PAIRS = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (3, 3)]
DATA = Dataset.from_columns([p[0] for p in PAIRS], [p[1] for p in PAIRS])


def questions(rows):
    users = np.arange(len(rows), dtype=np.int32)
    return HeldOut(users, DATA.histories.take(users), Ragged.from_rows(rows))


def half_fitted():
    model = Popularity().fit(DATA)
    del model.record_
    return model


def test_by_hand_and_the_model_stays_unfitted():
    model = half_fitted()
    # Person 0 is offered 2, 3; person 1: 1, 3; person 2: 2, 3.
    value = validator(model, questions([[2], [3], [3]]))()
    assert value == pytest.approx((1 + 2 / np.log2(3)) / 3)
    assert not model.fitted


def test_nothing_held_out_is_none():
    assert validator(half_fitted(), None) is None
    assert validator(half_fitted(), questions([])) is None


def test_few_people_are_always_the_same():
    some = validator(half_fitted(), questions([[2], [3], [3]]), max_users=2)
    assert some() == some() == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_the_floor_is_the_value_of_popularity_whatever_the_model_says():
    model = half_fitted()
    asked = questions([[2], [3], [3]])
    expected = validator(model, asked)()  # Popularity itself
    model.weight_ = -model.weight_
    turned = validator(model, asked)
    assert turned.floor() == turned.floor() == pytest.approx(expected) and turned() != pytest.approx(expected)
