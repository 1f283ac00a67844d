"""Foreign runs: what another system wrote, judged like our own."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.interactions import Interactions
from palate.data.split import Split
from palate.errors import DataError
from palate.kernels.topk import tie_key
from palate.recommend.ease import EASE
from palate.simulate.world import World
from palate.study.evaluate import evaluate
from palate.study.foreign import evaluate_run


@pytest.fixture
def split():
    data = Dataset.from_columns(["a", "a", "b", "b", "c"], ["x", "y", "x", "z", "w"])
    # a is asked for z, b for y, c has no question.
    test = Interactions(np.array([0, 1], np.int32), np.array([2, 1], np.int32))
    return Split(data, None, test, {"protocol": "given"})


def _write(path, lines):
    path.write_text("".join(f"{u} Q0 {i} {r} {s} tag\n" for u, i, r, s in lines))
    return path


def test_by_hand(split, tmp_path):
    run = _write(
        tmp_path / "run.trec",
        [
            ("a", "w", 1, 3.0),
            ("a", "z", 2, 2.0),
            ("a", "z", 3, 1.0),
            ("a", "nowhere", 4, 0.5),
            ("b", "y", 1, 1.0),
            ("b", "x", 2, 0.5),
            ("c", "x", 1, 1.0),
            ("nobody", "x", 1, 1.0),
        ],
    )
    found = evaluate_run(run, split, ["mrr@3"])
    np.testing.assert_allclose(found.judgement.per_user["mrr@3"], [1 / 2, 1.0])
    assert found.counts == {
        "rows": 8,
        "unknown_users": 1,
        "unknown_items": 1,
        "not_asked": 1,
        "duplicates": 1,
        "seen_items": 1,
        "unanswered": 0,
    }
    assert split.looks == 1


def test_scores_rank_and_lines_do_not(split, tmp_path):
    lines = [("a", "w", 1, 1.0), ("a", "z", 2, 5.0)]
    for order in (lines, lines[::-1]):
        found = evaluate_run(_write(tmp_path / "run.trec", order), split, ["mrr@3"])
        assert found.judgement.per_user["mrr@3"][0] == 1.0
        assert found.unanswered == 1
        assert found.judgement.per_user["mrr@3"][1] == 0.0


def test_ties_rank_by_our_rule(split, tmp_path):
    z, w = 2, 3
    expected = 1.0 if tie_key(np.array([z])) < tie_key(np.array([w])) else 0.5
    for order in ([("a", "w", 1, 1.0), ("a", "z", 2, 1.0)], [("a", "z", 1, 1.0), ("a", "w", 2, 1.0)]):
        found = evaluate_run(_write(tmp_path / "run.trec", order), split, ["mrr@3"])
        assert found.judgement.per_user["mrr@3"][0] == expected


def test_close_scores_are_no_ties(split, tmp_path):
    # Equal as float32, and the other way round than the tie rule would have them.
    z, w = (tie_key(np.array([item]))[0] for item in (2, 3))
    high, low = ("w", "z") if z < w else ("z", "w")
    lines = [("a", low, 1, 16_777_216.0), ("a", high, 2, 16_777_217.0)]
    found = evaluate_run(_write(tmp_path / "run.trec", lines), split, ["mrr@3"])
    assert found.judgement.per_user["mrr@3"][0] == (1.0 if high == "z" else 0.5)


def test_any_block_gives_the_same_bits(tmp_path):
    rng = np.random.default_rng(0)
    data = Dataset.from_columns(np.repeat(np.arange(60), 3), rng.integers(0, 40, 180))
    test = Interactions(np.arange(60, dtype=np.int32), rng.integers(0, data.n_items, 60).astype(np.int32))
    split = Split(data, None, test, {"protocol": "given"})
    users = data.users.ids.raw.to_pylist()
    lines = [(u, i, 1, round(rng.random(), 2)) for u in users for i in data.items.ids.raw.to_pylist() if rng.random() < 0.5]
    run, metrics = _write(tmp_path / "run.trec", lines), ["ndcg@10", "coverage@10", "novelty@5", "recall"]
    whole = evaluate_run(run, split, metrics, exclude_seen=True)
    for block_bytes in (1, 20_000):
        cut = evaluate_run(run, split, metrics, exclude_seen=True, block_bytes=block_bytes)
        assert cut.judgement.overall == whole.judgement.overall
        assert cut.counts == whole.counts
        for name, values in whole.judgement.per_user.items():
            np.testing.assert_array_equal(cut.judgement.per_user[name], values)


def test_seen_items_can_be_dropped(split, tmp_path):
    run = _write(tmp_path / "run.trec", [("a", "x", 1, 9.0), ("a", "z", 2, 5.0)])
    assert evaluate_run(run, split, ["mrr@3"]).judgement.per_user["mrr@3"][0] == 0.5
    assert evaluate_run(run, split, ["mrr@3"], exclude_seen=True).judgement.per_user["mrr@3"][0] == 1.0


def test_a_run_of_another_data_set_is_refused(split, tmp_path):
    with pytest.raises(DataError, match="no line of the run fits"):
        evaluate_run(_write(tmp_path / "run.trec", [("q", "x", 1, 1.0)]), split, ["mrr@3"])


def test_our_own_lists_written_and_read_give_the_same_figures(tmp_path):
    from palate.data.writers import write_run

    data = World(users=120, items=60, events=2_400, topics=6, min_events=4).dataset(text=False, impressions=False)
    events = data.interactions
    last = np.ones(len(events), bool)
    last[:-1] = events.user[1:] != events.user[:-1]
    train = data.derive({"step": "train"}, interactions=events.take(~last))
    split = Split(train, None, events.take(last), {"protocol": "last"})
    model = EASE(reg=30.0).fit(train)
    held_out = split.held_out("test")
    ranking = model.recommend(Requests.of_held_out(held_out), 10)
    path = tmp_path / "run.trec"
    users = train.users.ids.decode(held_out.users)
    items = [train.items.ids.decode(row[row >= 0]) for row in ranking.items]
    scores = [row[found >= 0] for found, row in zip(ranking.items, ranking.scores, strict=True)]
    write_run(path, users, items, scores, "ease")
    found = evaluate_run(path, split, ["ndcg@10", "recall@5"])
    assert found.judgement.overall == evaluate(model, held_out, ["ndcg@10", "recall@5"], train=train).overall
    assert found.unanswered == found.duplicates == found.seen_items == 0
    path.write_text(path.read_text() + "someone Q0 1 1 1.0 x\n0 Q0 thing 1 1.0 x\n")
    again = evaluate_run(path, split, ["ndcg@10"])
    assert (again.unknown_users, again.unknown_items) == (1, 1)
    assert again.judgement.value("ndcg@10") == found.judgement.value("ndcg@10")
