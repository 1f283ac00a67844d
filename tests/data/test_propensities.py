"""Propensities: the formula, where they are kept, and what is refused."""

import numpy as np
import pytest

from palate.data.dataset import Dataset
from palate.data.propensities import attach, by_popularity, of_clicks, of_items
from palate.errors import ConfigError, DataError

DATA = Dataset.from_columns([0, 0, 1, 2, 2], [0, 1, 0, 0, 2])


def test_popularity_by_hand():
    np.testing.assert_allclose(by_popularity(np.array([16, 4, 1, 0]), 0.5), [1, 0.5, 0.25, 0.25])
    np.testing.assert_array_equal(by_popularity(np.array([16, 4, 0]), 0.0), 1)
    np.testing.assert_array_equal(by_popularity(np.zeros(3, int)), 1)


def test_items_keep_theirs_in_an_attribute():
    theta = np.array([1.0, 0.5, 0.25])
    held = attach(DATA, theta)
    np.testing.assert_array_equal(of_items(held), theta)
    again = attach(held, theta / 2)
    np.testing.assert_array_equal(of_items(again), theta / 2)
    assert of_items(attach(held, theta, column="other"), "other").tolist() == theta.tolist()


def test_pairs_keep_theirs_in_the_values_of_events():
    theta = np.linspace(0.1, 0.9, 9).reshape(3, 3)
    held = attach(DATA, theta)
    rows, columns = held.matrix().nonzero()
    np.testing.assert_allclose(of_clicks(held), theta[rows, columns], rtol=1e-6)


def test_repeats_count_once_by_their_mean():
    twice = Dataset.from_columns([0, 0, 1], [0, 0, 1], value=[0.2, 0.4, 1.0])
    np.testing.assert_allclose(of_clicks(twice), [0.3, 1.0], rtol=1e-6)


@pytest.mark.parametrize("theta", [[1, 0, 0.5], [1, 1.5, 0.5], [1, np.nan, 0.5], [1, -0.1, 0.5]])
def test_a_propensity_is_a_chance(theta):
    with pytest.raises(DataError, match="chance"):
        attach(DATA, np.array(theta))


def test_what_is_missing_is_named():
    with pytest.raises(DataError, match="one number an item"):
        attach(DATA, np.ones(2))
    with pytest.raises(ConfigError, match="no such item attribute"):
        of_items(DATA)
    with pytest.raises(ConfigError, match="no such item attribute"):
        of_items(attach(DATA, np.ones(3)), "propensty")
    with pytest.raises(DataError, match="no values"):
        of_clicks(DATA)
