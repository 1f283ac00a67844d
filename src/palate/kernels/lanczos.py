"""The strongest right singular vectors of a large sparse matrix, by block Lanczos on ``MᵀM``.

    Q_{j+1} R_{j+1} = (I - Q Qᵀ) MᵀM Q_j        T = Qᵀ MᵀM Q        vectors = Q · (eigenvectors of T)

The basis ``Q`` grows by one block a step and is kept orthogonal by projecting twice, so all heavy work is in matrix products.
It ends when the residual ``|MᵀM v - σ² v|`` of each wanted vector, which the last ``R`` gives, is small. A block of random
columns finds repeated singular values (parts of a graph that don't touch), which one vector alone may miss; where the basis
closes under ``MᵀM``, it goes on from new random columns.

Source: G. Golub, R. Underwood, "The block Lanczos method for computing eigenvalues", Mathematical Software III, 1977, with full
reorthogonalisation and without restarts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from palate.kernels.spmm import spmm

#: Columns of a block, blocks between two looks, and columns up to which ``MᵀM`` is decomposed whole.
BLOCK, LOOK, SMALL = 32, 4, 512
#: Largest residual of a vector, as a share of the largest eigenvalue.
TOLERANCE = 1e-3
#: New directions shorter than this share of the largest eigenvalue are rounding.
NOISE = 1e-5


def right_singular_reference(matrix: sparse.csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` strongest right singular vectors, ``float32[n, k]``, and values, ``float32[k]``, from the whole ``MᵀM``.

    Vectors of value zero are left out, so there may be fewer. Each is turned so that its largest entry is positive.
    """
    gram = (matrix.T.astype(np.float64) @ matrix).toarray()
    values, vectors = np.linalg.eigh(gram)
    return _strongest(vectors[:, ::-1][:, :k], values[::-1][:k])


def right_singular(matrix: sparse.csr_matrix, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`right_singular_reference`, in memory of a few times ``n x k``; ``rng`` draws the first block."""
    if matrix.shape[1] <= max(SMALL, 2 * k):
        return right_singular_reference(matrix, k)
    product = _Product.of(matrix)
    basis = _Basis(product, rng)
    while True:
        for _ in range(LOOK):
            if basis.width < basis.n:
                basis.grow()
        if basis.width < min(basis.n, 2 * k):
            continue
        values, inner = np.linalg.eigh(basis.projected)
        inner = inner[:, ::-1][:, :k]
        short = np.linalg.norm(basis.last @ inner[-basis.last.shape[1] :], axis=0) <= TOLERANCE * max(values[-1], 1e-30)
        if short.all() or basis.width >= basis.n:
            return _strongest(basis.columns @ inner.astype(np.float32), values[::-1][:k])


def _strongest(vectors: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = values > NOISE * max(float(values.max(initial=0)), 1e-30)
    vectors = vectors[:, kept]
    peaks = vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])] if vectors.size else np.ones(0)
    turned = np.ascontiguousarray(vectors * np.where(peaks < 0, -1, 1), np.float32)
    return turned, np.sqrt(values[kept]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Product:
    """``x -> MᵀM x`` of a sparse ``M``."""

    rows: sparse.csr_matrix
    columns: sparse.csr_matrix

    @classmethod
    def of(cls, matrix: sparse.csr_matrix) -> _Product:
        rows = matrix.astype(np.float32).tocsr()
        return cls(rows, rows.T.tocsr())

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for side in (self.rows, self.columns):
            x = spmm(side.indptr.astype(np.int64), side.indices, side.data, x)
        return x


class _Basis:
    """The orthogonal columns so far, and ``T``."""

    def __init__(self, product: _Product, rng: np.random.Generator) -> None:
        self.product, self.rng, self.n = product, rng, product.rows.shape[1]
        self.width, self.scale = 0, 0.0
        self.store = np.empty((self.n, 8 * BLOCK), np.float32, order="F")
        self.projected = np.empty((0, 0))
        self.last = np.empty((0, 0))
        self.next = np.empty((self.n, 0), np.float32)

    @property
    def columns(self) -> np.ndarray:
        return self.store[:, : self.width]

    def grow(self) -> None:
        """Add a block: the directions in which ``MᵀM`` last left the basis, or random columns where it left it nowhere."""
        block = self.next if self.next.shape[1] else self._new(BLOCK)
        block = block[:, : self.n - self.width]
        first, self.width = self.width, self.width + block.shape[1]
        self._reserve()
        self.store[:, first : self.width] = block
        image = self.product(np.ascontiguousarray(block))
        image, inside = self._outside(image)
        whole = np.zeros((self.width, self.width))
        whole[:first, :first] = self.projected
        whole[:, first:], whole[first:, :] = inside, inside.T
        whole[first:, first:] = (inside[first:] + inside[first:].T) / 2
        self.projected = whole
        self.scale = max(self.scale, float(np.abs(inside).max(initial=0)))
        found, self.last = np.linalg.qr(image)
        strong = np.abs(np.diag(self.last)) > NOISE * self.scale
        self.next = self._outside(np.ascontiguousarray(found[:, strong]))[0]
        self.next = np.linalg.qr(self.next)[0] if self.next.shape[1] else self.next

    def _new(self, count: int) -> np.ndarray:
        drawn = self.rng.standard_normal((self.n, count), np.float32)
        block: np.ndarray = np.linalg.qr(self._outside(drawn)[0])[0]
        return block

    def _outside(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what of ``x`` lies outside the basis, and ``Qᵀx``."""
        inside = np.zeros((self.width, x.shape[1]))
        for _ in range(2):
            part = self.columns.T @ x
            x = x - self.columns @ part
            inside += part
        return x, inside

    def _reserve(self) -> None:
        if self.width > self.store.shape[1]:
            larger = np.empty((self.n, min(self.n, 2 * self.store.shape[1]) + BLOCK), np.float32, order="F")
            filled = self.store.shape[1]
            larger[:, :filled] = self.store
            self.store = larger
