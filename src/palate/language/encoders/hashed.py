"""Encoder by hashed words: a table of vectors that words and runs of characters share by their hash, and layers on top.

    w_f(t) = (1 + ln c_f(t)) idf_f,    x(t) = Σ_f w_f E[hash(f)] / |w|,    v(t) = W_L relu( … relu(W_1 x + b_1) … ) + b_L

with ``c_f(t)`` the times that feature ``f`` stands in text ``t``. Features are those of TF-IDF
(:mod:`palate.language.encoders.tfidf`): words, and runs of four characters, which count ``subwords`` times as much. There is no
list of words, so a text of any domain has a vector; features that fall into one bucket add up. ``idf`` belongs to buckets.

:meth:`HashedEncoder.fresh` draws the weights, and :mod:`palate.training.text_towers` learns them; what was learnt answers here,
without torch. The bits of a vector depend neither on the company of its text nor on the number of threads.

Source: K. Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009 (without its signs); A. Joulin et
al., "Bag of Tricks for Efficient Text Classification", EACL 2017, for the table under a network.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from scipy import sparse

from palate.data.fingerprint import fingerprint
from palate.data.ragged import offsets_of
from palate.errors import BundleError, ConfigError, DataError
from palate.language.checks import Texts, checked_texts
from palate.language.encoders.saved import SavedEncoder
from palate.language.encoders.tfidf import MARK, features

FILE = "hashed.safetensors"


class HashedEncoder(SavedEncoder):
    """Text encoder by hashed words (see the module's text).

    Parameters
    ----------
    table
        ``float32[buckets, width]``, E.
    layers
        Weights ``float32[out, in]`` and biases ``float32[out]`` of each layer, at least one.
    idf
        ``float32[buckets]``; ``None``: all 1.
    subwords
        Weight of the runs of characters beside the words; 0 leaves them out.
    name
        What it is called in reports.

    Raises
    ------
    ConfigError
        If the arrays don't fit together.

    Examples
    --------
    >>> own = HashedEncoder.fresh(np.random.default_rng(0), buckets=1024, width=64, hidden=(), dim=32)
    >>> v = own.encode(["red bicycle", "a red bicycle", "iron pan"])
    >>> bool(v[0] @ v[1] > v[0] @ v[2])
    True
    """

    file, kind = FILE, "hashed"

    def __init__(
        self,
        table: np.ndarray,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        *,
        idf: np.ndarray | None = None,
        subwords: float = 0.5,
        name: str = "hashed",
    ) -> None:
        super().__init__(cache=False)
        self.name, self.table, self.subwords = name, np.ascontiguousarray(table, np.float32), float(subwords)
        self.layers = [(np.ascontiguousarray(w, np.float32), np.ascontiguousarray(b, np.float32)) for w, b in layers]
        self.idf = np.ones(len(table), np.float32) if idf is None else np.ascontiguousarray(idf, np.float32)
        widths = [self.table.shape[-1], *(len(w) for w, _ in self.layers)]
        fit = all(w.shape == (out, into) and b.shape == (out,) for (w, b), into, out in _steps(self.layers, widths))
        if not (self.table.ndim == 2 and self.layers and fit and self.idf.shape == (len(table),) and 0 <= subwords <= 100):
            shapes = {"table": self.table.shape, "layers": [w.shape for w, _ in self.layers], "idf": self.idf.shape}
            raise ConfigError("the parts of a hashed encoder don't fit together.", where="hashed", value=shapes)
        self.dim = widths[-1]

    @classmethod
    def fresh(
        cls,
        rng: np.random.Generator,
        *,
        buckets: int = 2**16,
        width: int = 256,
        hidden: Sequence[int] = (128,),
        dim: int = 128,
        subwords: float = 0.5,
        idf: np.ndarray | None = None,
    ) -> Self:
        """Return an encoder with random weights: a random projection of the words, which no training has touched yet.

        ``E`` is normal with standard deviation 1; a layer is so with ``√(2 / inputs)`` below a ReLU and ``√(1 / inputs)`` at
        the end; biases are 0.
        """
        if min(buckets, width, dim, *hidden, 1) < 1:
            value = {"buckets": buckets, "width": width, "hidden": tuple(hidden), "dim": dim}
            raise ConfigError("buckets and widths are above 0.", where="hashed", value=value)
        table = rng.standard_normal((buckets, width), np.float32)
        sizes, layers = [width, *hidden, dim], []
        for at, (into, out) in enumerate(pairwise(sizes)):
            scale = np.float32(((1 if at == len(hidden) else 2) / into) ** 0.5)
            layers.append((rng.standard_normal((out, into), np.float32) * scale, np.zeros(out, np.float32)))
        return cls(table, layers, idf=idf, subwords=subwords)

    def bags(self, texts: Texts) -> sparse.csr_matrix:
        """Return ``float32[n, buckets]``: the weighted buckets of each text, rows of length 1 (0 for a text without words)."""
        return hashed_bags(texts, self.idf, self.subwords)

    def _block(self, texts: Sequence[str]) -> np.ndarray:
        bags = self.bags(texts)
        said = np.diff(bags.indptr) > 0
        return np.where(said[:, None], through_layers(bags @ self.table, self.layers), np.float32(0))

    def state(self) -> dict[str, np.ndarray]:
        """Return everything as arrays; :meth:`of_state` takes them back."""
        parts = {f"{kind}{at}": a for at, layer in enumerate(self.layers) for kind, a in zip(("w", "b"), layer, strict=True)}
        settings = json.dumps({"layers": len(self.layers), "name": self.name, "subwords": self.subwords}, sort_keys=True)
        return {"table": self.table, "idf": self.idf, **parts, "settings": np.frombuffer(settings.encode(), np.uint8)}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """Restore from what :meth:`state` gave (see the base)."""
        try:
            settings: dict[str, Any] = json.loads(state["settings"].tobytes())
            layers = [(state[f"w{at}"], state[f"b{at}"]) for at in range(settings.pop("layers"))]
            return cls(state["table"], layers, idf=state["idf"], **settings)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, ConfigError) as error:
            raise BundleError(
                "the arrays are not those of a hashed encoder.", value=str(error), remedy="save it again"
            ) from None

    def _fingerprint(self) -> str:
        state = self.state()
        return fingerprint("hashed", *(state[name] for name in sorted(state)))


def hashed_bags(texts: Texts, idf: np.ndarray, subwords: float) -> sparse.csr_matrix:
    """Return ``float32[n, buckets]``: the weighted buckets of each text, ascending; rows of length 1.

    Parameters
    ----------
    texts
        ``n`` texts.
    idf
        ``float32[buckets]``.
    subwords
        Weight of the runs of characters; 0 leaves them out.
    """
    n = len(idf)
    columns: list[int] = []
    counts: list[int] = []
    lengths: list[int] = []
    weights: list[float] = []
    for text in checked_texts(texts):
        found = Counter(features(text, subwords > 0))
        columns += [zlib.crc32(feature.encode()) % n for feature in found]
        counts += found.values()
        weights += [subwords if feature[0] == MARK else 1.0 for feature in found]
        lengths.append(len(found))
    at = np.array(columns, np.int64)
    values = (1 + np.log(np.array(counts, np.float64))) * np.array(weights) * idf[at]
    bags = sparse.csr_matrix((values.astype(np.float32), at, offsets_of(lengths)), shape=(len(lengths), n))
    bags.sum_duplicates()
    norms = np.sqrt(np.asarray(bags.multiply(bags).sum(axis=1), np.float64)).ravel()
    bags.data /= np.repeat(np.maximum(norms, 1e-12), np.diff(bags.indptr)).astype(np.float32)
    return bags


def idf_of_buckets(texts: Texts, buckets: int, subwords: float = 0.5) -> np.ndarray:
    """Return ``float32[buckets]``: ``1 + ln((1 + N) / (1 + n_b))``, with ``n_b`` of ``N`` texts in bucket ``b``.

    Raises
    ------
    DataError
        If no text has a word.
    """
    bags = hashed_bags(texts, np.ones(buckets, np.float32), subwords)
    if not bags.nnz:
        raise DataError("no text has a word in it.", where="texts", value=f"{bags.shape[0]} texts")
    counts = np.bincount(bags.indices, minlength=buckets)
    return np.asarray(1 + np.log((1 + bags.shape[0]) / (1 + counts)), np.float32)


def through_layers(x: np.ndarray, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return ``float32[n, dim]``: layers with ReLU between them, row by row, so that a row has the same bits in any company."""
    for at, (weight, bias) in enumerate(layers):
        # einsum adds up each number by itself; a product of BLAS would hang on the number of rows and threads
        x = np.einsum("ni,oi->no", x, weight, optimize=False) + bias
        if at < len(layers) - 1:
            x = np.maximum(x, np.float32(0))
    return x


def _steps(layers: Sequence[tuple[np.ndarray, np.ndarray]], widths: Sequence[int]) -> Any:
    return zip(layers, widths[:-1], widths[1:], strict=True)
