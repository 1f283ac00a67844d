"""Judge one bundle, or one run file of any system, on a part of a split, as a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from palate.catalog.registry import get, load
from palate.contracts.recommender import Recommender
from palate.data.split import PartName, Split
from palate.evaluation.judge import Facts
from palate.evaluation.report import Report
from palate.progress import Progress, silent
from palate.study.evaluate import DEFAULT_METRICS, measure
from palate.study.foreign import evaluate_run
from palate.study.renumber import Renumbered


def score_bundle(
    folder: str | Path,
    split: Split,
    *,
    part: PartName = "test",
    metrics: Sequence[str] | None = None,
    progress: Progress = silent,
) -> Report:
    """Judge a saved model; bundle and split may number things differently, raw ids bring them together.

    Opening the test part is counted.
    """
    model = load(folder)
    view = Renumbered(model, split.train)
    held_out = split.held_out(part)
    facts = Facts.of(view.dataset)
    answers = cast(Recommender, view)
    measured = measure(answers, held_out, metrics or DEFAULT_METRICS, facts=facts, progress=progress)
    info: dict[str, Any] = {
        "system": model.name,
        "fit_seconds": model.record_.seconds,
        "settings": model.config.model_dump(mode="json"),
        "requests_per_s": len(held_out) / max(measured.seconds, 1e-9),
        "cold_share": measured.cold_share,
    }
    report = _report(f"{Path(folder).name} on the {part} part", split)
    report.add(get(model.name).title, measured.judgement, seed=model.record_.seed, info=info)
    return report


def score_run(
    path: str | Path, split: Split, *, part: PartName = "test", metrics: Sequence[str] | None = None, exclude_seen: bool = False
) -> Report:
    """Judge a TREC run file of any system; what doesn't fit the split is counted in the report."""
    run = evaluate_run(path, split, metrics or DEFAULT_METRICS, part=part, exclude_seen=exclude_seen)
    report = _report(f"{Path(path).name} on the {part} part", split)
    report.add(Path(path).name, run.judgement, info={"run": run.counts})
    return report


def _report(name: str, split: Split) -> Report:
    return Report(name, split.fingerprint, spec=dict(split.spec), looks=split.looks)
