"""Design of an experiment: from what a person wrote to a spec, and what is wrong with it, each fault with its field."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from palate.console import format as show
from palate.contracts.config import place
from palate.errors import ConfigError, PalateError
from palate.serve.errors import NotFound
from palate.serve.experiments.live import ExperimentSpec, check_variant
from palate.serve.pipeline.config import PipelineConfig

#: Kinds of experiments: name, and what each means.
KINDS = {
    "split": (
        "Split",
        "Each person gets one variant and keeps it; what people do then is compared between variants. Any number of variants, "
        "and anything that is counted.",
    ),
    "interleaving": (
        "Interleaving",
        "Each answer is drafted from the lists of two variants in turn; whose items a person chooses says what they prefer. "
        "Fewer people decide, but about rankings only.",
    ),
}
#: Kinds of metrics, in words.
METRICS = {
    "events": "events of each person",
    "value": "summed values of their events",
    "feedback": "feedback of each person",
    "slates": "slates of each person",
    "events_per_slate": "events per slate",
    "feedback_per_slate": "feedback per slate",
}
#: What a check calls by a name that is of no help in a form.
_PLAIN = {
    "string_too_short": "It may not be empty",
    "too_short": "There are too few of these",
    "too_long": "There are too many",
}
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Fault:
    """What is wrong, and the path of the setting that it is about (empty: of the whole)."""

    path: Path
    words: str


def pipeline_keys(text: str, diversity: str, level: float | None) -> dict[str, Any]:
    """Return the keys of a pipeline that differ: those written as JSON, and a diversity (``""``: as it is).

    Raises
    ------
    ConfigError
        If the text is no JSON object.
    """
    example, where = '{"seen": "allow"}', "other keys"
    try:
        keys = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ConfigError("these keys are not JSON.", where=where, value=str(error), remedy=example) from None
    if not isinstance(keys, dict):
        raise ConfigError("keys of the pipeline are a JSON object.", where=where, value=keys, remedy=example)
    if diversity:
        keys["diversity"] = {"kind": diversity, "level": level}
    return keys


def metric_name(kind: str, type_: str | None) -> str:
    """Return what reports call a metric that nobody named."""
    return METRICS[kind] if type_ is None else f"{METRICS[kind]} ({type_})"


def shares(weights: Sequence[float | None], planned: float | None) -> list[str]:
    """Say of each weight which share of those who take part it is, and how many of the planned people."""
    total = sum(weight or 0.0 for weight in weights)
    if total <= 0 or any(weight is None or weight < 0 for weight in weights):
        return ["its share, beside the others'"] * len(weights)
    parts = [(weight or 0.0) / total for weight in weights]
    return [f"{part:.0%}" + (f": {planned * part:,.0f} people" if planned else "") for part in parts]


def check(
    spec: Mapping[str, Any], base: PipelineConfig, attempt: Callable[[PipelineConfig], object]
) -> tuple[ExperimentSpec | None, list[Fault]]:
    """Check a spec, and that each variant can answer; return it, or all that is wrong.

    Parameters
    ----------
    spec
        Plain values of :class:`~palate.serve.experiments.live.ExperimentSpec`.
    base
        The running pipeline, which variants change.
    attempt
        Answers a question with a pipeline, and raises what is wrong with it (:meth:`palate.serve.service.Service.attempt`).
    """
    try:
        made = ExperimentSpec.model_validate(spec)
    except ValidationError as error:
        return None, _faults(error)
    found: list[Fault] = []
    for at, variant in enumerate(made.variants):
        try:
            base.differing(variant.pipeline)
            check_variant(made, at, base, attempt)
        except PalateError as error:
            field = "model" if variant.model is not None and error.value == variant.model else "pipeline"
            found.append(Fault(("variants", at, field), in_a_line(error)))
    return (None, found) if found else (made, [])


def refused(error: PalateError, variants: Sequence[str]) -> Fault:
    """Return what the service refused as a fault of the field that it names: the name, a variant's model, or none."""
    words = in_a_line(error)
    if isinstance(error, NotFound) and error.where in variants:
        return Fault(("variants", variants.index(error.where), "model"), words)
    return Fault(("name",) if error.where == "name" else (), words)


def in_a_line(error: PalateError) -> str:
    """Return an error with its value and the next step, to stand beside a field."""
    told = show.complaint(error)
    lines = [told.what, *(f"{name}: {text}" for name, text in told.lines() if name != "Where")]
    return " ".join(line if line.endswith((".", "?", "!")) else f"{line}." for line in lines)


def _faults(error: ValidationError) -> list[Fault]:
    """Return the faults of a spec; how many parts there are is no matter where a part itself is wrong."""
    found = [(place(one), one) for one in error.errors()]
    deeper = {path[0] for path, _ in found if len(path) > 1}
    return [
        Fault(path, f"{show.sentence(_PLAIN.get(one['type'], one['msg']))}.")
        for path, one in found
        if len(path) > 1 or not path or path[0] not in deeper
    ]
