"""Encoder without any download: TF-IDF and a truncated SVD (latent semantic analysis), fitted on your own texts.

    x_f(t) = (1 + ln c_f(t)) idf_f,    idf_f = 1 + ln((1 + N) / (1 + n_f)),    x̂(t) = x(t) / ‖x(t)‖
    X̂ ≈ U Σ Vᵀ,    v(t) = x̂(t) V

with ``c_f(t)`` the times that feature ``f`` stands in text ``t``, ``N`` texts, and ``n_f`` of them with the feature.
Features are words, and the runs of four characters in a word with its ends marked (``<bicycle>``: ``<bic``, ``bicy``, …),
which count ``subwords`` times as much. Through them a word that was never seen (an inflection, a compound, a typing error)
gets its place from its parts, and scripts written without spaces need no word list. A text of which nothing is known has the
zero vector.

The SVD is a subspace iteration from random vectors (the same seed gives the same bits); signs are fixed by each column's
largest entry. With few texts it is exact; columns beyond the rank are zero.

Sources: S. Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 1990; N. Halko et al., "Finding Structure with
Randomness", SIAM Review 2011, algorithm 4.4.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, Self

import numpy as np
from scipy import sparse

from palate.data.fingerprint import fingerprint
from palate.data.ragged import offsets_of
from palate.errors import BundleError, ConfigError, DataError, NotFittedError
from palate.language.checks import Texts, checked_texts
from palate.language.encoders.saved import ROWS, SavedEncoder
from palate.runtime import generator, single_threaded_blas

FILE = "tfidf.safetensors"
_WORD = re.compile(r"\w+")
#: Extra random vectors, and rounds of the subspace iteration.
_EXTRA, _ROUNDS = 16, 6
#: Characters in a run.
_RUN = 4
#: Parts of the state.
_PARTS = ("names", "name_offsets", "idf", "vectors", "settings")


class TfidfEncoder(SavedEncoder):
    """Text encoder by TF-IDF and truncated SVD (see the module's text).

    Parameters
    ----------
    dim
        Length of a vector.
    max_features
        Most features; those of most texts stay.
    subwords
        Weight of the runs of characters beside the words; 0 leaves them out.
    seed
        Of the random vectors that the SVD begins from.

    Examples
    --------
    >>> texts = ["red bicycle", "green bicycle", "steel pan", "iron pan"]
    >>> v = TfidfEncoder(dim=2).fit(texts).encode(["bicycles", "pans", "?"])
    >>> bool(v[0] @ v[1] < 0.1), v[2].tolist()
    (True, [0.0, 0.0])
    """

    name = "tfidf"
    file, kind = FILE, "TF-IDF"

    names_: dict[str, int]
    idf_: np.ndarray  # float32[features]
    vectors_: np.ndarray  # float32[features, dim]

    def __init__(self, *, dim: int = 128, max_features: int = 100_000, subwords: float = 0.5, seed: int = 0) -> None:
        super().__init__(cache=False)
        if not (dim > 0 and max_features > 0 and 0 <= subwords <= 100 and seed >= 0):
            value = {"dim": dim, "max_features": max_features, "subwords": subwords, "seed": seed}
            raise ConfigError("dim and max_features are above 0, subwords lies in 0 to 100, seed is not negative.", value=value)
        self.dim, self.max_features, self.subwords, self.seed = dim, max_features, float(subwords), seed

    def fit(self, texts: Texts) -> Self:
        """Learn features and directions from texts, such as those of all items; return self.

        Raises
        ------
        DataError
            If a row is not text, or no text has a word.
        """
        rows = checked_texts(texts)
        vocabulary: dict[str, int] = {}
        blocks = [_words_of(rows[start : start + ROWS], vocabulary) for start in range(0, len(rows), ROWS)]
        if not vocabulary:
            raise DataError(
                "no text has a word in it.", where="texts", value=f"{len(rows)} texts", remedy="give texts of items"
            )
        parts = [_parts(word, self.subwords > 0) for word in vocabulary]
        all_names = {feature: at for at, feature in enumerate(dict.fromkeys(chain.from_iterable(parts)))}
        within = _named(parts, all_names)
        often = sum(np.bincount(_times(block, within).indices, minlength=len(all_names)) for block in blocks)
        found = dict(zip(all_names, np.asarray(often).tolist(), strict=True))
        kept = sorted(sorted(found, key=lambda feature: (-found[feature], feature))[: self.max_features])
        counts = np.array([found[feature] for feature in kept], np.float64)
        self.names_ = {feature: at for at, feature in enumerate(kept)}
        self.idf_ = (1 + np.log((1 + len(rows)) / (1 + counts))).astype(np.float32)
        within = _named(parts, self.names_)
        matrix = sparse.vstack([self._weighted(_times(block, within)) for block in blocks], format="csr")
        self.vectors_ = np.zeros((len(kept), self.dim), np.float32)
        right = _right_vectors(matrix, self.dim, generator(self.seed, "tfidf", "svd"))
        self.vectors_[:, : right.shape[1]] = right
        self.__dict__.pop("fingerprint", None)
        return self

    def known_share(self, texts: Texts) -> np.ndarray:
        """Return ``float32[n]``: how much of each text the encoder knows, 0 to 1.

        It is the known features' share of ``Σ ((1 + ln c_f) idf_f)²``; a feature that was never seen has the largest
        ``idf`` there is. Vectors of length 1 don't tell it: a strange word with one known run of characters points where that
        run does.
        """
        self._check_fitted()
        most = float(self.idf_.max())
        shares = np.zeros(len(texts), np.float32)
        for row, text in enumerate(checked_texts(texts)):
            known = total = 0.0
            for feature, count in Counter(features(text, self.subwords > 0)).items():
                at = self.names_.get(feature)
                weight = (1 + np.log(count)) * (self.subwords if feature[0] == MARK else 1.0)
                square = float(weight * (most if at is None else self.idf_[at])) ** 2
                total, known = total + square, known + (square if at is not None else 0.0)
            shares[row] = known / total if total else 0.0
        return shares

    def _matrix(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Return the weighted features of each text, rows of length 1."""
        vocabulary: dict[str, int] = {}
        words = _words_of(texts, vocabulary)
        parts = [_parts(word, self.subwords > 0) for word in vocabulary]
        return self._weighted(_times(words, _named(parts, self.names_)))

    def _weighted(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return counts as weights, rows of length 1."""
        columns, times, offsets = counts.indices, counts.data.astype(np.float32), counts.indptr
        words = np.fromiter((name[0] != MARK for name in self.names_), bool, len(self.names_))[columns]
        weights = (1 + np.log(times)) * self.idf_[columns] * np.where(words, 1, np.float32(self.subwords))
        squares = np.concatenate([[0.0], np.cumsum(np.square(weights, dtype=np.float64))])
        norms = np.sqrt(np.maximum(squares[offsets[1:]] - squares[offsets[:-1]], 0))
        weights = weights / np.repeat(np.maximum(norms, 1e-12), np.diff(offsets))
        return sparse.csr_matrix((weights.astype(np.float32), columns, offsets), shape=counts.shape)

    def _encode(self, texts: list[str]) -> np.ndarray:
        self._check_fitted()
        return super()._encode(texts)

    def _block(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(self._matrix(texts) @ self.vectors_, np.float32)

    def _check_fitted(self) -> None:
        if not hasattr(self, "vectors_"):
            raise NotFittedError("the TF-IDF encoder has not been fitted.", remedy="call fit(texts), or load a folder")

    def state(self) -> dict[str, np.ndarray]:
        """Return everything as arrays; :meth:`of_state` takes them back."""
        self._check_fitted()
        words = [feature.encode() for feature in self.names_]
        settings = {"dim": self.dim, "max_features": self.max_features, "subwords": self.subwords, "seed": self.seed}
        return {
            "names": np.frombuffer(b"".join(words), np.uint8),
            "name_offsets": offsets_of([len(word) for word in words]),
            "idf": self.idf_,
            "vectors": self.vectors_,
            "settings": np.frombuffer(json.dumps(settings, sort_keys=True).encode(), np.uint8),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """Restore from what :meth:`state` gave (see the base)."""
        try:
            self = cls(**json.loads(state["settings"].tobytes()))
            raw, offsets = state["names"].tobytes(), state["name_offsets"].tolist()
            names = [raw[low:high].decode() for low, high in pairwise(offsets)]
            self.names_ = {name: at for at, name in enumerate(names)}
            self.idf_, self.vectors_ = state["idf"], state["vectors"]
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise BundleError(
                "the arrays are not those of a TF-IDF encoder.", value=str(error), remedy="fit it again"
            ) from None
        shapes: list[Any] = [self.idf_.shape, self.vectors_.shape, offsets[-1:]]
        if shapes != [(len(names),), (len(self.names_), self.dim), [len(raw)]]:
            raise BundleError("the arrays of the encoder don't belong together.", value=shapes, remedy="fit it again")
        return self

    def _fingerprint(self) -> str:
        state = self.state()
        return fingerprint("tfidf", *(state[name] for name in _PARTS))


#: Begins a run of characters, which no word does.
MARK = " "


def features(text: str, runs: bool) -> list[str]:
    """Return the words of a text, with repetitions, and after them the runs of characters in them (those begin with MARK)."""
    words = _words(text)
    return [*words, *(run for word in words for run in _parts(word, runs)[1:])]


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _parts(word: str, runs: bool) -> list[str]:
    """Return the features of a word: itself, and its runs of characters."""
    if not runs:
        return [word]
    marked = f"<{word}>"
    return [word, *(MARK + marked[at : at + _RUN] for at in range(max(1, len(marked) - _RUN + 1)))]


def _words_of(texts: Sequence[str], vocabulary: dict[str, int]) -> sparse.csr_matrix:
    """Return ``int32[texts, words]``: how often each word stands in each text; new words get the next numbers."""
    rows = [[vocabulary.setdefault(word, len(vocabulary)) for word in _words(text)] for text in texts]
    return _tally(rows, len(vocabulary))


def _named(parts: Sequence[Sequence[str]], names: Mapping[str, int]) -> sparse.csr_matrix:
    """Return ``int32[words, features]``: how often each feature stands in each word; those without a name are left out."""
    return _tally([[names[feature] for feature in row if feature in names] for row in parts], len(names))


def _times(words: sparse.csr_matrix, parts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return ``int32[texts, features]``: how often each feature stands in each text, whose words may be the first of more."""
    counts = words @ parts[: words.shape[1]]
    counts.sort_indices()
    return counts


def _tally(rows: Sequence[Sequence[int]], width: int) -> sparse.csr_matrix:
    """Return how often each number stands in each row."""
    numbers, offsets = np.fromiter(chain.from_iterable(rows), np.int32), offsets_of([len(row) for row in rows])
    table = sparse.csr_matrix((np.ones(len(numbers), np.int32), numbers, offsets), (len(rows), width))
    table.sum_duplicates()
    return table


def _right_vectors(x: sparse.csr_matrix, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``float32[features, r]``: the first right singular vectors, ``r`` at most ``dim`` and the rank."""
    width = min(dim + _EXTRA, *x.shape)
    turned = x.T.tocsr()
    with single_threaded_blas():  # the same bits on any number of cores, and no threads that wait for each other
        basis = _orthonormal(x @ rng.standard_normal((x.shape[1], width), np.float32))
        for _ in range(_ROUNDS):
            basis = _orthonormal(x @ _orthonormal(turned @ basis))
        right = _orthonormal(turned @ basis)[:, :dim].T
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])
    return np.asarray((right * signs[:, None]).T, np.float32)


def _orthonormal(y: np.ndarray) -> np.ndarray:
    """Return the left singular vectors of a tall matrix, the largest first, without those below 3e-5 of the largest.

    By the eigenvectors of its Gram matrix in double precision: a few products, which cost less than a QR factorisation.
    """
    wide = y.astype(np.float64)
    squares, turn = np.linalg.eigh(wide.T @ wide)
    kept = np.flatnonzero(squares > 1e-9 * max(squares[-1], 1e-300))[::-1]
    return np.asarray(wide @ (turn[:, kept] / np.sqrt(squares[kept])), np.float32)
