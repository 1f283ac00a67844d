"""Words and figures as the console shows them: numbers, moments, prices, and errors in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError

from palate.errors import PalateError, shorten
from palate.serve.http.problems import Refusal

DASH = "–"
_STEPS = ((86_400 * 365.25, "year"), (86_400 * 30.4375, "month"), (86_400.0, "day"), (3_600.0, "hour"), (60.0, "minute"))


@dataclass(frozen=True)
class Complaint:
    """An error in words: what is wrong, where, the value, and the next step."""

    what: str
    where: str | None = None
    value: str | None = None
    remedy: str | None = None

    def lines(self) -> list[tuple[str, str]]:
        """Return what is known beside the sentence, with its name."""
        found = (("Where", self.where), ("Value", self.value), ("Next step", self.remedy))
        return [(name, text) for name, text in found if text]

    def __str__(self) -> str:
        return "\n".join([self.what, *(f"{name}: {text}" for name, text in self.lines())])


def complaint(error: BaseException) -> Complaint:
    """Return an error in words; of what nobody foresaw, only its kind."""
    if isinstance(error, PalateError):
        value = None if error.value is None else error.value if isinstance(error.value, str) else shorten(error.value)
        return Complaint(sentence(error.what), error.where, value and value[:300], error.remedy)
    if isinstance(error, Refusal):
        told = error.problem("")
        return Complaint(sentence(told.what), None, None, told.remedy)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return Complaint(sentence(first["msg"]), place or None, shorten(first["input"]))
    return Complaint("Something went wrong that nobody foresaw.", None, type(error).__name__, "look into the service's log")


def sentence(text: str) -> str:
    """Return words with a large letter at the beginning."""
    return text[:1].upper() + text[1:]


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with thousands marked, and as many digits as mean something."""
    if value is None or not math.isfinite(value):
        return DASH
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.{digits}g}"


def chance(value: float | None) -> str:
    """Return a p-value; small ones by what they are below."""
    return "< 0.001" if value is not None and 0 <= value < 0.001 else number(value, 3)


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.1%}"


def decimals(values: Iterable[float | None]) -> int:
    """Return with how many decimals figures of a column stand, so that the largest has three digits that mean something."""
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    return 0 if largest >= 100 or not largest else min(6, 2 - math.floor(math.log10(largest)))


def interval(value: float | None, low: float | None, high: float | None, places: int | None = None) -> str:
    """Return an estimate with its interval, all three with the same decimals (as many as given, or as mean something)."""
    if value is None or not math.isfinite(value):
        return DASH
    ends = [end for end in (low, high) if end is not None and math.isfinite(end)]
    if len(ends) < 2:
        return number(value, 3) if places is None else f"{value:,.{places}f}"
    digits = decimals([value, *ends]) if places is None else places
    return f"{value:,.{digits}f} ({ends[0]:,.{digits}f} to {ends[1]:,.{digits}f})"


def share_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return a share with its interval as percentages; an end that is not known yet is left open."""
    ends = [share(end) if end is not None and math.isfinite(end) else "no end yet" for end in (low, high)]
    return share(value) if ends == ["no end yet"] * 2 or share(value) == DASH else f"{share(value)} ({ends[0]} to {ends[1]})"


def price(value: float | None) -> str:
    """Return a price, or nothing."""
    return "" if value is None else f"{value:,.2f}"


def moment(seconds: float | None) -> str:
    """Return date and time (UTC)."""
    if seconds is None:
        return DASH
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def day(seconds: float) -> str:
    """Return the date (UTC)."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def ago(seconds: float | None, now: float) -> str:
    """Return how long ago something was, in one unit."""
    if seconds is None:
        return "never"
    gone = now - seconds
    if gone < 0:
        return moment(seconds)
    for size, unit in _STEPS:
        if gone >= size:
            count = int(gone / size)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def plain(value: Any) -> str:
    """Return any plain value as short text."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(part)}" for key, part in value.items()) or DASH
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(plain(part) for part in value) or DASH
    return str(value)


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def picture(reference: str | None) -> str | None:
    """Return the address of a picture that a browser may show, or ``None``."""
    if not reference:
        return None
    text = reference.strip()
    fine = text.startswith(("https://", "http://", "data:image/")) or (text.startswith("/") and not text.startswith("//"))
    return text if fine else None


def address(page: str, **query: str) -> str:
    """Return the address of a page of the console with a query; values are quoted."""
    return f"/console/{page}?{urlencode(query)}"
