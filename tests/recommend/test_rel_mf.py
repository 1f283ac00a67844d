"""Rel-MF: the loss of its batches, the fold-in, the unbiased validation, and relevance found where popularity misleads."""

import numpy as np
import pytest
import torch

from palate.contracts.model import Fitting
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.propensities import attach
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import ConfigError, DataError
from palate.nn.unbiased import pointwise
from palate.recommend.pair_factors import held_out_propensity, held_out_share
from palate.recommend.rel_mf import RelMF, item_propensities
from palate.training.all_pairs import Factors, PairsConfig, PairTerms, _draws, _whole_rows, fit_factors

SMALL = {"dim": 4, "epochs": 15, "batch_size": 32, "lr": 0.05, "reg": 0.1}
USERS, ITEMS = 150, 30


def exposed(seed=0, users=USERS):
    """Two tastes for items below 15 or above; even items are seen by nearly all, odd ones by one person in five."""
    rng = np.random.default_rng(seed)
    half = (np.arange(ITEMS) >= ITEMS // 2)[None, :] == (np.arange(users) % 2 == 1)[:, None]
    relevance = np.where(half, 0.6, 0.05)
    theta = np.where(np.arange(ITEMS) % 2 == 0, 0.9, 0.2)
    clicks = (rng.random(relevance.shape) < relevance) & (rng.random(relevance.shape) < theta)
    clicks[0] |= True  # every item is in the catalogue
    user, item = np.nonzero(clicks)
    return attach(Dataset.from_columns(user, item), theta), relevance, theta


DATA, RELEVANCE, THETA = exposed()


@pytest.fixture(scope="module")
def model():
    return RelMF(**SMALL, propensity="column").fit(DATA)


def everything(model, users):
    return model.score(Requests.of_users(DATA, users), np.tile(np.arange(ITEMS, dtype=np.int32), (len(users), 1)))


# --- the loss ----------------------------------------------------------------------------------------------------------


def dense_targets(matrix, weights):
    dense = np.zeros(matrix.shape)
    dense[matrix.nonzero()] = weights
    return torch.from_numpy(dense)


@pytest.mark.parametrize("loss", ["ce", "square"])
def test_a_batch_of_all_pairs_is_the_dense_estimate(loss):
    matrix = DATA.matrix()
    weights = 1 / THETA[matrix.indices]
    config = PairsConfig(dim=4, loss=loss, reg=0.0, batch_size=10**6, init=0.8)
    factors = Factors(*matrix.shape, config, np.random.default_rng(0))
    (batch,) = _whole_rows(PairTerms.of_clicks(matrix, weights), np.arange(USERS), 10**6, np.random.default_rng(1))
    scores = factors.rows(torch.arange(USERS))
    wanted = pointwise(scores.double(), dense_targets(matrix, weights), loss)
    found = batch.loss(factors, config)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    gradients = [torch.autograd.grad(x, factors.items, retain_graph=True)[0] for x in (found, wanted.float())]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-7)


def test_drawn_pairs_have_the_same_mean():
    """The mean of the batches of many epochs is the loss over all pairs, within four standard errors."""
    matrix = DATA.matrix()
    terms = PairTerms.of_clicks(matrix, 1 / THETA[matrix.indices], 0.7)
    config = PairsConfig(dim=4, reg=0.1, init=0.8)
    factors = Factors(*matrix.shape, config, np.random.default_rng(0))
    people, rng = np.arange(USERS), np.random.default_rng(1)
    (whole,) = _whole_rows(terms, people, 10**6, rng)
    with torch.no_grad():
        wanted = whole.loss(factors, config).item()
        drawn = [b.loss(factors, config).item() for _ in range(200) for b in _draws(terms, people, 10**6, rng)]
    assert abs(np.mean(drawn) - wanted) < 4 * np.std(drawn) / np.sqrt(len(drawn))


def test_weights_of_wmf():
    """``w`` on pairs without a click and 1 on clicks."""
    matrix = DATA.matrix()
    terms = PairTerms.of_clicks(matrix, np.ones(matrix.nnz), 0.25)
    config = PairsConfig(dim=4, reg=0.0, init=0.8)
    factors = Factors(*matrix.shape, config, np.random.default_rng(0))
    (batch,) = _whole_rows(terms, np.arange(USERS), 10**6, np.random.default_rng(1))
    scores = factors.rows(torch.arange(USERS)).double()
    clicks = torch.from_numpy(matrix.toarray()).double()
    softplus = torch.nn.functional.softplus
    wanted = (clicks * softplus(-scores) + 0.25 * (1 - clicks) * softplus(scores)).mean()
    assert batch.loss(factors, config).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_no_correction_in_three_ways():
    """η = 0, M = 1 and propensities of 1 are plain logistic factorisation, to the bit."""
    ways = (
        RelMF(**SMALL, eta=0.0).fit(DATA),
        RelMF(**SMALL, clip=1.0).fit(DATA),
        RelMF(**SMALL, propensity="column").fit(attach(DATA, np.ones(ITEMS))),
    )
    for other in ways[1:]:
        np.testing.assert_array_equal(ways[0].item_vectors, other.item_vectors)


