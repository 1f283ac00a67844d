"""Judge one bundle, or one run file of any system, on a part of a split, as a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from palate.catalog.registry import get, load
from palate.contracts.recommender import Recommender
from palate.data.ragged import Ragged
from palate.data.split import PartName, Split
from palate.evaluation.facts import Facts, categories_of
from palate.evaluation.report import Report
from palate.evaluation.slices import standard_slices
from palate.progress import Progress, silent
from palate.study.evaluate import DEFAULT_METRICS, check_asked, measure
from palate.study.foreign import evaluate_run
from palate.study.renumber import Renumbered


def score_bundle(
    folder: str | Path,
    split: Split,
    *,
    part: PartName = "test",
    metrics: Sequence[str] | None = None,
    attributes: Sequence[str] = (),
    categories: str | None = None,
    progress: Progress = silent,
) -> Report:
    """Judge a saved model; bundle and split may number things differently, raw ids bring them together.

    Opening the test part is counted, unless an error keeps its numbers back. A model that was fitted on other data than what
    the split gives to learn from may have seen the answers: the report says so.

    Parameters
    ----------
    attributes
        Attributes of people by which the report is sliced, beside activity, popularity of the answers, and cold.
    categories
        Attribute of items that metrics of categories (calibration, α-nDCG and others) go by.
    """
    model = load(folder, "recommend")
    view = Renumbered(model, split.train)
    topics = None if categories is None else _padded(categories_of(split.train, categories), view.dataset.n_items)
    facts = Facts.of(view.dataset, categories=topics)
    check_asked(metrics or DEFAULT_METRICS, facts, split.train.users, attributes)
    with split.looking():
        held_out = split.held_out(part)
        answers = cast(Recommender, view)
        measured = measure(answers, held_out, metrics or DEFAULT_METRICS, facts=facts, progress=progress)
    info: dict[str, Any] = {
        "system": model.name,
        "fit_seconds": model.record_.seconds,
        "settings": model.config.model_dump(mode="json"),
        "requests_per_s": len(held_out) / max(measured.seconds, 1e-9),
        "cold_share": measured.cold_share,
    }
    report = _report(f"{Path(folder).name} on the {part} part", split, _fitted_elsewhere(model, split, part))
    report.add(get(model.name).title, measured.judgement, seed=model.record_.seed, info=info)
    return report.slice_by(*standard_slices(held_out, facts.item_counts, split.train.users, attributes))


def score_run(
    path: str | Path,
    split: Split,
    *,
    part: PartName = "test",
    metrics: Sequence[str] | None = None,
    exclude_seen: bool = False,
    attributes: Sequence[str] = (),
    categories: str | None = None,
) -> Report:
    """Judge a TREC run file of any system; what doesn't fit the split is counted in the report.

    ``attributes`` and ``categories`` as in :func:`score_bundle`.
    """
    facts = Facts.of(split.train, categories=categories)
    check_asked(metrics or DEFAULT_METRICS, facts, split.train.users, attributes)
    with split.looking():
        run = evaluate_run(path, split, metrics or DEFAULT_METRICS, part=part, exclude_seen=exclude_seen, facts=facts)
    report = _report(f"{Path(path).name} on the {part} part", split)
    report.add(Path(path).name, run.judgement, info={"run": run.counts})
    return report.slice_by(*standard_slices(run.held_out, facts.item_counts, split.train.users, attributes))


def _padded(rows: Ragged, n: int) -> Ragged:
    """Return ragged rows with empty ones after them, ``n`` in all."""
    return Ragged(np.append(rows.offsets, np.full(n - len(rows), rows.offsets[-1])), rows.values)


def _fitted_elsewhere(model: Any, split: Split, part: PartName) -> str:
    """Return what a model was fitted on, where that isn't what the split gives to learn from before this part."""
    data = model.record_.data
    if data["fingerprint"] == split.train.fingerprint:
        return ""
    if part == "test" and data["fingerprint"] == split.full_train().fingerprint:
        return ""
    return f"{data['name']}, {data['interactions']:,} interactions"


def _report(name: str, split: Split, elsewhere: str = "") -> Report:
    setup = {"fitted elsewhere": elsewhere} if elsewhere else {}
    return Report(name, split.fingerprint, spec=dict(split.spec), looks=split.looks, setup=setup)
