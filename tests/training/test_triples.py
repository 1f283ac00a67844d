"""Epochs of triples: every pair once, people whole, negatives unseen, and hard ones chosen when they are due."""

import numpy as np
import pytest
from scipy import sparse

from palate.training.triples import Pairs


def rng():
    return np.random.default_rng(0)


def matrix():
    return sparse.csr_matrix(np.random.default_rng(3).random((30, 20)) < 0.3, dtype=np.float32)


def test_an_epoch_holds_each_pair_once():
    had = matrix()
    pairs = Pairs(had, 32)
    batches = list(pairs.epoch(rng()))
    assert len(batches) == len(pairs.epoch(rng())) == -(-had.nnz // 32)
    users, items = (np.concatenate([getattr(b, n) for b in batches]) for n in ("users", "positives"))
    assert had.toarray()[users, items].all()
    assert len(set(zip(users.tolist(), items.tolist(), strict=True))) == had.nnz
    other = np.concatenate([b.users for b in pairs.epoch(np.random.default_rng(1))])
    assert not np.array_equal(other, users)


def test_drawn_evenly_people_count_alike_whatever_their_history():
    lengths = [0, 1, 4, 15]
    had = sparse.csr_matrix([[1.0] * n + [0.0] * (20 - n) for n in lengths], dtype=np.float32)
    pairs = Pairs(had, 7, evenly=True)
    assert sum(len(b) for b in pairs.epoch(rng())) == had.nnz
    drawn = [b for seed in range(300) for b in pairs.epoch(np.random.default_rng(seed))]
    users, items, others = (np.concatenate([getattr(b, n) for b in drawn]) for n in ("users", "positives", "negatives"))
    assert had.toarray()[users, items].all() and not had.toarray()[users, others].any()
    np.testing.assert_allclose(np.bincount(users, minlength=4) / len(users), [0, 1 / 3, 1 / 3, 1 / 3], atol=0.03)
    np.testing.assert_allclose(np.bincount(items[users == 2]) / (users == 2).sum(), [0.25] * 4, atol=0.04)
    assert len(list(Pairs(sparse.csr_matrix((3, 4), dtype=np.float32), 7, evenly=True).epoch(rng()))) == 0


def test_an_epoch_of_people_holds_them_whole():
    had = matrix()
    batches = list(Pairs(had, 32).epoch_of_people(rng()))
    assert len(batches) > 3
    seen = np.concatenate([np.unique(b.users) for b in batches])
    assert sorted(seen) == np.flatnonzero(np.diff(had.indptr)).tolist()
    for b in batches:
        for user in np.unique(b.users):
            np.testing.assert_array_equal(b.positives[b.users == user], had[user].indices)


def test_negatives_are_unseen_or_left_out():
    had = matrix()
    for batch in Pairs(had, 32).epoch(rng()):
        assert not had.toarray()[batch.users, batch.negatives].any()
    assert all((batch.negatives == -1).all() for batch in Pairs(had, 32).epoch(rng(), negatives=False))


def test_somebody_who_had_everything_has_no_negative():
    had = sparse.csr_matrix(np.array([[1, 1], [1, 0]], np.float32))
    by_pair = {(int(u), int(i)): int(j) for b in Pairs(had, 2).epoch(rng()) for u, i, j in zip(*vars(b).values(), strict=True)}
    assert by_pair == {(0, 0): -1, (0, 1): -1, (1, 0): 1}


def test_hard_epochs_take_the_highest_scored_and_ask_when_a_batch_is_due():
    had, asked = matrix(), []

    def score(users, items):
        asked.append(len(users))
        return np.where(items < 0, -np.inf, items + 100.0 * len(asked))

    epoch = Pairs(had, 32).epoch_hard(rng(), 300, score)
    batches = iter(epoch)
    first = next(batches)
    assert asked == [32]
    rest = list(batches)
    assert len(rest) + 1 == len(epoch) == len(asked)
    for batch in (first, *rest):
        unseen = ~had.toarray()[batch.users].astype(bool)
        assert batch.negatives.tolist() == [int(np.flatnonzero(row).max()) for row in unseen]


@pytest.mark.parametrize("kind", ["epoch", "epoch_of_people"])
def test_epochs_repeat_under_a_seed(kind):
    pairs = Pairs(matrix(), 32)
    first, again, other = ([vars(b) for b in getattr(pairs, kind)(np.random.default_rng(s))] for s in (1, 1, 2))
    same = [all((a[k] == b[k]).all() for k in a) for a, b in zip(first, again, strict=True)]
    assert all(same)
    assert not all(np.array_equal(a["positives"], b["positives"]) for a, b in zip(first, other, strict=False))


def test_nothing_to_learn_is_an_empty_epoch():
    pairs = Pairs(sparse.csr_matrix((3, 4), dtype=np.float32), 8)
    assert list(pairs.epoch(rng())) == [] and len(pairs.epoch(rng())) == 0
