"""Fused attention among fields: equal to its plain definition, its gradient to that of automatic differentiation."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from palate.kernels.field_attention import AFTER, BEFORE, EPS, NONE, Sizes, attend, attend_reference, attend_slope, random_size
from palate.runtime import set_threads, threads

SHAPES = [(37, 5, 2, 4), (16, 10, 2, 8), (3, 1, 1, 3), (20, 39, 3, 16)]
SCALE = 0.4


def case(n, f, heads, size, norm, cut, residual, seed=0):
    rng, units = np.random.default_rng(seed), heads * size
    sizes = Sizes(f, heads, size, norm, cut)
    qkv = rng.normal(size=(n, f, 3 * units)).astype(np.float32)
    rest = rng.normal(size=(n, f, units)).astype(np.float32) if residual else None
    gamma, beta = (rng.normal(size=units if norm else 0).astype(np.float32) for _ in range(2))
    random = rng.integers(0, 256, random_size(n, f, heads) if cut else 0).astype(np.uint8)
    return qkv, rest, gamma, beta, sizes, SCALE, random


def by_torch(given, slope):
    """Return gradients in float64: plain layers, shares dropped as the plain definition drops them."""
    qkv, rest, gamma, beta, sizes, scale, _ = given
    n, units = len(qkv), sizes.heads * sizes.size
    leaves = [torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in (qkv, gamma, beta)]
    own = (
        torch.zeros(n, sizes.fields, units, dtype=torch.float64) if rest is None else torch.from_numpy(rest.astype(np.float64))
    )
    own.requires_grad_()
    q, k, v = (t.view(n, sizes.fields, sizes.heads, -1).transpose(1, 2) for t in leaves[0].split(units, 2))
    shares = (scale * q @ k.transpose(-1, -2)).softmax(-1)
    if sizes.cut:
        _, dropped = attend_reference(*given)
        shares = shares * torch.from_numpy((dropped > 0) * 256 / (256 - sizes.cut))
    x = (shares @ v).transpose(1, 2).reshape(n, sizes.fields, units) + own
    if sizes.norm == BEFORE:
        x = functional.layer_norm(x, (units,), *leaves[1:], eps=EPS)
    x = x.relu()
    if sizes.norm == AFTER:
        x = functional.layer_norm(x, (units,), *leaves[1:], eps=EPS)
    asked = (leaves[0], own, *leaves[1:]) if sizes.norm else (leaves[0], own)
    return [t.numpy() for t in torch.autograd.grad((x * torch.from_numpy(slope)).sum(), asked)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", [NONE, BEFORE, AFTER])
@pytest.mark.parametrize("cut", [0, 60])
@pytest.mark.parametrize("residual", [False, True])
def test_it_is_the_plain_definition_with_its_gradient(shape, norm, cut, residual):
    given = case(*shape, norm, cut, residual)
    expected, _ = attend_reference(given[0].astype(np.float64), *given[1:])
    found = attend(*given)
    np.testing.assert_allclose(found.out, expected, atol=2e-5)
    slope = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)
    slopes = attend_slope(given[0], found, slope, *given[2:])
    for mine, plain in zip(slopes, by_torch(given, slope), strict=False):
        np.testing.assert_allclose(mine, plain, atol=2e-5 * max(1, abs(plain).max()))


def test_large_scores_do_not_overflow():
    qkv, *others = case(4, 3, 1, 4, NONE, 0, False)
    qkv = 300 * qkv
    found = attend(qkv, *others)
    assert np.isfinite(found.out).all()
    np.testing.assert_allclose(found.out, attend_reference(qkv.astype(np.float64), *others)[0], rtol=1e-3, atol=1e-2)
    assert all(np.isfinite(a).all() for a in attend_slope(qkv, found, np.ones_like(found.out), *others[1:]))


def test_a_row_does_not_depend_on_its_neighbours_and_the_result_not_on_threads():
    qkv, rest, gamma, beta, sizes, scale, random = case(1000, 6, 2, 8, BEFORE, 0, True)
    slope = np.ones_like(rest)
    before, results = threads(), []
    try:
        for count in (1, 2):
            set_threads(count)
            found = attend(qkv, rest, gamma, beta, sizes, scale, random)
            results.append((found.out, *attend_slope(qkv, found, slope, gamma, beta, sizes, scale, random)))
    finally:
        set_threads(before)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    few = attend(qkv[5:8], rest[5:8], gamma, beta, sizes, scale, random)
    np.testing.assert_array_equal(few.out, results[0][0][5:8])
