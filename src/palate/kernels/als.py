"""Alternating least squares on implicit feedback: one side is solved while the other stands still.

For a row with the observed columns ``C`` (``z_j`` is the fixed vector of column ``j``)::

    x = argmin Σ_{j in C} (gain <x, z_j>² - 2 target <x, z_j>) + alpha0 Σ_{all j} <x, z_j>² + reg |x|²
      = (Zᵀ gain Z + D)⁻¹ Zᵀ target,       D = alpha0 Σ_{all j} z_j z_jᵀ + reg I

``gain = target = 1`` is the form of Rendle et al. (2021); ``alpha0 = 1, gain = c - 1, target = c`` is that of Hu et al. (2008)
with confidence ``c``.

The dense part ``D`` costs d² a row and step. Here both sides are first turned into the eigenbasis of the fixed side's Gram
matrix (scores don't change under a rotation), where ``D`` is a diagonal: a step of conjugate gradients then touches nothing
but the observed vectors, the diagonal makes a good preconditioner, and rows shorter than ``d`` have an exact solution of their
own length.

Sources: Y. Hu, Y. Koren, C. Volinsky, ICDM 2008; G. Takács, I. Pilászy, D. Tikk, RecSys 2011 (conjugate gradients); S. Rendle,
W. Krichene, L. Zhang, Y. Koren, "iALS++", 2021 (blocks). The rotation is our own.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from palate.kernels.compile import compiled
from palate.kernels.normal_equations import solve_by_blocks, solve_short
from palate.kernels.prefetch import prefetch_row
from palate.kernels.spans import each_span, even_spans

#: How a row is solved: some steps of conjugate gradients from where it stands, exactly, or one pass over blocks of dimensions.
Solver = Literal["cg", "exact", "block"]
#: Rows of a block in dense products: fixed, so that sums have the same bits for any number of threads.
ROWS = 1024
#: A row is settled when its squared residual has fallen by this factor (float32 can do no better).
SETTLED = np.float32(1e-13)


def gram(vectors: np.ndarray) -> np.ndarray:
    """Return ``float64[d, d]``, the sum of ``v vᵀ`` over the rows (call inside ``single_threaded_blas``)."""
    starts = range(0, len(vectors), ROWS)
    parts: list[np.ndarray] = [np.empty(0)] * len(starts)

    def run(low: int, high: int) -> None:
        for at in range(low, high):
            block = vectors[starts[at] : starts[at] + ROWS]
            parts[at] = block.T @ block

    each_span(run, np.arange(len(starts) + 1), vectors.size * vectors.shape[1])
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for part in parts:
        total += part
    return total


def turn(vectors: np.ndarray, basis: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Multiply ``float32[n, d]`` by ``basis`` in place; return ``float64[d]``, the mean squares of the rows by ``counts``."""
    starts = range(0, len(vectors), ROWS)
    parts = np.zeros((len(starts), vectors.shape[1]))

    def run(low: int, high: int) -> None:
        for at in range(low, high):
            here = slice(starts[at], starts[at] + ROWS)
            block = vectors[here] @ basis
            vectors[here] = block
            if counts is not None:
                np.square(block, out=block)
                parts[at] = counts[here] @ block

    each_span(run, np.arange(len(starts) + 1), vectors.size * vectors.shape[1])
    return parts.sum(0) / max(1.0, 0.0 if counts is None else float(counts.sum(dtype=np.float64)))