# --- what it learns ----------------------------------------------------------------------------------------------------


def test_relevance_is_found_where_clicks_mislead(model):
    """Weighted by propensity, items that are rarely seen are as likely to be relevant; unweighted, they are not."""
    users = np.arange(1, USERS, dtype=np.int32)
    items = np.tile(np.arange(ITEMS, dtype=np.int32), (len(users), 1))
    asked, odd = Requests.of_users(DATA, users), np.arange(ITEMS) % 2 == 1
    liked = RELEVANCE[users] > 0.5
    plain = RelMF(**SMALL, eta=0.0).fit(DATA)
    chances = {name: m.relevance(asked, items) for name, m in (("ips", model), ("plain", plain))}
    for name, (seen, rare) in {n: (c[liked & ~odd].mean(), c[liked & odd].mean()) for n, c in chances.items()}.items():
        assert (rare > 0.7 * seen) == (name == "ips"), (name, seen, rare)
    errors = {name: float(np.square(c - RELEVANCE[users]).mean()) for name, c in chances.items()}
    assert errors["ips"] < 0.7 * errors["plain"]


@pytest.mark.parametrize(
    "settings", [{}, {"loss": "square", "epochs": 30, "reg": 0.01}, {"pairs": "sampled", "batch_size": 128}, {"bias": False}]
)
def test_known_and_unseen_people_get_their_taste(settings):
    fitted = RelMF(**{**SMALL, **settings}, propensity="column").fit(DATA)
    users = np.arange(1, 101, dtype=np.int32)
    users = users[DATA.histories.lengths[users] >= 4]
    known = Requests.of_users(DATA, users)
    unseen = Requests(np.full(len(users), -1, np.int32), known.histories, known.exclude)
    for requests in (known, unseen):
        found = fitted.recommend(requests, 3).items
        assert ((found >= ITEMS // 2) == (users % 2 == 1)[:, None]).mean() > 0.85


def test_known_people_keep_their_trained_vectors():
    kept = {}

    class Kept(RelMF):
        def _take(self, factors, histories, weights):
            with torch.no_grad():
                kept["scores"] = factors.rows(torch.arange(USERS)).numpy().copy()
            super()._take(factors, histories, weights)

    fitted = Kept(**SMALL).fit(DATA)
    np.testing.assert_allclose(everything(fitted, np.arange(USERS, dtype=np.int32)), kept["scores"], rtol=1e-4, atol=1e-4)


def test_explanation_adds_up(model):
    why = model.explain(Requests.of_users(DATA, np.array([3], np.int32)), 7)
    assert why.exact
    np.testing.assert_allclose(sum(e.weight for e in why.evidence) + why.rest, why.score, atol=1e-5)


def test_relevance_is_a_chance_or_unknown(model):
    asked = Requests.of_histories([[1, 2], []])
    chances = model.relevance(asked, np.array([[3, -1], [3, 4]], np.int32))
    assert 0 < chances[0, 0] < 1
    assert np.isnan(chances[[0, 1, 1], [1, 0, 1]]).all()


# --- propensities ------------------------------------------------------------------------------------------------------


def test_propensities_of_clicks_may_be_given():
    theta = np.broadcast_to(THETA, (USERS, ITEMS))
    by_event = RelMF(**SMALL, propensity="value").fit(attach(DATA, theta))
    by_column = RelMF(**SMALL, propensity="column").fit(DATA)
    np.testing.assert_allclose(by_event.theta_, THETA, rtol=1e-6)
    np.testing.assert_allclose(by_event.item_vectors, by_column.item_vectors, atol=1e-3)


def test_items_take_the_harmonic_mean_of_their_clicks():
    matrix = Dataset.from_columns([0, 1, 1], [0, 0, 2]).matrix()
    found = item_propensities(matrix, np.array([0.5, 0.25, 1.0]))
    np.testing.assert_allclose(found, [2 / (2 + 4), 1.0])


def test_missing_or_wrong_propensities_are_refused():
    bare = Dataset.from_columns([0, 0, 1], [0, 1, 0])
    with pytest.raises(ConfigError, match="no such item attribute"):
        RelMF(**SMALL, propensity="column").fit(bare)
    with pytest.raises(DataError, match="no values"):
        RelMF(**SMALL, propensity="value").fit(bare)
    rated = Dataset.from_columns([0, 0, 1], [0, 1, 0], value=[5.0, 3.0, 1.0])
    with pytest.raises(DataError, match="chance above 0 and at most 1"):
        RelMF(**SMALL, propensity="value").fit(rated)


# --- validation --------------------------------------------------------------------------------------------------------


def thinned(rng, relevance, theta, share):
    """Draw clicks, and hold a share of them out."""
    relevant = rng.random(relevance.shape) < relevance
    clicks = relevant & (rng.random(relevance.shape) < theta)
    held = clicks & (rng.random(relevance.shape) < share)
    return clicks & ~held, held, relevant


def test_the_chance_of_being_held_out_is_exact():
    rng, theta, share = np.random.default_rng(0), 0.6, 0.3
    train, held, relevant = thinned(rng, np.full(400_000, 0.5), theta, share)
    free = relevant & ~train
    wanted = held_out_propensity(np.array([theta]), share)[0]
    assert abs(held[free].mean() - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / free.sum())
    assert held_out_propensity(np.array([1.0]), share)[0] == pytest.approx(1)
    np.testing.assert_allclose(held_out_propensity(np.array([0.2, 0.7]), 1.0), [0.2, 0.7])


def test_the_held_out_loss_is_right_in_the_mean(model):
    """Against the loss of the true relevance over the pairs that have no training click."""
    rng, share, users = np.random.default_rng(3), 0.4, np.arange(1, USERS, dtype=np.int32)
    relevance, differences = RELEVANCE[users], []
    own = [DATA.histories.take(users[at : at + 1]).items for at in range(len(users))]
    scores = torch.from_numpy(everything(model, users)).double()
    train = np.zeros(relevance.shape, bool)
    for row, items in enumerate(own):
        train[row, items] = True
    # Given that a pair has no training click, relevance and being held out follow from θ and the share.
    left = relevance * (1 - (1 - share) * THETA) / (1 - relevance * (1 - share) * THETA)
    chance = held_out_propensity(THETA, share)
    ideal = (
        torch.where(
            torch.from_numpy(train),
            0.0,
            torch.from_numpy(left) * torch.nn.functional.softplus(-scores)
            + torch.from_numpy(1 - left) * torch.nn.functional.softplus(scores),
        ).sum()
        / (~train).sum()
    )
    histories = DATA.histories.take(users)
    for _ in range(150):
        held = ~train & (rng.random(train.shape) < left * chance)
        truth = Ragged.from_rows([np.flatnonzero(row) for row in held])
        asked = HeldOut(users, histories, truth)
        theta = share * THETA / (1 - (1 - share) * THETA)
        f = held_out_share(asked)  # the model works out the share of these clicks: undo it, to test the sum alone
        given = theta / (f + (1 - f) * theta)
        differences.append(model.held_out_loss(asked, given) - ideal.item())
    assert abs(np.mean(differences)) < 4 * np.std(differences) / np.sqrt(len(differences)) + 1e-6


def test_validation_keeps_the_best_epoch_by_the_unbiased_loss():
    rng = np.random.default_rng(5)
    train, held, _ = thinned(rng, RELEVANCE, THETA, 0.3)
    train[0] = True
    held[0] = False
    data = attach(Dataset.from_columns(*np.nonzero(train)), THETA)
    users = np.flatnonzero(held.any(1)).astype(np.int32)
    users = users[[bool(train[u].any()) for u in users]]
    numbers = np.array([data.users.ids.number(int(u)) for u in users], np.int32)
    asked = HeldOut(numbers, data.histories.take(numbers), Ragged.from_rows([np.flatnonzero(held[u]) for u in users]))
    fitted = RelMF(**{**SMALL, "epochs": 40, "patience": 3, "patience_steps": 0}, propensity="column").fit(data, asked)
    notes = fitted.record_.notes
    assert fitted.held_out_loss(asked) == pytest.approx(-notes["best_value"], rel=1e-4)
    assert notes["epochs"] == min(40, notes["best_epoch"] + 3)
    with pytest.raises(DataError, match="one number an item"):
        fitted.held_out_loss(asked, np.ones(3))
    with pytest.raises(DataError, match="knows none"):
        nobody = HeldOut(numbers[:1], Histories.empty(1), asked.truth.take(np.array([0])))
        fitted.held_out_loss(nobody)


def test_resumes_to_the_bit(tmp_path):
    whole = RelMF(**SMALL).fit(DATA, seed=4)
    RelMF(**{**SMALL, "epochs": 6}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = RelMF(**SMALL).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_pairs_may_be_left_out_of_the_sum():
    """Entries of weight (0, -1) take their pair out: what stands there can't matter."""
    matrix = DATA.matrix()
    free = PairTerms.of_clicks(matrix, np.ones(matrix.nnz))
    gone = PairTerms(free.offsets, free.columns, np.zeros(matrix.nnz, np.float32), -np.ones(matrix.nnz, np.float32), 1.0, ITEMS)
    config = PairsConfig(dim=2, epochs=25, reg=0.0, lr=0.1)
    factors, _ = fit_factors(gone, config, Fitting())
    with torch.no_grad():
        scores = factors.rows(torch.arange(USERS)).numpy()
    assert scores[matrix.toarray() == 0].max() < -1  # all that is left is irrelevant
