"""MHCN: a pass by hand, weights of channels, the self-supervised loss, answers from the history."""

import numpy as np
import pytest
import torch
from scipy import sparse

from palate.contracts.requests import Requests
from palate.nn.sparse import Sparse
from palate.recommend.mhcn import MHCN, mutual_information
from palate.training.triples import Pairs

SMALL = {"dim": 8, "layers": 2, "epochs": 15, "batch_size": 64, "lr": 0.02, "min_common": 2}


@pytest.fixture(scope="module")
def fitted(tied):
    kept = {}

    class Kept(MHCN):
        def _finish(self, table, graph, n_users):
            kept["network"] = table
            super()._finish(table, graph, n_users)

    model = Kept(**SMALL).fit(tied)
    return model, kept["network"]


def test_vectors_follow_the_equations(tied, fitted):
    """The pass in plain numpy, and answers of known people equal to it."""
    model, network = fitted
    weights = {name: tensor.detach().numpy().astype(np.float64) for name, tensor in network.state_dict().items()}
    h = [part.scipy().toarray().astype(np.float64) for part in network.graphs.channels]
    matrix = tied.matrix().toarray().astype(np.float64)
    r = matrix / np.sqrt(np.maximum(matrix.sum(1, keepdims=True), 1) * np.maximum(matrix.sum(0), 1))
    n = tied.n_users
    people, items = weights["free"][:n], weights["free"][n:]

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def mixed(parts):
        scores = np.stack([part @ (weights["attention"] @ weights["direction"]) for part in parts], 1)
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        return sum(shares[:, [c]] * part for c, part in enumerate(parts))

    *parts, plain = (people * sigmoid(people @ weights["gates"][c] + weights["gate_bias"][c]) for c in range(4))
    totals, plain_total, item_total = list(parts), plain, items
    for _ in range(2):
        mix = mixed(parts) + plain / 2
        parts = [a @ part for a, part in zip(h, parts, strict=True)]
        plain, items = r @ items, r.T @ mix
        totals = [a + b for a, b in zip(totals, parts, strict=True)]
        plain_total, item_total = plain_total + plain, item_total + items
    wanted = mixed([total / 3 for total in totals]) + plain_total / 6
    users = np.flatnonzero(tied.histories.lengths > 0).astype(np.int32)
    np.testing.assert_allclose(model.request_vectors(Requests.of_users(tied, users)), wanted[users], atol=1e-4)
    seen = tied.item_counts > 0
    np.testing.assert_allclose(model.item_vectors[seen], (item_total / 3)[seen], atol=1e-4)


def test_weights_of_channels_sum_to_one(fitted):
    _, network = fitted
    parts = [torch.randn(9, 8, generator=torch.Generator().manual_seed(c)) for c in range(3)]
    torch.testing.assert_close(network.weights(parts).sum(1), torch.ones(9))
    torch.testing.assert_close(network.mix([parts[0]] * 3), parts[0])


def test_mutual_information_of_nothing_is_three_coins():
    """Where the channel joins nobody, all comparisons are ties: 3 ln 2, and no gradient."""
    z = torch.randn(6, 4, requires_grad=True)
    loss = mutual_information(z, Sparse.of(sparse.csr_matrix((6, 6))), torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(3 * np.log(2), rel=1e-6)
    assert not torch.autograd.grad(loss, z)[0].any()


def test_mutual_information_by_hand():
    rng = np.random.default_rng(0)
    h, z = rng.random((7, 7)), rng.standard_normal((7, 4))
    found = mutual_information(
        torch.tensor(z, dtype=torch.float32), Sparse.of(sparse.csr_matrix(h)), torch.Generator().manual_seed(5)
    )
    generator = torch.Generator().manual_seed(5)
    rows, others, columns = (torch.randperm(n, generator=generator).numpy() for n in (7, 7, 4))
    e = h @ z
    broken, total = e[others][:, columns], 0.0
    for u in range(7):
        near, mid, far = z[u] @ e[u], z[rows[u]] @ e[u], z[u] @ broken[u]
        for better, worse in ((near, mid), (mid, far), (e[u] @ e.mean(0), broken[u] @ e.mean(0))):
            total -= np.log(1 / (1 + np.exp(worse - better)))
    assert float(found) == pytest.approx(total / 7, rel=1e-4)


def test_the_loss_of_a_batch_by_hand(tied, fitted):
    """BPR and the penalty, and the self-supervised loss of each channel on people through a gate of its own."""
    network, n = fitted[1], tied.n_users
    batch = next(iter(Pairs(tied.matrix(), 40).epoch(np.random.default_rng(0))))
    with torch.no_grad():
        found, pass_ = network.loss(batch, torch.Generator().manual_seed(2)).item(), network.propagate()
        own, generator = 0.0, torch.Generator().manual_seed(2)
        for w, b, h in zip(network.own_gates, network.own_bias, network.graphs.channels, strict=True):
            own += mutual_information(pass_.users * torch.sigmoid(pass_.users @ w + b), h, generator).item()
    people, items, free = (x.detach().numpy().astype(np.float64) for x in (pass_.users, pass_.items, network.free))
    worse = (people[batch.users] * (items[batch.negatives] - items[batch.positives])).sum(1)
    size = (free[np.concatenate([batch.users, n + batch.positives, n + batch.negatives])] ** 2).sum()
    c = network.config
    wanted = np.logaddexp(0, worse).mean() + c.reg / 80 * size + c.ssl * own
    assert found == pytest.approx(wanted, rel=1e-5) and c.ssl * own > 1e-3


def test_shares_hold_the_plain_channel_alone(tied, fitted):
    """Somebody unknown has the plain channel of their history; a known person has more."""
    model, _ = fitted
    items = tied.histories.take(np.array([4])).items
    unseen = model.request_vectors(Requests.of_histories([items]))[0]
    np.testing.assert_allclose(unseen, model.shares_[items].sum(0) / np.sqrt(len(items)), atol=1e-6)
    known = model.request_vectors(Requests.of_users(tied, np.array([4], np.int32)))[0]
    np.testing.assert_allclose(known - unseen, model.own_[4], atol=1e-6)
    assert np.abs(model.own_[4]).max() > 0.01


def test_it_learns_tastes_and_explains(tied, finds_tastes, sums_up, fitted):
    model, _ = fitted
    finds_tastes(model)
    sums_up(model, Requests.of_users(tied, np.array([0, 5], np.int32)))


def test_people_without_ties_or_events_are_finite(tied, fitted):
    model, _ = fitted
    assert not model.own_[tied.histories.lengths == 0].any()
    assert np.isfinite(model.own_).all() and np.isfinite(model.item_vectors).all()
    record = model.record_.notes
    assert set(record["channels"]) == {"social", "joint", "purchase"} and all(record["channels"].values())


def test_resumes_to_the_bit(tied, tmp_path):
    short = {**SMALL, "epochs": 6}
    whole = MHCN(**short).fit(tied, seed=4)
    MHCN(**{**short, "epochs": 3}).fit(tied, seed=4, checkpoint=tmp_path)
    resumed = MHCN(**short).fit(tied, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
