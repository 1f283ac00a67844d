"""TransR: the loss by hand and against the plain form, and attention scores."""

import numpy as np
import pytest
import torch

from palate.nn.transr import attention_scores, attention_scores_reference, transr_loss, transr_loss_reference


def weights(n=30, relations=6, d=5, k=4, scale=0.5):
    draw = torch.Generator().manual_seed(0)
    shapes = ((n, d), (relations, k), (relations, k, d))
    return [(scale * torch.randn(*shape, generator=draw)).requires_grad_() for shape in shapes]


def test_loss_by_hand():
    """W = 2, e_r = 1: g(t) = |2·1 + 1 - 2·1|² = 1, g(t') = |2·1 + 1 - 2·3|² = 9."""
    x, moves, matrices = torch.tensor([[1.0], [1.0], [3.0]]), torch.tensor([[1.0]]), torch.tensor([[[2.0]]])
    one = [np.array([v], np.int32) for v in (0, 0, 1, 2)]
    loss = transr_loss(x, moves, matrices, *one, reg=0.0)
    np.testing.assert_allclose(float(loss), np.log1p(np.exp(1 - 9)), rtol=1e-5)
    penalty = 0.2 / 2 * (1 + 1 + 9 + 1)
    np.testing.assert_allclose(float(transr_loss(x, moves, matrices, *one, reg=0.2)) - float(loss), penalty, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 30.0])
def test_fast_equals_plain_with_gradients(scale):
    rng, parts = np.random.default_rng(1), weights(scale=scale)
    columns = [rng.integers(0, high, 50).astype(np.int32) for high in (30, 5, 30, 30)]  # relation 5 has no triple
    fast, plain = (f(*parts, *columns, 0.1) for f in (transr_loss, transr_loss_reference))
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)
    for one, other in zip(*(torch.autograd.grad(out, parts) for out in (fast, plain)), strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * scale)


def test_attention_equals_edge_by_edge(some_edges):
    edges = some_edges()
    x, moves, matrices = (w.detach().numpy() for w in weights())
    wanted = attention_scores_reference(x, moves, matrices, edges)
    np.testing.assert_allclose(attention_scores(x, moves, matrices, edges), wanted, rtol=1e-4, atol=1e-5)
