"""An iteration of iALS (people, then items): Palate's defaults beside implicit's native CPU solver (3 steps of CG).

Both sides minimise implicit's own objective (confidence ALPHA, ridge REG, no frequency scaling) from small random vectors; the
loss after the same number of iterations is computed by one function for both. Palate takes two preconditioned steps a row,
which must bring the loss at least as low as implicit's three. Sides alternate; the best iteration of three rounds counts. Data:
gowalla, and 10 M made-up events of 100,000 people on 30,000 items with a long tail.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _peers import Worker
from _record import data_folder, record
from scipy import sparse

from palate.data.readers import read
from palate.kernels.als import half_sweep, loss
from palate.runtime import generator, single_threaded_blas

ALPHA, REG, ITERATIONS, ROUNDS, SEED = 10.0, 0.01, 5, 3, 0
OBJECTIVE: dict[str, Any] = {"alpha0": 1.0, "gain": ALPHA - 1, "target": ALPHA}


def made_up(users: int = 100_000, items: int = 30_000, events: int = 10_000_000) -> sparse.csr_matrix:
    """Make a matrix of ones: activity is log-normal, popularity a power law."""
    rng = generator(SEED, "ials benchmark")
    activity = rng.lognormal(0, 0.9, users)
    popularity = np.cumsum((np.arange(items) + 20.0) ** -0.8)
    user = np.repeat(np.arange(users), rng.poisson(activity / activity.sum() * events * 1.03))
    item = np.minimum(np.searchsorted(popularity, rng.random(len(user)) * popularity[-1]), items - 1)
    matrix = sparse.csr_matrix((np.ones(len(user), np.float32), (user, item)), (users, items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


class Ours:
    """Palate's side, on a matrix."""

    def __init__(self, matrix: sparse.csr_matrix) -> None:
        turned = matrix.T.tocsr()
        self.rows, self.columns = ((m.indptr.astype(np.int64), m.indices.astype(np.int32)) for m in (matrix, turned))
        self.row_counts, self.column_counts = (np.diff(m.indptr).astype(np.float32) for m in (matrix, turned))
        self.regs = [np.full(n, REG, np.float32) for n in matrix.shape]
        self.shape = matrix.shape

    def run(self, dim: int, iterations: int) -> tuple[list[float], np.ndarray, np.ndarray]:
        """Return seconds of each iteration, and both sides."""
        rng = generator(SEED, "start")
        x, y = (rng.random((n, dim), np.float32) * np.float32(0.01) for n in self.shape)
        stamps = [time.perf_counter()]
        with single_threaded_blas():
            for _ in range(iterations):
                half_sweep(*self.rows, self.column_counts, y, x, self.regs[0], **OBJECTIVE)
                half_sweep(*self.columns, self.row_counts, x, y, self.regs[1], **OBJECTIVE)
                stamps.append(time.perf_counter())
        return np.diff(stamps).tolist(), x, y

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the training loss."""
        with single_threaded_blas():
            return loss(*self.rows, x, y, *self.regs, **OBJECTIVE)


def one(peer: Worker, ours: Ours, factors: str, dim: int) -> dict[str, Any]:
    """Measure one size."""
    ours.run(dim, 1)
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        seconds, x, y = ours.run(dim, ITERATIONS)
        mine += seconds
        answer = peer("als", factors=dim, iterations=ITERATIONS, regularization=REG, alpha=ALPHA, seed=SEED)
        theirs += answer["seconds"][1:]
    saved = np.load(factors)
    own, other = ours.loss(x, y), ours.loss(saved["users"], saved["items"])
    return {
        "dim": dim,
        "palate s/iteration": round(min(mine), 4),
        "implicit s/iteration": round(min(theirs), 4),
        "palate / implicit": round(min(mine) / min(theirs), 3),
        "palate loss": round(own, 1),
        "implicit loss": round(other, 1),
        "loss no higher": own <= other,
    }


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--data", nargs="+", default=["gowalla", "made-up"], choices=["gowalla", "made-up"])
    parser.add_argument("--dry", action="store_true", help="measure, but write no result")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        peer = Worker("implicit", "implicit_worker.py", {"OPENBLAS_NUM_THREADS": "1"})
        factors = str(Path(folder) / "factors.npz")
        peer("save_to", path=factors)
        for name in options.data:
            whole = name == "gowalla"
            matrix = read(data_folder("gowalla") / "train.txt.gz", format="lightgcn").matrix() if whole else made_up()
            path = str(Path(folder) / f"{name}.npz")
            sparse.save_npz(path, matrix, compressed=False)
            peer("load", matrix=path)
            ours = Ours(matrix)
            for dim in options.dims:
                rows.append({"data": name, "interactions": matrix.nnz, **one(peer, ours, factors, dim)})
                print(rows[-1], flush=True)
        peer.close()
    if not options.dry:
        goal = {"goal": "palate / implicit at most 0.8, loss no higher", "iterations": ITERATIONS, "alpha": ALPHA, "reg": REG}
        record("ials_vs_implicit", rows, what=__doc__, peers={"implicit": "0.7.3"}, seeds=[SEED], notes=goal)


if __name__ == "__main__":
    main()
