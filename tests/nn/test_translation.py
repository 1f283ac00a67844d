"""Translation along edges: the round trip of one edge, plain means without demands, and messages one by one."""

import numpy as np
import pytest
import torch

from palate.nn.translation import TranslationGraph, readout, translate, translate_reference


def drawn(*shape, seed=0):
    made = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
    return made.requires_grad_()


def test_the_round_trip_of_one_edge():
    graph = TranslationGraph.of([0], [0], 1, 1)
    x, q = drawn(2, 3), drawn(1, 3, seed=1)
    layers = translate(x, q, graph, 2)
    torch.testing.assert_close(layers[1], torch.stack([x[1] - q[0], x[0] + q[0]]))
    torch.testing.assert_close(layers[2], x)


def random_graph(people=6, items=5, edges=17):
    rng = np.random.default_rng(3)
    users, things = rng.integers(0, people - 1, edges), rng.integers(0, items - 1, edges)
    users[:2], things[:2] = 0, 0  # a pair with two edges; the last person and the last item have none
    return TranslationGraph.of(users, things, people, items)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_fast_equals_messages_one_by_one(layers, told):
    graph = random_graph()
    x, q = drawn(11, 4), drawn(17, 4, seed=1)
    weights = drawn(11, 4, seed=2).detach()
    found = []
    for function in (translate, translate_reference):
        out = readout(function(x, q if told else None, graph, layers))
        wanted = (x, q) if told and layers else (x,)
        found.append((out, *torch.autograd.grad((out * weights).sum(), wanted)))
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-6)


def test_without_demands_it_is_the_mean_of_neighbours():
    graph = random_graph()
    x = drawn(11, 4)
    layers, zero = translate(x, None, graph, 2), translate(x, torch.zeros(17, 4), graph, 2)
    ones = np.zeros((11, 11))
    np.add.at(ones, (graph.users, graph.items + 6), 1)
    ones += ones.T
    mean = torch.tensor(ones / np.maximum(ones.sum(1, keepdims=True), 1), dtype=torch.float32)
    for at, expected in enumerate([x, mean @ x, mean @ (mean @ x)]):
        torch.testing.assert_close(layers[at], expected)
        torch.testing.assert_close(zero[at], expected)
    torch.testing.assert_close(readout(layers), x + mean @ x / 2 + mean @ (mean @ x) / 3)


def test_nodes_without_edges_keep_only_their_own():
    out = readout(translate(x := drawn(11, 4), drawn(17, 4), random_graph(), 2))
    torch.testing.assert_close(out[[5, 10]], x[[5, 10]])


def test_no_edges():
    out = translate(x := drawn(3, 2), torch.zeros(0, 2), TranslationGraph.of([], [], 2, 1), 2)
    torch.testing.assert_close(readout(out), x)
