"""Sphinx extension: pages made from the program itself (systems, metrics, public data, evidence, accuracy, benchmarks)."""

from __future__ import annotations

import inspect
import json
import math
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
ROOT = DOCS.parent


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {part}" for key, part in value.items())
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, float):
        value = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def catalogue() -> str:
    """Return the page of all systems."""
    from palate.catalog.registry import systems

    rows = [
        {
            "name": f"`{s.name}`",
            "title": s.title,
            "verb": s.verb,
            "family": s.family,
            "paper": s.paper,
            "status": s.status,
            "needs": ", ".join(s.needs),
            "abilities": ", ".join(s.abilities) if s.status == "works" else "",
            "claim": f"`{s.claim}`" if s.claim else "",
            "reference": s.citation,
        }
        for s in systems().values()
    ]
    works = sum(r["status"] == "works" for r in rows)
    head = (
        f"# Catalogue\n\n{len(rows)} systems: {works} work (see [Systems](systems.md)), the others are planned. "
        "A paper's number is its place in the list of 61. "
        "A claim is the experiment that tests a system: a file in `claims/`, there as soon as the system works. "
        "Settings of one: `palate models NAME`. This page is made from `palate.catalog`.\n\n"
    )
    return head + table(rows, list(rows[0]))


def systems() -> str:
    """Return the page of the systems that work: what each does, its equations, its settings."""
    from palate.catalog.registry import systems as known

    text = "# Systems\n\nWhat each system that works does, as its file says it, and its settings (`--set key=value`).\n"
    for system in known().values():
        if system.status != "works":
            continue
        loaded = system.load()
        told = inspect.getdoc(sys.modules[loaded.__module__]) or ""
        text += f"\n## {system.title}\n\n`{system.name}`, in `{loaded.__module__}`. {_markdown(told)}\n\n"
        conditions = loaded.Settings.conditions()
        rows = [
            {
                "setting": f"`{key}`",
                "default": f"`{field.default!r}`",
                "meaning": f"{field.description}{f' (counts with {conditions[key]})' if key in conditions else ''}",
            }
            for key, field in loaded.Settings.model_fields.items()
        ]
        text += table(rows, ["setting", "default", "meaning"]) if rows else "It has no settings.\n"
    return text


def _markdown(text: str) -> str:
    """Return reStructuredText of the plain kind that our modules use as Markdown; indented equations stay as they are."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def metrics() -> str:
    """Return the page of all metrics."""
    from palate.evaluation.metrics import names

    text = (
        "# Metrics\n\nEvery number, in training, tables and claims, comes from these. A name takes a cut and named options, "
        "such as `ndcg@10` or `recall@20[denominator=capped]`; the first value of an option is its default.\n"
    )
    family = ""
    for row in names():
        if row.family != family:
            family = row.family
            text += f"\n## {family.capitalize()}\n"
        facts = [f"range {row.bounds}", f"better: {row.better}", *([f"options: {row.options}"] if row.options else [])]
        body = row.text.replace("``", "`")
        text += f"\n**`{row.how}`** ({'; '.join(facts)})\n\n{body}\n"
    return text


def public_data() -> str:
    """Return the page of public data sets."""
    from palate.data import public

    rows = [
        {"name": f"`{d.name}`", "title": d.title, "licence": d.licence, "source": d.url, **(d.counts or {})}
        for d in public.catalogue()
    ]
    columns = ["name", "title", "users", "items", "interactions", "licence", "source"]
    return "# Public data sets\n\nPalate fetches them from their owners; their terms hold.\n\n" + table(rows, columns)


def evidence() -> str:
    """Return the page of claims and verdicts, with the curves that results hold."""
    from palate.study.claims import load, told

    rows, pictures = [], ""
    for path in sorted((ROOT / "claims" / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        program = ROOT / "claims" / path.with_suffix(".py").name
        verdict = told(load(program), result) if program.exists() else result["verdict"]
        rows.append({**result, "name": f"`{result['name']}`", "verdict": verdict})
        pictures += curves(result)
    text = "# Evidence\n\nEach row is an experiment in `claims/`; `palate claims run NAME` runs it again. Where a claim says\n"
    text += "something else since, or has other effects or bars, its result is of an earlier form until it is run anew.\n\n"
    if not rows:
        return text + "No claim has been run yet.\n"
    return text + table(rows, ["name", "statement", "verdict", "summary", "finished"]) + pictures


#: What curves show, and what else they may tell of a point.
MEASURES, ASIDE = ("regret", "error"), ("half", "slope", "mean error", "spread")


def curves(result: Mapping[str, Any]) -> str:
    """Return pictures of the curves in the details of a result: regret by rounds or error by rows, on logarithmic scales."""
    found = [
        (effect if name == "curves" else f"{effect} ({name.removeprefix('curves ')})", arms)
        for effect, facts in result.get("effects", {}).items()
        for name, arms in facts.get("details", {}).items()
        if name.startswith("curves") and all(set(MEASURES) & set(curve) for curve in arms.values())
    ]
    text = ""
    for at, (effect, arms) in enumerate(found):
        picture = DOCS / "evidence" / f"{result['name']}-{at}.svg"
        draw(arms, picture)
        text += f"\n## {result['name']}: {effect}\n\n![Each arm's curve, with its slope](evidence/{picture.name})\n"
    return text


def draw(arms: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw regret by rounds (or error by rows), with intervals where there are any."""
    from palate.evaluation.report_plots import COLOURS, drawing

    measure = next(name for name in MEASURES if name in next(iter(arms.values())))
    with drawing(7.0, 4.2) as (axes, out):
        for at, (arm, curve) in enumerate(arms.items()):
            along = next(name for name in curve if name not in (*MEASURES, *ASIDE))
            axes.set_xlabel(along)
            kept = [n for n, (a, b) in enumerate(zip(curve[along], curve[measure], strict=True)) if a > 0 and b > 0]
            across, up = [curve[along][n] for n in kept], [curve[measure][n] for n in kept]
            slope = curve["slope"][0] if "slope" in curve else steepness(across, up)
            colour = COLOURS[at % len(COLOURS)]
            axes.plot(across, up, color=colour, label=f"{arm}, slope {slope:.2f}", linewidth=1.6)
            if "half" in curve:
                half = [curve["half"][n] for n in kept]
                low = [max(r - h, 1e-3) for r, h in zip(up, half, strict=True)]
                axes.fill_between(across, low, [r + h for r, h in zip(up, half, strict=True)], color=colour, alpha=0.2)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylabel(measure)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != out[0]:
        path.write_text(out[0], encoding="utf-8")


