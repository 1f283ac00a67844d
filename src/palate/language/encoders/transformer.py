"""Encoder in a folder of transformers or sentence-transformers, run by torch.

Of a sentence-transformers folder the settings are read here, and the model is run by transformers: the vectors are those of the
sentence-transformers library (tested beside it), which need not be imported, for a quicker start and less memory. Weights come
as safetensors; pickled ones are refused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from palate.data.fingerprint import file_sha256, fingerprint
from palate.errors import BundleError
from palate.extras import require
from palate.language.encoder import Cache, TextEncoder
from palate.language.encoders.batches import Batch, pooled, run
from palate.language.encoders.folders import chosen_pooling, read_folder
from palate.language.encoders.tokenizer import Tokenizer


class TransformerEncoder(TextEncoder):
    """Text encoder of a local folder.

    Parameters
    ----------
    folder
        With ``config.json``, ``model.safetensors`` and ``tokenizer.json``, in sentence-transformers layout or not.
    pooling
        ``"mean"`` or ``"cls"`` where the folder doesn't say.
    max_length
        Most tokens of a text, marks included; the folder's own where ``None``.
    batch_size
        Texts that are run together.
    device
        Where torch runs it.
    name, cache
        See :class:`~palate.language.encoder.TextEncoder`.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        pooling: str | None = None,
        max_length: int | None = None,
        batch_size: int = 16,
        device: str = "cpu",
        name: str | None = None,
        cache: Cache = True,
    ) -> None:
        super().__init__(cache=cache)
        read = read_folder(folder)
        self.name = name or read.path.name
        self.pooling, self.max_length = chosen_pooling(pooling or read.pooling, read.path), max_length or read.max_length
        self.batch_size, self.device = batch_size, device
        self._tokenizer = Tokenizer(read.tokenizer, self.max_length, self.name, lower=read.lower)
        self._torch: Any = require("torch", self.name)
        self._model = load_transformer(read.transformer, self.name)[0].eval().to(device)
        self.dim = int(self._model.config.hidden_size)
        names = ("config.json", "model*.safetensors")
        self._files = [read.tokenizer, *(path for name in names for path in sorted(read.transformer.glob(name)))]

    def _batch(self, batch: Batch) -> np.ndarray:
        torch = self._torch
        with torch.inference_mode():
            ids, mask = (torch.from_numpy(array).to(self.device) for array in (batch.ids, batch.mask))
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        return pooled(states.float().cpu().numpy(), batch.mask, self.pooling)

    def _encode(self, texts: list[str]) -> np.ndarray:
        tokens = self._tokenizer.tokens(texts)
        own = self.device == "cpu"
        with _one_thread(self._torch) if own else nullcontext():
            workers = None if own else 1
            return run(tokens, self.dim, self._batch, size=self.batch_size, pad=self._tokenizer.pad, workers=workers)

    def _fingerprint(self) -> str:
        return fingerprint(
            "transformer", [file_sha256(path) for path in self._files], self.pooling, self.max_length, self._tokenizer.lower
        )


def load_transformer(folder: Path, purpose: str, *, words: bool = False) -> tuple[Any, list[str]]:
    """Return the model of a folder and the names of its weights that the folder lacks, without a bar of progress.

    Nothing is fetched and no code of the folder runs.

    Parameters
    ----------
    purpose
        What transformers is needed for, named where it is not installed.
    words
        Whether the model has its head that tells masked words.

    Raises
    ------
    BundleError
        If the folder can't be read.
    """
    transformers = require("transformers", purpose)
    kind = transformers.AutoModelForMaskedLM if words else transformers.AutoModel
    given = {"local_files_only": True, "use_safetensors": True, "dtype": "float32", "trust_remote_code": False}
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, facts = kind.from_pretrained(str(folder), output_loading_info=True, **given)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        remedy = "give a folder with config.json and model.safetensors, written by save_pretrained"
        raise BundleError("transformers can't read the model.", where=folder, value=str(error), remedy=remedy) from None
    finally:
        if shown:
            logging.enable_progress_bar()
    return model, sorted(facts["missing_keys"])


class _OneThread:
    """Hold torch to one thread an operation: batches run side by side, and bits don't hang on the number of threads.

    The number is the whole process's: the first to enter notes it, the last to leave sets it again.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, 1

    @contextmanager
    def __call__(self, torch: Any) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._before = torch.get_num_threads()
                torch.set_num_threads(1)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    torch.set_num_threads(self._before)


_one_thread = _OneThread()
