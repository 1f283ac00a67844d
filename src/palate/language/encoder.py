"""Text encoders: texts in, vectors out, one interface for every back end.

::

    vectors = encoder("minilm").encode(["a red bicycle", "Fahrrad, rot"])        float32[2, 384], rows of length 1

The same text gives the same vector whatever order and company it comes in: each distinct text is encoded once, and blank ones
(nothing but white space) have the zero vector with every back end. Back ends that work in batches sort them by length, so that
little is computed for padding, and run one batch a core; there a vector may differ in its last bits (below 1e-6) with the
company of its batch, and ``batch_size=1`` takes away even that. Vectors of slow back ends are kept between runs
(:mod:`palate.language.vector_cache`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np

from palate.errors import ConfigError, DataError
from palate.language.checks import Texts, checked_texts
from palate.language.vector_cache import VectorCache, cache_folder
from palate.progress import Progress, ProgressEvent, silent

#: What a cache may be given as (see :class:`TextEncoder`).
Cache: TypeAlias = bool | str | Path | VectorCache


class TextEncoder:
    """Base of all encoders.

    A back end sets ``name`` and ``dim``, gives ``_fingerprint`` and implements ``_encode``.

    Parameters
    ----------
    cache
        ``True``: the user's cache folder (off where ``PALATE_TEXT_CACHE=off``); ``False``: none; a folder, or a
        :class:`~palate.language.vector_cache.VectorCache`. Back ends that are faster than any cache keep nothing.
    """

    #: What it is called in reports.
    name: str
    #: Length of a vector.
    dim: int
    #: Whether vectors are worth keeping.
    cached: ClassVar[bool] = True
    #: Texts handed to the back end at once; what is done is kept after each block.
    block: ClassVar[int] = 4096

    def __init__(self, *, cache: Cache = True) -> None:
        self._cache = _cache(cache) if self.cached else None

    def encode(self, texts: Texts, *, normalize: bool = True, progress: Progress = silent) -> np.ndarray:
        """Return a vector for each text.

        Parameters
        ----------
        texts
            ``n`` texts, of any length; what is beyond a back end's longest input is not read.
        normalize
            Whether vectors have length 1 (blank texts stay zero); else they are as the back end pools them.
        progress
            Called after each block of new texts.

        Returns
        -------
        vectors
            ``float32[n, dim]``, finite.

        Raises
        ------
        DataError
            If a row is not text.
        """
        rows = checked_texts(texts)
        distinct = list(dict.fromkeys(text for text in rows if text and not text.isspace()))
        vectors = self._vectors(distinct, progress)
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        place = {text: at for at, text in enumerate(distinct)}
        at = np.array([place.get(text, -1) for text in rows], np.int64)
        if len(distinct) == len(rows) and len(rows):
            return vectors
        out = np.zeros((len(rows), self.dim), np.float32)
        out[at >= 0] = vectors[at[at >= 0]]
        return out

    def without_cache(self) -> Self:
        """Return the same encoder, its weights shared, that keeps nothing: for texts that must not be written down."""
        same = copy.copy(self)
        same._cache = None
        return same

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits: of everything that decides a vector, the bytes of the weights included."""
        return self._fingerprint()

    def _vectors(self, texts: list[str], progress: Progress) -> np.ndarray:
        """Return vectors of distinct texts that aren't blank: from the cache where known."""
        if self._cache is None:
            known, vectors = np.zeros(len(texts), bool), np.zeros((len(texts), self.dim), np.float32)
        else:
            known, vectors = self._cache.get(self.fingerprint, texts, self.dim)
        missing = np.flatnonzero(~known)
        missing = missing[np.argsort([-len(texts[row]) for row in missing], kind="stable")] if len(missing) else missing
        for start in range(0, len(missing), self.block):
            rows = missing[start : start + self.block]
            some = [texts[row] for row in rows]
            found = self._encode(some)
            self._check(found, some)
            vectors[rows] = found
            if self._cache is not None:
                self._cache.put(self.fingerprint, some, found)
            progress(ProgressEvent(f"{self.name}: texts", min(start + self.block, len(missing)), len(missing)))
        return vectors

    def _check(self, vectors: np.ndarray, texts: Sequence[str]) -> None:
        if vectors.shape != (len(texts), self.dim):
            raise DataError(
                f"the model gives vectors of another shape than float32[n, {self.dim}].", where=self.name, value=vectors.shape
            )
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise DataError("the model gives a vector that isn't finite.", where=self.name, value=texts[bad[0]])

    def _encode(self, texts: list[str]) -> np.ndarray:
        """Return ``float32[n, dim]`` for distinct texts that aren't blank, not normalised."""
        raise NotImplementedError

    def _fingerprint(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, dim={self.dim})"


def _cache(given: Cache) -> VectorCache | None:
    if isinstance(given, VectorCache):
        return given
    if given is False:
        return None
    if given is True:
        folder = cache_folder()
        return None if folder is None else VectorCache(folder)
    if not isinstance(given, (str, Path)):
        raise ConfigError("a cache is true, false, a folder or a VectorCache.", where="cache", value=given)
    return VectorCache(given)


#: Names that :func:`encoder` knows, and what each is.
ENCODERS = {
    "minilm": "all-MiniLM-L6-v2, float weights through transformers (384)",
    "minilm-onnx": "all-MiniLM-L6-v2, 8-bit weights through ONNX Runtime, without torch (384)",
    "bge": "bge-small-en-v1.5, 8-bit through ONNX Runtime, without torch (384)",
    "static": "WordLlama's static word vectors (256)",
    "tfidf": "TF-IDF and truncated SVD, to be fitted on your own texts; nothing to install (128)",
}


def encoder(which: str | Path = "minilm", *, cache: Cache = True, **settings: Any) -> TextEncoder:
    """Return an encoder by name, or of a model's folder.

    Parameters
    ----------
    which
        A name of ``ENCODERS``, or a folder: sentence-transformers layout, ONNX (``model.onnx`` and ``tokenizer.json``), static
        vectors, or a saved :class:`~palate.language.encoders.tfidf.TfidfEncoder`. A model that was trained with words before
        its input (E5 has "query:") wants them in the texts.
    cache
        See :class:`TextEncoder`.
    settings
        Of the back end, such as ``batch_size``, ``pooling``, ``max_length``; of ``"tfidf"``: ``dim``, ``subwords``,
        ``max_features``, ``seed``.

    Raises
    ------
    MissingExtraError
        If a library or a model's package is not installed; the error names the command.
    ConfigError
        If there is no such name or folder, or its pooling can't be told.
    """
    from palate.language.encoders import factory

    return factory.make(which, cache=cache, **settings)
