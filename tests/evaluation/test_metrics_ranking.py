"""Accuracy of lists: by hand, against ranx and scikit-learn, and by what must hold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.ragged import Ragged
from palate.errors import ConfigError
from palate.evaluation.metrics import ALIASES, DEFAULT_METRICS, DEFINITIONS, names, parse, ranking
from palate.evaluation.metrics.lists import Lists

LOG3 = np.log2(3)

# Three people, catalogue of 6: hits at ranks 1 and 3 of 3 relevant; no hit of 1; one hit at rank 2 of 2, list of two.
HAND = Lists.of([[0, 4, 1], [2, 3, 5], [5, 3]], [[0, 1, 2], [4], [3, 0]], n_items=6, gains=[[3.0, 1.0, 2.0], [1.0], [2.0, 3.0]])
DCG = [1 + 0.5, 0, 1 / LOG3]
IDEAL = [1 + 1 / LOG3 + 0.5, 1, 1 + 1 / LOG3]

CASES = [
    ("hits", 3, {}, [2, 0, 1]),
    ("hits", 1, {}, [1, 0, 0]),
    ("precision", 3, {}, [2 / 3, 0, 1 / 3]),
    ("precision", 3, {"denominator": "list"}, [2 / 3, 0, 1 / 2]),
    ("recall", 3, {}, [2 / 3, 0, 1 / 2]),
    ("recall", 2, {"denominator": "capped"}, [1 / 2, 0, 1 / 2]),
    ("f1", 3, {}, [2 / 3, 0, 2 / 5]),
    ("hit_rate", 3, {}, [1, 0, 1]),
    ("mrr", 3, {}, [1, 0, 1 / 2]),
    ("mrr", 1, {}, [1, 0, 0]),
    ("arhr", 3, {}, [1 + 1 / 3, 0, 1 / 2]),
    ("map", 3, {}, [(1 + 2 / 3) / 3, 0, (1 / 2) / 2]),
    ("map", 2, {}, [1 / 2, 0, 1 / 4]),
    ("map", 2, {"denominator": "relevant"}, [1 / 3, 0, 1 / 4]),
    ("average_recall", 3, {}, [(1 / 3 + 1 / 3 + 2 / 3) / 3, 0, (0 + 1 / 2 + 1 / 2) / 3]),
    ("dcg", 3, {}, DCG),
    ("ndcg", 3, {}, [a / b for a, b in zip(DCG, IDEAL, strict=True)]),
    ("dcg", 3, {"gain": "linear"}, [3 + 0.5, 0, 2 / LOG3]),
    ("ndcg", 3, {"gain": "linear"}, [3.5 / (3 + 2 / LOG3 + 0.5), 0, (2 / LOG3) / (3 + 2 / LOG3)]),
    ("ndcg", 3, {"gain": "exp2"}, [7.5 / (7 + 3 / LOG3 + 0.5), 0, (3 / LOG3) / (7 + 3 / LOG3)]),
    ("ndcg", 1, {"gain": "linear"}, [1, 0, 0]),
    ("r_precision", None, {}, [2 / 3, 0, 1 / 2]),
    ("rbp", 3, {"p": 0.5}, [0.5 * (1 + 0.25), 0, 0.5 * 0.5]),
    ("rbp", 3, {"p": 0.5, "gain": "linear"}, [0.5 * (3 + 0.25), 0, 0.5 * 0.5 * 2]),
    ("err", 3, {}, [1 / 2 + (1 / 2) * (1 / 2) / 3, 0, (1 / 2) / 2]),
    ("err", 3, {"max_gain": 3.0}, [7 / 8 + (1 / 8) * (1 / 8) / 3, 0, (3 / 8) / 2]),
    # Irrelevant candidates: 3, 5, 4. Person 1: above the hits 0 and 1, one relevant item not listed.
    ("bpref", 3, {}, [(1 + (1 - 1 / 3)) / 3, 0, (1 - 1 / 2) / 2]),
    # Person 1: 3 + 2 pairs, and ½ · 1 unlisted relevant · 2 unlisted irrelevant = 6 of 9. Person 2: ½ · 2 of 5.
    ("auc", None, {}, [6 / 9, (1 / 2 * 2) / 5, (3 + 1 / 2 * 3) / 8]),
    ("gauc", None, {}, [6 / 9, 1 / 5, 4.5 / 8]),
    ("percentile_rank", None, {}, [(0 + 2 + 4) / 5 / 3, 4 / 5, (1 + 3.5) / 5 / 2]),
    ("percentile_rank", None, {"gain": "linear"}, [(0 + 2 * 1 + 4 * 2) / 5 / 6, 4 / 5, (1 * 2 + 3.5 * 3) / 5 / 5]),
    ("first_rank", 3, {}, [1, np.nan, 2]),
    ("median_rank", 3, {}, [1, np.nan, 2]),
]


@pytest.mark.parametrize(("name", "k", "options", "expected"), CASES, ids=[f"{c[0]}@{c[1]}{c[2] or ''}" for c in CASES])
def test_by_hand(name: str, k: int | None, options: dict, expected: list[float]) -> None:
    np.testing.assert_allclose(getattr(ranking, name)(HAND, k, **options), expected, atol=1e-12)


def test_every_ranking_metric_has_a_hand_case_and_a_formula() -> None:
    own = {name for name, d in DEFINITIONS.items() if d.kind == "rows"}
    assert own == {case[0] for case in CASES}
    assert all(len(row.text) > 20 for row in names())


def test_history_shrinks_the_candidates() -> None:
    lists = Lists.of([[0, 1]], [[0, 5]], n_items=10, histories=[[5, 7, 7, 8]])
    assert lists.candidates.tolist() == [8]


# --- against ranx ------------------------------------------------------------------------------------------------------


def _random(seed: int, n: int = 60, width: int = 30, n_items: int = 80) -> tuple[Lists, dict, dict]:
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(n_items)[:width] for _ in range(n)]).astype(np.int32)
    rows = [rng.permutation(n_items)[: rng.integers(1, 25)] for _ in range(n)]
    gains = [rng.integers(1, 5, len(row)).astype(float).tolist() for row in rows]
    qrels = {
        f"q{u:03}": {f"d{i}": int(g) for i, g in zip(r, gs, strict=True)}
        for u, (r, gs) in enumerate(zip(rows, gains, strict=True))
    }
    run = {f"q{u:03}": {f"d{i}": float(width - at) for at, i in enumerate(line)} for u, line in enumerate(items)}
    return Lists.of(items, rows, n_items=n_items, gains=gains), qrels, run


RANX = {
    "hits@10": "hits@10",
    "precision@10": "precision@10",
    "recall@30": "recall@30",
    "f1@10": "f1@10",
    "hit_rate@1": "hit_rate@1",
    "mrr@10": "mrr@10",
    "map@10": "map@10[denominator=relevant]",
    "map@30": "map@30[denominator=relevant]",
    "dcg@10": "dcg@10[gain=linear]",
    "dcg_burges@10": "dcg@10[gain=exp2]",
    "ndcg@10": "ndcg@10[gain=linear]",
    "ndcg@30": "ndcg@30[gain=linear]",
    "ndcg_burges@10": "ndcg@10[gain=exp2]",
    "r-precision": "r_precision",
}


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Let what is imported and called here run as plain Python."""
    before, numba.config.DISABLE_JIT = numba.config.DISABLE_JIT, 1
    try:
        yield
    finally:
        numba.config.DISABLE_JIT = before


