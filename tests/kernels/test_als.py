"""Half sweeps of alternating least squares: every solver against the plain one, and the loss that must not rise."""

import numpy as np
import pytest
from scipy import sparse

from palate.kernels.als import gram, half_sweep, loss, solve_rows, solve_rows_reference, turn
from palate.runtime import set_threads, single_threaded_blas, threads


def problem(d, n=60, n_fixed=70, longest=50, seed=0):
    rng = np.random.default_rng(seed)
    rows = [rng.choice(n_fixed, size, replace=False) for size in [0, 1, longest, *rng.integers(0, longest, n - 3)]]
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    columns = np.concatenate(rows).astype(np.int32)
    fixed = rng.normal(size=(n_fixed, d)).astype(np.float32)
    return offsets, columns, fixed, np.abs(rng.normal(size=d)), rng.uniform(0.1, 1, n).astype(np.float32)


@pytest.mark.parametrize("d", [1, 3, 8, 30, 64])
@pytest.mark.parametrize(("gain", "target"), [(1.0, 1.0), (9.0, 10.0), (0.0, 1.0)])
def test_every_solver_finds_the_plain_solution(d, gain, target):
    offsets, columns, fixed, diagonal, reg = problem(d)
    want = solve_rows_reference(offsets, columns, fixed, diagonal, reg, gain=gain, target=target)
    how = {"exact": {}, "cg": {"steps": 300}, "block": {"block": d}}
    for solver, more in how.items():
        out = np.ones_like(want, np.float32)
        solve_rows(offsets, columns, fixed, diagonal, reg, out, gain=gain, target=target, solver=solver, **more)
        close = 1e-3 if solver == "cg" else 1e-6
        np.testing.assert_allclose(out, want, rtol=close, atol=close * np.abs(want).max(), err_msg=solver)
        assert not out[0].any(), "a row without observations isn't zero"


def test_blocks_and_steps_come_closer_each_time():
    offsets, columns, fixed, diagonal, reg = problem(24)
    want = solve_rows_reference(offsets, columns, fixed, diagonal, reg)

    def energy(x):
        scores = np.einsum("nd,nd->n", x[np.repeat(np.arange(len(x)), np.diff(offsets))], fixed[columns])
        return np.sum(scores**2 - 2 * scores) + np.sum((diagonal + reg[:, None]) * x**2)

    for how in ({"solver": "block", "block": 7}, {"solver": "cg", "steps": 2, "mean": np.mean(fixed**2, 0).astype(float)}):
        x = np.zeros_like(want, np.float32)
        energies = []
        for _ in range(60):
            solve_rows(offsets, columns, fixed, diagonal, reg, x, **how)
            energies.append(energy(x.astype(float)))
        assert np.all(np.diff(energies) <= 1e-4 * abs(energy(want)))
        assert energies[-1] <= energy(want) + 5e-3 * abs(energy(want))


def test_long_rows_are_gathered_in_pieces():
    offsets, columns, fixed, diagonal, reg = problem(9, n=5, n_fixed=700, longest=600)
    want = solve_rows_reference(offsets, columns, fixed, diagonal, reg)
    out = np.zeros_like(want, np.float32)
    solve_rows(offsets, columns, fixed, diagonal, reg, out)
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)


def sweep_data(seed=0, users=80, items=50):
    rng = np.random.default_rng(seed)
    matrix = sparse.random(users, items, 0.1, "csr", np.float32, rng)
    matrix.data[:] = 1
    turned = matrix.T.tocsr()
    counts = [np.diff(m.indptr).astype(np.float32) for m in (matrix, turned)]
    return matrix, turned, counts, [c * 0.1 + 0.5 for c in counts]


def alternate(sweeps, d=12, **how):
    """Return the loss before and after each half sweep, and both sides."""
    matrix, turned, counts, regs = sweep_data()
    rng = np.random.default_rng(1)
    x, y = (rng.normal(0, 0.1, (n, d)).astype(np.float32) for n in matrix.shape)
    objective = {"alpha0": 0.1, "gain": how.pop("gain", 1.0), "target": how.pop("target", 1.0)}
    rows, columns = (matrix.indptr.astype(np.int64), matrix.indices), (turned.indptr.astype(np.int64), turned.indices)

    def now():
        return loss(*rows, x, y, *regs, **objective)

    losses = [now()]
    with single_threaded_blas():
        for _ in range(sweeps):
            half_sweep(*rows, counts[1], y, x, regs[0], **objective, **how)
            losses.append(now())
            half_sweep(*columns, counts[0], x, y, regs[1], **objective, **how)
            losses.append(now())
    return losses, x, y, regs


@pytest.mark.parametrize(
    "how", [{"solver": "exact"}, {"solver": "cg"}, {"solver": "block", "block": 5}, {"gain": 4.0, "target": 5.0}]
)
def test_the_loss_never_rises(how):
    losses, *_ = alternate(8, **how)
    assert np.all(np.diff(losses) <= 1e-5 * losses[0])
    assert losses[-1] < 0.9 * losses[0]


def test_the_loss_is_its_plain_definition():
    matrix, _, _, regs = sweep_data()
    losses, x, y, _ = alternate(3, solver="exact")
    scores, seen = x.astype(float) @ y.T.astype(float), matrix.toarray()
    plain = np.sum(seen * (1 - scores) ** 2) + 0.1 * np.sum(scores**2)
    plain += regs[0] @ (x.astype(float) ** 2).sum(1) + regs[1] @ (y.astype(float) ** 2).sum(1)
    assert losses[-1] == pytest.approx(plain, rel=1e-5)


def test_an_exact_half_sweep_ends_where_the_gradient_is_zero():
    matrix, *_ = sweep_data()
    _, x, y, regs = alternate(4, solver="exact")
    x, y = x.astype(float), y.astype(float)
    gradient = (matrix.toarray() * (x @ y.T - 1)).T @ x + 0.1 * y @ (x.T @ x) + regs[1][:, None] * y
    assert np.abs(gradient).max() < 1e-5


@pytest.mark.parametrize("solver", ["cg", "exact", "block"])
def test_threads_don_t_change_a_bit(solver, monkeypatch):
    monkeypatch.setattr("palate.kernels.spans.SMALL", 0)
    before, found = threads(), []
    try:
        for count in (1, 2, 3):
            set_threads(count)
            found.append(alternate(3, solver=solver, block=5)[2].tobytes())
    finally:
        set_threads(before)
    assert found[0] == found[1] == found[2]


def test_gram_and_turn_over_several_blocks():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2500, 6)).astype(np.float32)
    counts = rng.integers(0, 5, 2500).astype(np.float32)
    want = vectors.astype(float).T @ vectors
    np.testing.assert_allclose(gram(vectors), want, rtol=1e-4, atol=1e-2)
    assert gram(vectors[:0]).shape == (6, 6)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32)
    expected = vectors @ basis
    squares = turn(vectors, basis, counts)
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(squares, (counts[:, None] * expected**2).sum(0) / counts.sum(), rtol=1e-5)
