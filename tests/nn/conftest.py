"""Small graphs for layers that go along edges."""

from collections.abc import Callable

import numpy as np
import pytest

from palate.nn.knowledge import Edges


@pytest.fixture(scope="session")
def some_edges() -> Callable[..., Edges]:
    """Return random links over ``n`` rows, of which the last two are isolated."""

    def make(n: int = 30, m: int = 90, relations: int = 3, seed: int = 0) -> Edges:
        rng = np.random.default_rng(seed)
        head, relation, tail = rng.integers(0, n - 2, m), rng.integers(0, relations, m), rng.integers(0, n - 2, m)
        kept = np.unique(np.stack([head, relation, tail], 1)[head != tail], axis=0).astype(np.int32)
        return Edges.both_ways(n, kept[:, 0], kept[:, 1], kept[:, 2], relations)

    return make