def _against_ranx(lists: Lists, qrels: dict, run: dict, table: dict[str, str]) -> None:
    # Compiling each of ranx's metrics takes over a minute; uncompiled it is the same code, and fast enough.
    with _uncompiled(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranx = pytest.importorskip("ranx")
        theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), list(table), return_mean=False)
    values = theirs if isinstance(theirs, dict) else dict.fromkeys(table, theirs)
    for their_name, our_name in table.items():
        metric = parse(our_name)
        ours = metric.definition.function(lists, metric.k, **metric.options)
        np.testing.assert_allclose(ours, values[their_name], atol=1e-6, err_msg=their_name)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_against_ranx(seed: int) -> None:
    lists, qrels, run = _random(seed)
    _against_ranx(lists, qrels, run, RANX)


def test_binary_metrics_against_ranx() -> None:
    lists, qrels, run = _random(2)
    binary = {q: dict.fromkeys(row, 1) for q, row in qrels.items()}
    _against_ranx(lists, binary, run, {"rbp.80": "rbp[p=0.8]", "ndcg@10": "ndcg@10", "dcg@10": "dcg@10"})


def test_bpref_against_ranx() -> None:
    # Ours takes all that is not relevant as judged, so ranx is told of every item of the catalogue.
    lists, qrels, run = _random(4)
    judged = {q: {f"d{i}": 0 for i in range(80)} | row for q, row in qrels.items()}
    _against_ranx(lists, judged, run, {"bpref": "bpref"})


