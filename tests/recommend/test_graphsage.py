"""GraphSAGE: answers by the definition, hidden pairs, both losses, induction to people and items that are new."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError
from palate.nn.knowledge import Knowledge
from palate.recommend.graphsage import GraphSAGE, _Network, _Steps, text_vectors
from palate.training.triples import Pairs, Triples

HALF = 20
SMALL = {"dim": 8, "epochs": 8, "batch_size": 128, "lr": 0.02, "text_dim": 4, "n_negatives": 16}


def two_tastes(users=120, seed=0):
    """People who like items below HALF, or those above; titles and an entity say which half an item is of.

    Of the last two items nobody had one, and the last has no title and no entity.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    whole = Dataset.from_columns(
        np.concatenate([np.full(2 * HALF + 2, users), np.repeat(np.arange(users), 6)]),
        np.concatenate([np.arange(2 * HALF + 2), *rows]),
    )
    whole = whole.derive(
        {"step": "old"}, interactions=whole.interactions.take(np.flatnonzero(whole.interactions.item < 2 * HALF))
    )
    number = np.arange(2 * HALF + 1, dtype=np.int32)
    graph = Graph(
        number, 0 * number, (number < HALF).astype(np.int32), "item", "entity", Vocabulary(["half"]), Vocabulary.range(2)
    )
    titles = pa.table({"title": [*(f"{('blue', 'red')[int(n < HALF)]} thing {n}" for n in number.tolist()), None]})
    return whole.derive({"step": "graph"}, graphs={"knowledge": graph}, items=Entities(whole.items.ids, titles))


DATA = two_tastes()
NEW, UNKNOWN = 2 * HALF, 2 * HALF + 1


class Kept(GraphSAGE):
    """Keeps the network that it was fitted with."""

    def _finish(self, network, dataset):
        self.network = network
        super()._finish(network, dataset)


@pytest.fixture(scope="module")
def model():
    return Kept(**SMALL).fit(DATA)


def network_of(data, **settings):
    config = GraphSAGE(**{**SMALL, **settings}).config
    fitting = type("F", (), {"seed": 0, "progress": None})
    known = Knowledge.of(data).with_people(data.matrix())
    return config, _Network(known, data.n_users, text_vectors(data, config, fitting), config, np.random.default_rng(1))


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_answers_follow_the_formula(pool):
    """All people and items by the definition, node by node; the training history gives the trained person."""
    model = Kept(**{**SMALL, "epochs": 2}, pool=pool).fit(DATA)
    net, n = model.network, DATA.n_users
    edges = Knowledge.of(DATA).with_people(DATA.matrix())
    free, told = (a.detach().numpy().astype(float) for a in (net.free, net.texts @ net.map))
    x = np.concatenate([np.tile(net.person.detach().numpy(), (n, 1)), free])
    x[n : n + DATA.n_items] += told
    for k, layer in enumerate(net.stack):
        own, w, b = (a.detach().numpy().astype(float) for a in (layer.own, layer.matrices, layer.biases))
        y = x @ own
        for i in range(edges.rows):
            links = range(edges.offsets[i], edges.offsets[i + 1])
            for r in {int(edges.relations[e]) for e in links}:
                said = [np.maximum(x[edges.tails[e]] @ w[r] + b[r], 0) for e in links if edges.relations[e] == r]
                y[i] += np.mean(said, axis=0) if pool == "mean" else np.max(said, axis=0)
        x = np.maximum(y, 0) if k == 0 else y / np.linalg.norm(y, axis=1, keepdims=True).clip(1e-12)
    users = Requests.of_users(DATA, np.arange(n, dtype=np.int32))
    np.testing.assert_allclose(model.request_vectors(users), x[:n], atol=1e-4)
    np.testing.assert_allclose(model.item_vectors[:UNKNOWN], x[n : n + UNKNOWN], atol=1e-4)
    assert not model.item_vectors[UNKNOWN].any()


