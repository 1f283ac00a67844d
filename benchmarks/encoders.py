"""Text encoders beside the sentence-transformers library on the same texts: titles, and titles with descriptions.

sentence-transformers encodes as it comes (batches of 32, its own thread count) with the weights of all-MiniLM-L6-v2; ours
without cache. Sides take turns, each encodes all texts once a round, the best round counts. Times exclude imports and
loading, which have columns of their own (taken in a fresh process). The cache: the same texts again, all known. TF-IDF is
fitted on all items first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
from _record import data_folder, record

from palate.data.readers import read
from palate.language.encoder import TextEncoder, encoder
from palate.language.encoders.packages import MINILM
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.reranker import reranker
from palate.language.texts import item_texts, titles
from palate.runtime import versions

NAMES = ("minilm", "minilm-onnx", "bge", "static", "tfidf")
LOADS = {
    "sentence-transformers": "from sentence_transformers import SentenceTransformer as S; S({folder!r}, device='cpu')",
    **{name: f"from palate.language.encoder import encoder; encoder({name!r}, cache=False)" for name in NAMES},
}


def load_seconds(side: str) -> float:
    """Seconds to import and load a side in a fresh process."""
    program = LOADS[side].format(folder=str(MINILM.find("benchmark").parent))
    timed = f"import time; t = time.perf_counter(); {program}; print('took', time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def sides(texts: list[str]) -> dict[str, Any]:
    """Return every side as a function of texts."""
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(MINILM.find("benchmark").parent), device="cpu")
    own: dict[str, TextEncoder] = {name: encoder(name, cache=False) for name in NAMES[:-1]}
    own["tfidf"] = TfidfEncoder().fit(texts)

    def plain(some: list[str]) -> np.ndarray:
        return np.asarray(library.encode(some, normalize_embeddings=True, show_progress_bar=False))

    return {"sentence-transformers": plain, **{name: one.encode for name, one in own.items()}}


def speed(what: str, texts: list[str], count: int, rounds: int, loads: dict[str, float]) -> list[dict[str, Any]]:
    """Time every side on the first texts."""
    some, all_sides = texts[:count], sides(texts)
    best = dict.fromkeys(all_sides, np.inf)
    vectors: dict[str, np.ndarray] = {}
    for side in all_sides.values():
        side(some[:40])
    for _ in range(rounds):
        for name, side in all_sides.items():
            started = time.perf_counter()
            vectors[name] = side(some)
            best[name] = min(best[name], time.perf_counter() - started)
    reference = vectors["sentence-transformers"]
    rows = []
    for name, seconds in best.items():
        row = {
            "what": what,
            "encoder": name,
            "texts": count,
            "mean characters": round(float(np.mean([len(t) for t in some]))),
            "texts/s": round(count / seconds, 1),
            "times sentence-transformers": round(best["sentence-transformers"] / seconds, 2),
            "import and load s": round(loads[name], 2),
        }
        if name in ("minilm", "minilm-onnx"):
            row["least cosine to sentence-transformers"] = round(float((reference * vectors[name]).sum(1).min()), 6)
        rows.append(row)
        print(row, flush=True)
    return rows


def cached(what: str, texts: list[str], count: int, rounds: int) -> dict[str, Any]:
    """Time what is known already."""
    some = texts[:count]
    with tempfile.TemporaryDirectory() as folder:
        own = encoder("minilm-onnx", cache=folder)
        own.encode(some)
        best = np.inf
        for _ in range(rounds):
            started = time.perf_counter()
            own.encode(some)
            best = min(best, time.perf_counter() - started)
    row = {"what": what, "encoder": "minilm-onnx, all in the cache", "texts": count, "texts/s": round(count / best)}
    print(row, flush=True)
    return row


def fitting(texts: list[str]) -> dict[str, Any]:
    """Time the fit of TF-IDF."""
    started = time.perf_counter()
    own = TfidfEncoder().fit(texts)
    seconds = time.perf_counter() - started
    return {"what": "fit of TF-IDF", "texts": len(texts), "features": len(own.idf_), "seconds": round(seconds, 2)}


def reranking(texts: list[str], count: int) -> dict[str, Any]:
    """Time the cross-encoder on titles."""
    own = reranker()
    own.score("black ink", texts[:4])
    started = time.perf_counter()
    own.score("black ink for my printer", texts[:count])
    return {"what": "reranker, titles", "pairs": count, "pairs/s": round(count / (time.perf_counter() - started), 1)}


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--titles", type=int, default=1024, help="titles a round")
    parser.add_argument("--long", type=int, default=128, help="titles with descriptions a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="measure, but write no result")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    data = read(data_folder("amazon-office"))
    short, long = titles(data), item_texts(data)
    loads = {side: load_seconds(side) for side in LOADS}
    rows = speed("titles", short, options.titles, options.rounds, loads)
    rows += speed("titles with descriptions", long, options.long, options.rounds, loads)
    rows.append(cached("titles", short, options.titles, 5))
    rows.append(fitting(long))
    rows.append(reranking(short, options.long))
    print(*rows[-2:], sep="\n")
    if not options.dry:
        peers = versions("sentence-transformers", "transformers", "onnxruntime", "tokenizers", "wordllama")
        busy = {"before": round(load, 2), "after": round(os.getloadavg()[0], 2)}
        notes = {"data": "amazon-office, 3,317 items", "rounds": options.rounds, "load average (1 minute)": busy}
        record("encoders", rows, what=__doc__, peers=peers, seeds=[0], notes=notes)


if __name__ == "__main__":
    main()
