"""Encoder by static vectors: the mean of the vectors of a text's tokens, tens of thousands of texts a second.

    v(text) = 1/|T| Σ_{t in T} E[t]

Differences from the WordLlama library, whose vectors these are (tested beside it): the package's two files are read
directly, since its own look-up fails in the published version; a text is never filled up, so a long one costs nothing to its
neighbours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy import sparse

from palate.data.fingerprint import file_sha256, fingerprint
from palate.data.ragged import offsets_of
from palate.errors import BundleError
from palate.language.encoder import Cache, TextEncoder
from palate.language.encoders.tokenizer import Tokenizer


class StaticEncoder(TextEncoder):
    """Text encoder of a table of token vectors.

    Parameters
    ----------
    weights
        Safetensors file with one matrix, a row a token.
    tokenizer
        The ``tokenizer.json``.
    name, cache
        See :class:`~palate.language.encoder.TextEncoder`; nothing is kept.

    Raises
    ------
    BundleError
        If the files can't be read, or don't belong together.
    """

    cached = False

    def __init__(self, weights: Path, tokenizer: Path, *, name: str = "static", cache: Cache = True) -> None:
        super().__init__(cache=cache)
        self.name = name
        self._files = (weights, tokenizer)
        self._tokenizer = Tokenizer(tokenizer, None, name)
        try:
            tensors = load_file(weights)
        except (SafetensorError, OSError) as error:
            raise BundleError("the vectors can't be read.", where=weights, value=str(error), remedy="copy them again") from None
        if len(tensors) != 1 or next(iter(tensors.values())).ndim != 2:
            raise BundleError("the file holds other things than one matrix.", where=weights, value=sorted(tensors))
        self._table = np.ascontiguousarray(next(iter(tensors.values())), np.float32)
        if len(self._tokenizer) > len(self._table):
            raise BundleError("the tokenizer has more tokens than there are vectors.", where=weights, value=len(self._table))
        self.dim = self._table.shape[1]

    def _encode(self, texts: list[str]) -> np.ndarray:
        tokens = [entry.ids for entry in self._tokenizer.tokens(texts, marks=False)]
        lengths = np.array([len(ids) for ids in tokens], np.int64)
        columns = np.concatenate([np.empty(0, np.int32), *tokens])
        shares = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
        rows = sparse.csr_matrix((shares, columns, offsets_of(lengths)), shape=(len(texts), len(self._table)))
        return np.asarray(rows @ self._table, np.float32)

    def _fingerprint(self) -> str:
        return fingerprint("static", [file_sha256(path) for path in self._files])
