"""AUGRU: against a plain loop and torch's GRU; time order; the loss of next events by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from palate.nn.attention_gru import AttentionGRU, TimeOrder, next_event_loss, start_recurrent

LENGTHS = np.array([2, 0, 4, 2, 1])
MASK = np.arange(5) < LENGTHS[:, None]


def layer(width: int = 3, hidden: int = 4) -> AttentionGRU:
    made = AttentionGRU(width, hidden, np.random.default_rng(0))
    with torch.no_grad():
        for bias in (made.inputs.bias, made.states.bias):
            bias.copy_(torch.from_numpy(np.random.default_rng(1).normal(size=len(bias)).astype(np.float32)))
    return made


def plain(gru: AttentionGRU, events: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One row, gate by gate."""
    w, u = ([m.detach().double().numpy() for m in module.weight.chunk(3)] for module in (gru.inputs, gru.states))
    b, d = ([m.detach().double().numpy() for m in module.bias.chunk(3)] for module in (gru.inputs, gru.states))
    state = np.zeros(gru.hidden)
    for x, a in zip(events, weights, strict=True):
        update, reset = (1 / (1 + np.exp(-(w[k] @ x + b[k] + u[k] @ state + d[k]))) for k in (0, 1))
        candidate = np.tanh(w[2] @ x + b[2] + reset * (u[2] @ state + d[2]))
        state = (1 - a * update) * state + a * update * candidate
    return state


def test_time_order() -> None:
    order = TimeOrder.of(MASK)
    assert order.rows.tolist() == [2, 0, 3, 4] and order.active.tolist() == [4, 3, 1, 1]
    assert order.places.tolist() == [10, 0, 15, 20, 11, 1, 16, 12, 13]
    assert order.starts.tolist() == [0, 4, 7, 8]
    assert order.followed.tolist() == [0, 1, 2, 4, 7]
    np.testing.assert_array_equal(order.places[order.followed] + 1, order.places[4:])
    none = TimeOrder.of(np.zeros((3, 5), bool))
    assert len(none) == 0 and len(none.rows) == 0 and len(none.followed) == 0


def test_states_equal_a_plain_loop() -> None:
    gru, order, rng = layer(), TimeOrder.of(MASK), np.random.default_rng(2)
    events, weights = rng.normal(size=(5, 5, 3)), rng.random((5, 5))
    x, a = (
        torch.from_numpy(v.astype(np.float32)) for v in (events.reshape(25, 3)[order.places], weights.reshape(25)[order.places])
    )
    with torch.no_grad():
        found = gru(x, a, order).numpy()
    for row, state in zip(order.rows, found, strict=True):
        many = LENGTHS[row]
        np.testing.assert_allclose(state, plain(gru, events[row, :many], weights[row, :many]), atol=1e-5)


def test_one_sequence_under_many_weights_is_answered_as_many() -> None:
    gru, rng = layer(), np.random.default_rng(3)
    events, weights = rng.normal(size=(4, 3)), rng.random((6, 4))
    with torch.no_grad():
        found = gru.one(*(torch.from_numpy(v.astype(np.float32)) for v in (events, weights))).numpy()
    for state, own in zip(found, weights, strict=True):
        np.testing.assert_allclose(state, plain(gru, events, own), atol=1e-5)


def test_full_weight_is_a_plain_gru_and_none_keeps_the_state() -> None:
    gru, order = layer(3, 3), TimeOrder.of(np.ones((2, 4), bool))
    torch_gru = nn.GRU(3, 3)
    with torch.no_grad():
        for own, theirs in ((gru.inputs, "ih"), (gru.states, "hh")):
            for kind in ("weight", "bias"):
                update, reset, candidate = getattr(own, kind).chunk(3)
                getattr(torch_gru, f"{kind}_{theirs}_l0").copy_(torch.cat([reset, -update, candidate]))  # its z is 1 - u
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
        by_torch = torch_gru(x.view(4, 2, 3))[0][-1]
        torch.testing.assert_close(gru(x, torch.ones(8), order), by_torch)
        assert (gru(x, torch.zeros(8), order) == 0).all()


def test_gradients_reach_all_events_and_weights() -> None:
    gru, order = layer().double(), TimeOrder.of(MASK)
    x = torch.randn(len(order), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    a = torch.rand(len(order), generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *v: gru(*v, order), (x, a))


def test_the_start_is_orthogonal() -> None:
    gates = torch.empty(9, 3)
    start_recurrent([], [gates], [], np.random.default_rng(0))
    for gate in gates.chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(3))


def test_next_events_by_hand() -> None:
    states, following, other = (torch.tensor(v) for v in ([[1.0], [2.0]], [[3.0], [1.0]], [[0.5], [9.0]]))
    kept = torch.tensor([True, False])
    by_hand = np.log(1 + np.exp(-3.0)) + np.log(1 + np.exp(0.5))
    assert float(next_event_loss(states, following, other, kept)) == pytest.approx(by_hand)
    assert float(next_event_loss(states, following, other, torch.tensor([False, False]))) == 0
