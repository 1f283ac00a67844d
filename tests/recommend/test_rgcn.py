"""R-GCN: answers by the definition, the fold-in, hidden pairs."""

import numpy as np
import pytest
import torch

from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Graph
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.nn.knowledge import Knowledge
from palate.recommend.rgcn import RGCN, _Network, _Steps
from palate.training.triples import Pairs

HALF = 20
SMALL = {"dim": 8, "epochs": 15, "batch_size": 128, "lr": 0.02, "bases": 2}


def two_tastes(users=120, seed=0):
    """People who like items below HALF, or those above; an entity says which half an item is of."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(HALF, 6, replace=False) + HALF * (u % 2) for u in range(users)]
    whole = Dataset.from_columns(
        np.concatenate([np.full(2 * HALF, users), np.repeat(np.arange(users), 6)]),
        np.concatenate([np.arange(2 * HALF), *rows]),
    )
    number = np.arange(2 * HALF, dtype=np.int32)
    graph = Graph(number, 0 * number, number // HALF, "item", "entity", Vocabulary(["half"]), Vocabulary.range(2))
    return whole.derive({"step": "graph"}, graphs={"knowledge": graph})


DATA = two_tastes()


class Kept(RGCN):
    """Keeps the network that it was fitted with."""

    def _finish(self, network, dataset):
        self.network = network
        super()._finish(network, dataset)


@pytest.fixture(scope="module")
def model():
    return Kept(**SMALL).fit(DATA)


def test_answers_follow_the_formula(model):
    """All people and items by the definition, node by node; the training history gives the trained person."""
    edges = Knowledge.of(DATA).with_people(DATA.matrix())
    x = model.network.free.detach().numpy().astype(float)
    for k, layer in enumerate(model.network.layers):
        w, y = layer.matrices.detach().numpy().astype(float), x @ layer.own.detach().numpy() + layer.bias.detach().numpy()
        for i in range(edges.rows):
            own = range(edges.offsets[i], edges.offsets[i + 1])
            for r in {int(edges.relations[e]) for e in own}:
                y[i] += np.mean([x[edges.tails[e]] for e in own if edges.relations[e] == r], axis=0) @ w[r]
        x = np.maximum(y, 0) if k == 0 else y
    n = DATA.n_users
    users = Requests.of_users(DATA, np.arange(n, dtype=np.int32))
    np.testing.assert_allclose(model.request_vectors(users), x[:n], atol=1e-3)
    np.testing.assert_allclose(model.item_vectors, x[n : n + DATA.n_items], atol=1e-3)


def test_known_and_unseen_people_get_their_taste(model):
    known = Requests.of_users(DATA, np.arange(1, 100, dtype=np.int32))
    unseen = Requests(np.full(len(known), -1, np.int32), known.histories, known.exclude)
    own = known.histories.items[known.histories.offsets[:-1]] < HALF
    for requests in (known, unseen):
        assert ((model.recommend(requests, 5).items < HALF) == own[:, None]).mean() > 0.9


def test_a_steps_loss_does_not_depend_on_the_pairs_links():
    """With hidden pairs, cutting the links of the pairs out of the graph changes nothing; without hiding it does."""
    data = two_tastes(users=40)
    matrix = data.matrix()
    batch = next(iter(Pairs(matrix, 32).epoch(np.random.default_rng(0))))
    thinner = matrix.tolil()
    kept = batch.negatives >= 0  # somebody who has everything has no negative, and no part in the step
    thinner[batch.users[kept], batch.positives[kept]] = 0
    thinner = thinner.tocsr()
    thinner.eliminate_zeros()
    known = Knowledge.of(data)
    for hide in (True, False):
        config = RGCN(**{**SMALL, "hide": hide, "fanout": 1000}).config
        losses = []
        for m in (matrix, thinner):
            network = _Network(known.with_people(m), config, np.random.default_rng(1))
            step = _Steps(config, network, data.n_users)
            losses.append(float(step(batch, torch.Generator().manual_seed(0)).detach()))
        assert (losses[0] == pytest.approx(losses[1], rel=1e-5)) == hide


def test_without_a_graph_it_says_so():
    bare = DATA.derive({"step": "none"}, graphs={})
    with pytest.raises(DataError, match="no knowledge graph"):
        RGCN(**SMALL).fit(bare)
    assert RGCN(**{**SMALL, "epochs": 1}, require_graph=False).fit(bare).record_.notes["knowledge"]["triples"] == 0


@pytest.mark.parametrize("settings", [{}, {"layers": 1}, {"layers": 3, "bases": 0}])
def test_resumes_to_the_bit(settings, tmp_path):
    settings = {**SMALL, "epochs": 3, **settings}
    whole = RGCN(**settings).fit(DATA, seed=4)
    RGCN(**{**settings, "epochs": 1}).fit(DATA, seed=4, checkpoint=tmp_path)
    resumed = RGCN(**settings).fit(DATA, seed=4, checkpoint=tmp_path)
    for name, array in whole._state().items():
        np.testing.assert_array_equal(array, resumed._state()[name])
