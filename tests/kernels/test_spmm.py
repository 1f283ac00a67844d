"""Sparse products, Adam and BPR: fast forms equal the plain ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from palate.kernels.adam import adam_step, adam_step_reference
from palate.kernels.bpr import bpr_descend, bpr_descend_reference, bpr_gradient, bpr_gradient_reference
from palate.kernels.spmm import spmm, spmm_reference
from palate.runtime import set_threads, threads


def random_csr(n, m, density, seed):
    matrix = sparse.random(n, m, density, "csr", random_state=seed, dtype=np.float32)
    matrix.sort_indices()
    return matrix, (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 20), st.floats(0, 1), st.integers(1, 33), st.integers(0, 9))
def test_spmm_equals_reference_and_scipy(n, m, density, width, seed):
    matrix, parts = random_csr(n, m, density, seed)
    rng = np.random.default_rng(seed)
    x, base = rng.normal(size=(m, width)).astype(np.float32), rng.normal(size=(n, width)).astype(np.float32)
    needed = (rng.random(n) < 0.5).astype(np.uint8)
    np.testing.assert_allclose(spmm(*parts, x), matrix @ x, atol=1e-5)
    np.testing.assert_allclose(spmm(*parts, x, base=base), spmm_reference(*parts, x, base=base), atol=1e-5)
    got = spmm(*parts, x, base=base, needed=needed)
    np.testing.assert_allclose(got, spmm_reference(*parts, x, base=base, needed=needed), atol=1e-5)


@pytest.mark.parametrize("width", [8, 16, 32, 48, 64, 112, 192])
def test_widths_that_fill_registers(width):
    matrix, parts = random_csr(40, 30, 0.2, width)
    rng = np.random.default_rng(width)
    x, base = rng.normal(size=(30, width)).astype(np.float32), rng.normal(size=(40, width)).astype(np.float32)
    needed, filled = (rng.random(40) < 0.5).astype(np.uint8), (rng.random(30) < 0.5).astype(np.uint8)
    np.testing.assert_allclose(spmm(*parts, x), matrix @ x, atol=1e-5)
    np.testing.assert_allclose(spmm(*parts, x, base=base), matrix @ x + base, atol=1e-5)
    read = np.where(filled[:, None] > 0, x, 0)
    wanted = np.where(needed[:, None] > 0, matrix @ read + base, 0)
    poisoned = np.where(filled[:, None] > 0, x, np.float32(np.nan))
    np.testing.assert_allclose(spmm(*parts, poisoned, base=base, needed=needed, filled=filled), wanted, atol=1e-5)
    wide = np.repeat(x, 2, axis=1)[:, ::2]  # not contiguous
    np.testing.assert_allclose(spmm(*parts, wide), matrix @ x, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.floats(0, 1), st.integers(0, 9))
def test_unfilled_rows_are_not_read(n, density, seed):
    matrix, parts = random_csr(n, n, density, seed)
    rng = np.random.default_rng(seed)
    filled = (rng.random(n) < 0.4).astype(np.uint8)
    x = rng.normal(size=(n, 5)).astype(np.float32) * filled[:, None]
    poisoned = np.where(filled[:, None] > 0, x, np.float32(np.nan))
    np.testing.assert_allclose(spmm(*parts, poisoned, filled=filled), matrix @ x, atol=1e-5)


def test_threads_do_not_change_bits(monkeypatch):
    _, parts = random_csr(500, 400, 0.05, 0)
    x = np.random.default_rng(0).normal(size=(400, 17)).astype(np.float32)
    alone = spmm(*parts, x)
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    before = threads()
    try:
        for count in (2, 3):
            set_threads(count)
            np.testing.assert_array_equal(spmm(*parts, x), alone)
    finally:
        set_threads(before)


def triples(seed=0, n=12, m=9, count=60):
    rng = np.random.default_rng(seed)
    u, i, j = rng.integers(0, n, count), rng.integers(0, m, count), rng.integers(-1, m, count)
    return u.astype(np.int32), i.astype(np.int32), j.astype(np.int32), rng


def test_bpr_gradient_equals_reference():
    u, i, j, rng = triples()
    vectors = rng.normal(size=(12 + 9, 7)).astype(np.float32)
    i, j = i + 12, np.where(j < 0, -1, j + 12)
    fast, plain = np.zeros_like(vectors), np.zeros_like(vectors)
    loss = bpr_gradient(u, i, j, vectors, fast)
    np.testing.assert_allclose(loss, bpr_gradient_reference(u, i, j, vectors, plain), rtol=1e-5)
    np.testing.assert_allclose(fast, plain, atol=1e-5)


@pytest.mark.parametrize("bias", [0, 9])
def test_bpr_descent_equals_reference(bias):
    u, i, j, rng = triples()
    start = [rng.normal(size=(12, 6)), rng.normal(size=(9, 6)), rng.normal(size=bias)]
    fast, plain = ([a.astype(np.float32) for a in start] for _ in range(2))
    loss = bpr_descend(u, i, j, *fast, 0.1, 0.02)
    np.testing.assert_allclose(loss, bpr_descend_reference(u, i, j, *plain, 0.1, 0.02), rtol=1e-4)
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_bpr_is_stable_at_great_margins():
    vectors = np.array([[1e4], [1e4], [-1e4]], np.float32)
    one = np.array([0]), np.array([1]), np.array([2])
    gradient = np.zeros_like(vectors)
    assert bpr_gradient(*one, vectors, gradient) == 0
    assert not gradient.any()
    swapped = bpr_gradient(one[0], one[2], one[1], vectors, gradient)
    np.testing.assert_allclose(swapped, 2e8, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_adam_equals_reference_and_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    w = rng.normal(size=300).astype(np.float32)
    fast, plain = ([w.copy(), np.zeros_like(w), np.zeros_like(w)] for _ in range(2))
    parameter = torch.nn.Parameter(torch.from_numpy(w.copy()))
    theirs = torch.optim.AdamW([parameter], lr=0.05, weight_decay=0.1)
    for step in range(1, 6):
        g = rng.normal(size=300).astype(np.float32)
        keys = {"lr": 0.05, "betas": (0.9, 0.999), "eps": 1e-8, "decay": 0.1}
        adam_step(fast[0], g, fast[1], fast[2], step, **keys)
        adam_step_reference(plain[0], g, plain[1], plain[2], step, **keys)
        parameter.grad = torch.from_numpy(g)
        theirs.step()
    np.testing.assert_allclose(fast[0], plain[0], atol=1e-5)
    np.testing.assert_allclose(fast[0], parameter.detach().numpy(), atol=1e-5)
