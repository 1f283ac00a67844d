"""InfoNCE: value and gradient equal the plain form; identical views, uniform scores, a hand-computed case."""

import numpy as np
import pytest
import torch

from palate.nn.contrast import contrast, contrast_reference


def two(n=17, m=None, width=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(k, width, generator=g).requires_grad_() for k in (n, m or n)]


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("whole", [False, True])
def test_fast_equals_plain(temperature, whole):
    first, second = two(17, 40 if whole else None)
    targets = torch.from_numpy(np.random.default_rng(0).choice(40, 17, replace=False)) if whole else None
    fast, plain = (f(first, second, temperature, targets) for f in (contrast, contrast_reference))
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-5)
    for a, b in zip(*(torch.autograd.grad(2.5 * v, (first, second)) for v in (fast, plain)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_many_rows_go_through_blocks(monkeypatch):
    monkeypatch.setattr("palate.nn.multinomial.BLOCK_BYTES", 4 * 30 * 3)
    first, second = two(30)
    fast, plain = contrast(first, second, 0.3), contrast_reference(first, second, 0.3)
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(torch.autograd.grad(fast, second), torch.autograd.grad(plain, second), atol=1e-5, rtol=1e-4)


def test_identical_views_lose_nothing_as_the_temperature_falls():
    (first, _) = two()
    values = [contrast(first.detach(), first.detach().clone(), t).item() for t in (0.5, 0.1, 0.001)]
    assert values[0] > values[1] > values[2] and values[2] < 1e-5


def test_uniform_scores_give_the_log_of_the_batch():
    same = torch.ones(13, 4)
    np.testing.assert_allclose(float(contrast(same, same * 3, 0.2)), np.log(13), rtol=1e-6)
    first, _ = two(13)
    np.testing.assert_allclose(float(contrast(first, torch.ones(9, 5), 0.2, torch.arange(13) % 9)), np.log(9), rtol=1e-5)


def test_by_hand():
    first, second = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    s, t = 1 / np.sqrt(2), 0.5
    rows = [np.log(np.exp(1 / t) + np.exp(s / t)) - 1 / t, np.log(np.exp(0) + np.exp(s / t)) - s / t]
    np.testing.assert_allclose(float(contrast(first, second, t)), np.mean(rows), rtol=1e-6)


def test_the_length_of_vectors_does_not_matter():
    first, second = two()
    scaled = contrast(first * 7, second * 0.1, 0.2)
    torch.testing.assert_close(scaled, contrast(first, second, 0.2))
    (slope,) = torch.autograd.grad(scaled, first)
    np.testing.assert_allclose((slope * first).sum(1).detach(), 0, atol=1e-6)


def test_zero_vectors_and_no_rows():
    first, second = two(4)
    with torch.no_grad():
        first[1] = 0
    value = contrast(first, second, 0.2)
    assert torch.isfinite(value)
    empty = torch.empty(0, 5, requires_grad=True)
    nothing = contrast(empty, empty, 0.2)
    nothing.backward()
    assert float(nothing) == 0


@pytest.mark.parametrize("group", [1, 4, 6, 17, 99])
def test_groups_are_contrasts_of_their_own(group):
    first, second = two(17)
    fast, plain = (f(first, second, 0.3, group=group) for f in (contrast, contrast_reference))
    torch.testing.assert_close(fast, plain, atol=1e-6, rtol=1e-5)
    for a, b in zip(*(torch.autograd.grad(v, (first, second)) for v in (fast, plain)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
    if group == 1:
        assert fast.item() == 0  # nobody to be told apart from
    if group >= 17:
        torch.testing.assert_close(fast, contrast(first, second, 0.3))
    if group == 6:
        cuts = [slice(0, 6), slice(6, 11), slice(11, 17)]
        parts = [contrast(first[c], second[c], 0.3) * (c.stop - c.start) for c in cuts]
        torch.testing.assert_close(fast, sum(parts) / 17)
