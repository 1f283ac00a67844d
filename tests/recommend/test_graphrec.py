"""GraphRec: a pass by hand, opinions, both losses and decoders, answers from the history."""

import numpy as np
import pytest
import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.errors import DataError
from palate.nn.social import SocialGraph
from palate.recommend.graphrec import GraphRec
from palate.recommend.opinions import Opinions
from palate.training.triples import Pairs

SMALL = {"dim": 8, "epochs": 20, "batch_size": 64, "lr": 0.02, "init": 0.3}


class Kept(GraphRec):
    """Keeps what was learnt."""

    def _finish(self, network):
        type(self).network = network
        super()._finish(network)


def relu(x):
    return np.maximum(x, 0)


def by_hand(network, levels, ties):
    """Vectors u and v by the equations, one person and one item at a time; ``levels`` is users x items, -1 where nothing."""
    w = {name: t.detach().numpy().astype(np.float64) for name, t in network.state_dict().items()}

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def opinion(side, vector, level):
        return relu(linear(f"{side}.1", relu(linear(f"{side}.0", np.concatenate([vector, w["stance"][level]])))))

    def attention(part, own, others):
        if not len(others):
            return np.zeros_like(own)
        hidden = relu(own @ w[f"{part}_rows"] + w[f"{part}_bias"] + others @ w[f"{part}_columns"])
        mass = np.exp(hidden @ w[f"{part}_score"])
        return mass / mass.sum() @ others

    n, m = levels.shape
    p, q = w["people"], w["items"]
    near = [np.array([opinion("item_side", q[a], levels[i, a]) for a in np.flatnonzero(levels[i] >= 0)]) for i in range(n)]
    h = relu(linear("item_out", np.array([attention("item", p[i], near[i]) for i in range(n)])))
    s = relu(linear("social_out", np.array([attention("social", p[i], h[np.flatnonzero(ties[i])]) for i in range(n)])))
    u = linear("person_out", relu(linear("person_in", np.hstack([h, s]))))
    crowd = [
        np.array([opinion("people_side", p[t], levels[t, j]) for t in np.flatnonzero(levels[:, j] >= 0)]) for j in range(m)
    ]
    z = relu(linear("audience_out", np.array([attention("people", q[j], crowd[j]) for j in range(m)])))
    v = linear("thing_out", relu(linear("thing_in", z)))
    both = np.concatenate([np.repeat(u, m, 0), np.tile(v, (n, 1))], 1)
    return u, v, linear("meet_out", relu(linear("meet_mid", relu(linear("meet_in", both)))))[:, 0].reshape(n, m)


