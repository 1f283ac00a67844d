"""UBPR: the weights of pairs, the mean over draws of exposure, the limit, and taste found where popularity misleads."""

import numpy as np
import pytest
import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.recommend.ubpr import UBPR, UBPRConfig, _Batch, _Epoch, pair_weights
from palate.training.all_pairs import Factors

SMALL = {"dim": 4, "epochs": 30, "batch_size": 64, "lr": 0.05, "reg": 0.01}
USERS, ITEMS = 120, 24


def two_tastes(seed=0):
    rng = np.random.default_rng(seed)
    half = (np.arange(ITEMS) >= ITEMS // 2)[None, :] == (np.arange(USERS) % 2 == 1)[:, None]
    clicks = rng.random((USERS, ITEMS)) < np.where(half, 0.5, 0.03)
    clicks[0] |= True
    return Dataset.from_columns(*np.nonzero(clicks))


DATA = two_tastes()


def test_weights_by_hand():
    weights = np.array([2.0, 4.0, 1.0])
    found = pair_weights(weights, np.array([True, False, True]), np.array([0, 1, 1]), np.array([1, 0, 2]))
    np.testing.assert_allclose(found, [2 * (1 - 4), 4, 0])


def test_the_weight_of_a_pair_is_right_in_the_mean():
    """``Y_i/θ_i (1 - Y_j/θ_j)`` has the mean ``γ_i (1 - γ_j)``."""
    rng, draws = np.random.default_rng(0), 200_000
    gamma, theta = np.array([0.6, 0.3]), np.array([0.5, 0.2])
    clicks = (rng.random((draws, 2)) < gamma) & (rng.random((draws, 2)) < theta)
    found = clicks[:, 0] * pair_weights(1 / theta, clicks[:, 1], np.zeros(draws, int), np.ones(draws, int))
    assert abs(found.mean() - 0.6 * 0.7) < 4 * found.std() / np.sqrt(draws)


def test_an_epoch_holds_every_click_once_with_any_other_item():
    matrix = DATA.matrix()
    epochs = [_Epoch(matrix, np.full(ITEMS, 2.0), 50, np.random.default_rng(s)) for s in range(40)]
    clicks = set(zip(*matrix.nonzero(), strict=True))
    seen = np.zeros(ITEMS)
    for epoch in epochs:
        batches = list(epoch)
        assert len(batches) == len(epoch)
        pairs = [(int(u), int(i)) for b in batches for u, i in zip(b.users, b.items, strict=True)]
        assert len(pairs) == len(clicks) and set(pairs) == clicks
        for b in batches:
            assert (b.items != b.others).all()
            clicked = np.array([(u, j) in clicks for u, j in zip(b.users, b.others, strict=True)])
            np.testing.assert_allclose(b.weights, np.where(clicked, 2 * (1 - 2), 2))
            seen += np.bincount(b.others, minlength=ITEMS)
    # Every item is drawn as often as the clicks on the others say.
    counts = np.asarray(matrix.sum(0)).ravel()
    wanted = 40 * (counts.sum() - counts) / (ITEMS - 1)
    assert (np.square(seen - wanted) / wanted).sum() < 60  # χ² of 24 cells


def test_a_term_may_not_take_more_than_beta():
    config = UBPRConfig(dim=2, beta=0.5, reg=0.0)
    factors = Factors(1, 2, config, np.random.default_rng(0))
    with torch.no_grad():
        factors.by_item[:] = torch.tensor([0.0, 3.0])
    batch = _Batch(np.zeros(2, int), np.array([0, 1]), np.array([1, 0]), np.array([-9.0, 1.0]))
    inner = (factors.people[0] * (factors.items[1] - factors.items[0])).sum().item() + 3.0
    wanted = (-0.5 + np.logaddexp(0, -inner)) / 2
    assert batch.loss(factors, config).item() == pytest.approx(wanted, rel=1e-5)


def test_known_and_unseen_people_get_their_taste():
    model = UBPR(**SMALL).fit(DATA)
    users = np.arange(1, 100, dtype=np.int32)
    known = Requests.of_users(DATA, users)
    unseen = Requests(np.full(len(users), -1, np.int32), known.histories, known.exclude)
    for requests in (known, unseen):
        found = model.recommend(requests, 3).items
        assert ((found >= ITEMS // 2) == (users % 2 == 1)[:, None]).mean() > 0.9


def test_validation_is_the_pairwise_loss_by_hand():
    """One person, with weights worked out from θ and the share that is held out."""
    model = UBPR(**{**SMALL, "epochs": 2}, eta=0.5).fit(DATA)
    user = np.array([5], np.int32)
    history = DATA.histories.take(user)
    others = np.setdiff1d(np.arange(ITEMS), history.items)
    truth = others[:2]
    asked = HeldOut(user, history, Ragged.from_rows([truth]))
    share = 2 / (2 + len(np.unique(history.items)))
    weights = (1 - (1 - share) * model.theta_) / (share * model.theta_)
    scores = model.score(Requests.of_held_out(asked), np.arange(ITEMS, dtype=np.int32)[None, :])[0].astype(float)
    total = 0.0
    for i in truth:
        for j in others:
            if i != j:
                other = 1 - (weights[j] if j in truth else 0.0)
                total += weights[i] * other * np.logaddexp(0, scores[j] - scores[i])
    assert model.held_out_loss(asked) == pytest.approx(total / (len(others) * (len(others) - 1)), rel=1e-4)
