"""What can go wrong with a language model, each with its next step."""

from __future__ import annotations

from typing import Any

from palate.errors import PalateError


class LanguageModelError(PalateError):
    """A language model could not answer."""


class TransientError(LanguageModelError):
    """A call failed in a way that a later try may mend: time is up, the line is down, too many calls, the server's fault.

    Parameters
    ----------
    retry_after
        Seconds that the server asks to wait, or ``None``.
    """

    def __init__(self, what: str, *, retry_after: float | None = None, **told: Any) -> None:
        super().__init__(what, **told)
        self.retry_after = retry_after


class AnswerTimeoutError(TransientError):
    """An answer took longer than allowed."""


class BudgetError(LanguageModelError):
    """The next call could pass a budget of calls, tokens or money; it was not made."""


class SchemaError(LanguageModelError):
    """No try gave an answer of the wanted schema."""


class FactError(LanguageModelError):
    """An answer names numbers or names that it was not given, and there is no template in its place."""


class ReplayMissError(LanguageModelError):
    """A recording has no answer to this call."""
