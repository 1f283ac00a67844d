"""What everything on the wire is made of: strict models, and texts, numbers and objects with limits."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from palate.serve.store.checks import STEPS

#: Bytes and depth that a free JSON object may have; bytes of one that holds settings.
OBJECT_BYTES, OBJECT_DEPTH, SETTINGS_BYTES = 16_384, 8, 1_048_576


_UNCLEAN = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """Refuse what no store keeps: NUL, and halves of surrogate pairs."""
    if _UNCLEAN.search(text):
        raise ValueError("it holds a NUL or a broken character")
    return text


def _bounded(value: dict[str, Any], most: int = OBJECT_BYTES) -> dict[str, Any]:
    """Refuse objects that are deep, large, or hold what JSON can't."""
    size = 0
    level: list[tuple[Any, int]] = [(value, 1)]
    while level:
        at, depth = level.pop()
        if depth > OBJECT_DEPTH:
            raise ValueError(f"it is nested more than {OBJECT_DEPTH} deep")
        inner = list(at.items()) if isinstance(at, dict) else list(enumerate(at))
        for key, below in inner:
            size += len(str(key)) + 8
            if isinstance(key, str):
                clean(key)
            if isinstance(below, str):
                size += len(clean(below).encode())
            elif isinstance(below, float) and not math.isfinite(below):
                raise ValueError("it holds a number that is not finite")
            elif isinstance(below, int) and abs(below) >= 2**63:
                raise ValueError("it holds a number beyond 64 bits")
            elif isinstance(below, (dict, list)):
                level.append((below, depth + 1))
            if size > most:
                raise ValueError(f"it is larger than {most:,} bytes")
    return value


def addressed(id_: str) -> str:
    """Refuse what no web address can name."""
    if id_ in STEPS:
        raise ValueError("an id is not '.' or '..', which no web address can name: rename it")
    return id_


Id = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(clean),
    AfterValidator(addressed),
    Field(json_schema_extra={"not": {"enum": sorted(STEPS)}}),
]
Word = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(clean)]
Line = Annotated[str, StringConstraints(max_length=1_000), AfterValidator(clean)]
Prose = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(clean)]
Json = Annotated[dict[str, Any], AfterValidator(_bounded)]
#: Settings: a free object here, checked further in.
Keys = Annotated[dict[str, Any], AfterValidator(partial(_bounded, most=SETTINGS_BYTES))]
#: Seconds since 1970, up to the year 2200.
Time = Annotated[float, Field(ge=0, le=7_258_118_400, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]


class Wire(BaseModel):
    """Base of bodies and answers."""

    model_config = ConfigDict(extra="forbid", strict=True)
