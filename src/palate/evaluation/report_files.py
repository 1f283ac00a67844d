"""Files of a report: JSON (whole, can be read back), Parquet (values of people), Markdown and LaTeX (tables).

Every file is written beside its place and then renamed.
"""

from __future__ import annotations

import base64
import json
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palate.errors import DataError
from palate.evaluation.report_text import COSTS, candidates_line, cost, label, number, primary
from palate.evaluation.report_values import Run
from palate.evaluation.slices import Slicing

if TYPE_CHECKING:
    from palate.evaluation.report import Report

#: Version of the JSON form.
SCHEMA = 1
AnyReport = TypeVar("AnyReport", bound="Report")


def write_atomic(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Call ``write`` with a temporary path beside ``path``, then rename it into place."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        work = Path(folder) / target.name
        write(work)
        return work.replace(target)


def write_text(path: str | Path, text: str) -> Path:
    """Write text in UTF-8, whole or not at all."""
    return write_atomic(path, lambda work: work.write_text(text, encoding="utf-8"))


def to_dict(report: Report) -> dict[str, Any]:
    """Return plain values: what tables and plots show."""
    metric = primary(report)
    compared = report.compare(metric) if metric is not None and len(report.systems) > 1 else []
    slices = [asdict(row) for row in report.slices(metric)] if metric is not None and report.slicings else []
    systems = []
    for title in report.systems:
        runs = report.runs_of(title)
        systems.append(
            {
                "title": title,
                "seeds": [run.seed for run in runs],
                "metrics": {name: asdict(report.estimates(name)[title]) for name in report.metrics},
                "dropped": dict(runs[0].dropped),
                "info": [dict(run.info) for run in runs],
            }
        )
    return _plain(
        {
            "report": report.name,
            "schema": SCHEMA,
            "split": {"fingerprint": report.split_fingerprint, "spec": report.spec, "looks": report.looks},
            "candidates": report.sampled or "full catalogue",
            "sampled": report.sampled,
            "people": len(report.users),
            "setup": report.setup,
            "interval": {"confidence": report.confidence, "resamples": report.resamples, "seed": report.seed},
            "systems": systems,
            "compared": [asdict(pair) for pair in compared],
            "slices": slices,
            "versions": report.versions,
            "machine": report.machine,
        }
    )


def write_json(report: Report, path: str | Path) -> Path:
    """Write :func:`to_dict` and the values of people (little-endian numbers, compressed, in base64: exact and short)."""
    whole = to_dict(report) | {
        "values": {
            "users": _pack(report.users.astype("<i4")),
            "runs": [
                {
                    "title": run.title,
                    "seed": run.seed,
                    "overall": _plain(run.overall),
                    "dropped": _plain(run.dropped),
                    "info": _plain(run.info),
                    "per_user": {name: _pack(values.astype("<f8")) for name, values in run.per_user.items()},
                    "weights": {name: _pack(values.astype("<f8")) for name, values in run.weights.items()},
                }
                for run in report.runs
            ],
            "slicings": [
                {"name": s.name, "groups": list(s.groups), "about": s.about, "codes": _pack(s.codes.astype("<i4"))}
                for s in report.slicings
            ],
        }
    }
    return write_text(path, json.dumps(whole, indent=1) + "\n")


def read_json(kind: type[AnyReport], path: str | Path) -> AnyReport:
    """Read what :func:`write_json` wrote.

    Raises
    ------
    DataError
        If the file is not a report, is cut short, or is of a newer schema.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        schema = found["schema"]
    except FileNotFoundError:
        raise DataError("there is no report here.", where=path) from None
    except (ValueError, KeyError, TypeError):
        raise DataError("this file is not a report, or is cut short.", where=path, remedy="write it with to_json") from None
    if schema != SCHEMA:
        raise DataError("the report has a schema that this version can't read.", where=path, value=schema)
    try:
        return _restore(kind, found)
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise DataError("the report is damaged.", where=path, value=str(error), remedy="write it again") from None


def _restore(kind: type[AnyReport], found: Mapping[str, Any]) -> AnyReport:
    split, interval, values = found["split"], found["interval"], found["values"]
    report = kind(
        found["report"], split["fingerprint"], spec=split["spec"], looks=split["looks"], setup=found["setup"], **interval
    )
    report.versions, report.machine = found["versions"], found["machine"]
    users = _unpack(values["users"], "<i4").astype(np.int32)
    for run in values["runs"]:
        columns = {
            part: {name: _unpack(packed, "<f8") for name, packed in run[part].items()} for part in ("per_user", "weights")
        }
        if any(len(column) != len(users) for part in columns.values() for column in part.values()):
            raise ValueError(f"values of {run['title']!r} don't fit the people")
        overall = {name: float("nan") if value is None else value for name, value in run["overall"].items()}
        report._take(
            Run(run["title"], run["seed"], overall=overall, dropped=run["dropped"], info=run["info"], **columns),
            users,
            found["sampled"],
        )
    report.slice_by(
        *(
            Slicing(s["name"], tuple(s["groups"]), _unpack(s["codes"], "<i4").astype(np.int32), s["about"])
            for s in values["slicings"]
        )
    )
    return report


def write_parquet(report: Report, path: str | Path) -> Path:
    """Write one row a system, seed and person, one column a metric; facts of the report stand in the file's metadata."""
    tables = []
    for run in report.runs:
        n = len(report.users)
        columns: dict[str, Any] = {
            "system": pa.array([run.title] * n, pa.string()),
            "seed": pa.array(np.full(n, run.seed, np.int64)),
            "user": pa.array(report.users),
            "candidates": pa.array([report.sampled or "full catalogue"] * n, pa.string()),
        }
        for name in report.paired_metrics:
            columns[name] = pa.array(run.per_user[name], from_pandas=True)
        for slicing in report.slicings:
            names = np.array([*slicing.groups, None], dtype=object)
            columns[f"slice: {slicing.name}"] = pa.array(names[slicing.codes].tolist(), pa.string())
        tables.append(pa.table(columns))
    if not tables:
        raise DataError("there is nothing to write: no system has been judged.", where=report.name)
    facts = {"palate": json.dumps({k: v for k, v in to_dict(report).items() if k not in ("compared", "slices")})}
    whole = pa.concat_tables(tables).replace_schema_metadata(facts)
    return write_atomic(path, lambda work: pq.write_table(whole, work))


def write_markdown(report: Report, path: str | Path, metrics: Sequence[str] | None = None) -> Path:
    """Write table and summary as Markdown."""
    rows = report.table(metrics)
    columns = list(rows[0]) if rows else []
    lines = [f"# {_escape_markdown(report.name)}", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "|".join([" --- ", *[" ---: "] * (len(columns) - 1)]) + "|"]
    lines += ["| " + " | ".join(_escape_markdown(str(row[c])) for c in columns) + " |" for row in rows]
    lines += ["", candidates_line(report), ""]
    lines += [f"- {_escape_markdown(line.strip())}" for line in report.summary_lines() if line != candidates_line(report)]
    return write_text(path, "\n".join(lines) + "\n")


def write_latex(report: Report, path: str | Path, metrics: Sequence[str] | None = None) -> Path:
    """Write the table as LaTeX: value and half interval, the best in bold."""
    names = [report.metric(m) for m in metrics] if metrics else report.metrics
    costs = [key for key in COSTS if any(report.info(title, key) is not None for title in report.systems)]
    head = ["System", *(label(name) for name in names), *(COSTS[key] for key in costs)]
    lines = [f"% {line}" for line in (report.name, *report.summary_lines())]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule"]
    lines += [" & ".join(_escape_latex(word) for word in head) + r" \\", r"\midrule"]
    for title in report.systems:
        cells = [_escape_latex(title), *(_latex_cell(report, name, title) for name in names)]
        cells += [cost(report.info(title, key)) for key in costs]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines.append(rf"\par\footnotesize {_escape_latex(candidates_line(report))}")
    return write_text(path, "\n".join(line.replace("±", "+-") if line.startswith("%") else line for line in lines) + "\n")


def _latex_cell(report: Report, name: str, title: str) -> str:
    estimate = report.estimates(name)[title]
    value = rf"\textbf{{{number(estimate.value)}}}" if estimate.best and len(report.systems) > 1 else number(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value.replace("–", "--")
    return f"{value} [{number(estimate.low)}, {number(estimate.high)}]".replace("–", "--")


def _escape_markdown(text: str) -> str:
    for sign in "\\|*_`<>[]#":
        text = text.replace(sign, "\\" + sign)
    return text.replace("\n", " ")


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in text.replace("\n", " "))


def _pack(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 6)).decode("ascii")


def _unpack(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), dtype)


def _plain(value: Any) -> Any:
    """Return a value of plain JSON types; NaN and infinity become ``None``."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
