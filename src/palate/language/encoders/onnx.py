"""Encoder in an ONNX file (``model.onnx`` beside ``tokenizer.json``): no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from palate.data.fingerprint import file_sha256, fingerprint
from palate.errors import BundleError
from palate.language.encoder import Cache, TextEncoder
from palate.language.encoders.batches import Batch, pooled
from palate.language.encoders.folders import chosen_pooling
from palate.language.encoders.session import Session
from palate.language.encoders.tokenizer import Tokenizer


class OnnxEncoder(TextEncoder):
    """Text encoder of an ONNX file.

    Parameters
    ----------
    model, tokenizer
        The two files.
    pooling
        ``"mean"`` or ``"cls"``; not needed where the model itself pools (an output of one vector a text).
    max_length
        Most tokens of a text, marks included.
    lower
        Whether texts are put in lower case first.
    batch_size
        Texts that are run together (1 for models that need it, see :mod:`palate.language.encoders.session`).
    name, cache
        See :class:`~palate.language.encoder.TextEncoder`.
    """

    def __init__(
        self,
        model: Path,
        tokenizer: Path,
        *,
        pooling: str | None = None,
        max_length: int = 512,
        lower: bool = False,
        batch_size: int = 16,
        name: str = "onnx",
        cache: Cache = True,
    ) -> None:
        super().__init__(cache=cache)
        self.name, self.max_length = name, max_length
        self._files = (model, tokenizer)
        self._tokenizer = Tokenizer(tokenizer, max_length, name, lower=lower)
        self._session = Session(model, batch_size, name)
        ranks = self._session.outputs
        whole = [key for key, rank in ranks.items() if rank == 2]
        states = [key for key, rank in ranks.items() if rank == 3]
        if "sentence_embedding" in whole or not states:
            self._output = "sentence_embedding" if "sentence_embedding" in whole else next(iter(whole), "")
        else:
            self._output = next((key for key in ("last_hidden_state", "token_embeddings") if key in states), states[0])
        if not self._output:
            raise BundleError("the ONNX file has no output of states or vectors.", where=model, value=sorted(ranks))
        self.pooling = "its own" if ranks[self._output] == 2 else chosen_pooling(pooling, model)
        width = self._session.dims[self._output]
        self.dim = width if isinstance(width, int) else len(self._batch(self._probe())[0])

    def _probe(self) -> Batch:
        entry = self._tokenizer.tokens(["a"])[0]
        return Batch(
            np.zeros(1, np.int64), *(np.atleast_2d(x).astype(np.int64) for x in (entry.ids, entry.ids * 0 + 1, entry.types))
        )

    def _batch(self, batch: Batch) -> np.ndarray:
        found = self._session.output(batch, self._output)
        return found if found.ndim == 2 else pooled(found, batch.mask, self.pooling)

    def _encode(self, texts: list[str]) -> np.ndarray:
        return self._session.run(self._tokenizer.tokens(texts), self.dim, self._batch, self._tokenizer.pad)

    def _fingerprint(self) -> str:
        files = [*sorted(self._files[0].parent.glob(self._files[0].name + "*")), self._files[1]]  # weights may lie beside it
        return fingerprint(
            "onnx", [file_sha256(path) for path in files], self.pooling, self.max_length, self._output, self._tokenizer.lower
        )
