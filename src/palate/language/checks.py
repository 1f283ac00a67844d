"""Texts as they come from files and people, made fit for tokenizers, or refused with their row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from palate.errors import DataError

#: Texts, a row each: a list, or a column of NumPy or Arrow.
Texts: TypeAlias = Sequence[str] | np.ndarray | pa.Array | pa.ChunkedArray


def checked_texts(texts: Texts, *, where: str = "texts") -> list[str]:
    """Return the texts as a list that every tokenizer takes.

    NUL becomes a space, and half a surrogate pair (which UTF-8 can't hold) a question mark. Nothing else is changed.

    Raises
    ------
    DataError
        If one text is given where a list belongs, or if a row is not text (missing values included).
    """
    if isinstance(texts, (str, bytes)):
        raise DataError("one text was given where a list belongs.", where=where, value=texts, remedy="give [text]")
    rows: list[Any] = texts.to_pylist() if isinstance(texts, (pa.Array, pa.ChunkedArray)) else list(texts)
    return [_clean(text, row, where) for row, text in enumerate(rows)]


def _clean(text: Any, row: int, where: str) -> str:
    if not isinstance(text, str):
        remedy = 'put "" where there is no text' if text is None else "turn it into text first"
        raise DataError("this is not text.", where=f"{where}, row {row}", value=repr(text), remedy=remedy)
    if "\0" in text:
        text = text.replace("\0", " ")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-8", "replace").decode()
    return str(text)
