"""Beyond accuracy: by hand, and by what must hold."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.dataset import Dataset, Entities
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.errors import ConfigError, DataError
from palate.evaluation.facts import Facts, categories_of
from palate.evaluation.metrics import DEFINITIONS, beyond, catalogue, ranking
from palate.evaluation.metrics.catalogue import Tally
from palate.evaluation.metrics.lists import Lists

DAY = 86_400

# Four users; items 0..4 chosen 4, 2, 1, 1, 0 times. Categories: {0}, {0, 1}, {1}, {2}, {}.
TRAIN = Dataset.from_columns(
    [0, 1, 2, 3, 0, 1, 0, 2],
    [0, 0, 0, 0, 1, 1, 2, 3],
    time=[DAY * t for t in (1, 2, 3, 4, 2, 3, 5, 6)],
)
COUNTS = np.array([4, 2, 1, 1, 0])
BARE = Facts.of(TRAIN)
# Item 4 has no event, so the catalogue is widened by hand; the facts stay those of TRAIN.
PAIRS = np.array([[4, 2, 1, 1, 0], [2, 2, 1, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0]])
FACTS = Facts(
    COUNTS,
    4,
    item_vectors=np.array([[1, 0], [2, 0], [0, 1], [-1, 0], [0, 0]], np.float32),
    categories=Ragged.from_rows([[0], [0, 1], [1], [2], []]),
    cooccurrence=PAIRS,
    first_seen=np.array([1, 2, 5, 6, np.nan]) * DAY,
    last_time=6 * DAY,
)
# Person 1 gets 0, 2, 4 and wants 2 and 3, having had 1. Person 2 gets 3, 1 and wants 0 (no past). Person 3 gets nothing.
LISTS = Lists.of([[0, 2, 4], [3, 1], []], [[2, 3], [0], [1]], n_items=5, histories=[[1], [], [0]])
NAN = np.nan
LOG3 = np.log2(3)


def check(name: str, k: int | None, options: dict, expected: list[float]) -> beyond.Values:
    found = getattr(beyond, name)(LISTS, FACTS, k, **options)
    np.testing.assert_allclose(found.values, expected, atol=1e-7)
    return found


CASES = [
    ("novelty", 3, {}, [(1 + 3 + 3) / 3, (3 + 2) / 2, NAN]),
    ("novelty", 2, {"form": "users"}, [(0 + 2) / 2, (2 + 1) / 2, NAN]),
    ("epc", 3, {}, [(0 + 3 / 4 + 1) / 3, (3 / 4 + 1 / 2) / 2, NAN]),
    ("epc", 2, {"discount": "log2"}, [(0.75 / LOG3) / (1 + 1 / LOG3), (0.75 + 0.5 / LOG3) / (1 + 1 / LOG3), NAN]),
    ("epc", 3, {"relevance": "yes"}, [0.75 / 3, 0, NAN]),
    ("efd", 3, {}, [(0 + 2 + 2) / 3, (2 + 1) / 2, NAN]),
    ("efd", 3, {"relevance": "yes", "discount": "log2"}, [(2 / LOG3) / (1 + 1 / LOG3 + 0.5), 0, NAN]),
    ("arp", 3, {}, [5 / 3, 3 / 2, NAN]),
    ("arp", 1, {"form": "share"}, [1, 1 / 4, NAN]),
    ("aplt", 3, {}, [2 / 3, 1, NAN]),
    ("aplt", 3, {"share": 0.6}, [2 / 3, 1 / 2, NAN]),
    ("aplt", 3, {"head": "items", "share": 0.4}, [2 / 3, 1 / 2, NAN]),
    ("popularity_lift", 3, {}, [(5 / 3) / 2 - 1, NAN, NAN]),
    ("ils", 2, {}, [1 / np.sqrt(4), 0, NAN]),
    ("diversity", 2, {}, [1 - 1 / 2, 1, NAN]),
    ("diversity", 1, {}, [NAN, NAN, NAN]),
    ("diversity", 3, {"by": "vectors"}, [1, 2, NAN]),
    ("diversity", 3, {"by": "categories"}, [1, 1, NAN]),
    ("ils", 3, {"discount": "log2"}, [(0.5 / LOG3) / (1 / LOG3 + 0.5 + 0.5 / LOG3), 0, NAN]),
    ("serendipity", 3, {}, [(1 - 1 / np.sqrt(2)) / 3, NAN, NAN]),
    ("serendipity", 3, {"by": "categories"}, [(1 - 1 / np.sqrt(2)) / 3, NAN, NAN]),
    ("serendipity", 3, {"by": "vectors"}, [1 / 3, NAN, NAN]),
    # The two most popular that person 1 has not had: 0, then 2 or 3 by the tie rule; of person 2: 0 and 1.
    ("unexpectedness", 1, {}, [0, 1, NAN]),
    ("unexpected_hits", 1, {}, [0, 0, NAN]),
    # p = {0: 1/2, 1: 1/2}, q = {0: 1/2, 1: 1/2}.
    ("calibration", 3, {}, [0, NAN, NAN]),
    ("calibration", 1, {"alpha": 0.5}, [0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25), NAN, NAN]),
    ("alpha_ndcg", 3, {}, [(1 / LOG3) / (1 + 1 / LOG3), 0, 0]),
    ("subtopic_recall", 3, {}, [1 / 2, 0, 0]),
    ("freshness", 3, {}, [6 - (1 + 5) / 2, 6 - (6 + 2) / 2, NAN]),
    ("user_coverage", 3, {}, [1, 1, 0]),
    ("unbiased_recall", 3, {}, [1 / 2, 0, 0]),
    ("unbiased_dcg", 3, {}, [1 / (2 * LOG3), 0, 0]),
]


@pytest.mark.parametrize(("name", "k", "options", "expected"), CASES, ids=[f"{c[0]}@{c[1]}{c[2] or ''}" for c in CASES])
def test_by_hand(name: str, k: int, options: dict, expected: list[float]) -> None:
    check(name, k, options, expected)


def test_every_list_metric_has_a_hand_case() -> None:
    assert {n for n, d in DEFINITIONS.items() if d.kind == "lists"} == {case[0] for case in CASES}


def test_repeated_topics_earn_less() -> None:
    lists = Lists.of([[0, 1, 3]], [[0, 1, 3]], n_items=5)
    best = 2 + 1 / LOG3 + 0.5 * 0.5  # 1 (two new topics), 3 (a new one), 0 (seen once)
    found = 1 + (0.5 + 1) / LOG3 + 1 / 2
    assert beyond.alpha_ndcg(lists, FACTS, 3).values[0] == pytest.approx(found / best)


def test_primitive_list_leaves_the_history_out() -> None:
    lists = Lists.of([[1, 4, 2]], [[4]], n_items=5, histories=[[0, 0]])
    assert beyond.unexpectedness(lists, FACTS, 3).values[0] == pytest.approx(1 / 3)  # primitive: 1, and 2 and 3
    assert beyond.unexpected_hits(lists, FACTS, 3).values[0] == pytest.approx(1 / 3)


def test_slots_or_people_may_be_averaged() -> None:
    slots = beyond.novelty(LISTS, FACTS, 3)
    assert slots.weights.tolist() == [3, 2, 0]
    assert beyond.novelty(LISTS, FACTS, 3, average="users").weights is None
    lift = beyond.popularity_lift(LISTS, FACTS, 3)
    assert (lift.weights * lift.values)[0] == pytest.approx(5 / 3 - 2)


def test_unbiased_recall_weighs_rare_items() -> None:
    lists = Lists.of([[2]], [[0, 2]], n_items=5)
    assert beyond.unbiased_recall(lists, FACTS, 1, power=1.0).values[0] == pytest.approx(1 / (1 + 1 / 4))
    assert beyond.unbiased_recall(lists, FACTS, 1, power=0.0).values[0] == 0.5
    second = Lists.of([[1, 2]], [[0, 2]], n_items=5)
    assert beyond.unbiased_dcg(second, FACTS, 2, power=1.0).values[0] == pytest.approx(1 / LOG3 / (1 + 1 / 4))


def test_unbiased_dcg_discounts_the_second_rank_where_the_published_evaluation_does_not() -> None:
    """Published with Rel-MF: ``1 / log2(i + 1)`` from ``i = 1`` for ranks counted from 0, and 1 for the first.

    So its first two ranks count 1 each, and it doesn't tell a list from the one with these two exchanged. The paper's form is
    ``1 / log2(rank + 1)``, for ranks counted from 1. Both divide by the weights of what is relevant, not by the best DCG.
    """
    truth, weights = [0, 2], np.maximum(FACTS.item_counts, 1).astype(float) ** -0.5

    def published(order: list[int]) -> float:
        discounts = [1.0, *(1 / np.log2(np.arange(1, len(order)) + 1))]
        hits = [weights[item] * discount for item, discount in zip(order, discounts, strict=True) if item in truth]
        return float(sum(hits) / weights[truth].sum())

    def meant(order: list[int]) -> float:
        hits = [weights[item] / np.log2(rank + 1) for rank, item in enumerate(order, 1) if item in truth]
        return float(sum(hits) / weights[truth].sum())

    orders = [[0, 1, 3], [1, 0, 3], [1, 3, 0], [0, 2, 1], [2, 0, 1]]
    ours = beyond.unbiased_dcg(Lists.of(orders, [truth] * 5, n_items=5), FACTS, 3).values
    np.testing.assert_allclose(ours, [meant(order) for order in orders])
    assert published([0, 1, 3]) == published([1, 0, 3]) and ours[0] > ours[1]
    assert published([0, 2, 1]) == published([2, 0, 1]) == pytest.approx(1) and ours[3] != ours[4]
    assert (np.array([published(order) for order in orders[1:]]) > ours[1:]).all()  # any hit below the first rank is too dear
    plain = ranking.dcg(Lists.of([[1, 0, 3]], [truth], n_items=5), 3)
    assert plain[0] == pytest.approx(1 / LOG3) != 1


# --- over the catalogue ------------------------------------------------------------------------------------------------


TALLY = Tally.of(np.array([[0, 2, 4], [0, 1, -1], [-1, -1, -1]], np.int32), 3, 5)
SHARES = np.array([0.4, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("coverage", {}, 4 / 5),
        ("coverage", {"of": "train"}, 3 / 4),
        ("aggregate_diversity", {}, 4),
        ("entropy", {}, -(SHARES * np.log2(SHARES)).sum()),
        ("entropy", {"form": "normalised"}, -(SHARES * np.log2(SHARES)).sum() / np.log2(5)),
        ("gini", {}, (-2 * 0.2 + 0 * 0.2 + 2 * 0.2 + 4 * 0.4) / 5),
        ("gini", {"over": "recommended"}, (-3 * 0.2 - 1 * 0.2 + 1 * 0.2 + 3 * 0.4) / 4),
        ("herfindahl", {}, 0.16 + 3 * 0.04),
        ("personalization", {}, 1 - 1 / 3),
    ],
)
def test_catalogue_by_hand(name: str, options: dict, expected: float) -> None:
    assert getattr(catalogue, name)(TALLY, FACTS, **options) == pytest.approx(expected)


def test_exposure_by_hand() -> None:
    np.testing.assert_allclose(TALLY.exposures(), [2, 1 / LOG3, 1 / LOG3, 0, 1 / 2], atol=1e-9)
    p = TALLY.exposures()[[0, 1, 2, 4]] / TALLY.exposures().sum()
    assert catalogue.herfindahl(TALLY, FACTS, weight="exposure") == pytest.approx((p * p).sum(), abs=1e-8)


def test_no_lists_at_all() -> None:
    none = Tally.of(np.full((2, 3), -1, np.int32), 3, 5)
    assert catalogue.coverage(none, FACTS) == 0
    assert all(
        np.isnan(f(none, FACTS)) for f in (catalogue.gini, catalogue.entropy, catalogue.herfindahl, catalogue.personalization)
    )


@given(st.integers(0, 10**6), st.integers(2, 7))
@settings(max_examples=25, deadline=None)
def test_catalogue_properties(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(12)[:8] for _ in range(6)]).astype(np.int32)
    tally = Tally.of(items, k, 12)
    known = Facts(np.ones(12, np.int64), 3)
    overlaps = [len(set(a[:k]) & set(b[:k])) / k for a, b in combinations(items.tolist(), 2)]
    assert catalogue.personalization(tally, known) == pytest.approx(1 - np.mean(overlaps))
    assert 0 <= catalogue.gini(tally, known) < 1
    assert catalogue.entropy(tally, known) <= np.log2(12) + 1e-12
    assert catalogue.coverage(Tally.of(items, k + 1, 12), known) >= catalogue.coverage(tally, known)
    joined = Tally.merge([Tally.of(items[:2], k, 12), Tally.of(items[2:], k, 12)])
    for name in ("items", "counts", "exposure"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(tally, name))


def test_an_even_catalogue() -> None:
    even = Tally.of(np.arange(12, dtype=np.int32).reshape(4, 3), 3, 12)
    known = Facts(np.ones(12, np.int64), 3)
    assert catalogue.gini(even, known) == pytest.approx(0)
    assert catalogue.entropy(even, known) == pytest.approx(np.log2(12))
    assert catalogue.personalization(even, known) == 1


def test_tallies_of_different_cuts_do_not_mix() -> None:
    with pytest.raises(DataError, match="different cuts"):
        Tally.merge([TALLY, Tally.of(np.zeros((1, 1), np.int32), 1, 5)])


# --- facts -------------------------------------------------------------------------------------------------------------


def test_facts_of_training_data() -> None:
    assert BARE.item_counts.tolist() == [4, 2, 1, 1]
    assert BARE.n_train_users == 4
    assert (BARE.first_seen / DAY).tolist() == [1, 2, 5, 6]
    assert BARE.last_time == 6 * DAY
    assert BARE.popular[:2].tolist() == [0, 1]
    lists = Lists.of([[0, 1]], [[0]], n_items=4)
    assert beyond.ils(lists, BARE, 2).values[0] == pytest.approx(2 / np.sqrt(8))


def test_large_catalogues_count_pairs_from_sets_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    # Item 0 has nearly all users, others few: both ways of counting are taken.
    user = np.concatenate([np.arange(280), rng.integers(0, 300, 500)])
    item = np.concatenate([np.zeros(280, int), np.append(rng.integers(1, 40, 499), 39)])
    train = Dataset.from_columns(user, item)
    n_items = train.n_items
    lists = Lists.of(
        np.stack([rng.permutation(n_items)[:10] for _ in range(50)]),
        [[int(i)] for i in rng.integers(0, n_items, 50)],
        n_items=n_items,
        histories=[rng.integers(0, n_items, 4).tolist() for _ in range(50)],
    )
    table = Facts.of(train)
    expected = [f(lists, table, 10).values for f in (beyond.ils, beyond.serendipity)]
    assert table.likeness("cooccurrence").mode == 2
    monkeypatch.setattr("palate.evaluation.facts.MOST_BYTES", 0)
    sets = Facts.of(train)
    assert sets.likeness("cooccurrence").mode == 1
    for f, values in zip((beyond.ils, beyond.serendipity), expected, strict=True):
        np.testing.assert_array_equal(f(lists, sets, 10).values, values)


def test_users_without_events_do_not_count() -> None:
    wide = TRAIN.derive({"step": "test"}, users=Entities(type(TRAIN.users.ids).range(10)))
    assert Facts.of(wide).n_train_users == 4


def test_categories_from_an_attribute() -> None:
    table = pa.table({"genre": [["a", "b", "a"], ["b"], None, []], "shop": ["x", "y", None, "x"]})
    ds = TRAIN.derive({"step": "test"}, items=Entities(TRAIN.items.ids, table))
    assert categories_of(ds, "genre").tolist() == [[0, 1], [1], [], []]
    assert categories_of(ds, "shop").tolist() == [[0], [1], [], [0]]
    assert Facts.of(ds, categories="genre").topics().lengths.tolist() == [2, 1, 0, 0]
    with pytest.raises(ConfigError, match="no such item attribute") as error:
        Facts.of(ds, categories="genra")
    assert "genre" in str(error.value)


def test_wrong_facts_are_refused() -> None:
    with pytest.raises(DataError, match="3 rows for 5 items"):
        Facts(COUNTS, 4, item_vectors=np.zeros((3, 2)))
    with pytest.raises(DataError, match="not finite"):
        Facts(COUNTS, 4, item_vectors=np.full((5, 2), np.nan))


def test_diversity_and_similarity_add_up_to_one() -> None:
    rng = np.random.default_rng(4)
    lists = Lists.of(np.stack([rng.permutation(5)[:4] for _ in range(9)]), [[0]] * 9, n_items=5)
    for by in ("cooccurrence", "vectors", "categories"):
        both = beyond.ils(lists, FACTS, 4, by=by).values + beyond.diversity(lists, FACTS, 4, by=by).values
        np.testing.assert_allclose(both, 1)


def test_histories_are_needed_where_they_are() -> None:
    lists = Lists.of([[0]], [[0]], n_items=5)
    with pytest.raises(ConfigError, match="histories"):
        beyond.calibration(lists, FACTS, 1)
    assert np.isnan(beyond.calibration(Lists(lists.items, lists.truth, 5, None, Histories.empty(1)), FACTS, 1).values[0])
