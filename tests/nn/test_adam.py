"""Adam for large tables: the steps of PyTorch's AdamW, on a module, with groups, and for any number of threads."""

import pytest
import torch

from palate.nn.adam import Adam
from palate.runtime import set_threads, threads


def learn(kind, steps=8, **options):
    weights = torch.nn.Parameter(torch.randn(30, 7, generator=torch.Generator().manual_seed(0)))
    still = torch.nn.Parameter(torch.ones(3))
    optimizer, g = kind([weights, still], **options), torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        (weights * torch.randn(30, 7, generator=g)).square().sum().backward()
        optimizer.step()
    return weights.detach(), still.detach()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_equal_those_of_torch(decay):
    options = {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": decay}
    ours, still = learn(Adam, **options)
    torch.testing.assert_close(ours, learn(torch.optim.AdamW, **options)[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(still, torch.ones(3)), "a parameter without a gradient moves"


def test_groups_have_their_own_rates():
    a, b = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    optimizer = Adam([{"params": [a], "lr": 0.1}, {"params": [b]}], lr=0.01)
    (a.sum() + b.sum()).backward()
    optimizer.step()
    torch.testing.assert_close(a.detach(), torch.full((4,), 0.9))
    torch.testing.assert_close(b.detach(), torch.full((4,), 0.99))


def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    before, found = threads(), []
    try:
        for count in (1, 2, 3):
            set_threads(count)
            found.append(learn(Adam)[0])
    finally:
        set_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
