"""Sampled candidates: only on request, labelled, and what they say of the whole catalogue."""

import numpy as np
import pytest

from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.split import HeldOut, Split
from palate.errors import ConfigError, DataError
from palate.evaluation.metrics.sampling import sampled_hit_probability
from palate.recommend.ease import EASE
from palate.recommend.popularity import Popularity
from palate.simulate.world import World
from palate.study.candidates import sample_candidates
from palate.study.evaluate import evaluate


@pytest.fixture(scope="module")
def split():
    data = World(users=300, items=150, events=6_000, topics=8, min_events=4).dataset(text=False, impressions=False)
    events = data.interactions
    last = np.ones(len(events), bool)
    last[:-1] = events.user[1:] != events.user[:-1]
    train = data.derive({"step": "train"}, interactions=events.take(~last))
    return Split(train, None, events.take(last), {"protocol": "last"})


@pytest.mark.parametrize("popular", [False, True])
def test_negatives_are_new_distinct_and_beside_the_answers(split, popular):
    held_out = split.held_out("test")
    counts = split.train.item_counts if popular else None
    rows, label = sample_candidates(held_out, 150, 20, np.random.default_rng(0), item_counts=counts)
    assert label == ("20 popularity^1 negatives" if popular else "20 uniform negatives")
    for row in range(len(held_out)):
        own, answers = rows[row], held_out.truth[row]
        assert len(np.unique(own)) == len(own) == 20 + len(answers)
        assert np.isin(answers, own).all()
        others = np.setdiff1d(own, answers)
        assert not np.isin(others, held_out.histories.ragged[row]).any()
    again, _ = sample_candidates(held_out, 150, 20, np.random.default_rng(0), item_counts=counts)
    np.testing.assert_array_equal(rows.values, again.values)


def test_draws_follow_the_chances_asked_for():
    asked = HeldOut(np.arange(4000, dtype=np.int32), Histories.empty(4000), Ragged.from_rows([[0]] * 4000))
    rng = np.random.default_rng(0)
    for counts, wanted in ((None, [1 / 4] * 4), (np.array([9, 1, 2, 3, 4]), np.array([1, 2, 3, 4]) / 10)):
        rows, _ = sample_candidates(asked, 5, 1, rng, item_counts=counts)
        drawn = np.bincount(rows.values, minlength=5)[1:] / 4000
        np.testing.assert_allclose(drawn, wanted, atol=0.03)


def test_sampled_values_are_those_that_the_formula_expects(split):
    """Hit rates over samples meet their expectation from full ranks; AUC is the same on average; the label is carried."""
    held_out, rng = split.held_out("test"), np.random.default_rng(0)
    model = EASE(reg=50.0).fit(split.train)
    full = evaluate(model, held_out, ["first_rank", "auc", "hit_rate@5"], train=split.train)
    ranks = full.per_user["first_rank"]
    pool = 150 - np.array([len(np.unique(row)) for row in held_out.histories.ragged.tolist()])
    fresh = ranks > 0  # an answer that the person has had already can't be listed
    expected = [
        sampled_hit_probability(r, int(n), 20, 5, draws="distinct") for r, n in zip(ranks[fresh], pool[fresh], strict=True)
    ]
    drawn, areas = [], []
    for _ in range(15):
        candidates, sampled = sample_candidates(held_out, 150, 20, rng)
        found = evaluate(model, held_out, ["hit_rate@5", "auc"], train=split.train, candidates=candidates, sampled=sampled)
        assert found.sampled == "20 uniform negatives"
        drawn.append(found.per_user["hit_rate@5"][fresh])
        areas.append(found.per_user["auc"][fresh])
    assert np.mean(drawn) == pytest.approx(np.mean(expected), abs=0.02)
    assert np.mean(areas) == pytest.approx(full.per_user["auc"][fresh].mean(), abs=0.02)
    assert np.mean(drawn) > full.per_user["hit_rate@5"][fresh].mean() + 0.1


def test_samples_can_turn_the_order_of_two_systems():
    """Krichene and Rendle's case: one system often first and else nowhere, another always in the middle."""
    sharp, steady = np.r_[np.full(40, 1), np.full(60, 500)], np.full(100, 60)
    true = [(ranks <= 10).mean() for ranks in (sharp, steady)]
    seen = [sampled_hit_probability(ranks, 1000, 99, 10).mean() for ranks in (sharp, steady)]
    assert true[0] > true[1]
    assert seen[0] < seen[1]


def test_too_few_items(split):
    held_out = split.held_out("test")
    with pytest.raises(DataError, match="too few items"):
        sample_candidates(held_out, 150, 149, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="must be a negative"):
        sample_candidates(held_out, 150, 0, np.random.default_rng(0))


def test_full_ranking_is_the_default(split):
    assert evaluate(Popularity().fit(split.train), split.held_out("test"), ["ndcg@5"], train=split.train).sampled is None
