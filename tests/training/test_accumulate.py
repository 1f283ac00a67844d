"""Several batches a step: the gradient is that of the mean of their losses, also in real models."""

import numpy as np
import pytest
import torch

from palate.catalog.registry import create
from palate.contracts.model import Fitting
from palate.data.protocols import split
from palate.errors import TrainingError
from palate.simulate.world import World, WorldConfig
from palate.training.config import TrainConfig
from palate.training.loop import fit_module

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = X.sum(1, keepdims=True)


def fitted(batch, config, folder=None):
    """Fit a line on batches of one size (the last may be smaller); return its weights, the losses and the number of steps."""
    module, steps = torch.nn.Linear(4, 1), []
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(0.1)

    class Counted(torch.optim.SGD):
        def step(self, closure=None):
            steps.append(0)
            return super().step(closure)

    def loss(rows, generator):
        return (module(torch.from_numpy(X[rows])) - torch.from_numpy(Y[rows])).square().mean()

    record = fit_module(
        module,
        batches=lambda epoch, rng: np.split(rng.permutation(60), range(batch, 60, batch)),
        loss=loss,
        config=config,
        fitting=Fitting(checkpoint=folder),
        title="Line",
        optimizer=Counted(module.parameters(), lr=0.05),
    )
    weights = torch.cat([p.detach().ravel() for p in module.parameters()]).numpy()
    return weights, [line["loss"] for line in record.history], len(steps)


def test_a_step_of_three_batches_is_a_step_of_one_three_times_as_large():
    weights, losses, steps = fitted(4, TrainConfig(epochs=5, accumulate=3))
    wanted, whole, few = fitted(12, TrainConfig(epochs=5))
    assert steps == few == 25
    np.testing.assert_allclose(weights, wanted, rtol=1e-5)
    np.testing.assert_allclose(losses, whole, rtol=1e-5)


def test_a_short_last_group_is_the_mean_of_what_it_has():
    """Seven batches in groups of five: the last group has two, and weighs them by a half."""
    weights, _, steps = fitted(9, TrainConfig(epochs=1, accumulate=5, clip_norm=0.0))
    assert steps == 2
    line = torch.full((5,), 0.1, dtype=torch.float64, requires_grad=True)
    order = Fitting().rng("Line", "epoch", 1)
    order.integers(2**62)
    order.integers(2**62)
    batches = np.split(order.permutation(60), range(9, 60, 9))
    for group in (batches[:5], batches[5:]):
        x, y = (torch.from_numpy(a.astype(np.float64)) for a in (X, Y))
        mean = sum((x[rows] @ line[:4, None] + line[4] - y[rows]).square().mean() for rows in group) / len(group)
        (gradient,) = torch.autograd.grad(mean, line)
        line = (line - 0.05 * gradient).detach().requires_grad_()
    np.testing.assert_allclose(weights, line.detach().numpy(), rtol=1e-5)


def test_it_is_part_of_what_a_checkpoint_is_of(tmp_path):
    fitted(4, TrainConfig(epochs=1), tmp_path)
    with pytest.raises(TrainingError, match="settings differ"):
        fitted(4, TrainConfig(epochs=2, accumulate=2), tmp_path)


@pytest.mark.parametrize("system", ["lightgcn", "sasrec", "gru4rec"])
def test_every_model_that_takes_steps_has_it(system):
    """The same plan of an epoch in half the steps: another curve, and a fit that learns."""
    parts = split(World(WorldConfig(users=60, items=40, events=900, seed=1)).dataset(), "leave_one_out")
    curves = [
        create(system, epochs=3, dim=8, batch_size=64, accumulate=n).fit(parts.train, seed=3).record_.notes["curve"]
        for n in (1, 2)
    ]
    assert curves[0] != curves[1]
    assert curves[1][-1][1] < curves[1][0][1]
