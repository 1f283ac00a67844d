"""The judge: joins, blocks, faults, sampling labels."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import ConfigError, DataError
from palate.evaluation.facts import Facts
from palate.evaluation.judge import Judgement, judge
from palate.evaluation.metrics import DEFAULT_METRICS, DEFINITIONS, parse

N_ITEMS = 25
UNIT = ("rbp", "linear")  # takes gains up to 1 only


@cache
def facts(seed: int = 0) -> Facts:
    rng = np.random.default_rng(seed)
    train = Dataset.from_columns(
        np.concatenate([np.arange(N_ITEMS) % 12, rng.integers(0, 12, 150)]),
        np.concatenate([np.arange(N_ITEMS), rng.integers(0, N_ITEMS, 150)]),
        time=rng.integers(10**9, 10**9 + 10**6, N_ITEMS + 150),
    )
    topics = Ragged.from_rows([rng.permutation(5)[: rng.integers(0, 3)] for _ in range(N_ITEMS)])
    return Facts.of(train, item_vectors=rng.normal(size=(N_ITEMS, 4)), categories=topics)


def questions(seed: int = 0, n: int = 23, width: int = 10) -> tuple[np.ndarray, HeldOut]:
    rng = np.random.default_rng(seed)
    items = np.full((n, width), -1, np.int32)
    truth, past = [], []
    for row in range(n):
        length = rng.integers(0, width + 1) if row else width
        items[row, :length] = rng.permutation(N_ITEMS)[:length]
        truth.append(rng.permutation(N_ITEMS)[: rng.integers(0, 5)])
        past.append(rng.integers(0, N_ITEMS, rng.integers(0, 6)))
    wanted = Ragged.from_rows(truth)
    gains = rng.integers(1, 5, len(wanted.values)).astype(np.float32)
    return items, HeldOut(np.arange(n, dtype=np.int32), Histories.from_rows(past), wanted, gains, np.full(n, 10**9 + 10**7))


def everything() -> list[str]:
    """Every metric of lists, at cuts and with every option value."""
    out = []
    for name, definition in DEFINITIONS.items():
        if definition.kind == "arrays":
            continue
        cuts = ("@1", "@10", "") if definition.cut else ("",)
        out += [name + cut for cut in cuts]
        for option, values in definition.options.items():
            out += [f"{name}{cuts[0]}[{option}={choice}]" for choice in values.choices or () if (name, choice) != UNIT]
    return [*out, "err@5[max_gain=4]", "rbp@10[p=0.5]", "aplt@10[share=0.5]", "calibration@10[alpha=0.1]"]


@pytest.fixture(scope="module")
def known() -> Facts:
    return facts()


@given(st.lists(st.integers(1, 22), max_size=6))
@settings(max_examples=8, deadline=None)
def test_any_blocks_give_the_same_bits(cuts: list[int]) -> None:
    known, metrics = facts(), everything()
    items, asked = questions()
    whole = judge(items, asked, metrics, known)
    borders = sorted({0, len(asked), *cuts})
    parts = []
    for low, high in pairwise(borders):
        rows = np.arange(low, high)
        parts.append(judge(items[rows], asked.take(rows), metrics, known))
    joined = Judgement.merge(parts)
    assert list(joined.overall) == list(whole.overall) == metrics
    for name in metrics:
        assert np.float64(joined.overall[name]).tobytes() == np.float64(whole.overall[name]).tobytes(), name
        if name in whole.per_user:
            assert joined.per_user[name].tobytes() == whole.per_user[name].tobytes(), name
    assert joined.dropped == whole.dropped
    np.testing.assert_array_equal(joined.users, whole.users)


def test_merge_is_associative(known: Facts) -> None:
    items, asked = questions()
    a, b, c = (judge(items[r], asked.take(r), everything(), known) for r in np.array_split(np.arange(23), 3))
    left, right = Judgement.merge([Judgement.merge([a, b]), c]), Judgement.merge([a, Judgement.merge([b, c])])
    np.testing.assert_array_equal(list(left.overall.values()), list(right.overall.values()))


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_bounds(seed: int) -> None:
    items, asked = questions(seed)
    verdict = judge(items, asked, everything(), facts())
    for name, value in verdict.overall.items():
        low, high = parse(name).definition.bounds
        assert np.isnan(value) or low - 1e-9 <= value <= high + 1e-9, name
        own = verdict.per_user.get(name, np.empty(0))
        own = own[~np.isnan(own)]
        assert ((own >= low - 1e-9) & (own <= high + 1e-9)).all(), name


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_order_of_people_changes_no_value(seed: int) -> None:
    items, asked = questions(seed)
    order = np.random.default_rng(seed).permutation(len(asked))
    known = facts()
    before, after = judge(items, asked, everything(), known), judge(items[order], asked.take(order), everything(), known)
    for name, values in before.per_user.items():
        np.testing.assert_array_equal(values[order], after.per_user[name])
    for name, value in before.overall.items():
        np.testing.assert_allclose(after.overall[name], value, rtol=1e-12, err_msg=name)


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_renumbering_items_changes_no_accuracy(seed: int) -> None:
    items, asked = questions(seed)
    new = np.random.default_rng(seed).permutation(N_ITEMS).astype(np.int32)
    moved = np.where(items >= 0, new[items], -1).astype(np.int32)
    past = Histories(asked.histories.offsets, new[asked.histories.items])
    other = replace(asked, truth=Ragged(asked.truth.offsets, new[asked.truth.values]), histories=past)
    names = [name for name, d in DEFINITIONS.items() if d.kind == "rows"]
    known = Facts(np.ones(N_ITEMS, np.int64), 5)
    one, two = judge(items, asked, names, known), judge(moved, other, names, known)
    for name in names:
        np.testing.assert_array_equal(one.per_user[name], two.per_user[name], err_msg=name)


def test_people_without_answers_are_dropped_and_counted(known: Facts) -> None:
    items = np.array([[1, 2], [3, 4], [-1, -1]], np.int32)
    asked = HeldOut(np.array([7, 8, 9], np.int32), Histories.empty(3), Ragged.from_rows([[1], [], [2]]))
    verdict = judge(items, asked, ["recall@2", "user_coverage@2", "first_rank@2", "novelty@2"], known)
    np.testing.assert_array_equal(verdict.per_user["recall@2"], [1, np.nan, 0])
    assert verdict.dropped == {"recall@2": 1, "user_coverage@2": 0, "first_rank@2": 2, "novelty@2": 1}
    assert verdict.overall["recall@2"] == 0.5
    assert verdict.overall["user_coverage@2"] == pytest.approx(2 / 3)


def test_no_people_at_all(known: Facts) -> None:
    asked = HeldOut(np.empty(0, np.int32), Histories.empty(0), Ragged.empty(0))
    verdict = judge(np.empty((0, 20), np.int32), asked, DEFAULT_METRICS, known)
    assert np.isnan(verdict.overall["ndcg@10"])
    assert verdict.overall["coverage@10"] == 0


def test_nobody_has_answers(known: Facts) -> None:
    items, asked = questions()
    verdict = judge(items, replace(asked, truth=Ragged.empty(23), gains=None), ["ndcg@10", "gauc", "median_rank"], known)
    assert all(np.isnan(v) for v in verdict.overall.values())
    assert set(verdict.dropped.values()) == {23}


def test_cut_beyond_the_catalogue() -> None:
    items = np.array([[2, 0, 1]], np.int32)
    asked = HeldOut(np.zeros(1, np.int32), Histories.empty(1), Ragged.from_rows([[0]]))
    verdict = judge(items, asked, ["precision@10", "recall@10", "coverage@10"], Facts(np.ones(3, np.int64), 2))
    assert verdict.overall == {"precision@10": 0.1, "recall@10": 1.0, "coverage@10": 1.0}


def test_too_few_ranks_are_refused(known: Facts) -> None:
    items, asked = questions()
    with pytest.raises(ConfigError, match="10 ranks") as error:
        judge(items, asked, ["ndcg@20"], known)
    assert "k=20" in str(error.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [([1, 1], "twice"), ([1, N_ITEMS], "outside"), ([-1, 3], "padding")],
    ids=["duplicate", "unknown", "hole"],
)
def test_faulty_lists_name_the_row(line: list[int], words: str, known: Facts) -> None:
    asked = HeldOut(np.arange(2, dtype=np.int32), Histories.empty(2), Ragged.from_rows([[1], [2]]))
    with pytest.raises(DataError, match=words) as error:
        judge(np.array([[1, 2], line], np.int32), asked, ["ndcg@2"], known)
    assert "row 1" in str(error.value)


def test_wrong_shapes(known: Facts) -> None:
    items, asked = questions()
    for wrong in (items[:3], items[0], items.astype(np.float32)):
        with pytest.raises(DataError, match="one row a question"):
            judge(wrong, asked, ["ndcg@10"], known)


def test_scores_are_checked(known: Facts) -> None:
    items = np.array([[3, 1, -1]], np.int32)
    asked = HeldOut(np.zeros(1, np.int32), Histories.empty(1), Ragged.from_rows([[1]]))
    good = np.array([[2.0, 2.0, -np.inf]])
    assert judge(items, asked, ["mrr@3"], known, scores=good).overall["mrr@3"] == 0.5
    for bad, words in (([[1.0, 2.0, 0.0]], "rise"), ([[np.nan, 2.0, 0.0]], "NaN"), ([[1.0, 2.0]], "shapes")):
        with pytest.raises(DataError, match=words):
            judge(items, asked, ["mrr@3"], known, scores=np.array(bad))


def test_sampling_is_carried_and_never_mixed(known: Facts) -> None:
    items, asked = questions()
    part = judge(items, asked, ["ndcg@10"], known, sampled="99 uniform negatives")
    assert Judgement.merge([part, part]).sampled == "99 uniform negatives"
    assert judge(items, asked, ["ndcg@10"], known).sampled is None
    for other in (judge(items, asked, ["ndcg@10"], known), judge(items, asked, ["ndcg@5"], known, sampled=part.sampled)):
        with pytest.raises(DataError, match="different metrics"):
            Judgement.merge([part, other])
    with pytest.raises(DataError, match="nothing to merge"):
        Judgement.merge([])


def test_value_takes_any_spelling(known: Facts) -> None:
    items, asked = questions()
    verdict = judge(items, asked, ["hit@10", "map@10[denominator=capped]"], known)
    assert verdict.value("hit_rate@10") == verdict.overall["hit@10"]
    assert verdict.value("map@10") == verdict.value("AP@10") == verdict.overall["map@10[denominator=capped]"]
    with pytest.raises(ConfigError, match="not judged"):
        verdict.value("ndcg@10")


def test_gains_out_of_range_are_refused(known: Facts) -> None:
    items, asked = questions()
    plays = replace(asked, gains=np.full(len(asked.truth.values), 500, np.float32))
    assert judge(items, plays, ["ndcg@10", "ndcg@10[gain=linear]"], known).overall["ndcg@10"] >= 0
    for name in ("ndcg@10[gain=exp2]", "err@10[max_gain=5]", "rbp@10[gain=linear]"):
        with pytest.raises(DataError, match="gains"):
            judge(items, plays, [name], known)
    with pytest.raises(DataError, match="gains"):
        judge(items, replace(plays, gains=-plays.gains), ["ndcg@10[gain=linear]"], known)


def test_rank_biased_precision_takes_gains_up_to_one(known: Facts) -> None:
    items, asked = questions()
    whole = judge(items, replace(asked, gains=np.ones(len(asked.truth.values), np.float32)), ["rbp@10[gain=linear]"], known)
    half = judge(items, replace(asked, gains=np.full(len(asked.truth.values), 0.5, np.float32)), ["rbp@10[gain=linear]"], known)
    assert whole.value("rbp@10[gain=linear]") == judge(items, asked, ["rbp@10"], known).value("rbp@10")
    assert half.value("rbp@10[gain=linear]") == pytest.approx(whole.value("rbp@10[gain=linear]") / 2)


def test_people_without_answers_count_in_precision_only_by_choice(known: Facts) -> None:
    items, asked = questions()
    without = asked.truth.lengths == 0
    assert without.any()
    verdict = judge(items, asked, ["precision@10", "precision@10[unanswered=zero]", "recall@10"], known)
    plain, kept = verdict.per_user["precision@10"], verdict.per_user["precision@10[unanswered=zero]"]
    assert np.isnan(plain[without]).all() and (kept[without] == 0).all()
    np.testing.assert_array_equal(plain[~without], kept[~without])
    assert verdict.dropped["precision@10"] == verdict.dropped["recall@10"] == without.sum()
    assert verdict.dropped["precision@10[unanswered=zero]"] == 0
    assert verdict.without("Precision@10").tolist() == asked.users[without].tolist()
    assert len(verdict.without("precision@10[unanswered=zero]")) == 0


def test_missing_facts_say_how_to_give_them() -> None:
    items, asked = questions()
    bare = Facts(np.ones(N_ITEMS, np.int64), 5)
    for name in ("diversity@10", "diversity@10[by=vectors]", "calibration@10", "freshness@10"):
        with pytest.raises(ConfigError, match="needs"):
            judge(items, asked, [name], bare)
