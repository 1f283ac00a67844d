"""Mean-field normals: draws have their moments, divergences their values, and gradients their slopes."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from palate.nn.gaussian import MIN_SCALE, Gaussian, normal_kl


def fresh(*shape, scale=0.5, max_scale=2.0):
    made = Gaussian(*shape, max_scale=max_scale)
    made.reset(torch.arange(float(torch.Size(shape).numel())).reshape(shape), scale)
    return made


def test_divergence_by_hand_and_against_torch():
    assert normal_kl(torch.tensor(0.0), torch.tensor(1.0), 0.0, 1.0).item() == 0
    assert normal_kl(torch.tensor(1.0), torch.tensor(2.0), 0.0, 1.0).item() == pytest.approx(
        2.0 - torch.tensor(2.0).log().item()
    )
    g = torch.Generator().manual_seed(0)
    m, m0 = (torch.randn(20, generator=g) for _ in range(2))
    s, s0 = (torch.rand(20, generator=g) + 0.1 for _ in range(2))
    torch.testing.assert_close(normal_kl(m, s, m0, s0), kl_divergence(Normal(m, s), Normal(m0, s0)))


def test_draws_have_the_mean_and_the_scale():
    made = fresh(2, 3)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        many = torch.stack([made.draw(g) for _ in range(4000)])
    torch.testing.assert_close(many.mean(0), made.mean.detach(), atol=0.04, rtol=0)
    torch.testing.assert_close(many.std(0), torch.full((2, 3), 0.5), atol=0.03, rtol=0)
    torch.testing.assert_close(made.draw(g, noise=0), made.mean)
    with torch.no_grad():
        wide = torch.stack([made.draw(g, noise=3.0) for _ in range(4000)])
    torch.testing.assert_close(wide.std(0), torch.full((2, 3), 1.5), atol=0.08, rtol=0)


def test_rows_alone():
    made, rows = fresh(5, 2), torch.tensor([4, 0])
    assert made.draw(torch.Generator(), rows).shape == (2, 2)
    torch.testing.assert_close(made.draw(torch.Generator(), rows, noise=0), made.mean[rows])
    whole = sum(made.kl(0.0, 1.0, torch.tensor([at])) for at in range(5))
    torch.testing.assert_close(whole, made.kl(0.0, 1.0))


def test_the_gradient_goes_through_the_draw():
    """E (m + s ε)² = m² + s²: slopes 2 m and 2 s."""
    made = fresh(20000, scale=0.7)
    with torch.no_grad():
        made.mean.fill_(0.3)
    loss = made.draw(torch.Generator().manual_seed(2)).square().sum()
    slopes = [slope.mean().item() for slope in torch.autograd.grad(loss, [made.mean, made.raw])]
    assert slopes[0] == pytest.approx(0.6, abs=0.05)
    by_scale = torch.autograd.grad(made.scale.sum(), made.raw)[0].mean().item()
    assert slopes[1] / by_scale == pytest.approx(1.4, abs=0.05)


def test_scales_stay_between_their_ends_and_assign_sets_them():
    made = fresh(4, 1, max_scale=2.0)
    wanted = torch.tensor([[MIN_SCALE], [0.2], [1.5], [9.0]])
    made.assign(torch.arange(4), torch.ones(4, 1), wanted)
    found = made.scale.detach()
    torch.testing.assert_close(found[1:3], wanted[1:3], atol=1e-5, rtol=0)
    assert found[0].item() == pytest.approx(MIN_SCALE, abs=1e-4) and found[3].item() == pytest.approx(2.0, abs=1e-4)
    with torch.no_grad():
        made.raw.fill_(80.0)
    assert (made.scale <= 2.0).all() and torch.isfinite(made.kl(0.0, 1.0))
