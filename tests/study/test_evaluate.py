"""Evaluation: full ranking in blocks, the same bits for any cut, candidates only when asked for, memory that stays fixed."""

import tracemalloc

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.data.split import Split
from palate.errors import ConfigError, DataError
from palate.evaluation.judge import Facts, judge
from palate.recommend.ease import EASE
from palate.recommend.popularity import Popularity
from palate.runtime import set_threads, threads
from palate.simulate.world import World
from palate.study.evaluate import blocks, depth, evaluate, measure, recommend_rate

METRICS = ("ndcg@10", "recall@20", "coverage@10", "novelty@10", "mrr@10", "gini@10")


@pytest.fixture(scope="module")
def split():
    data = World(users=300, items=150, events=6_000, topics=8, min_events=4).dataset(text=False, impressions=False)
    events = data.interactions
    last = np.ones(len(events), bool)
    last[:-1] = events.user[1:] != events.user[:-1]
    train = data.derive({"step": "train"}, interactions=events.take(~last))
    return Split(train, None, events.take(last), {"protocol": "last"})


@pytest.fixture(scope="module")
def model(split):
    return EASE(reg=50.0).fit(split.train)


def test_it_is_what_the_judge_says_of_the_lists(split, model):
    held_out = split.held_out("test")
    ranking = model.recommend(Requests.of_held_out(held_out), 20)
    expected = judge(ranking.items, held_out, METRICS, Facts.of(split.train))
    found = evaluate(model, held_out, METRICS, train=split.train)
    assert found.overall == expected.overall
    for name, values in expected.per_user.items():
        np.testing.assert_array_equal(found.per_user[name], values)
    assert found.sampled is None


def test_by_hand():
    # Items 0, 1, 2 have 3, 2, 1 events; user 0 had item 0 and wants 2, user 1 had 0 and 1 and wants 2, user 2 had all.
    data = Dataset.from_columns(["a", "b", "b", "c", "c", "c"], [0, 0, 1, 0, 1, 2])
    users, items = np.array([0, 1, 2], np.int32), np.array([2, 2, 0], np.int32)
    test = type(data.interactions)(users, items)
    held_out = Split(data, None, test, {}).held_out("test")
    model = Popularity().fit(data)
    found = evaluate(model, held_out, ["mrr@3", "hit_rate@3"], train=data)
    np.testing.assert_allclose(found.per_user["mrr@3"], [1 / 2, 1, 0])
    everything = evaluate(model, held_out, ["mrr@3"], train=data, exclude_seen=False)
    np.testing.assert_allclose(everything.per_user["mrr@3"], [1 / 3, 1 / 3, 1])


@pytest.mark.parametrize("block_bytes", [1, 20_000, 2**17])
def test_same_bits_for_any_block_size(split, model, block_bytes):
    held_out = split.held_out("test").take(np.arange(0, 300, 8))
    whole = evaluate(model, held_out, METRICS, train=split.train)
    cut = evaluate(model, held_out, METRICS, train=split.train, block_bytes=block_bytes)
    assert cut.overall == whole.overall
    for name, values in whole.per_user.items():
        np.testing.assert_array_equal(cut.per_user[name], values)
    np.testing.assert_array_equal(cut.users, whole.users)


def test_same_bits_for_any_number_of_threads(split, model):
    held_out, before = split.held_out("test"), threads()
    results = []
    try:
        for count in (1, 2):
            set_threads(count)
            results.append(evaluate(model, held_out, METRICS, train=split.train).overall)
    finally:
        set_threads(before)
    assert results[0] == results[1]


def test_blocks_cover_every_question_once_within_the_bound(split):
    held_out = split.held_out("test")
    parts = list(blocks(held_out, 10, 20_000))
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(len(held_out)))
    assert len(parts) > 5
    assert [len(p) for p in blocks(held_out, 10, 1)] == [1] * len(held_out)


def test_candidates_are_labelled_and_obeyed(split, model):
    held_out = split.held_out("test")
    rng = np.random.default_rng(0)
    rows = [np.append(rng.choice(150, 20, replace=False), truth) for truth in held_out.truth.tolist()]
    rows = [np.unique(row) for row in rows]
    asked = {"metrics": ["hit_rate@10"], "train": split.train}
    found = evaluate(model, held_out, **asked, candidates=Ragged.from_rows(rows), sampled="20 uniform")
    assert found.sampled == "20 uniform"
    assert found.value("hit_rate@10") > evaluate(model, held_out, **asked).value("hit_rate@10")
    with pytest.raises(DataError, match="one row a question"):
        evaluate(model, held_out, train=split.train, candidates=Ragged.empty(3))


