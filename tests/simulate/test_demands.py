"""The app with a search box and a feed: what is drawn, and that queries tell needs."""

import numpy as np

from palate.data.search_events import query_texts, searches_of_events
from palate.simulate.demands import PAUSE, Demands

APP = Demands(users=60, items=80, events=10, topics=5, noise=0.1, seed=2)


def test_every_search_led_to_its_interaction_and_nothing_else_did():
    data = APP.dataset()
    events, led = APP.events, searches_of_events(data)
    np.testing.assert_array_equal(led >= 0, events["search"].astype(bool))
    np.testing.assert_array_equal(led[led >= 0], np.arange(data.searches.num_rows))
    times = data.searches.column("time").to_numpy()
    np.testing.assert_array_equal(events["time"][led >= 0] - times, PAUSE)
    assert 0.4 < (led >= 0).mean() < 0.6 and len(data) == 600
    assert data.histories.ragged.distinct.lengths.tolist() == [10] * 60


def test_queries_tell_needs_and_items_serve_them():
    data, events = APP.dataset(), APP.events
    own = np.mean([APP.need_of_item[i] == k for i, k in zip(events["item"], events["need"], strict=True)])
    assert own > 0.9
    needs = events["need"][events["search"] == 1]
    words = [[f"need{k}word" in word for word in text.split()] for k, text in zip(needs, query_texts(data), strict=True)]
    assert {len(row) for row in words} == {1, 2, 3}
    assert 0.75 < np.mean([word for row in words for word in row]) < 0.95


def test_people_have_needs_of_their_own():
    needs = APP.events["need"].reshape(60, 10)
    same = np.mean([(row[:, None] == row[None, :]).mean() for row in needs])
    across = np.mean(needs.ravel()[:, None] == needs.ravel()[None, :])
    assert same > 1.5 * across


def test_the_same_settings_make_the_same_app():
    first, second = (Demands(users=9, items=12, events=5, topics=3, seed=s).dataset() for s in (4, 4))
    other = Demands(users=9, items=12, events=5, topics=3, seed=5).dataset()
    assert first.fingerprint == second.fingerprint != other.fingerprint and first.searches.equals(second.searches)
    assert len(Demands(users=2, items=3, events=99, topics=2).dataset()) == 6
