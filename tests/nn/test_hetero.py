"""R-GCN and GraphSAGE layers: by hand, pooling with gradients, one relation, empty relations, order and repeats."""

import numpy as np
import pytest
import torch

from palate.nn.hetero import Block, Links, RGCNLayer, SAGELayer, pool_max, pool_mean, pool_reference


def links(n=12, heads=7, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, heads)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Links(
        np.sort(rng.permutation(n)[:heads]).astype(np.int64), offsets, rng.integers(0, n, offsets[-1]).astype(np.int32)
    )


@pytest.mark.parametrize(("pool", "fast"), [("mean", pool_mean), ("max", pool_max)])
def test_pools_equal_plain_with_gradients(pool, fast):
    own = links()
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    slope = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    made, wanted = fast(x, own), pool_reference(x, own, pool)
    torch.testing.assert_close(made, wanted)
    # A tail that stands twice shares the gradient of a maximum in torch; the first takes it here.
    both = [torch.autograd.grad((out * slope).sum(), x)[0] for out in (made, wanted)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)


def test_rgcn_by_hand(some_edges):
    edges = some_edges(n=10, m=25)
    layer = RGCNLayer(4, 3, edges.n_relations, 2, np.random.default_rng(0))
    x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    w = layer.matrices.detach().numpy()
    np.testing.assert_allclose(w[3], sum(layer.mix[3, b].item() * layer.bases[b].detach().numpy() for b in range(2)), rtol=1e-5)
    wanted = x.numpy() @ layer.own.detach().numpy()
    for i in range(10):
        for r in range(edges.n_relations):
            own = [edges.tails[e] for e in range(edges.offsets[i], edges.offsets[i + 1]) if edges.relations[e] == r]
            if own:
                wanted[i] += np.mean([x[j].numpy() @ w[r] for j in own], axis=0)
    np.testing.assert_allclose(layer(x, Block.whole(edges)).detach(), np.maximum(wanted, 0), rtol=1e-4, atol=1e-5)


def test_rgcn_with_one_relation_and_one_basis_is_mean_graphsage(some_edges):
    edges = some_edges(relations=1)
    block = Block.whole(edges)
    block = Block(block.rows, block.n_out, {0: block.links[0]})
    rgcn, sage = (
        RGCNLayer(5, 4, 1, 1, np.random.default_rng(0)),
        SAGELayer(5, 4, 1, np.random.default_rng(1), act_messages=False),
    )
    sage.own.data, sage.matrices.data = rgcn.own.data, rgcn.matrices.data
    x = torch.randn(edges.rows, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rgcn(x, block), sage(x, block))


def layers(relations, **keys):
    yield RGCNLayer(5, 4, relations, 0, np.random.default_rng(0))
    for pool in ("mean", "max"):
        yield SAGELayer(5, 4, relations, np.random.default_rng(0), pool=pool, **keys)


def test_equal_matrices_are_one_relation(some_edges):
    """With all ``W_r`` equal and links of one type only, the number of relations does not matter."""
    edges = some_edges(relations=1)
    x = torch.randn(edges.rows, 5, generator=torch.Generator().manual_seed(0))
    block = Block.whole(edges)
    for few, many in zip(layers(2), layers(6), strict=True):
        for name, weight in many.named_parameters():
            given = few.get_parameter(name)
            weight.data = given.data.repeat(3, *[1] * (given.ndim - 1)) if len(weight) == 6 else given.data
        torch.testing.assert_close(few(x, block), many(x, block))


def test_relations_without_links_and_nodes_without_neighbours(some_edges):
    edges = some_edges()
    x = torch.randn(edges.rows, 5, generator=torch.Generator().manual_seed(0))
    empty = Block(np.arange(edges.rows), edges.rows, {})
    whole = Block.whole(edges)
    for layer in layers(edges.n_relations):
        torch.testing.assert_close(layer(x, whole)[-2:], layer(x, empty)[-2:])
        assert not torch.allclose(layer(x, whole), layer(x, empty))


def test_order_and_repeats_do_not_matter_for_the_maximum():
    own = Links(np.array([0]), np.array([0, 3]), np.array([1, 2, 3], np.int32))
    other = Links(np.array([0]), np.array([0, 5]), np.array([3, 1, 1, 2, 3], np.int32))
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    layer = SAGELayer(5, 4, 1, np.random.default_rng(0), pool="max")
    found = [layer(x, Block(np.arange(4), 1, {0: links})) for links in (own, other)]
    torch.testing.assert_close(*found)


def test_node_order_does_not_matter(some_edges):
    from palate.nn.knowledge import Edges

    edges, order = some_edges(), np.random.default_rng(3).permutation(30)
    place = np.argsort(order)
    forward = edges.relations % 2 == 0
    ends = [place[e[forward]].astype(np.int32) for e in (edges.heads, edges.tails)]
    moved = Edges.both_ways(30, ends[0], edges.relations[forward] // 2, ends[1], 3)
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    for layer in layers(edges.n_relations, normalise=True):
        torch.testing.assert_close(
            layer(x, Block.whole(edges))[order], layer(x[order], Block.whole(moved)), rtol=1e-4, atol=1e-5
        )


def test_normalised_rows_have_length_one(some_edges):
    edges = some_edges()
    layer = SAGELayer(5, 4, edges.n_relations, np.random.default_rng(0), act=False, normalise=True)
    out = layer(torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), Block.whole(edges))
    np.testing.assert_allclose(out.detach().norm(dim=1), 1, rtol=1e-5)
