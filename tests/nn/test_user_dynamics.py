"""States of people: each movement by hand, the unit against torch's, and what must not move."""

import pytest
import torch

from palate.nn.user_dynamics import Weights, amortised_start, state_path

KINDS = ("linear", "gru", "markov", "linear_gru")


def made(b=3, c=4, d=5, seed=0, gamma=0.3):
    g = torch.Generator().manual_seed(seed)
    start, vectors = torch.randn(b, d, generator=g), torch.randn(b, c, d, generator=g)
    return start, vectors, Weights(torch.tensor([gamma]), torch.randn(7, d, d, generator=g) / d**0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_last_click_nothing_moves(kind):
    start, vectors, weights = made()
    path = state_path(kind, start, vectors, torch.tensor([0, 2, 4]), weights)
    assert path.shape == (3, 5, 5)
    for row, clicks in enumerate((0, 2, 4)):
        for later in range(clicks, 5):
            torch.testing.assert_close(path[row, later], path[row, clicks])
    other = vectors.clone()
    other[1, 2:] = 77.0
    torch.testing.assert_close(state_path(kind, start, other, torch.tensor([0, 2, 4]), weights), path)


def test_linear_by_hand_and_gamma_one_keeps_the_start():
    start, vectors, weights = made()
    n = torch.tensor([4, 4, 4])
    path = state_path("linear", start, vectors, n, weights)
    torch.testing.assert_close(path[:, 1], 0.3 * start + 0.7 * vectors[:, 0])
    torch.testing.assert_close(path[:, 2], 0.3 * path[:, 1] + 0.7 * vectors[:, 1])
    still = state_path("linear", start, vectors, n, Weights(torch.ones(1), weights.matrices))
    torch.testing.assert_close(still, start[:, None].expand(3, 5, 5), rtol=0, atol=0)


def test_markov_is_the_last_click():
    start, vectors, weights = made()
    path = state_path("markov", start, vectors, torch.tensor([4, 4, 4]), weights)
    torch.testing.assert_close(path[:, 0], start)
    torch.testing.assert_close(path[:, 1:], vectors)


def test_the_unit_is_that_of_torch_without_biases():
    start, vectors, weights = made()
    cell, w = torch.nn.GRU(5, 5, bias=False, batch_first=True), weights.matrices
    with torch.no_grad():
        cell.weight_ih_l0.copy_(w[0:3].reshape(15, 5))
        cell.weight_hh_l0.copy_(w[3:6].reshape(15, 5))
        wanted = cell(vectors, start[None])[0] @ w[6].T
    path = state_path("gru", start, vectors, torch.tensor([4, 4, 4]), weights)
    torch.testing.assert_close(path[:, 1:], wanted)
    torch.testing.assert_close(path[:, 0], start @ w[6].T)


def test_linear_gru_is_the_mean():
    start, vectors, weights = made()
    n = torch.tensor([1, 3, 4])
    halves = [state_path(kind, start, vectors, n, weights) for kind in ("linear", "gru")]
    torch.testing.assert_close(state_path("linear_gru", start, vectors, n, weights), sum(halves) / 2)


def test_start_states_by_hand():
    """Two clicks weigh 16/17 and 1/17; the variance is that of the mixture."""
    means, scales = torch.tensor([[[1.0], [18.0], [9.0]]] * 3), torch.full((3, 3, 1), 2.0)
    mean, scale = amortised_start(means, scales, torch.tensor([2, 1, 0]), torch.tensor(0.5), 3.0)
    assert mean[:, 0].tolist() == pytest.approx([2.0, 1.0, 0.0])
    variance = 16 / 17 * 1 + 1 / 17 * 16**2 + 4
    assert scale[:, 0].tolist() == pytest.approx([0.5 * variance**0.5, 0.5 * 2, 3.0])
