"""Epochs of links, and the optimiser of two objectives."""

import numpy as np
import torch
from torch import nn

from palate.nn.adam import Adam
from palate.nn.knowledge import Edges
from palate.training.knowledge import AlternatingAdam, Chain, link_epoch


def edges():
    head, tail = np.nonzero(np.random.default_rng(0).random((12, 12)) < 0.3)
    kept = head < tail
    return Edges.both_ways(12, head[kept], np.arange(kept.sum()) % 3, tail[kept], 3)


def test_every_link_once_with_a_tail_that_it_could_not_have():
    graph = edges()
    links = {(h, r, t) for h, r, t in zip(graph.heads, graph.relations, graph.tails, strict=True)}
    epoch = link_epoch(graph, np.random.default_rng(1), 7)
    seen = [row for b in epoch for row in zip(b.heads, b.relations, b.tails, b.others, strict=True)]
    assert len(epoch) == -(-len(graph) // 7) and len(seen) == len(graph)
    assert {row[:3] for row in seen} == links
    assert not any((h, r, o) in links for h, r, _, o in seen)


def test_most_batches():
    epoch = link_epoch(edges(), np.random.default_rng(1), 5, most=3)
    assert [len(b) for b in epoch] == [5, 5, 5]
    chained = Chain((epoch, epoch))
    assert len(chained) == 6 == len(list(chained))


def test_a_head_that_has_every_tail_is_left_out():
    """Row 0 has links to all rows but itself, and itself counts as a tail it has not; with a full row nothing is drawn."""
    graph = Edges.both_ways(2, np.array([0]), np.array([0]), np.array([1]), 1)
    batch = next(iter(link_epoch(graph, np.random.default_rng(0), 4)))
    assert all(h == o for h, o in zip(batch.heads, batch.others, strict=True))


def test_turns_have_moments_of_their_own():
    """Steps of one objective are those that it would take alone, but for the place where the weights stand."""
    torch.manual_seed(0)
    module = nn.ParameterDict({"shared": torch.zeros(5), "marker": torch.zeros(3)})
    alone = torch.zeros(5, requires_grad=True)
    both, single = AlternatingAdam(module, module["marker"], lr=0.1), Adam([alone], lr=0.1)
    slopes = [torch.randn(5) for _ in range(4)]
    for at, slope in enumerate(slopes):
        before = module["shared"].detach().clone()
        module["shared"].grad, module["marker"].grad = slope.clone(), None
        both.step()
        alone.grad = slope.clone()
        start = alone.detach().clone()
        single.step()
        torch.testing.assert_close(module["shared"].detach() - before, alone.detach() - start)
        module["shared"].grad, module["marker"].grad = torch.full((5,), 100.0), torch.ones(3)
        both.step()
        assert both.state[module["shared"]]["step0"] == both.state[module["shared"]]["step1"] == at + 1
