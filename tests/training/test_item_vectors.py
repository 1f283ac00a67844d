"""Vectors of items by a graph network: the formula by hand, lone nodes, invariances, the margin, planted types."""

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("torch")

import torch

from palate.contracts.model import Fitting
from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.ragged import offsets_of
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.nn.hetero import Block, Links
from palate.training.item_links import ItemLinks
from palate.training.item_vectors import ItemGNN, ItemGraphSettings, ItemVectors, _Batch, _Steps, learn_item_vectors, max_margin

WIDE, DIM = 5, 4
TYPES = np.array([0, 0, 0, 1, 1, 1, 1], np.int32)
ENDS = np.array([[0, 1], [0, 3], [1, 3], [1, 4], [3, 4], [4, 5]], np.int32)
SETTINGS = ItemGraphSettings(
    item_type="kind", graph_dim=8, text_dim=8, min_links=200, graph_batch_size=64, negatives=32, graph_lr=5e-3, graph_epochs=12
)


def links(ends=ENDS, types=TYPES):
    return ItemLinks(ends[:, 0], ends[:, 1], np.ones(len(ends), np.int32), types, ("a", "p"))


@pytest.fixture
def net():
    made = ItemGNN(WIDE, DIM, 2, 4, np.random.default_rng(0))
    with torch.no_grad():
        for layer in made.layers:
            layer.biases += torch.linspace(-0.1, 0.2, 4 * DIM).view(4, DIM)
    return made


def texts(n=7, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, WIDE)).astype(np.float32))


def test_two_layers_by_hand(net):
    """z of every node, neighbours of each type taken whole."""
    x = texts()
    near = {i: {t: [] for t in (0, 1)} for i in range(7)}
    for a, b in ENDS.tolist():
        near[a][TYPES[b]].append(b)
        near[b][TYPES[a]].append(a)
    h = x
    for depth, layer in enumerate(net.layers):
        out = h @ layer.own
        for i in range(7):
            for t, others in near[i].items():
                r = 2 * TYPES[i] + t
                if others:
                    out[i] = out[i] + torch.relu(h[others] @ layer.matrices[r] + layer.biases[r]).amax(0)
        h = torch.relu(out) if depth == 0 else out / out.norm(dim=1, keepdim=True)
    found = net.encode(x, links().edges(), fanout=10, draws=2)
    np.testing.assert_allclose(found, h.detach().numpy(), atol=1e-6)