def test_against_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    lists, _, _ = _random(2, n=30, width=80)
    n_items = 80
    relevance, scores = np.zeros((30, n_items)), np.zeros((30, n_items))
    np.put_along_axis(scores, lists.items, np.arange(n_items, 0, -1)[None, :].repeat(30, 0), 1)
    for row in range(30):
        relevance[row, lists.truth[row]] = lists.gains[lists.truth.offsets[row] : lists.truth.offsets[row + 1]]
    binary = (relevance > 0).astype(int)
    auc, ap = ranking.auc(lists), ranking.map(lists, denominator="relevant")
    for row in range(30):
        assert auc[row] == pytest.approx(sklearn.roc_auc_score(binary[row], scores[row]), abs=1e-9)
        assert ap[row] == pytest.approx(sklearn.average_precision_score(binary[row], scores[row]), abs=1e-9)
    for k in (1, 5, 80):
        linear, plain = ranking.ndcg(lists, k, gain="linear"), ranking.ndcg(lists, k)
        for row in range(30):
            assert linear[row] == pytest.approx(
                sklearn.ndcg_score(relevance[row : row + 1], scores[row : row + 1], k=k), abs=1e-9
            )
            assert plain[row] == pytest.approx(sklearn.ndcg_score(binary[row : row + 1], scores[row : row + 1], k=k), abs=1e-9)


# --- what must hold ----------------------------------------------------------------------------------------------------

seeds = st.integers(0, 10**6)


@given(seeds, st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_identities(seed: int, k: int) -> None:
    lists, _, _ = _random(seed, n=15)
    precision, recall, found = ranking.precision(lists, k), ranking.recall(lists, k), ranking.hits(lists, k)
    np.testing.assert_allclose(precision * k, recall * lists.relevant)
    np.testing.assert_allclose(
        ranking.f1(lists, k), np.where(found > 0, 2 * precision * recall / np.maximum(precision + recall, 1e-9), 0)
    )
    np.testing.assert_array_equal(ranking.hit_rate(lists, k), found > 0)
    assert (ranking.arhr(lists, k) >= ranking.mrr(lists, k) - 1e-12).all()
    assert (ranking.recall(lists, k, denominator="capped") >= recall - 1e-12).all()
    for growing in (
        ranking.hits,
        ranking.recall,
        ranking.mrr,
        ranking.arhr,
        ranking.dcg,
        ranking.hit_rate,
        ranking.rbp,
        ranking.err,
    ):
        assert (growing(lists, k + 1) >= growing(lists, k) - 1e-12).all(), growing.__name__


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_one_relevant_item(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(20)[:8] for _ in range(10)])
    lists = Lists.of(items, [[i] for i in rng.integers(0, 20, 10)], n_items=20)
    np.testing.assert_allclose(ranking.mrr(lists, 8), ranking.arhr(lists, 8))
    np.testing.assert_allclose(ranking.mrr(lists, 8), ranking.map(lists, 8))
    ranks = lists.ranks.astype(float)
    np.testing.assert_allclose(ranking.ndcg(lists, 8), np.where(ranks > 0, 1 / np.log2(np.maximum(ranks, 1) + 1), 0))


