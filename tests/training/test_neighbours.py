"""The neighbour sampler: whole neighbourhoods, fan-outs, seeds, links that must not be walked."""

import numpy as np
import pytest
import torch

from palate.errors import ConfigError
from palate.nn.hetero import Block, RGCNLayer
from palate.nn.knowledge import Edges
from palate.training.neighbours import NeighbourSampler


def graph(n=40, m=200, relations=3, seed=0):
    rng = np.random.default_rng(seed)
    head, relation, tail = rng.integers(0, n - 1, m), rng.integers(0, relations, m), rng.integers(0, n - 1, m)
    kept = np.unique(np.stack([head, relation, tail], 1)[head < tail], axis=0)
    return Edges.both_ways(n, kept[:, 0], kept[:, 1], kept[:, 2], relations)


def links_of(block):
    """All links as (relation, head node, tail node)."""
    return [
        (r, int(block.rows[h]), int(block.rows[t]))
        for r, links in block.links.items()
        for h, a, b in zip(links.heads, links.offsets, links.offsets[1:], strict=False)
        for t in links.tails[a:b]
    ]


def test_large_fanouts_take_everything():
    edges, rows = graph(), np.array([3, 17, 39])
    blocks = NeighbourSampler(edges, [99, 99]).blocks(rows, 0)
    triples = set(zip(edges.relations.tolist(), edges.heads.tolist(), edges.tails.tolist(), strict=True))
    np.testing.assert_array_equal(blocks[1].rows[: blocks[1].n_out], rows)
    np.testing.assert_array_equal(blocks[0].rows[: blocks[0].n_out], blocks[1].rows)
    for block in blocks:
        asked = set(block.rows[: block.n_out].tolist())
        assert set(links_of(block)) == {t for t in triples if t[1] in asked}
        assert len(np.unique(block.rows)) == len(block.rows)


def test_sampled_layers_with_all_neighbours_equal_the_whole_graph():
    edges, rows, rng = graph(), np.array([5, 0, 21]), np.random.default_rng(0)
    layers = [RGCNLayer(4, 4, edges.n_relations, 2, rng) for _ in range(2)]
    x = torch.randn(edges.rows, 4, generator=torch.Generator().manual_seed(0))
    blocks = NeighbourSampler(edges, [99, 99]).blocks(rows, 0)
    part, whole = x[torch.from_numpy(blocks[0].rows)], x
    for layer, block in zip(layers, blocks, strict=True):
        part, whole = layer(part, block), layer(whole, Block.whole(edges))
    torch.testing.assert_close(part, whole[torch.from_numpy(rows)], rtol=1e-4, atol=1e-5)


def test_fanouts_bound_each_relation_and_draws_are_links():
    edges = graph(m=600)
    blocks = NeighbourSampler(edges, [[2, 0, 3, 3, 1, 1], 2]).blocks(np.arange(10), 4)
    triples = set(zip(edges.relations.tolist(), edges.heads.tolist(), edges.tails.tolist(), strict=True))
    for block, most in zip(blocks, ([2, 0, 3, 3, 1, 1], [2] * 6), strict=True):
        found = links_of(block)
        assert set(found) <= triples and len(set(found)) == len(found)
        for relation, links in block.links.items():
            assert np.diff(links.offsets).max() <= most[relation] and np.diff(links.offsets).min() > 0
        assert len(block) <= block.n_out * sum(most)


def test_seeds_name_draws_and_company_does_not_matter():
    sampler = NeighbourSampler(graph(m=600), [2])
    one, again, other = (sampler.blocks(np.array([1, 2]), s)[0] for s in (5, 5, 6))
    assert links_of(one) == links_of(again) != links_of(other)
    company = sampler.blocks(np.array([9, 2, 1]), 5)[0]
    assert {t for t in links_of(company) if t[1] != 9} == set(links_of(one))


def test_hidden_links_are_walked_in_neither_direction():
    edges = graph()
    at = [4, 11]
    hidden = edges.heads[at], edges.tails[at]
    gone = {(int(h), int(t)) for h, t in zip(*hidden, strict=True)} | {(int(t), int(h)) for h, t in zip(*hidden, strict=True)}
    blocks = NeighbourSampler(edges, [99, 99]).blocks(np.arange(edges.rows), 0, hidden=hidden)
    for block in blocks:
        walked = {(h, t) for _, h, t in links_of(block)}
        assert not walked & gone
        assert walked == set(zip(edges.heads.tolist(), edges.tails.tolist(), strict=True)) - gone


def test_isolated_nodes_and_no_edges():
    none = np.empty(0, np.int32)
    blocks = NeighbourSampler(Edges.both_ways(3, none, none, none, 2), [2, 2]).blocks(np.array([2, 0]), 0)
    assert all(len(block) == 0 and block.rows.tolist() == [2, 0] for block in blocks)


@pytest.mark.parametrize("fanouts", [[], [[1, 2]], [-1]])
def test_bad_fanouts_are_named(fanouts):
    with pytest.raises(ConfigError, match="fan-out"):
        NeighbourSampler(graph(), fanouts)