def test_one_layer_by_hand():
    """Two items with x = (1, 0) and (0, 2); W = I for all: a person of both is at c + mean of relu(x), here (1/2, 1) + c."""
    data = Dataset.from_columns(np.array([0, 0]), np.array([0, 1]))
    model = GraphSAGE(dim=2, layers=1, epochs=0).fit(data)
    config = model.config
    net = _Network(Knowledge.of(data, required=False).with_people(data.matrix()), 1, np.zeros((2, 1), np.float32), config,
                   np.random.default_rng(0))  # fmt: skip
    with torch.no_grad():
        net.free.copy_(torch.tensor([[1.0, 0], [0, 2]]))
        net.person.copy_(torch.tensor([-0.25, 0.5]))
        net.stack[0].own.copy_(torch.eye(2))
        net.stack[0].matrices.copy_(torch.eye(2).expand(2, 2, 2))
    model._finish(net, data)
    v = np.array([0.25, 1.5])
    np.testing.assert_allclose(model.request_vectors(Requests.of_histories([[0, 1]]))[0], v / np.linalg.norm(v), rtol=1e-6)
    # An item hears relu of its only person's c = (0, 1/2): the first is at (1, 1/2).
    first = np.array([1, 0.5])
    np.testing.assert_allclose(model.item_vectors[0], first / np.linalg.norm(first), rtol=1e-6)


def test_known_and_unseen_people_get_the_same_answer(model):
    known = Requests.of_users(DATA, np.arange(1, 101, dtype=np.int32))
    unseen = Requests(np.full(len(known), -1, np.int32), known.histories, known.exclude)
    np.testing.assert_array_equal(model.request_vectors(known), model.request_vectors(unseen))
    own = known.histories.items[known.histories.offsets[:-1]] < HALF
    assert ((model.recommend(unseen, 5).items < HALF) == own[:, None]).mean() > 0.9


@pytest.mark.parametrize("use_graph", [True, False])
def test_a_new_item_is_placed_by_what_is_known_of_it(use_graph):
    """The new item's title and entity are those of the upper half; one of which nothing is known scores nothing."""
    model = GraphSAGE(**SMALL, use_graph=use_graph).fit(DATA)
    asked = Requests.of_users(DATA, np.arange(1, 101, dtype=np.int32))
    upper = asked.histories.items[asked.histories.offsets[:-1]] >= HALF
    scores = model.score(asked, np.tile(np.array([NEW, UNKNOWN], np.int32), (100, 1)))
    assert 0 < upper.sum() < 100 and scores[upper, 0].min() > scores[~upper, 0].max()
    assert not scores[:, 1].any()


