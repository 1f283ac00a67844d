"""Encoders that are a few arrays: one file in a folder, and texts that pass in blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from palate.data.whole import whole_folder
from palate.errors import BundleError
from palate.language.encoder import TextEncoder

#: Texts that pass at once.
ROWS = 2048


class SavedEncoder(TextEncoder):
    """Base of these; a subclass gives ``state``, ``of_state`` and ``_block``."""

    cached = False
    #: Name of the file, and how errors call what is in it.
    file: ClassVar[str]
    kind: ClassVar[str]

    def state(self) -> dict[str, np.ndarray]:
        """Return everything as arrays, for a bundle of a model that uses this encoder; :meth:`of_state` takes them back."""
        raise NotImplementedError

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """Restore from what :meth:`state` gave.

        Raises
        ------
        BundleError
            If the arrays don't belong together.
        """
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write one safetensors file into a folder, whole or not at all; return the folder."""
        state = {name: np.ascontiguousarray(array) for name, array in self.state().items()}
        with whole_folder(Path(folder), self.file) as work:
            save_file(state, work / self.file)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        BundleError
            If there is none, or it can't be read.
        """
        path = Path(folder) / cls.file
        try:
            return cls.of_state(load_file(path))
        except (OSError, SafetensorError) as error:
            raise BundleError(
                f"there is no {cls.kind} encoder here.", where=path, value=str(error), remedy="save one first"
            ) from None

    def _block(self, texts: Sequence[str]) -> np.ndarray:
        """Return ``float32[n, dim]`` of at most ``ROWS`` texts."""
        raise NotImplementedError

    def _encode(self, texts: list[str]) -> np.ndarray:
        out = np.empty((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), ROWS):
            out[start : start + ROWS] = self._block(texts[start : start + ROWS])
        return out