def half_sweep(
    offsets: np.ndarray,
    columns: np.ndarray,
    counts: np.ndarray,
    fixed: np.ndarray,
    solved: np.ndarray,
    reg: np.ndarray,
    *,
    alpha0: float,
    gain: float = 1.0,
    target: float = 1.0,
    solver: Solver = "cg",
    steps: int = 2,
    block: int = 64,
) -> None:
    """Solve every row of one side; both sides are turned in place. Call inside ``single_threaded_blas``.

    Parameters
    ----------
    offsets, columns
        CSR rows: ``int64[n + 1]``, ``int32[m]``.
    counts
        ``float32[n_fixed]``, how often each column occurs.
    fixed, solved
        ``float32[n_fixed, d]`` and ``float32[n, d]``; ``solved`` is the starting point of ``"cg"`` and ``"block"``.
    reg
        ``float32[n]``, the ridge weight of each row.
    steps, block
        Steps of conjugate gradients; dimensions of a block.
    """
    values, basis = np.linalg.eigh(gram(fixed))
    basis = basis.astype(np.float32)
    mean = turn(fixed, basis, counts)
    if solver != "exact":
        turn(solved, basis)
    diagonal = alpha0 * np.maximum(values, 0.0)
    solve_rows(
        offsets, columns, fixed, diagonal, reg, solved,
        gain=gain, target=target, solver=solver, steps=steps, block=block, mean=mean,
    )  # fmt: skip


def solve_rows_reference(
    offsets: np.ndarray,
    columns: np.ndarray,
    fixed: np.ndarray,
    diagonal: np.ndarray,
    reg: np.ndarray,
    *,
    gain: float = 1.0,
    target: float = 1.0,
) -> np.ndarray:
    """Return ``float64[n, d]``, the exact solution of every row, by solving its normal equations whole."""
    out = np.zeros((len(offsets) - 1, fixed.shape[1]))
    for row in range(len(out)):
        z = fixed[columns[offsets[row] : offsets[row + 1]]].astype(np.float64)
        out[row] = np.linalg.solve(np.diag(diagonal + reg[row]) + gain * z.T @ z, target * z.sum(0))
    return out


def solve_rows(
    offsets: np.ndarray,
    columns: np.ndarray,
    fixed: np.ndarray,
    diagonal: np.ndarray,
    reg: np.ndarray,
    out: np.ndarray,
    *,
    gain: float = 1.0,
    target: float = 1.0,
    solver: Solver = "exact",
    steps: int = 2,
    block: int = 64,
    mean: np.ndarray | None = None,
) -> None:
    """As :func:`solve_rows_reference`, fast, into ``out``; rows of equal work are shared out, each solved by one thread.

    Parameters
    ----------
    diagonal
        ``float64[d]``, the dense part without the ridge; ``fixed`` stands in its eigenbasis.
    out
        ``float32[n, d]``; read as the starting point by ``"cg"`` and ``"block"``.
    mean
        ``float64[d]``, the mean square of an observed vector (for the preconditioner), or ``None``.
    """
    spans, work = even_spans(offsets), 8 * len(columns) * fixed.shape[1]
    reg = reg.astype(np.float32)
    if solver == "cg":
        base, likely = diagonal.astype(np.float32), np.zeros_like(diagonal) if mean is None else mean
        numbers = (np.float32(gain), np.float32(target), steps)
        expected = likely.astype(np.float32)
        each_span(lambda a, b: _cg(offsets, columns, fixed, base, reg, expected, *numbers, out, a, b), spans, work)
        return
    width = fixed.shape[1]
    size, short = (width, width) if solver == "exact" else (min(block, width), 0)
    base = diagonal.astype(np.float64)

    def run(low: int, high: int) -> None:
        if solver == "exact":
            solve_short(offsets, columns, fixed, base, reg, gain, target, short, out, low, high)
        solve_by_blocks(offsets, columns, fixed, base, reg, gain, target, short, size, out, low, high)

    each_span(run, spans, 8 * work)


def loss(
    offsets: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    others: np.ndarray,
    reg_rows: np.ndarray,
    reg_others: np.ndarray,
    *,
    alpha0: float,
    gain: float = 1.0,
    target: float = 1.0,
) -> float:
    """Return the whole training loss, never forming rows x others (call inside ``single_threaded_blas``).

    ``Σ_observed (gain s² - 2 target s + target) + alpha0 Σ_all s² + Σ reg |x|²``, so for ``gain = target = 1`` the observed
    part is ``Σ (1 - s)²``.
    """
    parts = np.zeros(len(rows))
    each_span(
        lambda low, high: _observed(offsets, columns, rows, others, gain, target, parts, low, high),
        even_spans(offsets),
        len(columns) * rows.shape[1],
    )
    dense = float((gram(rows) * gram(others)).sum())
    ridge = sum(float(r @ np.einsum("nd,nd->n", v, v, dtype=np.float64)) for r, v in ((reg_rows, rows), (reg_others, others)))
    return float(parts.sum()) + alpha0 * dense + ridge