def test_vectors_have_length_one_and_a_lone_node_depends_on_its_text_alone(net):
    x = texts()
    found = net.encode(x, links().edges(), fanout=1, draws=3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    others = texts(seed=9)
    others[6] = x[6]
    np.testing.assert_array_equal(net.encode(others, links().edges(), 1, 3)[6], found[6])
    np.testing.assert_allclose(net.alone(x[6:]).detach().numpy()[0], found[6], atol=1e-6)
    assert not np.allclose(net.encode(others, links().edges(), 1, 3)[0], found[0])
    x[6] = 0
    assert not net.encode(x, links().edges(), 1, 1)[6].any()


def test_duplicates_and_order_of_neighbours_do_not_matter(net):
    x = texts()
    layer = net.layers[0]

    def told(tails):
        one = Links(np.array([0]), offsets_of([len(tails)]), np.array(tails, np.int32))
        return layer(x, Block(np.arange(7), 1, {1: one})).detach().numpy()

    np.testing.assert_array_equal(told([2, 4, 5]), told([5, 2, 4, 4, 2]))


def test_a_further_item_without_links_changes_no_other(net):
    x = texts(8)
    before = net.encode(x[:7], links().edges(), fanout=1, draws=2)
    after = net.encode(x, links(types=np.append(TYPES, 0).astype(np.int32)).edges(), fanout=1, draws=2)
    np.testing.assert_array_equal(after[:7], before)


def test_no_links_at_all(net):
    found = net.encode(texts(), links(ENDS[:0]).edges(), 3, 2)
    np.testing.assert_allclose(found, net.alone(texts()).detach().numpy(), atol=1e-6)


def test_the_margin_by_hand():
    anchor, positive = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    negative = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
    counts = torch.tensor([[True, True, True], [False, False, True]])
    # row 0: 0.3, 0 and 0.8 - 1 + 0.3; row 1: 0.6 - 0 + 0.3
    assert max_margin(anchor, positive, negative, counts, 0.3).item() == pytest.approx(((0.3 + 0 + 0.1) / 3 + 0.9) / 2)
    assert max_margin(anchor, positive, negative, counts & False, 0.3).item() == 0


def test_items_told_from_a_link_have_the_type_of_its_end_and_are_not_linked(net):
    steps = _Steps(net, texts(), links(), links(), ItemGraphSettings(negatives=14), np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(steps.others(np.random.default_rng(0))), [0, 1, 3, 4, 5])  # those with a link
    counts = steps.counts(_Batch(np.array([1, 4]), np.array([3, 1]), np.arange(7)))
    # item 1 is linked with 0, 3 and 4: of type p remain 5 and 6; item 4 with 1, 3 and 5: of type a remain 0 and 2
    assert [np.flatnonzero(row).tolist() for row in counts] == [[5, 6], [0, 2]]


def test_items_without_a_link_are_told_from_nothing(net):
    """Else every new item would be pushed away from all others, never towards one."""
    one = links(np.array([[0, 1], [1, 4]], np.int32))
    steps = _Steps(net, texts(), one, one, ItemGraphSettings(negatives=14), np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(steps.others(np.random.default_rng(0))), [0, 1, 4])


def test_the_links_of_a_batch_are_no_part_of_its_neighbourhood(net):
    """With one link alone the loss is that of two lone items."""
    one = links(np.array([[0, 1]], np.int32))
    x, quiet = texts(), ItemGraphSettings(alone=0, negatives=14)
    steps = _Steps(net, x, one, one, quiet, np.random.default_rng(0))
    batch = _Batch(np.array([0]), np.array([1]), np.array([2]))
    loss = steps(batch, torch.Generator().manual_seed(0))
    z = net.alone(x).detach()
    assert loss.item() == pytest.approx(max(0, float(z[0] @ z[2] - z[0] @ z[1]) + 0.3), abs=1e-6)


def planted(users=200, seed=0, text=True):
    """Two tastes, over 20 items of type p and 10 of type a; items 9 and 29 had by nobody; words tell the tastes apart."""
    rng = np.random.default_rng(seed)
    taste = np.arange(30) % 2
    had = np.setdiff1d(np.arange(30), [9, 29, 8])
    rows = [rng.choice(had[taste[had] == u % 2], 5, replace=False) for u in range(users)]
    events = Interactions.sorted(np.repeat(np.arange(users), 5), np.concatenate(rows))
    table = {"kind": ["a" if i < 10 else "p" for i in range(30)]}
    if text:
        table["title"] = [f"{['red apple', 'blue berry'][t]} {'uvwxyz'[i % 6]}" for i, t in enumerate(taste)]
    return Dataset(events, Entities(Vocabulary.range(users)), Entities(Vocabulary.range(30), pa.table(table)))


@pytest.mark.parametrize("settings", [{}, {"balanced": False}, {"valid_links": 0.2}, {"item_type": ""}], ids=str)
def test_tastes_are_found_and_new_items_placed_by_their_text(settings):
    vectors, found, notes = learn_item_vectors(planted(), SETTINGS.replace(**settings), Fitting())
    z, taste = vectors.vectors, np.arange(30) % 2
    near = z @ z.T
    same = taste[:, None] == taste[None, :]
    off = ~np.eye(30, dtype=bool)
    for items in (np.arange(30), [8, 9, 29]):
        assert near[items][(same & off)[items]].mean() > near[items][~same[items]].mean() + 0.5
    assert sum(notes["links"].values()) == len(found) and notes["linked_items"] <= 27
    x, alone = vectors.embed(pa.table({"title": ["red apple q", None]}))
    assert (alone[0] @ z[taste == 0].T).mean() > (alone[0] @ z[taste == 1].T).mean() + 0.5
    assert not x[1].any() and not alone[1].any()


def test_state_and_back():
    data = planted()
    vectors, _, _ = learn_item_vectors(data, SETTINGS.replace(graph_epochs=1), Fitting())
    again = ItemVectors.of_state(vectors.state(), data.items, SETTINGS)
    table = data.items.attributes
    for one, other in zip(vectors.embed(table), again.embed(table), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.names == ("a", "p")


def test_items_without_text_are_refused_or_begin_as_random_vectors():
    data = planted(text=False)
    with pytest.raises(DataError, match="no item has a text"):
        learn_item_vectors(data, SETTINGS, Fitting())
    vectors, _, _ = learn_item_vectors(data, SETTINGS.replace(require_text=False), Fitting())
    assert not vectors.vectors[[8, 9, 29]].any() and vectors.encoder is None
    z = np.delete(vectors.vectors, [8, 9, 29], axis=0)
    taste = np.delete(np.arange(30) % 2, [8, 9, 29])
    same = taste[:, None] == taste[None, :]
    assert (z @ z.T)[same].mean() > (z @ z.T)[~same].mean() + 0.3
