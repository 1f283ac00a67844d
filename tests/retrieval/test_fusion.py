"""Fusion: hand-computed lists, invariances, and the record of who named what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.errors import ConfigError, DataError
from palate.retrieval.fusion import Source, quotas, reciprocal_ranks, reciprocal_ranks_of_few, weighted_scores


def source(name: str, items: list[int], scores: list[float] | None = None, weight: float = 1.0) -> Source:
    return Source(name, np.array(items, np.int32), None if scores is None else np.array(scores, np.float32), weight)


lists = st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True)


@given(st.lists(lists, min_size=1, max_size=4), st.integers(0, 100))
def test_short_lists_are_fused_alike(own: list[list[int]], constant: int) -> None:
    weights = [1.0, 0.3, 2.5, 0.7][: len(own)]
    whole = reciprocal_ranks([source(str(at), items, weight=weights[at]) for at, items in enumerate(own)], constant=constant)
    items, scores = reciprocal_ranks_of_few(own, weights, constant=constant)
    np.testing.assert_array_equal(items, whole.items)
    np.testing.assert_array_equal(scores, whole.scores)


def test_reciprocal_ranks_by_hand() -> None:
    fused = reciprocal_ranks([source("a", [5, 7, 9]), source("b", [7, 8])], constant=60)
    # 7: 1/62 + 1/61; 5: 1/61; 8: 1/62; 9: 1/63
    assert fused.items.tolist() == [7, 5, 8, 9]
    np.testing.assert_allclose(fused.scores, [1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63], rtol=1e-6)
    assert fused.ranks.tolist() == [[2, 1], [1, 0], [0, 2], [3, 0]]
    assert fused.origin(0) == {"a": 2, "b": 1} and fused.origin(2) == {"b": 2}
    np.testing.assert_allclose(fused.parts.sum(1), fused.scores, rtol=1e-6)
    assert len(reciprocal_ranks([source("a", [5, 7, 9])], 2)) == 2


def test_weights_count() -> None:
    both = [source("a", [1, 2]), source("b", [2, 1], weight=3)]
    assert reciprocal_ranks(both).items.tolist() == [2, 1]


def test_padding_and_repeated_items() -> None:
    fused = reciprocal_ranks([source("a", [4, -1, 4, 6, -1])])
    assert fused.items.tolist() == [4, 6] and fused.ranks[:, 0].tolist() == [1, 2]
    assert len(reciprocal_ranks([source("a", [-1, -1]), source("b", [])])) == 0


@given(lists)
def test_the_same_list_twice_keeps_its_order(items: list[int]) -> None:
    fused = reciprocal_ranks([source("a", items), source("b", items)])
    assert fused.items.tolist() == items


def test_minmax_by_hand() -> None:
    fused = weighted_scores([source("a", [1, 2, 3], [10, 6, 2], 0.5), source("b", [3, 4], [0.9, 0.1], 2.0)])
    # a: 1, .5, 0 times .5; b: 1, 0 times 2
    by_item = dict(zip(fused.items.tolist(), fused.scores.tolist(), strict=True))
    assert by_item == pytest.approx({3: 2.0, 1: 0.5, 2: 0.25, 4: 0.0})
    assert fused.items[:3].tolist() == [3, 1, 2]


def test_z_by_hand() -> None:
    fused = weighted_scores([source("a", [1, 2], [3, 1]), source("b", [2, 3], [8, 4])], normalise="z")
    # a: +1, -1, absent -1; b: +1, -1, absent -1
    by_item = dict(zip(fused.items.tolist(), fused.scores.tolist(), strict=True))
    assert by_item == pytest.approx({1: 0.0, 2: 0.0, 3: -2.0})


def test_equal_scores() -> None:
    flat = [source("a", [1, 2], [5, 5]), source("b", [3, 4], [2, 1])]
    by_item = dict(zip(*(x.tolist() for x in (weighted_scores(flat).items, weighted_scores(flat).scores)), strict=True))
    assert by_item == {1: 1.0, 2: 1.0, 3: 1.0, 4: 0.0}
    assert np.isfinite(weighted_scores(flat, normalise="z").scores).all()


@given(lists, st.floats(0.1, 9), st.floats(-5, 5), st.sampled_from(["minmax", "z"]))
def test_scale_and_origin_of_scores_do_not_matter(items: list[int], scale: float, shift: float, how) -> None:
    scores = np.linspace(3, 1, len(items))
    one = [source("a", items, list(scores)), source("b", [2, 40], [2.0, 1.0])]
    two = [source("a", items, list(scores * scale + shift)), one[1]]
    first, second = weighted_scores(one, normalise=how), weighted_scores(two, normalise=how)
    by_item = [dict(zip(f.items.tolist(), f.scores.tolist(), strict=True)) for f in (first, second)]
    assert by_item[0] == pytest.approx(by_item[1], abs=1e-4)


@given(lists)
def test_all_weight_on_one_source_is_its_order(items: list[int]) -> None:
    scores = list(np.linspace(3, 1, len(items)))
    fused = weighted_scores([source("a", items, scores), source("b", [50, 51], [2.0, 1.0], 0.0)])
    assert [i for i in fused.items.tolist() if i in items[:-1]] == items[:-1]


def test_quotas_by_hand() -> None:
    given_ = [source("near", [1, 2, 3, 4]), source("new", [2, 9, 8]), source("top", [1, 7])]
    # near places 1 (top is credited), new places 2 (near is credited), top has its one place, new places 9; then 3, 4, 8, 7
    fused = quotas(given_, [2, 2, 1], 7)
    assert fused.items.tolist() == [1, 2, 9, 3, 4, 8, 7]
    assert fused.origin(0) == {"near": 1, "top": 1} and fused.origin(1) == {"near": 2, "new": 1}
    assert fused.scores[0] == 1 and fused.scores[3] == 0.25
    np.testing.assert_allclose(fused.parts.sum(1), fused.scores, rtol=1e-6)


@given(lists, lists, lists, st.tuples(*[st.integers(0, 4)] * 3))
def test_every_source_has_its_share(a: list[int], b: list[int], c: list[int], places: tuple[int, int, int]) -> None:
    fused = quotas([source("a", a), source("b", b), source("c", c)], places, 12)
    assert len(set(fused.items.tolist())) == len(fused) == min(12, len({*a, *b, *c}))
    for at, own in enumerate((a, b, c)):
        assert (fused.ranks[:, at] > 0).sum() >= min(places[at], len(own))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="name of its own"):
        reciprocal_ranks([source("a", [1]), source("a", [2])])
    with pytest.raises(ConfigError, match="one source or more"):
        reciprocal_ranks([])
    with pytest.raises(ConfigError, match="not negative"):
        reciprocal_ranks([source("a", [1])], constant=-1)
    with pytest.raises(DataError, match="score for each item"):
        weighted_scores([source("a", [1, 2])])
    with pytest.raises(DataError, match="finite"):
        weighted_scores([source("a", [1, 2], [1.0, float("nan")])])
    with pytest.raises(ConfigError, match="minmax or z"):
        weighted_scores([source("a", [1], [1.0])], normalise="rank")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="quota"):
        quotas([source("a", [1])], [5], 3)
    with pytest.raises(DataError, match="one list"):
        reciprocal_ranks([Source("a", np.zeros((2, 2), np.int32))])
