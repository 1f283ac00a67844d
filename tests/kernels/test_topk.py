"""The best k of dense scores and of short rows: ties, exclusions, what isn't a number."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.ragged import Ragged
from palate.kernels.topk import tie_key, topk_dense, topk_dense_reference, topk_rows

SCORES = st.sampled_from([0.0, 1.0, 2.0, -1.0, float("nan"), float("-inf"), 0.5])


def test_no_two_items_share_a_tie_key():
    keys = tie_key(np.arange(200_000))
    assert keys.dtype == np.uint32
    assert len(np.unique(keys)) == len(keys)
    assert (np.diff(keys.astype(np.int64)) > 0).mean() < 0.6, "keys follow the item number"


def test_by_hand():
    scores = np.array([[3, 1, 2, np.nan], [np.nan, -np.inf, 0, -5]], np.float32)
    items, best = topk_dense(scores.copy(), 3)
    assert items.tolist() == [[0, 2, 1], [2, 3, -1]]
    assert best.tolist() == [[3, 2, 1], [0, -5, -np.inf]]
    banned = Ragged.from_rows([[0, 0], [2]])
    items, _ = topk_dense(scores.copy(), 2, banned.offsets, banned.values)
    assert items.tolist() == [[2, 1], [3, -1]]


def test_equal_scores_follow_the_hash():
    items, _ = topk_dense(np.zeros((1, 50), np.float32), 50)
    assert items[0].tolist() == np.argsort(tie_key(np.arange(50))).tolist()


def test_equal_scores_give_the_random_baseline_whoever_is_asked_for():
    n_items, k = 5_000, 100
    items, _ = topk_dense(np.zeros((1, n_items), np.float32), k)
    assert len(np.unique(items)) == k
    # Where targets have neighbouring numbers (such as items that follow popularity, or one query's positives first), they
    # stand no higher than chance.
    blocks = np.bincount(items[0] // 500, minlength=10)
    assert blocks.sum() == k
    assert blocks.min() >= 2, blocks
    assert blocks.max() <= 22, blocks
    places = np.empty(n_items, int)
    everything, _ = topk_dense(np.zeros((1, n_items), np.float32), n_items)
    places[everything[0]] = np.arange(n_items)
    assert abs(np.corrcoef(places, np.arange(n_items))[0, 1]) < 0.05


def test_growing_scores_alike_changes_no_list():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, (20, 60)).astype(np.float32)
    expected, _ = topk_dense(scores.copy(), 15)
    for changed in (3 * scores + 1, np.exp2(scores), scores**3):
        found, _ = topk_dense(changed.astype(np.float32), 15)
        assert found.tolist() == expected.tolist()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 15), st.data())
def test_equals_sorting(width, n, k, data):
    scores = np.array(data.draw(st.lists(st.lists(SCORES, min_size=width, max_size=width), min_size=n, max_size=n)), np.float32)
    banned = Ragged.from_rows(data.draw(st.lists(st.lists(st.integers(0, width - 1), max_size=4), min_size=n, max_size=n)))
    want, expected = topk_dense_reference(scores, k, banned.offsets, banned.values)
    items, best = topk_dense(scores.copy(), k, banned.offsets, banned.values)
    assert items.tolist() == want.tolist()
    assert best.tobytes() == expected.tobytes()
    everything = np.tile(np.arange(width, dtype=np.int32), (n, 1))
    padded = np.concatenate([everything, np.full((n, 2), -1, np.int32)], axis=1)
    pad = np.full((n, 2), 99, np.float32)
    items, best = topk_rows(padded, np.concatenate([scores, pad], axis=1), k, banned.offsets, banned.values)
    assert items.tolist() == want.tolist()
    assert best.tobytes() == expected.tobytes()