@given(seeds, st.sampled_from(["binary", "linear", "exp2"]))
@settings(max_examples=20, deadline=None)
def test_only_the_ideal_order_reaches_one(seed: int, gain: str) -> None:
    rng = np.random.default_rng(seed)
    truth, worth = [], []
    for _ in range(8):
        truth.append(rng.permutation(30)[:6])
        worth.append(np.sort(rng.permutation(12)[:6] + 1.0)[::-1].tolist())
    best = Lists.of(truth, truth, n_items=30, gains=worth)
    np.testing.assert_allclose(ranking.ndcg(best, 6, gain=gain), 1)
    if gain != "binary":
        swapped = Lists.of([[*t[:2], t[3], t[2], *t[4:]] for t in truth], truth, n_items=30, gains=worth)
        assert (ranking.ndcg(swapped, 6, gain=gain) < 1 - 1e-9).all()
    for perfect in (ranking.map, ranking.recall, ranking.precision, ranking.auc, ranking.bpref, ranking.r_precision):
        np.testing.assert_allclose(perfect(best), 1)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_moving_a_hit_up_never_hurts(seed: int) -> None:
    lists, _, _ = _random(seed, n=6)
    better = lists.items.copy()
    for row in range(6):
        ranks = lists.ranks[lists.truth.offsets[row] : lists.truth.offsets[row + 1]]
        low = ranks[(ranks > 1) & ~np.isin(ranks - 1, ranks)]
        if len(low):
            better[row, [low[0] - 2, low[0] - 1]] = better[row, [low[0] - 1, low[0] - 2]]
    moved = Lists(better, lists.truth, lists.n_items, lists.gains)
    for name, definition in DEFINITIONS.items():
        if definition.kind == "rows":
            before, after = (getattr(ranking, name)(x) for x in (lists, moved))
            assert (definition.better * (after - before)[~np.isnan(before)] >= -1e-12).all(), name


def test_a_random_order_is_worth_a_half() -> None:
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(200) for _ in range(400)])
    lists = Lists.of(items, [rng.permutation(200)[:5] for _ in range(400)], n_items=200)
    assert ranking.auc(lists).mean() == pytest.approx(0.5, abs=0.02)
    assert ranking.percentile_rank(lists).mean() == pytest.approx(0.5, abs=0.02)


def test_an_empty_list_is_a_miss_and_nothing_but_chance() -> None:
    lists = Lists(np.full((1, 3), -1, np.int32), Ragged.from_rows([[1]]), 5)
    for name in (
        "precision",
        "recall",
        "ndcg",
        "map",
        "mrr",
        "f1",
        "hit_rate",
        "rbp",
        "err",
        "arhr",
        "average_recall",
        "bpref",
    ):
        assert getattr(ranking, name)(lists, 3)[0] == 0
    assert ranking.precision(lists, 3, denominator="list")[0] == 0
    assert ranking.auc(lists)[0] == 0.5
    assert ranking.percentile_rank(lists)[0] == 0.5


def test_a_catalogue_that_is_all_relevant_has_no_auc() -> None:
    lists = Lists.of([[1, 0]], [[0, 1]])
    assert np.isnan(ranking.auc(lists)[0])
    assert np.isnan(ranking.bpref(lists)[0])


# --- names -------------------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert parse("NDCG@10") == parse(" ndcg @ 10 [gain=binary] ")
    assert parse("ndcg@10[gain=linear]").options == {"gain": "linear"}
    assert str(parse("recall@20[ denominator = capped ]")) == "recall@20[denominator=capped]"
    assert parse("rbp@10[p=0.90]").name == "rbp@10[p=0.9]"
    assert parse("aplt@10[share=0.1,head=items]").name == "aplt@10[head=items,share=0.1]"
    assert parse(parse("mrr")).k is None
    assert all(parse(name).name == name for name in DEFAULT_METRICS)
    assert all(parse(alias).definition.name == name for alias, name in ALIASES.items())
    assert parse("R-precision").name == "r_precision"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ndgc@10", "did you mean 'ndcg'"),
        ("recal@20", "did you mean 'recall'"),
        ("ndcg@10[gian=linear]", "did you mean 'gain'"),
        ("ndcg@10[gain=liner]", "did you mean 'linear'"),
        ("ndcg@10[gain]", "gain"),
        ("mrr@10[gain=linear]", "no options"),
        ("ndcg@0", "at least 1"),
        ("ndcg@-1", "can't be read"),
        ("ndcg@ten", "can't be read"),
        ("", "can't be read"),
        ("r_precision@5", "no cut"),
        ("rbp@5[p=2]", "from 0 to 1"),
        ("rbp@5[p=nan]", "from 0 to 1"),
        ("rmse", "palate.evaluation.metrics.predictive.rmse"),
    ],
)
def test_wrong_names_say_what_is_right(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(name)
    assert words in str(error.value)


def test_the_table_names_every_family() -> None:
    families = {row.family for row in names()}
    assert families == {"ranking", "beyond accuracy", "predictive", "similarity", "business"}
    assert {row.how for row in names("ranking")} >= {"ndcg@k", "r_precision"}
    assert next(row for row in names() if row.name == "map").options == "denominator=capped|relevant"