def steepness(across: Sequence[float], up: Sequence[float]) -> float:
    """Return the log-log slope of a curve over the last tenth of its range (1: linear; near 0: it has stopped growing)."""
    last = [(a, b) for a, b in zip(across, up, strict=True) if a >= across[-1] / 10]
    if len(last) < 2:
        return float("nan")
    x, y = ([math.log(pair[side]) for pair in last] for side in (0, 1))
    return statistics.linear_regression(x, y).slope


def benchmarks() -> str:
    """Return the page of benchmark results."""
    text = "# Benchmarks\n\nPalate and its peer alternate in one run; ratios count. Files: `benchmarks/results/`.\n"
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        if path.stem == "systems_table":
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        text += f"\n## {path.stem}\n\n{result.get('what', '')}\n\n"
        rows = result.get("rows") or []
        if rows:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            text += table(rows, columns)
        if goal := result.get("notes", {}).get("goal"):
            text += f"\nGoal: {goal}.\n"
        picture = DOCS / "benchmarks" / f"{path.stem}.svg"
        if picture.exists():
            text += f"\n![{path.stem}](benchmarks/{picture.name})\n"
        machine = result.get("machine", {})
        text += f"\n`{result.get('command', '')}` on {machine.get('cpu', '?')}, {machine.get('threads', '?')} threads.\n"
    return text


def accuracy() -> str:
    """Return the page that holds all recommenders beside each other."""
    text = "# Accuracy of all recommenders\n\n"
    path = ROOT / "benchmarks" / "results" / "systems_table.json"
    if not path.exists():
        return text + "Not measured yet: `python benchmarks/systems_table.py`.\n"
    result = json.loads(path.read_text(encoding="utf-8"))
    text += (
        f"{result['what']}\n\nPlus and minus is half of the 95% interval over people; the sets are small, so neighbours in a "
        "table seldom differ. Groups are of NDCG@10: people with the fewest events (a quarter), people whose answers are "
        "rarely chosen items. Fit seconds are of one thread on a machine that had other work.\n"
    )
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in result["rows"]:
        groups.setdefault((row["question"], row["data"]), []).append(row)
    for (question, data), rows in groups.items():
        text += f"\n## {question[:1].upper()}{question[1:]}, {data}\n\n"
        judged = sorted((row for row in rows if "failed" not in row), key=lambda r: -r["ndcg@10"])
        text += table([_standing(row) for row in judged], list(_standing(judged[0]))) if judged else ""
        text += "".join(f"\n`{row['system']}` failed: {row['failed']}\n" for row in rows if "failed" in row)
    if lacking := result.get("notes", {}).get("not made yet"):
        text += f"\nNot made yet: {'; '.join(lacking)}.\n"
    return text + f"\n`{result['command']}` on {result['machine']['cpu']}, seeds {result['seeds']}.\n"


def _standing(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a system's line in a table of accuracy."""

    def shown(metric: str) -> str:
        low, high = row[f"{metric} interval"]
        return f"{row[metric]:.4f} ± {(high - low) / 2:.4f}"

    slices = row["slices of ndcg@10"]
    epochs = zip(row["best epoch"], row["epochs trained"], strict=True)
    few = next((value for name, value in slices.items() if name.startswith("activity")), None)
    return {
        "system": f"`{row['system']}`",
        "NDCG@10": shown("ndcg@10"),
        "Recall@20": shown("recall@20"),
        "coverage@10": row["coverage@10"],
        "few events": few,
        "rare answers": slices.get("popularity of the answers: tail"),
        "best epoch": ", ".join(f"{best} of {trained}" for best, trained in epochs if best is not None),
        "fit s": row["fit seconds"],
    }


def write_pages(app: Any) -> None:
    """Write the pages, each only where it changed."""
    pages = {
        "catalogue": catalogue,
        "systems": systems,
        "metrics": metrics,
        "public-data": public_data,
        "evidence": evidence,
        "benchmarks": benchmarks,
        "accuracy": accuracy,
    }
    for name, make in pages.items():
        path, text = DOCS / f"{name}.md", make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True}
