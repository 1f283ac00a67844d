"""The inverse of a large symmetric positive definite matrix, in place, in one triangle.

Small ones go to LAPACK (Cholesky factorisation and inverse). Large ones are swept block by block, in products of bounded size:
with ``D`` the diagonal block and ``B`` the columns of step ``k``::

    A_ij -= B_i D⁻¹ B_jᵀ        A_ik = B_i D⁻¹        A_kk = -D⁻¹        (i, j ≠ k)

After every block was swept once, ``A`` is minus the inverse. Both ways take ``n³`` operations. The reason is that OpenBLAS
0.3.31 ends the process with a segmentation fault in ``spotrf`` of 33,000 rows (20,000 are well).

Source: J. H. Goodnight, "A Tutorial on the SWEEP Operator", 1979.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

#: Matrices of more bytes are swept; half of where LAPACK's library breaks.
LARGE = 2**31
#: Rows of a block, and columns of a product.
BLOCK, WIDTH = 1_024, 8_192


def invert_upper(matrix: np.ndarray, *, large: int = LARGE, block: int = BLOCK) -> int:
    """Replace the upper triangle of a matrix by that of its inverse; return 0, or the row at which it is not positive definite.

    Parameters
    ----------
    matrix
        ``float32`` or ``float64[n, n]``, C-contiguous; only its upper triangle is read. What the lower one holds afterwards is
        of no meaning.
    large
        Bytes from which it is swept.
    block
        Rows of a block.
    """
    if matrix.nbytes > large:
        return _sweep(matrix, block)
    lower, failed = _factor(matrix.T)
    if failed:
        return int(failed)
    lower, failed = _inverse(lower)
    if not failed and not np.shares_memory(lower, matrix):
        matrix[:] = lower.T
    return int(failed)


def _factor(lower: np.ndarray) -> tuple[np.ndarray, int]:
    return getattr(lapack, "spotrf" if lower.dtype == np.float32 else "dpotrf")(lower, lower=1, clean=0, overwrite_a=1)


def _inverse(factor: np.ndarray) -> tuple[np.ndarray, int]:
    return getattr(lapack, "spotri" if factor.dtype == np.float32 else "dpotri")(factor, lower=1, overwrite_c=1)


def _sweep(matrix: np.ndarray, block: int) -> int:
    n = len(matrix)
    for start in range(0, n, block):
        stop = min(start + block, n)
        pivot = matrix[start:stop, start:stop].copy()
        failed = invert_upper(pivot, large=pivot.nbytes)
        if failed:
            return start + failed
        pivot = np.triu(pivot) + np.triu(pivot, 1).T
        panel = np.concatenate([matrix[:start, start:stop], np.zeros_like(pivot), matrix[start:stop, stop:].T])
        scaled = panel @ pivot
        for top in range(0, n, block):
            bottom = min(top + block, n)
            for left in range(top, n, WIDTH):
                right = min(left + WIDTH, n)
                matrix[top:bottom, left:right] -= scaled[top:bottom] @ panel[left:right].T
        matrix[:start, start:stop] = scaled[:start]
        matrix[start:stop, stop:] = scaled[stop:].T
        matrix[start:stop, start:stop] = -pivot
    np.negative(matrix, out=matrix)
    return 0
