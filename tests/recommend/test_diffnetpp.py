"""DiffNet++: a pass by hand, shares that sum to 1, what is left without ties, forgetting."""

import numpy as np
import pytest
import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Graph
from palate.errors import DataError
from palate.nn.social import SocialGraph
from palate.recommend.diffnetpp import DiffNetPP
from palate.training.triples import Pairs

SMALL = {"dim": 8, "layers": 2, "epochs": 15, "batch_size": 64, "lr": 0.02, "attention_dim": 4}


class Kept(DiffNetPP):
    """Keeps what was learnt."""

    def _finish(self, table, graph, n_users):
        type(self).network = table
        super()._finish(table, graph, n_users)


def softmax(x):
    mass = np.exp(x - x.max())
    return mass / mass.sum()


def by_hand(network, matrix, ties):
    """Layers of people and items, person by person and item by item."""
    w = {name: t.detach().numpy().astype(np.float64) for name, t in network.diffusion.state_dict().items()}
    free, (n, m) = network.free.detach().numpy().astype(np.float64), matrix.shape
    people, items = [free[:n]], [free[n:]]

    def gathered(kind, k, x, y, near):
        if not len(near):
            return np.zeros_like(x)
        scores = (
            np.maximum(x @ w["rows"][k, kind] + w["bias"][k, kind] + y[near] @ w["columns"][k, kind], 0) @ w["out"][k, kind]
        )
        return softmax(scores) @ y[near]

    for k in range(2):
        u, i = people[-1], items[-1]
        after = u.copy()
        for person in range(n):
            friends, own = np.flatnonzero(ties[person]), np.flatnonzero(matrix[person])
            s, c = gathered(0, k, u[person], u, friends), gathered(1, k, u[person], i, own)
            base = u[person] @ w["own"][k] + w["mix_bias"][k]
            scores = np.array([np.tanh(base + part @ w["other"][k]) @ w["mix"][k] for part in (s, c)])
            shares = softmax(scores) if len(friends) and len(own) else np.array([len(friends) > 0, len(own) > 0], float)
            after[person] = u[person] + shares[0] * s + shares[1] * c
        people.append(after)
        items.append(np.array([i[j] + gathered(2, k, i[j], u, np.flatnonzero(matrix[:, j])) for j in range(m)]))
    return np.hstack(people), np.hstack(items)


def test_vectors_follow_the_equations(tied):
    """Training passes, and answers from the histories, equal the equations."""
    model = Kept(**{**SMALL, "epochs": 2}).fit(tied)
    people, items = by_hand(Kept.network, tied.matrix().toarray(), SocialGraph.of(tied, "test").ties.toarray())
    users = np.flatnonzero(tied.histories.lengths > 0).astype(np.int32)
    np.testing.assert_allclose(model.request_vectors(Requests.of_users(tied, users)), people[users], atol=1e-4)
    np.testing.assert_allclose(model.item_vectors, items, atol=1e-4)


def test_the_loss_ranks_pairs_where_published_code_fits_labels(tied):
    """BPR with the penalty by the equations' vectors; published: half the squared error of a sigmoid against 1 and 0."""
    Kept(**{**SMALL, "epochs": 2, "reg": 0.2}).fit(tied)
    network = Kept.network
    people, items = by_hand(network, tied.matrix().toarray(), SocialGraph.of(tied, "test").ties.toarray())
    batch = next(iter(Pairs(tied.matrix(), 40).epoch(np.random.default_rng(0))))
    u, i, j = people[batch.users], items[batch.positives], items[batch.negatives]
    better, worse = (u * i).sum(1), (u * j).sum(1)
    free, n = network.free.detach().numpy().astype(np.float64), tied.n_users
    size = (free[np.concatenate([batch.users, n + batch.positives, n + batch.negatives])] ** 2).sum()
    found = network.loss(batch, torch.Generator()).item()
    assert found == pytest.approx(np.logaddexp(0, worse - better).mean() + 0.2 / 80 * size, rel=1e-4)
    errors = (1 - 1 / (1 + np.exp(-better))) ** 2 + (1 / (1 + np.exp(-worse))) ** 2
    assert abs(found - 0.2 / 80 * size - errors.mean() / 2) > 0.1


def test_shares_sum_to_one_and_what_is_lacking_counts_nothing(tied):
    network = Kept(**{**SMALL, "epochs": 1}).fit(tied) and Kept.network
    (u, *_), (i, *_) = network.propagate()
    d = network.diffusion
    social, interest = d.gather(0, 0, u, u, network.friends), d.gather(1, 0, u, i, network.histories)
    shares = d.shares(0, u, social, interest, network.friends, network.histories).detach().numpy()
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
    lonely = np.diff(network.friends.offsets) == 0
    assert lonely[0] and (shares[lonely & (tied.histories.lengths > 0), 0] == 0).all()
    assert (shares[~lonely, 0] > 0).all()


def test_a_person_without_ties_is_diffused_through_items_alone(tied):
    """u^(k+1) = u^(k) + Σ a i^(k): the layers of a person without friends are those of a network without ties."""
    model = Kept(**{**SMALL, "epochs": 2}).fit(tied)
    asked = Requests.of_users(tied, np.array([0], np.int32))
    with_ties = model.request_vectors(asked)
    model.friends_ = type(model.friends_).empty(tied.n_users)
    np.testing.assert_array_equal(with_ties, model.request_vectors(asked))
    tied_one = Requests.of_users(tied, np.array([2], np.int32))
    trained = torch.cat(Kept.network.propagate()[0], 1)[2].detach().numpy()
    assert np.abs(model.request_vectors(tied_one)[0] - trained).max() > 1e-4


def test_forgotten_people_are_nobodys_friends(tied):
    model = DiffNetPP(**{**SMALL, "epochs": 1}).fit(tied)
    before = model.friends_.lengths.sum()
    friends_of_two = model.friends_[2]
    model.forget([int(tied.users.ids.raw[int(friends_of_two[0])].as_py())])
    assert friends_of_two[0] not in model.friends_.values and model.friends_.lengths.sum() < before
    assert len(model.friends_[friends_of_two[0]]) == 0


def test_no_ties_is_one_clear_line(tied, untied):
    with pytest.raises(DataError, match="DiffNet\\+\\+ needs social ties"):
        DiffNetPP(**SMALL).fit(untied)
    ends = np.array([[3, 59], [3, 2]], np.int32)
    useless = Graph(ends[0], ends[0] * 0, ends[1], "user", "user", tied.graphs["social"].relations)
    with pytest.raises(DataError, match="none of those given"):
        DiffNetPP(**SMALL).fit(tied.derive({"step": "x"}, graphs={"social": useless}))


def test_it_learns_tastes(tied, finds_tastes):
    finds_tastes(DiffNetPP(**SMALL).fit(tied))


def test_resumes_to_the_bit(tied, tmp_path):
    short = {**SMALL, "epochs": 6}
    whole = DiffNetPP(**short).fit(tied, seed=4)
    DiffNetPP(**{**short, "epochs": 3}).fit(tied, seed=4, checkpoint=tmp_path)
    resumed = DiffNetPP(**short).fit(tied, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
