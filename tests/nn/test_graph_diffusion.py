"""Diffusion over rows: the schedule and its coefficients by hand, the walk back in hidden width, the loss."""

import numpy as np
import pytest
import torch
from scipy import sparse

from palate.nn.dropout import Dropout
from palate.nn.graph_diffusion import FIRST_BETA, Denoiser, Schedule, Walk, denoised_reference, elbo, encoded, noisy


def test_one_step_returns_the_prediction():
    schedule = Schedule.linear(1, 1e-5, 2e-3)
    np.testing.assert_allclose(schedule.alpha_bars, [1 - FIRST_BETA])
    np.testing.assert_allclose(schedule.back, [[1], [0]], atol=1e-9)
    assert schedule.loss_weights.tolist() == [1.0]


def test_schedule_by_hand():
    schedule = Schedule.linear(3, 0.1, 0.3)
    betas = [FIRST_BETA, 1 - 0.8 / 0.9, 1 - 0.7 / 0.8]
    bars = np.cumprod([1 - b for b in betas])
    np.testing.assert_allclose(schedule.betas, betas)
    np.testing.assert_allclose(schedule.alpha_bars, bars)
    snr = bars / (1 - bars)
    np.testing.assert_allclose(schedule.loss_weights, [1, snr[0] - snr[1], snr[1] - snr[2]])
    first, second = schedule.back
    np.testing.assert_allclose(first[2], betas[2] * np.sqrt(bars[1]) / (1 - bars[2]))
    np.testing.assert_allclose(second[2], (1 - bars[1]) * np.sqrt(1 - betas[2]) / (1 - bars[2]))


def test_noise_has_the_schedules_size():
    schedule, generator = Schedule.linear(4, 0.1, 0.5), torch.Generator().manual_seed(0)
    z = torch.ones(4, 20_000)
    found = noisy(z, torch.arange(4), schedule, generator)
    np.testing.assert_allclose(found.mean(1), np.sqrt(schedule.alpha_bars), atol=0.02)
    np.testing.assert_allclose(found.var(1), 1 - schedule.alpha_bars, atol=0.02)


@pytest.mark.parametrize(("steps", "high"), [(1, 0.01), (5, 2e-3), (4, 0.6)])
def test_the_walk_in_hidden_width_is_the_walk(steps, high):
    rng = np.random.default_rng(0)
    network, schedule = Denoiser(30, 7, rng), Schedule.linear(steps, 1e-4, high)
    rows = sparse.csr_matrix((rng.random((11, 30)) < 0.2).astype(np.float32))
    wanted = denoised_reference(network, torch.from_numpy(rows.toarray()), schedule)
    torch.testing.assert_close(Walk(network, schedule)(rows), wanted, rtol=1e-3, atol=1e-4)


def test_the_denoiser_learns_what_goes_together():
    """Rows of two kinds: after training, a row that lacks one link of its kind is given it, and none of the other kind."""
    rng = np.random.default_rng(0)
    kinds = np.arange(60) % 2
    z = np.zeros((60, 12), np.float32)
    for row, kind in enumerate(kinds):
        z[row, rng.choice(6, 4, replace=False) + 6 * kind] = 1
    network, schedule = Denoiser(12, 16, rng), Schedule.linear(5, 1e-5, 2e-3)
    adam, generator, rows = (
        torch.optim.Adam(network.parameters(), lr=0.01),
        torch.Generator().manual_seed(0),
        torch.from_numpy(z),
    )
    losses = []
    for _ in range(200):
        steps = torch.randint(5, (60,), generator=generator)
        predicted = network(noisy(rows, steps, schedule, generator), steps, Dropout(0.5, generator))
        loss = (rows - predicted).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    out = Walk(network, schedule)(sparse.csr_matrix(z)).numpy()
    own = (np.arange(12) >= 6) == kinds[:, None].astype(bool)
    missing = own & (z == 0)
    assert out[missing].min() > out[~own].max()


def test_elbo_by_hand():
    schedule = Schedule.linear(2, 0.1, 0.2)
    z, predicted = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    weights = schedule.loss_weights
    wanted = (weights[0] * 0.5 + weights[1] * 1.0) / 2
    np.testing.assert_allclose(float(elbo(z, predicted, torch.tensor([0, 1]), schedule)), wanted, rtol=1e-5)


def test_steps_are_told_apart():
    found = encoded(torch.arange(5))
    assert found.shape == (5, 10) and len(torch.unique(found, dim=0)) == 5


def test_making_a_denoiser_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    Denoiser(6, 3, np.random.default_rng(0))
    assert torch.equal(before, torch.get_rng_state())
