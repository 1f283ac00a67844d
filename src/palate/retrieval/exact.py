"""The exact index: the best items of the whole catalogue for one or a few queries, fast enough to be asked for each request.

Every vector is kept as it is, and as an 8-bit code that proves which vectors can't be among the best
(:mod:`palate.kernels.quantised`). Items and scores have the bits of :func:`palate.kernels.inner.topk_inner`, which is the
better choice for hundreds of queries at once.
"""

from __future__ import annotations

import numpy as np

from palate.kernels.quantised import encode, topk_among, topk_coded
from palate.retrieval.index import Exclude, as_mask, as_queries, as_rows, as_vectors, check_k, pair_of

#: With a smaller share of allowed items than this, they alone are scored.
FEW = 1 / 16


class ExactIndex:
    """Exact search of the largest inner products.

    An index never changes after it is made, and a search runs on the calling thread without the GIL: any number of threads may
    ask at once.

    Parameters
    ----------
    vectors
        ``float32[n_items, d]``, finite. Kept, not copied, where they are contiguous float32 already: don't change them.

    Examples
    --------
    >>> index = ExactIndex(np.eye(3, dtype=np.float32))
    >>> items, scores = index.search(np.array([0.1, 0.9, 0.5]), k=2, exclude=np.array([1]))
    >>> items.tolist()
    [[2, 0]]
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = as_vectors(vectors)
        self._codes = encode(self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of memory that vectors and codes take."""
        return self.vectors.nbytes + self._codes.nbytes

    def search(
        self, queries: np.ndarray, k: int = 10, *, exclude: Exclude = None, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` items of highest inner product with each query.

        Parameters
        ----------
        queries
            ``float32[n, d]``, or ``float32[d]`` for one.
        k
            How many.
        exclude
            Items not to return: a :class:`~palate.data.ragged.Ragged` with a row for each query, or one array for all.
        allowed
            ``bool[n_items]``: the only items that may be returned (in stock, of the category asked for), or ``None`` for all.

        Returns
        -------
        items, scores
            ``int32[n, k]`` and ``float32[n, k]``, best first; equal scores rank by :func:`palate.kernels.topk.tie_key`.
            Rows with fewer end in item -1 and score ``-inf``.

        Raises
        ------
        DataError
            If a shape is wrong, or a query holds NaN or infinity.
        """
        check_k(k)
        queries, allowed = as_queries(queries, self.dim), as_mask(allowed, len(self))
        gone = pair_of(as_rows(exclude, len(queries)))
        if allowed is not None and np.count_nonzero(allowed) < FEW * len(self):
            few = np.flatnonzero(allowed).astype(np.int32)
            return topk_among(queries, self.vectors, np.broadcast_to(few, (len(queries), len(few))), k, *gone)
        return topk_coded(queries, self.vectors, self._codes, k, *gone, allowed)
