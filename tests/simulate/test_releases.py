"""The made-up season: texts, release days and the oracle fit together."""

import numpy as np
import pytest

from palate.evaluation.metrics.predictive import auc
from palate.simulate.releases import DAY, START, releases


def test_people_go_to_what_they_like_after_its_release():
    data, day, liking = releases(300, 80)
    events = data.interactions
    assert liking.shape == (data.n_users, data.n_items)
    assert len(day) == data.n_items
    since = (np.asarray(events.time) - START) / DAY - day[events.item]
    assert since.min() >= 0
    assert since.max() < 100
    went = data.matrix().toarray() > 0
    assert np.mean([auc(went[:, f], liking[:, f]) for f in range(data.n_items)]) > 0.75


def test_a_text_has_three_topics_and_one_of_them_matters():
    data, _, liking = releases(300, 80)
    plots = data.items.column("plot").to_pylist()
    topics = [{int(word[1:].split("w")[0]) for word in plot.split()} for plot in plots]
    assert all(1 <= len(found) <= 3 for found in topics)
    useful = np.array([min(found) for found in topics])
    assert (useful < 10).all()
    same = useful == useful[0]
    np.testing.assert_allclose(liking[:, same], np.repeat(liking[:, :1], same.sum(), 1))


def test_a_seed_gives_one_world():
    first, second, other = releases(50, 20), releases(50, 20), releases(50, 20, seed=1)
    assert first[0].fingerprint == second[0].fingerprint != other[0].fingerprint
    assert first[2] == pytest.approx(second[2])
