"""KGAT: the formula, by a dense matrix; the fold-in; what triples add."""

import numpy as np
import pytest

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.nn.bi_interaction import LEAK
from palate.nn.knowledge import Knowledge
from palate.recommend.bpr_mf import BPRMF
from palate.recommend.kgat import KGAT

HALF = 20
SMALL = {"dim": 8, "layers": (8, 4), "epochs": 12, "batch_size": 256, "lr": 0.02, "kg_batch_size": 256}


def two_tastes(users=120, seed=0, silent=()):
    """People who like items below HALF, or those above; an entity says which half an item is of, others say nothing.

    Nobody has the ``silent`` items, but the entity knows them.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    whole = Dataset.from_columns(
        np.concatenate([np.full(2 * HALF, users), np.repeat(np.arange(users), 6)]),
        np.concatenate([np.arange(2 * HALF), *rows]),
    )
    number = np.arange(2 * HALF, dtype=np.int32)
    head = np.concatenate([number, number])
    tail = np.concatenate([number // HALF, 2 + rng.integers(0, 10, 2 * HALF)]).astype(np.int32)
    relation = np.repeat(np.arange(2, dtype=np.int32), 2 * HALF)
    graph = Graph(head, relation, tail, "item", "entity", Vocabulary(["half", "noise"]), Vocabulary.range(12))
    had = np.flatnonzero(~np.isin(whole.interactions.item, silent))
    return whole.derive({"step": "graph"}, graphs={"knowledge": graph}, interactions=whole.interactions.take(had))


DATA = two_tastes()


class Kept(KGAT):
    """Keeps the network that it was fitted with."""

    def _finish(self, network, dataset):
        self.network = network
        super()._finish(network, dataset)


@pytest.fixture(scope="module")
def model():
    return Kept(**SMALL).fit(DATA)


def leaky(a):
    return np.where(a > 0, a, LEAK * a)


def dense_output(network, edges):
    """All vectors by the definition, with a dense matrix of attention, in float64."""
    e, moves, matrices = (network.array(name).astype(float) for name in ("free", "moves", "matrices"))
    linked = edges.degrees > 0
    e = np.where(linked[:, None], e, 0)
    attention = np.zeros((edges.rows, edges.rows))
    for h in range(edges.rows):
        own = range(edges.offsets[h], edges.offsets[h + 1])
        w = [matrices[edges.relations[at]] for at in own]
        s = np.array(
            [(m @ e[edges.tails[at]]) @ np.tanh(m @ e[h] + moves[edges.relations[at]]) for at, m in zip(own, w, strict=True)]
        )
        for at, p in zip(own, np.exp(s) / np.exp(s).sum(), strict=True):
            attention[h, edges.tails[at]] += p
    weights = [w.detach().numpy().astype(float) for w in network.mixing.weights]
    x, out = e, [e]
    for k in range(len(weights) // 4):
        w1, b1, w2, b2 = weights[4 * k : 4 * k + 4]
        n = attention @ x
        x = leaky((x + n) @ w1 + b1) + leaky((x * n) @ w2 + b2)
        out.append(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
    return attention, np.concatenate(out, axis=1)


def test_vectors_follow_the_formula_and_the_training_history_gives_the_trained_person(model):
    edges = Knowledge.of(DATA).with_people(DATA.matrix())
    attention, wanted = dense_output(model.network, edges)
    np.testing.assert_allclose(attention.sum(1), edges.degrees > 0, atol=1e-9)
    users = np.arange(DATA.n_users, dtype=np.int32)
    np.testing.assert_allclose(model.request_vectors(Requests.of_users(DATA, users)), wanted[: DATA.n_users], atol=1e-4)
    items = wanted[DATA.n_users : DATA.n_users + DATA.n_items]
    np.testing.assert_allclose(model.item_vectors, items, atol=1e-4)


def test_an_unseen_person_is_a_node_that_only_listens(model):
    """Their layers, by hand from the arrays that answer."""
    history = np.array([2, 5, 25])
    x = model.shares_[history].sum(0) / np.sqrt(3)
    s = (model.below_[0][history] @ model.asks_.T) @ np.tanh(model.asks_ @ x + model.move_)
    p, wanted = np.exp(s) / np.exp(s).sum(), [x]
    for k, below in enumerate(model.below_):
        w1, b1, w2, b2 = model.weights_[4 * k : 4 * k + 4]
        n = p @ below[history]
        x = leaky((x + n) @ w1 + b1) + leaky((x * n) @ w2 + b2)
        wanted.append(x / np.linalg.norm(x))
    np.testing.assert_allclose(model.request_vectors(Requests.of_histories([history]))[0], np.concatenate(wanted), atol=1e-4)


def test_known_and_unseen_people_get_their_taste(model):
    known = Requests.of_users(DATA, np.arange(1, 100, dtype=np.int32))
    unseen = Requests(np.full(len(known), -1, np.int32), known.histories, known.exclude)
    own = known.histories.items[known.histories.offsets[:-1]] < HALF
    for requests in (known, unseen):
        assert ((model.recommend(requests, 5).items < HALF) == own[:, None]).mean() > 0.9


def test_items_that_nobody_had_are_known_by_their_triples():
    """Items without events rank by the half that the graph says they are of; without triples they are unknown."""
    silent = np.array([3, 4, 5, HALF + 3, HALF + 4, HALF + 5])
    data = two_tastes(silent=silent)
    model = KGAT(**{**SMALL, "epochs": 25, "kg_batches": 2}).fit(data, seed=1)
    users = np.arange(1, 101, dtype=np.int32)
    scores = model.score(Requests.of_users(data, users), np.tile(silent.astype(np.int32), (100, 1)))
    own = data.histories.take(users).items[data.histories.take(users).offsets[:-1]] < HALF
    assert ((scores[:, :3].sum(1) > scores[:, 3:].sum(1)) == own).mean() > 0.8
    assert not model.recommend(Requests.of_histories([[3]]), 5).cold[0]
    alone = KGAT(**{**SMALL, "epochs": 1}, require_graph=False).fit(data.derive({"step": "none"}, graphs={}))
    assert not alone.item_vectors[silent].any()
    assert alone.recommend(Requests.of_histories([[3]]), 5).cold[0]


def test_people_and_items_with_events_begin_from_bpr_mf():
    data = two_tastes(silent=(3,))
    kept, random = (Kept(**{**SMALL, "epochs": 0, "start": start}).fit(data, seed=5) for start in ("bpr_mf", "random"))
    mf = BPRMF(dim=8, bias=False).fit(data, seed=5)
    people = mf.request_vectors(Requests.of_users(data, np.arange(data.n_users, dtype=np.int32)))[:, :8]
    free, other = (model.network.array("free") for model in (kept, random))
    items = slice(data.n_users, data.n_users + data.n_items)
    np.testing.assert_array_equal(free[: data.n_users], people)
    known = data.item_counts > 0
    np.testing.assert_array_equal(free[items][known], mf.item_vectors[known, :8])
    np.testing.assert_array_equal(free[items][3], other[items][3])  # nobody had it
    np.testing.assert_array_equal(free[items.stop :], other[items.stop :])


def test_without_a_graph_it_says_so():
    bare = DATA.derive({"step": "none"}, graphs={})
    with pytest.raises(DataError, match="no knowledge graph"):
        KGAT(**SMALL).fit(bare)
    notes = KGAT(**{**SMALL, "epochs": 1}, require_graph=False).fit(bare).record_.notes
    assert notes["knowledge"]["triples"] == 0
    assert KGAT(**{**SMALL, "epochs": 1}).fit(DATA).record_.notes["knowledge"]["triples"] == 4 * HALF


def test_links_are_learnt(model):
    """After training, true triples stretch less than corrupted ones."""
    edges, n = Knowledge.of(DATA).with_people(DATA.matrix()), model.network
    e, moves, matrices = (n.array(name) for name in ("free", "moves", "matrices"))
    other = np.random.default_rng(0).integers(0, edges.rows, len(edges))

    def stretch(tails):
        w = matrices[edges.relations]
        moved = np.einsum("bkd,bd->bk", w, e[edges.heads] - e[tails]) + moves[edges.relations]
        return np.square(moved).sum(1)

    assert (stretch(edges.tails) < stretch(other)).mean() > 0.75


def test_explanations_keep_the_person(model):
    one = Requests.of_users(DATA, np.array([3], np.int32))
    why = model.explain(one, 7)
    assert not why.exact and len(why.evidence) == 6
    assert why.score == pytest.approx(float(model.score(one, np.array([[7]], np.int32))[0, 0]), rel=1e-5)
    single = model.explain(Requests.of_histories([[4]]), 7)
    assert single.evidence == ()


def test_resumes_to_the_bit(tmp_path):
    settings = {**SMALL, "epochs": 4}
    whole = KGAT(**settings).fit(DATA, seed=4)
    KGAT(**{**settings, "epochs": 2}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = KGAT(**settings).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
