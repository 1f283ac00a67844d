"""Top 10 of every gowalla user, seen items left out: Palate's exact search beside implicit's topk and the bare product.

Factors are those that implicit's own ALS learns in five iterations. Both sides alternate; the best of three counts.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from _peers import Worker
from _record import data_folder, record
from scipy import sparse

from palate.data.readers import read
from palate.kernels.inner import topk_inner

DIMS, K, ROUNDS = (64, 128, 256), 10, 3


def bare(users: np.ndarray, items: np.ndarray) -> float:
    """Seconds of the product alone, in blocks that fit memory."""
    out = np.empty((2048, len(items)), np.float32)
    started = time.perf_counter()
    for start in range(0, len(users), 2048):
        block = users[start : start + 2048]
        np.matmul(block, items.T, out=out[: len(block)])
    return time.perf_counter() - started


def main() -> None:
    """Run and record."""
    train = read(data_folder("gowalla") / "train.txt.gz", format="lightgcn")
    matrix = train.matrix()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = {n: str(Path(folder) / f"{n}.npz") for n in ("matrix", "factors")}
        sparse.save_npz(files["matrix"], matrix)
        peer = Worker("implicit", "implicit_worker.py", {"OPENBLAS_NUM_THREADS": "1"})
        peer("load", matrix=files["matrix"])
        peer("save_to", path=files["factors"])
        for dim in DIMS:
            peer("als", factors=dim, iterations=5, regularization=0.01, alpha=1.0, seed=0)
            peer("load", matrix=files["matrix"], factors=files["factors"])
            arrays = np.load(files["factors"])
            rows.append(one(peer, matrix, arrays["users"], arrays["items"], dim))
            print(rows[-1])
        peer.close()
    record("topk_vs_implicit", rows, what=__doc__, peers={"implicit": "0.7.3"}, seeds=[0])


def one(peer: Worker, matrix: sparse.csr_matrix, users: np.ndarray, items: np.ndarray, dim: int) -> dict[str, object]:
    """Time one size."""
    offsets, seen = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    topk_inner(users[:600], items, K, offsets[:601], seen)
    peer("topk", k=K)
    ours, theirs, product = [], [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        found, _scores = topk_inner(users, items, K, offsets, seen)
        ours.append(time.perf_counter() - started)
        answer = peer("topk", k=K)
        theirs.append(answer["seconds"])
        product.append(bare(users, items))
    same = np.mean([set(a) == set(b) for a, b in zip(found[:50].tolist(), answer["ids"], strict=True)])
    return {
        "dim": dim,
        "palate s": round(min(ours), 3),
        "implicit s": round(min(theirs), 3),
        "palate / implicit": round(min(ours) / min(theirs), 3),
        "palate / bare product": round(min(ours) / min(product), 3),
        "same lists (first 50)": float(same),
    }


if __name__ == "__main__":
    main()
