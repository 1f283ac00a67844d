"""What else a person had: the history beside one of its items, from which that item is to be guessed."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from palate.data.ragged import Ragged, offsets_of


class OtherItems:
    """Draws from the distinct items of people, without one that is named.

    Parameters
    ----------
    matrix
        Users x items matrix of what was had.
    most
        Longer histories give this many draws with replacement, whose mean is that of the whole without bias.
    """

    def __init__(self, matrix: sparse.csr_matrix, most: int) -> None:
        matrix.sort_indices()
        self.offsets, self.items = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self.n_items, self.most = int(matrix.shape[1]), most
        users = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        self.keys = users.astype(np.int64) * self.n_items + self.items

    def draw(self, rng: np.random.Generator, users: np.ndarray, items: np.ndarray) -> Ragged:
        """Return, for each pair of a person and an item that they had, other items that they had.

        Parameters
        ----------
        users, items
            ``int32[m]``; every pair stands in the matrix.
        """
        own = np.searchsorted(self.keys, users.astype(np.int64) * self.n_items + items)
        starts = self.offsets[users]
        others = self.offsets[np.asarray(users, np.int64) + 1] - starts - 1
        lengths = np.minimum(others, self.most)
        offsets = offsets_of(lengths)
        row = np.repeat(np.arange(len(users)), lengths)
        places = np.arange(offsets[-1]) - offsets[row]
        long = others[row] > self.most
        places[long] = (rng.random(int(long.sum())) * others[row[long]]).astype(np.int64)
        places += places >= (own - starts)[row]
        return Ragged(offsets, self.items[starts[row] + places])