def test_a_new_item_is_never_pushed_away(model):
    """Nobody had it, so it is no negative, and its free vector stays where it began."""
    free = model.network.free.detach().numpy()
    assert free[:NEW].any(axis=1).all() and not free[UNKNOWN].any()
    config, network = network_of(DATA, loss="bpr", n_negatives=4000)
    steps = _Steps(config, network, np.flatnonzero(DATA.item_counts > 0))
    seen = []
    steps._vectors = lambda rows, pairs, generator: seen.append(rows) or (torch.zeros(len(rows), 8), torch.zeros(()))
    some = np.zeros(4, np.int32)
    steps(Triples(some, some, np.array([1, NEW, UNKNOWN, -1], np.int32)), torch.Generator())
    assert seen[0].tolist() == [0, DATA.n_users, DATA.n_users + 1]
    steps.config = steps.config.replace(loss="softmax")
    steps(Triples(some, some, some), torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(seen[1], [0, *(DATA.n_users + np.arange(NEW))])


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_a_steps_loss_by_its_definition(loss):
    config, network = network_of(DATA, loss=loss, reg=0.1, temperature=0.3, alone=0.0, fanout=1000, hide=False)
    batch = next(iter(Pairs(DATA.matrix(), 32).epoch(np.random.default_rng(0), negatives=True)))
    steps, kept = _Steps(config, network, np.flatnonzero(DATA.item_counts > 0)), {}
    whole = steps._vectors
    steps._vectors = lambda rows, *rest: kept.setdefault("found", (rows, whole(rows, *rest)))[1]
    got = steps(batch, torch.Generator().manual_seed(0))
    rows, (z, _) = kept["found"]
    place = {int(row): at for at, row in enumerate(rows)}
    n = DATA.n_users
    use = (batch.negatives >= 0) & (batch.negatives < NEW) if loss == "bpr" else np.ones(len(batch), bool)
    u, i = ([place[int(row)] for row in ends[use]] for ends in (batch.users, batch.positives + n))
    items = rows[rows >= n] - n
    if loss == "bpr":
        j = [place[int(row)] for row in batch.negatives[use] + n]
        wanted = functional.softplus((z[u] * (z[j] - z[i])).sum(1) / 0.3).sum() / len(batch)
    else:
        drawn = torch.randint(NEW, (config.n_negatives,), generator=torch.Generator().manual_seed(0))
        negatives = np.unique(drawn.numpy())
        own = (z[u] * z[i]).sum(1, keepdim=True) / 0.3
        others = z[u] @ z[[place[int(row)] for row in negatives + n]].T / 0.3
        others[torch.from_numpy(batch.positives[:, None] == negatives)] = float("-inf")
        wanted = functional.cross_entropy(torch.cat([own, others], 1), torch.zeros(len(u), dtype=torch.int64))
    wanted = wanted + 0.1 / (2 * len(batch)) * network.free[items].square().sum()
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_steps_loss_does_not_depend_on_the_pairs_links():
    """With hidden pairs, cutting the links of the pairs out of the graph changes nothing; without hiding it does."""
    data = two_tastes(users=40)
    matrix = data.matrix()
    batch = next(iter(Pairs(matrix, 32).epoch(np.random.default_rng(0), negatives=False)))
    thinner = matrix.tolil()
    thinner[batch.users, batch.positives] = 0
    thinner = thinner.tocsr()
    thinner.eliminate_zeros()
    known, texts = Knowledge.of(data), np.zeros((data.n_items, 4), np.float32)
    for hide in (True, False):
        config = GraphSAGE(**{**SMALL, "hide": hide, "fanout": 1000}).config
        losses = []
        for m in (matrix, thinner):
            network = _Network(known.with_people(m), data.n_users, texts, config, np.random.default_rng(1))
            steps = _Steps(config, network, np.arange(NEW))
            losses.append(float(steps(batch, torch.Generator().manual_seed(0)).detach()))
        assert (losses[0] == pytest.approx(losses[1], rel=1e-5)) == hide


def test_alone_makes_all_items_of_a_batch_from_their_texts():
    config, network = network_of(DATA, alone=1.0)
    n = DATA.n_users
    rows = np.array([3, n, n + 5, n + UNKNOWN])
    z, _ = _Steps(config, network, np.arange(NEW))._vectors(rows, (rows[:1], rows[1:2]), torch.Generator().manual_seed(0))
    items = network.alone(rows[1:] - n)
    torch.testing.assert_close(z[1:3], items[:2])
    # Without a text there is nothing to make it from.
    assert not items[2].any()


@pytest.mark.parametrize("settings", [{}, {"layers": 1, "loss": "bpr"}, {"layers": 3, "pool": "max", "free_items": False}])
def test_resumes_to_the_bit(settings, tmp_path):
    settings = {**SMALL, "epochs": 3, **settings}
    whole = GraphSAGE(**settings).fit(DATA, seed=4)
    GraphSAGE(**{**settings, "epochs": 1}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = GraphSAGE(**settings).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])


def test_free_items_off_leaves_texts_alone():
    model = Kept(**{**SMALL, "epochs": 2}, free_items=False).fit(DATA)
    assert not model.network.free[: DATA.n_items].any()
    bare = DATA.derive({"step": "bare"}, items=Entities(DATA.items.ids))
    notes = GraphSAGE(**{**SMALL, "epochs": 1}).fit(bare).record_.notes
    assert notes["items_with_text"] == 0


def test_an_unknown_encoder_is_named():
    with pytest.raises(ConfigError, match="no such encoder"):
        GraphSAGE(**SMALL, encoder="tf-idf").fit(DATA)
