"""A fit that a test kills: ``killable.py CHECKPOINT OUT SECONDS_A_BATCH``; the final weights go to OUT."""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from palate.contracts.model import Fitting
from palate.training.config import TrainConfig
from palate.training.loop import fit_module

folder, out, slow = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
made = torch.Generator().manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Dropout(0.3), torch.nn.ReLU(), torch.nn.Linear(16, 1))
with torch.no_grad():
    for p in module.parameters():
        p.copy_(torch.randn(p.shape, generator=made) * 0.2)
x = np.random.default_rng(0).normal(size=(96, 6)).astype(np.float32)
y = np.sin(x.sum(1, keepdims=True))


def batches(epoch, rng):
    return np.split(rng.permutation(len(x)), 6)


def loss(batch, generator):
    time.sleep(slow)
    noise = torch.rand(1, generator=generator) * 0.01
    return (module(torch.from_numpy(x[batch])) - torch.from_numpy(y[batch])).square().mean() + noise.sum()


def evaluate():
    with torch.inference_mode():
        return -float((module(torch.from_numpy(x)) - torch.from_numpy(y)).square().mean())


fit_module(
    module,
    batches=batches,
    loss=loss,
    config=TrainConfig(epochs=12, lr=0.02, patience=0, clip_norm=1.0),
    fitting=Fitting(seed=7, checkpoint=folder),
    title="Killable",
    evaluate=evaluate,
)
save_file({k: v.contiguous() for k, v in module.state_dict().items()}, out)
