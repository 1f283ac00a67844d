"""The main job from end to end on MovieLens 100K: get, audit, split, compare, explain, save, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.catalog.registry import create, get
from palate.contracts.recommender import Recommender
from palate.data import public
from palate.data.audit import Audit, audit
from palate.data.protocols import split as cut
from palate.data.split import Split
from palate.data.split_files import write_split
from palate.evaluation.report import Report
from palate.extras import require
from palate.progress import Progress, ProgressEvent, silent
from palate.runtime import generator
from palate.study.compare import Entrant, compare
from palate.study.evaluate import evaluate
from palate.study.people import person, pick_people

#: What the table shows.
METRICS = ("ndcg@10", "recall@20", "coverage@10", "novelty@10")
#: What picks the winner, on validation.
PICK = "ndcg@10"
#: Title of each entrant, its name in the catalogue, and its settings where they are not the defaults.
ENTRANTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "Popularity": ("popularity", {}),
    "Popularity, 30 days": ("popularity", {"window_days": 30}),
    "ItemKNN": ("item_knn", {}),
    "EASE": ("ease", {}),
    "iALS": ("ials", {}),
    "LightGCN": ("lightgcn", {}),
    "SASRec": ("sasrec", {}),
}


@dataclass(frozen=True)
class Demo:
    """What a run of the demo found and wrote.

    Attributes
    ----------
    audit
        Of the split.
    report
        Of the comparison, on the test part.
    validation
        NDCG@10 of each entrant on validation: what picked the winner.
    winner
        Its title.
    shown
        Whose answers the pages show: the winner, or, where the winner gives everybody much the same list, the best on
        validation of those that look at the person.
    people
        Pages of three people (:func:`palate.study.people.person`).
    split_folder, bundle, html
        What was written.
    seconds
        From start to end.
    """

    split: Split
    audit: Audit
    report: Report
    validation: Mapping[str, float]
    winner: str
    shown: str
    people: list[dict[str, Any]]
    split_folder: Path
    bundle: Path
    html: Path
    seconds: float


def run_demo(
    out: str | Path,
    *,
    source: str = "ml-100k",
    entrants: Mapping[str, tuple[str, dict[str, Any]]] = ENTRANTS,
    seed: int = 0,
    progress: Progress = silent,
) -> Demo:
    """Run the main job and write its results below ``out``."""
    started, folder = time.perf_counter(), Path(out)
    models: dict[str, str | Recommender] = {title: create(name, **settings) for title, (name, settings) in entrants.items()}
    for module in ("jinja2", "matplotlib"):
        require(module, "a report in HTML")
    folder.mkdir(parents=True, exist_ok=True)
    public.get(source, progress=progress)
    split = cut(public.load(source), "global_time", seed=seed)
    found = audit(split)
    found.check()
    write_split(split, folder / "split")

    fitted: list[Entrant] = []
    report = compare(split, models, metrics=METRICS, seed=seed, progress=progress, keep=fitted)
    questions = split.held_out("valid")
    validation = {e.title: evaluate(e.fitted[0], questions, [PICK]).overall[PICK] for e in fitted}
    winner = max(validation, key=lambda title: validation[title])
    personal = [title for title in validation if get(entrants[title][0]).family != "popularity"]
    shown = winner if winner in personal or not personal else max(personal, key=lambda title: validation[title])
    found_models = {e.title: e.fitted[0] for e in fitted}

    found_models[winner].save(folder / "model")
    progress(ProgressEvent("Report", 0, 1))
    pages = [{**page, "system": shown} for page in _pages(split, found_models[shown], seed)]
    html = report.to_html(folder / "report.html", people=pages)
    progress(ProgressEvent("Report", 1, 1))
    return Demo(
        split, found, report, validation, winner, shown, pages, folder / "split", folder / "model", Path(html),
        time.perf_counter() - started,
    )  # fmt: skip


def _pages(split: Split, model: Recommender, seed: int) -> list[dict[str, Any]]:
    chosen = pick_people(split.train.histories.lengths, 3, generator(seed, "people"))
    raw = split.train.users.ids.raw
    return [person(model, raw[row].as_py(), k=5) for row in chosen]