@compiled(fast_math=True)
def _observed(offsets, columns, rows, others, gain, target, parts, low, high):  # type: ignore[no-untyped-def]
    for row in range(low, high):
        total = 0.0
        for at in range(offsets[row], offsets[row + 1]):
            score = np.float32(0.0)
            for c in range(rows.shape[1]):
                score += rows[row, c] * others[columns[at], c]
            total += gain * score * score - 2 * target * score + target
        parts[row] = total


@compiled(fast_math=True)
def _add_residual(fixed, columns, low, high, x, gain, target, out):  # type: ignore[no-untyped-def]
    """Add ``Σ (target - gain <z, x>) z`` over the columns, four at a time; the next four are asked for meanwhile."""
    width, at = x.shape[0], low
    start, size = np.int64(fixed.ctypes.data), np.int64(4 * width)
    while at + 4 <= high:
        if at + 8 <= high:
            for ahead in range(at + 4, at + 8):
                prefetch_row(start, columns[ahead], size)
        z0, z1, z2, z3 = fixed[columns[at]], fixed[columns[at + 1]], fixed[columns[at + 2]], fixed[columns[at + 3]]
        s0 = s1 = s2 = s3 = np.float32(0.0)
        for c in range(width):
            s0 += z0[c] * x[c]
            s1 += z1[c] * x[c]
            s2 += z2[c] * x[c]
            s3 += z3[c] * x[c]
        s0, s1, s2, s3 = target - gain * s0, target - gain * s1, target - gain * s2, target - gain * s3
        for c in range(width):
            out[c] += (s0 * z0[c] + s1 * z1[c]) + (s2 * z2[c] + s3 * z3[c])
        at += 4
    while at < high:
        z0, s0 = fixed[columns[at]], np.float32(0.0)
        for c in range(width):
            s0 += z0[c] * x[c]
        s0 = target - gain * s0
        for c in range(width):
            out[c] += s0 * z0[c]
        at += 1


@compiled(fast_math=True)
def _cg(offsets, columns, fixed, base, reg, mean, gain, target, steps, out, low, high):  # type: ignore[no-untyped-def]
    """Preconditioned conjugate gradients; the preconditioner is ``D`` plus the expected diagonal of the observed part."""
    width, zero = fixed.shape[1], np.float32(0.0)
    diagonal, inverse, r, p, minus = np.empty((5, width), np.float32)
    for row in range(low, high):
        first, last = offsets[row], offsets[row + 1]
        x = out[row]
        if first == last:
            x[:] = zero
            continue
        share = np.float32(last - first) * gain
        for c in range(width):
            diagonal[c] = base[c] + reg[row]
            inverse[c] = np.float32(1.0) / (diagonal[c] + share * mean[c])
            r[c] = -diagonal[c] * x[c]
        _add_residual(fixed, columns, first, last, x, gain, target, r)
        slope = zero
        for c in range(width):
            p[c] = inverse[c] * r[c]
            slope += p[c] * r[c]
        least = SETTLED * slope
        for _ in range(steps):
            if slope <= least:
                break
            for c in range(width):
                minus[c] = -diagonal[c] * p[c]
            _add_residual(fixed, columns, first, last, p, gain, zero, minus)
            bend = zero
            for c in range(width):
                bend -= p[c] * minus[c]
            step, fresh = slope / bend, zero
            for c in range(width):
                x[c] += step * p[c]
                r[c] += step * minus[c]
                fresh += inverse[c] * r[c] * r[c]
            ratio, slope = fresh / slope, fresh
            for c in range(width):
                p[c] = inverse[c] * r[c] + ratio * p[c]
