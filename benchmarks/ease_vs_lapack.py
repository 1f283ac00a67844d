"""EASE on a large catalogue: the whole fit beside LAPACK's factorisation and inverse (spotrf, spotri) of the same matrix.

Made-up events with a long tail; sides alternate, the best of the rounds counts. Peak memory is that of the process, against the
bytes of one n x n array of float32.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from _record import record
from scipy.linalg import lapack

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.recommend.ease import EASE
from palate.runtime import generator

SEED, REG = 0, 250.0


def made_up(items: int, users: int, length: int) -> Dataset:
    """Make people with about ``length`` items each; popularity is a power law."""
    rng = generator(SEED, "ease benchmark")
    popularity = np.cumsum((np.arange(items) + 20.0) ** -0.8)
    user = np.repeat(np.arange(users), rng.poisson(length, users))
    item = np.minimum(np.searchsorted(popularity, rng.random(len(user)) * popularity[-1]), items - 1)
    events = Interactions.sorted(user, item)
    return Dataset(events, Entities(Vocabulary.range(users)), Entities(Vocabulary.range(items)), name="made up")


def bare(dataset: Dataset) -> float:
    """Seconds of spotrf and spotri on the matrix of this data (built before the clock starts)."""
    matrix = dataset.matrix()
    gram = np.asfortranarray((matrix.T @ matrix).toarray(), np.float32)
    gram.flat[:: len(gram) + 1] += REG
    started = time.perf_counter()
    factor, failed = lapack.spotrf(gram, lower=1, clean=0, overwrite_a=1)
    assert not failed
    _, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    assert not failed
    return time.perf_counter() - started


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[8_000, 20_000])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="measure, but write no result")
    options = parser.parse_args()
    EASE(reg=REG).fit(made_up(200, 300, 10))
    rows = []
    for items in options.items:
        dataset = made_up(items, options.users, options.length)
        ours, lapacks, peak = [], [], 0
        for _ in range(options.rounds):
            started = time.perf_counter()
            EASE(reg=REG).fit(dataset)
            ours.append(time.perf_counter() - started)
            peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            lapacks.append(bare(dataset))
        rows.append(
            {
                "items": items,
                "interactions": len(dataset),
                "fit s": round(min(ours), 2),
                "spotrf + spotri s": round(min(lapacks), 2),
                "fit / lapack": round(min(ours) / min(lapacks), 3),
                "peak memory / one array": round(peak / (4 * items**2), 2),
            }
        )
        print(rows[-1], flush=True)
    if not options.dry:
        record("ease_vs_lapack", rows, what=__doc__, seeds=[SEED], notes={"goal": "fit / lapack at most 1.3 at 20,000 items"})


if __name__ == "__main__":
    main()
