"""implicit 0.7.3: alternating least squares and its top-k; BLAS is held to one thread, as its documentation asks."""

import sys
import time
from pathlib import Path

import numpy as np
from scipy import sparse

sys.path.insert(0, str(Path(__file__).parent))
from _serve import serve

STATE = {}


def load(matrix, factors=None):
    """Read the users x items matrix (and factors to rank with)."""
    STATE["matrix"] = sparse.load_npz(matrix).tocsr().astype(np.float32)
    if factors:
        arrays = np.load(factors)
        STATE["users"], STATE["items"] = arrays["users"], arrays["items"]
    return list(STATE["matrix"].shape)


def topk(k):
    """Rank every user with seen items left out; return seconds and the head of the answer."""
    from implicit.cpu.topk import topk as rank

    users, items, matrix = STATE["users"], STATE["items"], STATE["matrix"]
    started = time.perf_counter()
    ids, scores = rank(items, users, k, filter_query_items=matrix, num_threads=0)
    return {"seconds": time.perf_counter() - started, "ids": ids[:50].tolist(), "scores": float(scores[:50].sum())}


def als(factors, iterations, regularization, alpha, seed, use_cg=True, cg_steps=3):
    """Fit; return the seconds of each iteration."""
    from implicit.cpu.als import AlternatingLeastSquares

    stamps = []

    def note(*arguments):
        stamps.append(time.perf_counter())

    model = AlternatingLeastSquares(
        factors=factors, regularization=regularization, alpha=alpha, iterations=iterations, use_native=True, use_cg=use_cg,
        random_state=seed, num_threads=0, calculate_training_loss=False,
    )  # fmt: skip
    model.cg_steps = cg_steps
    started = time.perf_counter()
    model.fit(STATE["matrix"], show_progress=False, callback=note)
    stamps = [started, *stamps]
    folder = STATE.get("out")
    if folder:
        np.savez(folder, users=np.asarray(model.user_factors), items=np.asarray(model.item_factors))
    return {"seconds": np.diff(stamps).tolist()}


def save_to(path):
    """Write the factors of later fits here."""
    STATE["out"] = path
    return path


if __name__ == "__main__":
    serve({"load": load, "topk": topk, "als": als, "save_to": save_to})
