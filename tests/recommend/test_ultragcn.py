"""UltraGCN: β, ω and the whole loss by loops; its gradient; what it learns; the fold-in; resumption."""

import numpy as np
import pytest
import torch
from scipy import sparse

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.recommend.ultragcn import UltraGCN, _Steps, _Tables, beta, logistic, logistic_torch, omega, targets
from palate.training.triples import Pairs

HALF = 20
SMALL = {"dim": 8, "epochs": 15, "batch_size": 128, "lr": 0.02, "k": 4, "negative_weight": 6.0}


def two_tastes(users=120, seed=0):
    """People who like items below HALF, or those above."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    return Dataset.from_columns(np.repeat(np.arange(users), 6), np.concatenate(rows))


DATA = two_tastes()
LOW = np.array([DATA.items.ids.raw[n].as_py() < HALF for n in range(DATA.n_items)])


@pytest.fixture(scope="module")
def model():
    return UltraGCN(**SMALL).fit(DATA)


def beta_by_loop(ones):
    du, di = ones.sum(1), ones.sum(0)
    out = np.zeros_like(ones)
    for u in range(len(ones)):
        for i in range(ones.shape[1]):
            if du[u]:
                out[u, i] = 1 / du[u] * np.sqrt((du[u] + 1) / (di[i] + 1))
    return out


def omega_by_loop(ones, k):
    """The ``k`` largest weights of each item, as a dense matrix; others zero."""
    n = ones.shape[1]
    g = ones.T @ ones
    sums, whole = g.sum(1), np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j and g[i, j] > 0:
                whole[i, j] = g[i, j] / (sums[i] - g[i, i]) * np.sqrt(sums[i] / sums[j])
    for row in whole:
        row[np.argsort(-row, kind="stable")[k:]] = 0
    return whole


def dense(found, weights, n):
    out = np.zeros((len(found), n))
    for row, (numbers, values) in enumerate(zip(found, weights, strict=True)):
        out[row, numbers[numbers >= 0]] = values[numbers >= 0]
    return out


def test_beta_equals_a_loop(events, ones):
    people, items = beta(events.matrix())
    np.testing.assert_allclose(np.outer(people, items), beta_by_loop(ones), rtol=1e-5)


@pytest.mark.parametrize("k", [3, 50])
def test_omega_equals_a_loop(events, ones, k):
    found, weights = omega(events.matrix(), k)
    wanted = omega_by_loop(ones, k)
    np.testing.assert_allclose(np.sort(dense(found, weights, ones.shape[1])), np.sort(wanted), rtol=1e-5)
    assert not (found == np.arange(len(found))[:, None]).any()  # nothing is its own neighbour
    if k == 50:
        np.testing.assert_allclose(dense(found, weights, ones.shape[1]), wanted, rtol=1e-5)


def test_the_published_weights_are_others(events, ones):
    """With an item among its own neighbours, and its weight in the sum, other items are neighbours."""
    g = ones.T @ ones
    sums = g.sum(1)
    published = np.sqrt(sums + 1)[:, None] / np.maximum(sums, 1)[:, None] / np.sqrt(sums + 1) * g
    active = sums > 0
    assert (published.argmax(1) == np.arange(len(g)))[active].mean() > 0.9


def test_targets_add_both_positive_terms(events, ones):
    config = UltraGCN(plain=0.1, constraint=0.7, k=3, item_weight=0.4).config
    found, weights = omega(events.matrix(), 3)
    wanted = ones * (0.1 + 0.7 * beta_by_loop(ones)) + 0.4 * ones @ dense(found, weights, ones.shape[1])
    np.testing.assert_allclose(targets(events.matrix(), config).toarray(), wanted, atol=1e-6)


def loss_by_loop(p, q, ones, config, people, drawn):
    """The objective of a batch, pair by pair."""
    b, w = beta_by_loop(ones), dense(*omega(as_matrix(ones), config.k), ones.shape[1])
    eta = 300 / 40_981 * ones.shape[1] if config.negative_weight is None else config.negative_weight
    softplus, total, pairs = (lambda x: np.logaddexp(0, x)), 0.0, 0
    for u in people:
        others = [j for j in drawn if not ones[u, j]]
        for i in np.flatnonzero(ones[u]):
            pairs += 1
            total += (config.plain + config.constraint * b[u, i]) * softplus(-p[u] @ q[i])
            pushed = [(config.plain + config.constraint * b[u, j]) * softplus(p[u] @ q[j]) for j in others]
            total += eta * sum(pushed) / max(1, len(others))
            total += config.item_weight * sum(w[i, j] * softplus(-p[u] @ q[j]) for j in range(len(q)))
    return total / pairs + config.reg / 2 * ((p**2).sum() + (q**2).sum())


def as_matrix(ones):
    return sparse.csr_matrix(ones.astype(np.float32))


@pytest.mark.parametrize("n_negatives", [0, 5])
def test_the_loss_equals_a_loop(events, ones, n_negatives):
    config = UltraGCN(dim=4, n_negatives=n_negatives, plain=0.2, k=3, item_weight=0.3, reg=0.01, init=0.5).config
    tables = _Tables(*ones.shape, config, np.random.default_rng(0))
    steps = _Steps(config, tables, events.matrix())
    batch = next(iter(Pairs(events.matrix(), 40).epoch_of_people(np.random.default_rng(1))))
    generator = torch.Generator().manual_seed(3)
    drawn = steps.draw(torch.Generator().manual_seed(3))
    assert len(np.unique(drawn)) == (n_negatives or ones.shape[1])
    got = steps.loss(batch, generator).item()
    p, q = (t.detach().double().numpy() for t in (tables.people, tables.items))
    assert got == pytest.approx(loss_by_loop(p, q, ones, config, np.unique(batch.users), drawn), rel=1e-4)


def test_training_begins_at_the_best_constant_score():
    """Where all scores are the level, the objective is flat along the constant, as far as nobody's own items matter."""
    config = UltraGCN(n_negatives=0, plain=0.3, k=3, item_weight=0.1, reg=0.0, dim=3).config
    matrix = DATA.matrix()
    tables = _Tables(*matrix.shape, config, np.random.default_rng(0))
    steps = _Steps(config, tables, matrix)
    with torch.no_grad():
        tables.people.zero_(), tables.items.zero_()
    tables.begin_at(steps.level())
    scores = tables.people @ tables.items.T
    torch.testing.assert_close(scores, torch.full_like(scores, steps.level()))
    batch = next(iter(Pairs(matrix, 10_000).epoch_of_people(np.random.default_rng(1))))

    def at(level):
        tables.begin_at(level)
        return steps.loss(batch, torch.Generator()).item()

    here = at(steps.level())
    assert all(at(steps.level() + move) > here for move in (-0.2, 0.2))


