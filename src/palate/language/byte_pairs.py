"""Byte pairs: pieces of words, learnt from texts, for models that learn what a piece says from the beginning.

Text is put in lower case and folded (NFKC), cut at blanks and between letters, digits and signs, and written as bytes; the pair
of neighbours that is commonest becomes a piece, until there are as many as asked for. Nothing is unknown: a byte that was never
seen in learning is left out only if it is in no piece, which can't be, as all 256 bytes are pieces.

Source: R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016; bytes: A. Radford et al.,
"Language Models are Unsupervised Multitask Learners", 2019. Built on the ``tokenizers`` library.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from palate.data.ragged import Ragged, offsets_of
from palate.errors import BundleError, ConfigError
from palate.extras import require

#: Texts that are cut at once.
_BLOCK = 4096
#: All bytes are pieces.
_BYTES = 256


class BytePairs:
    """Pieces, as learnt by :meth:`learn`.

    Parameters
    ----------
    text
        The table of pieces, as JSON of the library.
    purpose
        Who needs it; named where the library is not installed.
    """

    def __init__(self, text: str, purpose: str = "byte pairs") -> None:
        library = require("tokenizers", purpose)
        try:
            self._own: Any = library.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise BundleError("these are no byte pairs.", value=str(error), remedy="learn them again") from None
        self.text = text

    @classmethod
    def learn(cls, texts: Sequence[str], size: int, purpose: str = "byte pairs") -> Self:
        """Learn at most ``size`` pieces from texts, in an order that depends on the texts alone.

        Raises
        ------
        ConfigError
            If ``size`` leaves no room beside the 256 bytes.
        """
        if size < _BYTES:
            raise ConfigError("fewer pieces than bytes.", where="byte pairs", value=size, remedy=f"ask for {_BYTES} or more")
        library = require("tokenizers", purpose)
        own = library.Tokenizer(library.models.BPE())
        own.normalizer = library.normalizers.Sequence([library.normalizers.NFKC(), library.normalizers.Lowercase()])
        own.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
        alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
        trainer = library.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        own.train_from_iterator(iter(texts), trainer=trainer, length=len(texts))
        return cls(own.to_str(), purpose)

    def __len__(self) -> int:
        return int(self._own.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the ``int32`` numbers of the pieces of each text, in order."""
        lengths: list[int] = []
        parts: list[np.ndarray] = [np.empty(0, np.int32)]
        for start in range(0, len(texts), _BLOCK):
            found = self._own.encode_batch_fast([str(t) for t in texts[start : start + _BLOCK]], add_special_tokens=False)
            lengths += [len(entry.ids) for entry in found]
            parts += [np.array(entry.ids, np.int32) for entry in found]
        return Ragged(offsets_of(lengths), np.concatenate(parts))

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of one text as they are written in the table."""
        return list(self._own.encode(text, add_special_tokens=False).tokens)

    def array(self) -> np.ndarray:
        """Return ``uint8[1, bytes]``: what a bundle keeps."""
        return np.frombuffer(json.dumps(self.text).encode(), np.uint8)[None].copy()

    @classmethod
    def of_array(cls, array: np.ndarray, purpose: str = "byte pairs") -> Self:
        """Read what :meth:`array` gave."""
        return cls(json.loads(array.tobytes().decode()), purpose)
