"""One of several workers that a test starts: ``company.py FOLDER RANK SIZE``; what it found goes to ``FOLDER/RANK.json``.

The fits are also imported by the test, which runs them alone.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from palate.contracts.model import Fitting
from palate.errors import TrainingError
from palate.training.config import TrainConfig
from palate.training.loop import fit_module

X = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5, 3.0], np.float32))[:, None]
#: Groups of two and of four leave a last batch for the first worker alone.
BATCHES = 9


class Net(torch.nn.Module):
    """Two layers, and one that no loss reaches."""

    def __init__(self, start=1):
        super().__init__()
        self.first, self.second, self.unused = torch.nn.Linear(4, 8), torch.nn.Linear(8, 1), torch.nn.Linear(2, 2)
        made = torch.Generator().manual_seed(start)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=made) * 0.3)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Plan(list):
    """A plain list is countable and iterable."""


def fit(module, config, loss=None, fitting=None, **options):
    """Fit on batches of unequal size; ``loss(place, module, batch, generator)`` may differ by the batch's place in an epoch."""

    def batches(epoch, rng):
        order = rng.permutation(len(X))
        cuts = np.sort(rng.choice(np.arange(1, len(X)), BATCHES - 1, replace=False))
        return Plan(enumerate(np.split(order, cuts)))

    def squares(place, module, batch, generator):
        return (module(torch.from_numpy(X[batch])) - torch.from_numpy(Y[batch])).square().mean()

    return fit_module(
        module,
        batches=batches,
        loss=lambda batch, generator: (loss or squares)(batch[0], module, batch[1], generator),
        config=config,
        fitting=fitting or Fitting(seed=5),
        title="Net",
        **options,
    )


def told(module, record):
    weights = torch.cat([p.detach().ravel() for p in module.parameters()])
    return {"losses": [line["loss"] for line in record.history], "weights": weights.tolist(), "notes": record.notes}


def shared(accumulate, start):
    """Return a plain fit; workers may start from other weights than the first."""
    module = Net(start)
    return told(module, fit(module, TrainConfig(epochs=4, lr=0.02, clip_norm=0.5, accumulate=accumulate)))


def noisy(rank):
    """Return what each worker's loss drew in two epochs."""
    drawn = []

    def loss(place, module, batch, generator):
        drawn.append(torch.rand(1, generator=generator).item())
        return module(torch.from_numpy(X[batch])).square().mean()

    fit(Net(), TrainConfig(epochs=2), loss)
    return drawn


def watched(rank):
    """Return a fit that only the first worker validates, with early stopping."""
    values, looks = iter([0.1, 0.5, 0.4, 0.3, 0.9]), []
    events, module = [], Net()

    def evaluate():
        looks.append(rank)
        return next(values)

    config = TrainConfig(epochs=20, patience=2, patience_steps=0)
    record = fit(module, config, fitting=Fitting(seed=5, progress=events.append), evaluate=evaluate)
    return {**told(module, record), "looks": len(looks), "events": len(events)}


def error_of(action):
    try:
        action()
    except TrainingError as error:
        return str(error)
    return None


def broken(rank):
    """Return the error of a loss that is not a number in the second worker's batch 6 of the first epoch alone."""

    def loss(place, module, batch, generator):
        value = module(torch.from_numpy(X[batch])).square().mean()
        return value * float("nan") if place == 5 and rank == 1 else value

    return error_of(lambda: fit(Net(), TrainConfig(epochs=2), loss))


def blind(rank):
    """Return the error of a validation value that is not a number."""
    return error_of(lambda: fit(Net(), TrainConfig(epochs=2), evaluate=lambda: float("nan")))


def still(rank):
    """Return the error of a loss that changes weights by itself, without gradients."""

    def loss(place, module, batch, generator):
        return torch.ones((), requires_grad=True)

    return error_of(lambda: fit(Net(), TrainConfig(epochs=2), loss))


def resumed(folder):
    """Return a fit in two parts."""
    config = TrainConfig(epochs=6, lr=0.02)
    fit(Net(), config.replace(epochs=2), fitting=Fitting(seed=5, checkpoint=folder))
    module = Net(9)
    record = fit(module, config, fitting=Fitting(seed=5, checkpoint=folder))
    whole = Net()
    return {"parts": told(module, record), "whole": told(whole, fit(whole, config))}


def main(folder, rank, size):
    where = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=where, rank=rank, world_size=size)
    found = {
        "one": shared(1, start=1 + rank),
        "two": shared(2, start=1 + rank),
        "noisy": noisy(rank),
        "watched": watched(rank),
        "broken": broken(rank),
        "blind": blind(rank),
        "still": still(rank),
        "resumed": resumed(folder / "checkpoint"),
        "apart": error_of(lambda: fit(Net(), TrainConfig(epochs=6, lr=0.02), fitting=Fitting(5, checkpoint=own(folder, rank)))),
    }
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def own(folder, rank):
    """Give the first worker the checkpoint, and the others none."""
    return folder / "checkpoint" if rank == 0 else folder / "none"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