@pytest.mark.parametrize("n_negatives", [0, 6])
def test_the_gradient_equals_that_of_torch(events, n_negatives):
    config = UltraGCN(dim=5, n_negatives=n_negatives, plain=0.2, k=3, item_weight=0.3, init=0.5).config
    tables = _Tables(events.n_users, events.n_items, config, np.random.default_rng(0))
    steps = _Steps(config, tables, events.matrix())
    people = np.array([0, 3, 4, 9, 17])
    weights = steps.weights(people, steps.draw(torch.Generator().manual_seed(0)))
    values, slopes = [], []
    for form in (logistic, logistic_torch):
        loss = form(tables.people, tables.items, people, weights)
        values.append(loss)
        slopes.append(torch.autograd.grad(loss * 3, [tables.people, tables.items]))
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)
    for fast, plain in zip(*slopes, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"n_negatives": 10}, {"k": 0}])
def test_known_and_unseen_people_get_their_taste(settings):
    fitted = UltraGCN(**{**SMALL, **settings}).fit(DATA)
    users = np.arange(100, dtype=np.int32)
    known = Requests.of_users(DATA, users)
    unseen = Requests(np.full(len(users), -1, np.int32), known.histories, known.exclude)
    own = LOW[known.histories.items[known.histories.offsets[:-1]]]
    for requests in (known, unseen):
        assert (LOW[fitted.recommend(requests, 5).items] == own[:, None]).mean() > 0.95


def test_known_people_have_the_trained_vectors():
    kept = {}

    class Kept(UltraGCN):
        def _finish(self, tables, histories):
            kept.update(people=tables.people.detach().numpy().copy(), items=tables.items.detach().numpy().copy())
            super()._finish(tables, histories)

    fitted = Kept(**{**SMALL, "epochs": 3}).fit(DATA)
    users = np.arange(DATA.n_users, dtype=np.int32)
    np.testing.assert_allclose(fitted.request_vectors(Requests.of_users(DATA, users)), kept["people"], atol=1e-5)
    np.testing.assert_array_equal(fitted.item_vectors, kept["items"])


def test_explanation_adds_up(model):
    for request in (Requests.of_users(DATA, np.array([3], np.int32)), Requests.of_histories([[1, 2]])):
        why = model.explain(request, 7)
        assert why.exact
        np.testing.assert_allclose(sum(e.weight for e in why.evidence) + why.rest, why.score, atol=1e-5)


def test_people_and_items_without_events_are_zero(events):
    fitted = UltraGCN(**{**SMALL, "epochs": 2}).fit(events)
    silent, nobody = (int(np.flatnonzero(n == 0)[0]) for n in (events.item_counts, events.histories.lengths))
    assert not fitted.item_vectors[silent].any() and not fitted.own_[nobody].any()
    assert fitted.recommend(Requests.of_histories([[silent]]), 3).cold.all()


def test_resumes_to_the_bit(tmp_path):
    short = {**SMALL, "epochs": 6, "n_negatives": 15}
    whole = UltraGCN(**short).fit(DATA, seed=4)
    UltraGCN(**{**short, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = UltraGCN(**short).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