@pytest.mark.parametrize("decoder", ["mlp", "dot"])
def test_scores_follow_the_equations(tied, decoder, all_scores):
    model = Kept(**{**SMALL, "epochs": 2, "decoder": decoder}).fit(tied)
    levels = tied.matrix(values=True).toarray().astype(int) - 1
    u, v, met = by_hand(Kept.network, levels, SocialGraph.of(tied, "test").ties.toarray())
    users = np.flatnonzero(tied.histories.lengths > 0).astype(np.int32)
    got = all_scores(model, Requests.of_users(tied, users))
    np.testing.assert_allclose(got, (met if decoder == "mlp" else u @ v.T)[users], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loss", ["bpr", "regression"])
def test_losses_by_hand(tied, loss):
    """BPR of the scores that the equations give, or their squared error against ratings at mean 0 and deviation 1."""
    Kept(**{**SMALL, "epochs": 2, "loss": loss, "reg": 0.2}).fit(tied)
    network, ratings = Kept.network, tied.matrix(values=True).toarray()
    _, _, score = by_hand(network, ratings.astype(int) - 1, SocialGraph.of(tied, "test").ties.toarray())
    batch = next(iter(Pairs(tied.matrix(), 40).epoch(np.random.default_rng(0), negatives=loss == "bpr")))
    u, i, j = batch.users, batch.positives, batch.negatives
    p, q = (x.detach().numpy().astype(np.float64) for x in (network.people, network.items))
    size = (p[u] ** 2).sum() + (q[i] ** 2).sum()
    if loss == "bpr":
        fit, size = np.logaddexp(0, score[u, j] - score[u, i]).sum(), size + (q[j] ** 2).sum()
    else:
        values = tied.interactions.value.astype(np.float64)
        fit = ((score[u, i] - (ratings[u, i] - values.mean()) / values.std()) ** 2).sum()
    assert network.loss(batch, torch.Generator()).item() == pytest.approx((fit + 0.1 * size) / 40, rel=1e-4)


def test_friends_come_with_what_they_like(tied):
    """Published code gives friends their free vectors; here another history of a friend changes a person's vector."""
    Kept(**{**SMALL, "epochs": 2}).fit(tied)
    network = Kept.network
    two = int(SocialGraph.of(tied, "test").ties[2].indices[0])
    liked, friends, _ = network.persons()
    with_torch = network.item_pairs.copy()
    start, stop = network.liked.offsets[two : two + 2]
    network.liked.columns[start:stop] = network.liked.columns[start:stop][::-1] * 0
    other_liked, other_friends, _ = network.persons()
    assert not (liked[two] == other_liked[two]).all() and not (friends[2] == other_friends[2]).all()
    np.testing.assert_array_equal(with_torch, network.item_pairs)


def test_opinions_change_the_answer_and_are_cut_into_levels(tied):
    model = GraphRec(**SMALL).fit(tied)
    rows = Histories.from_rows([[2, 3], [2, 3], [2, 3]])
    values = np.array([5, 5, 1, 1, np.nan, np.nan], np.float32)
    told = Requests(np.full(3, -1, np.int32), Histories(rows.offsets, rows.items, values=values))
    scores = model.score(told, np.tile(np.arange(5, 9, dtype=np.int32), (3, 1)))
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    plain = model.score(Requests(np.full(3, -1, np.int32), rows), np.tile(np.arange(5, 9, dtype=np.int32), (3, 1)))
    np.testing.assert_array_equal(scores[2], plain[2])
    assert model.record_.notes["levels"] == 5


def test_levels():
    data = Dataset.from_columns([0] * 8, np.arange(8), value=[1, 2, 3, 4, 100, 200, 300, 400])
    opinions = Opinions.of(data, 4)
    offsets, numbers = opinions.read(data.histories)
    assert offsets.tolist() == [0, 8] and (numbers // 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    few = Opinions.of(Dataset.from_columns([0, 0, 0], [0, 1, 2], value=[1, 5, 5]), 4)
    assert few.bounds.tolist() == [5] and few.typical == 1 and few.levels == 2
    none = Opinions.of(Dataset.from_columns([0], [0]), 4)
    assert none.levels == 1 and not none.valued
    repeated = Histories(np.array([0, 3]), np.array([1, 0, 1], np.int32), values=np.array([1, 1, 5], np.float32))
    assert few.read(repeated)[1].tolist() == [0, 1 * 3 + 1]
    assert few.read(repeated, np.array([True, False, True]))[1].tolist() == [0]


def test_regression_learns_ratings(tied):
    """Everybody rates items below 12 with 5, others with 1: predicted ratings order them so, and values are needed."""
    events = tied.interactions
    raw = tied.items.ids.raw.to_numpy()
    value = np.where(raw[events.item] < 12, 5.0, 1.0).astype(np.float32)
    rated = tied.derive({"step": "rated"}, interactions=type(events)(events.user, events.item, value=value))
    model = GraphRec(**{**SMALL, "loss": "regression", "epochs": 30}).fit(rated)
    asked = Requests.of_users(rated, np.arange(10, dtype=np.int32), exclude_seen=False)
    offered = raw[model.recommend(asked, 5).items]
    assert (offered < 12).mean() > 0.95
    plain = tied.derive({"step": "plain"}, interactions=type(events)(events.user, events.item))
    with pytest.raises(DataError, match="learns ratings here"):
        GraphRec(**SMALL, loss="regression").fit(plain)
    assert GraphRec(**{**SMALL, "epochs": 1}).fit(plain).record_.notes["levels"] == 1


def test_no_ties_is_one_clear_line(untied):
    with pytest.raises(DataError, match="GraphRec needs social ties"):
        GraphRec(**SMALL).fit(untied)


@pytest.mark.parametrize("decoder", ["mlp", "dot"])
def test_it_learns_tastes(tied, finds_tastes, decoder):
    finds_tastes(GraphRec(**SMALL, decoder=decoder).fit(tied))


def test_explanation_leaves_out_one_item_at_a_time(tied):
    model = GraphRec(**{**SMALL, "epochs": 3}).fit(tied)
    one = Requests.of_users(tied, np.array([2], np.int32))
    why = model.explain(one, 3)
    assert not why.exact and {e.subject for e in why.evidence} == set(one.histories.items.tolist())
    first = why.evidence[0]
    kept = one.histories.items != first.subject
    less = Histories(np.array([0, kept.sum()]), one.histories.items[kept], values=one.histories.values[kept])
    without = model.score(Requests(one.users, less), np.array([[3]], np.int32))[0, 0]
    assert first.weight == pytest.approx(why.score - without, abs=1e-5)
    nothing = model.explain(Requests.of_histories([[]]), 3)
    assert nothing.evidence[0].kind == "popularity"


def test_resumes_to_the_bit(tied, tmp_path):
    short = {**SMALL, "epochs": 6}
    whole = GraphRec(**short).fit(tied, seed=4)
    GraphRec(**{**short, "epochs": 3}).fit(tied, seed=4, checkpoint=tmp_path)
    resumed = GraphRec(**short).fit(tied, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
