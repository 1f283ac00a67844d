"""Errors for a tired reader: what happened, where, the offending value, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class PalateError(Exception):
    """Base of every error that Palate raises on purpose.

    Parameters
    ----------
    what
        One sentence that says what is wrong.
    where
        File, row, column, argument or option at fault.
    value
        The offending value, shown shortened.
    remedy
        The next step, as an imperative sentence or a command.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        value: Any = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else str(where)
        self.value = value
        self.remedy = remedy

    def __str__(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where: {self.where}")
        if self.value is not None:
            lines.append(f"  value: {shorten(self.value)}")
        if self.remedy is not None:
            lines.append(f"  next:  {self.remedy}")
        return "\n".join(lines)


class DataError(PalateError):
    """The data given are not usable as they are."""


class LeakError(DataError):
    """A split lets the future, or the answer, into training."""


class ConfigError(PalateError):
    """A setting is unknown, ill-typed or out of range."""


class BundleError(PalateError):
    """A saved bundle is missing, truncated, edited or of another schema."""


class UnsupportedError(PalateError):
    """A model was asked for something that it honestly can't give."""


class NotFittedError(PalateError):
    """A model was asked before it was fitted."""


class TrainingError(PalateError):
    """Training can't go on (for example, the loss is not a number)."""


class NonConformingError(PalateError, AssertionError):
    """A system breaks its contract; see :mod:`palate.contracts.conformance`."""


class MissingExtraError(PalateError, ImportError):
    """An optional part of Palate is not installed."""


def shorten(value: object, limit: int = 120) -> str:
    """Return ``repr(value)`` cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def nearest(word: str, choices: Iterable[str], *, most: int = 20) -> str:
    """Return advice that names the nearest right word, or lists all of them (``most`` at most, the nearest first)."""
    options = sorted(choices)
    plain = {_plain(option): option for option in options}
    close = difflib.get_close_matches(_plain(word), plain, n=1)
    if close:
        return f"did you mean {plain[close[0]]!r}?"
    if len(options) <= most:
        return f"choose one of: {', '.join(options)}"
    first = difflib.get_close_matches(_plain(word), plain, n=5, cutoff=0.0)
    return f"choose one of {len(options)}, such as: {', '.join(plain[option] for option in first)}"


def _plain(word: str) -> str:
    return word.casefold().replace("-", "_")
