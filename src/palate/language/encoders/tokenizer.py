"""A saved tokenizer (``tokenizer.json``), with its own padding and truncation taken off.

Published files carry settings of the export: all-MiniLM-L6-v2's cuts at 128 tokens and fills up to 128, though the model was
published with 256. What counts here is the length that is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palate.errors import BundleError
from palate.extras import require
from palate.language.encoders.batches import Tokens

_BLOCK = 512


class Tokenizer:
    """Texts to token numbers.

    Parameters
    ----------
    path
        The file.
    max_length
        Most tokens of a text or pair, marks included; ``None`` for all.
    purpose
        Who needs it; named where the library is not installed.
    lower
        Whether texts are put in lower case first.

    Raises
    ------
    BundleError
        If there is no such file or it can't be read.
    """

    def __init__(self, path: Path, max_length: int | None, purpose: str, *, lower: bool = False) -> None:
        self.lower = lower
        library = require("tokenizers", purpose)
        if not path.is_file():
            raise BundleError("the model has no tokenizer.json.", where=path.parent, remedy="save it with a fast tokenizer")
        try:
            self._own: Any = library.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError("the tokenizer can't be read.", where=path, value=str(error), remedy="copy it again") from None
        padding = self._own.padding
        self.pad = int(padding["pad_id"]) if padding else self._number("[PAD]", "<pad>")
        self._own.no_padding()
        if max_length is None:
            self._own.no_truncation()
        else:
            self._own.enable_truncation(max_length)

    def __len__(self) -> int:
        return int(self._own.get_vocab_size())

    def _number(self, *words: str) -> int:
        found = (self._own.token_to_id(word) for word in words)
        return next((number for number in found if number is not None), 0)

    def tokens(self, texts: Sequence[str] | Sequence[tuple[str, str]], *, marks: bool = True) -> list[Tokens]:
        """Return the tokens of each text or pair.

        Parameters
        ----------
        texts
            Texts, or pairs.
        marks
            Whether the model's marks of begin and end are put in.
        """
        out: list[Tokens] = []
        for start in range(0, len(texts), _BLOCK):
            some = [self._cased(text) for text in texts[start : start + _BLOCK]]
            found = self._own.encode_batch_fast(some, add_special_tokens=marks)
            out += [Tokens(np.array(entry.ids, np.int32), np.array(entry.type_ids, np.int8)) for entry in found]
        return out

    def _cased(self, text: str | tuple[str, str]) -> str | tuple[str, str]:
        if not self.lower:
            return text
        return text.lower() if isinstance(text, str) else (text[0].lower(), text[1].lower())