def test_accuracy_without_a_cut_ranks_the_whole_catalogue(split, model):
    held_out = split.held_out("test")
    assert depth(["ndcg@5", "recall@20"], 150) == 20
    assert depth(["mrr"], 150) == 150
    assert depth(["coverage"], 150) == 10
    full = evaluate(model, held_out, ["mrr", "hit_rate"], train=split.train)
    assert (full.per_user["mrr"] > 0).all()
    assert full.value("hit_rate") == 1.0


def test_deep_rankings_agree_with_shallow_ones(split, model, monkeypatch):
    held_out = split.held_out("test")
    shallow = evaluate(model, held_out, ["ndcg@20", "mrr@20"], train=split.train)
    monkeypatch.setattr("palate.study.evaluate.DEEP", 5)
    deep = evaluate(model, held_out, ["ndcg@20", "mrr@20"], train=split.train)
    assert deep.overall == shallow.overall


def test_facts_come_from_the_model_where_no_data_are_given(split, model):
    held_out = split.held_out("test")
    alone = evaluate(model, held_out, ["ndcg@10", "novelty@10"])
    assert alone.overall == evaluate(model, held_out, ["ndcg@10", "novelty@10"], train=split.train).overall


def test_memory_stays_within_its_bound():
    users, items = 30_000, 500
    world = World(users=users, items=items, events=120_000, topics=8)
    data = world.dataset(text=False, graphs=False, impressions=False)
    test = type(data.interactions)(np.arange(users, dtype=np.int32), np.zeros(users, np.int32))
    held_out, facts = Split(data, None, test, {}).held_out("test"), Facts.of(data)
    model = Popularity().fit(data)
    evaluate(model, held_out.take(np.arange(10)), ["ndcg@100"], facts=facts)
    bound, peaks = 2**23, []
    for block_bytes in (bound, 2**40):
        tracemalloc.start()
        evaluate(model, held_out, ["ndcg@100"], facts=facts, block_bytes=block_bytes)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What the answer itself needs (a value and a number a user, twice while it is joined) grows; the rest is bounded.
    # A model's own blocks of scores have a bound of their own.
    kept = users * 12 * 3
    dense = min(4 * items * users, 3 * 128 * 2**20)
    own = 3 * 4 * items * min(users, bound // 12_000)
    assert peaks[0] < bound + kept + own
    assert peaks[1] > 2 * peaks[0] or dense < bound


def test_measure_reports_cold_questions(split):
    held_out = split.held_out("test")
    emptied = type(held_out)(held_out.users, held_out.histories.take(np.full(len(held_out), -1)), held_out.truth)
    model = EASE().fit(split.train)
    assert measure(model, held_out, ["ndcg@10"], train=split.train).cold_share == 0
    found = measure(model, emptied, ["ndcg@10"], train=split.train)
    assert found.cold_share == 1
    assert found.seconds > 0


def test_bad_questions(split, model):
    held_out = split.held_out("test")
    with pytest.raises(ConfigError, match="at least one metric"):
        evaluate(model, held_out, [])
    with pytest.raises(ConfigError, match="unknown metric"):
        evaluate(model, held_out, ["ndgc@10"])
    with pytest.raises(DataError, match="no questions"):
        evaluate(model, held_out.take(np.arange(0)))


def test_progress_ends_at_the_total(split, model):
    seen = []
    evaluate(model, split.held_out("test"), ["ndcg@10"], train=split.train, block_bytes=20_000, progress=seen.append)
    assert seen[-1].done == seen[-1].total == len(split.held_out("test"))
    assert [e.done for e in seen] == sorted(e.done for e in seen)


def test_recommend_rate_is_a_rate(split, model):
    requests = Requests.of_held_out(split.held_out("test"))
    assert recommend_rate(model, requests, seconds=0.05) > 100
    with pytest.raises(DataError, match="no requests"):
        recommend_rate(model, requests.take(np.arange(0)))
