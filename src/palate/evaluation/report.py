"""Report: what several systems did on one set of questions, person by person, and what may be concluded from it.

A report holds values of people, so every interval, test and slice can be made again from it. Seeds of a system are averaged
person by person before systems are paired. Files are in :mod:`palate.evaluation.report_files`, HTML in
:mod:`palate.evaluation.report_html`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from palate.errors import ConfigError, DataError, nearest
from palate.evaluation import report_text
from palate.evaluation.bootstrap import Interval, bootstrap_ci
from palate.evaluation.comparison import Pair, compare_pairs
from palate.evaluation.judge import Judgement
from palate.evaluation.metrics import Metric, parse
from palate.evaluation.report_values import Estimate, Run, SliceValue, average
from palate.evaluation.significance import TestName
from palate.evaluation.slices import Slicing
from palate.runtime import machine, versions

__all__ = ["Estimate", "Pair", "Report", "Run", "SliceValue"]

#: Bytes that metrics whose intervals are found together may take.
SHARED_BYTES = 2**27


class Report:
    """Values, intervals, tests and slices of systems on one set of questions.

    Parameters
    ----------
    name
        Title.
    split_fingerprint
        Which split was asked; see :attr:`palate.data.split.Split.fingerprint`.
    spec
        Protocol and settings of the split.
    looks
        How often the test part was opened, or ``None`` where that is not known.
    setup
        How it was measured: trials, seeds, what it was tuned on.
    confidence, resamples, seed
        Of bootstrap intervals and permutation tests.
    """

    def __init__(
        self,
        name: str,
        split_fingerprint: str,
        *,
        spec: Mapping[str, Any] | None = None,
        looks: int | None = None,
        setup: Mapping[str, Any] | None = None,
        confidence: float = 0.95,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        self.name = name
        self.split_fingerprint = split_fingerprint
        self.spec = dict(spec or {})
        self.looks = looks
        self.setup = dict(setup or {})
        self.confidence, self.resamples, self.seed = confidence, resamples, seed
        self.versions: dict[str, str] = versions()
        self.machine: dict[str, Any] = machine()
        self.users = np.empty(0, np.int32)
        self.sampled: str | None = None
        self.runs: list[Run] = []
        self.slicings: list[Slicing] = []
        self._metrics: dict[str, Metric] = {}
        self._known: dict[Any, Any] = {}

    # -- filling ----------------------------------------------------------------------------------

    def add(self, title: str, judgement: Judgement, *, seed: int = 0, info: Mapping[str, Any] | None = None) -> Self:
        """Add one system with one seed; further seeds of a title are averaged.

        Raises
        ------
        DataError
            If other people were asked, other metrics judged, or other candidates ranked than for the systems before; or if
            this title has this seed already.
        """
        order = self._order(title, judgement)
        if any(run.title == title and run.seed == seed for run in self.runs):
            raise DataError("this system is in the report with this seed already.", where=title, value=seed)
        per_user = {name: np.asarray(values, np.float64)[order] for name, values in judgement.per_user.items()}
        weights = {name: np.asarray(values, np.float64)[order] for name, values in judgement.weights.items()}
        run = Run(title, seed, per_user, weights, dict(judgement.overall), dict(judgement.dropped), dict(info or {}))
        self._take(run, np.asarray(judgement.users)[order], judgement.sampled)
        return self

    def _take(self, run: Run, users: np.ndarray, sampled: str | None) -> None:
        if not self.runs:
            self.users, self.sampled = users, sampled
            self._metrics = {name: parse(name) for name in run.overall}
        self.runs.append(run)
        self._known.clear()

    def _order(self, title: str, judgement: Judgement) -> np.ndarray:
        """Return the rows of a judgement in the order of the report's people."""
        rows = np.arange(len(judgement.users))
        if not self.runs:
            return rows
        if judgement.sampled != self.sampled:
            raise DataError(
                "systems that ranked different candidates can't be compared.",
                where=title,
                value=judgement.sampled or "full catalogue",
                remedy="use one report for each",
            )
        if set(judgement.overall) != set(self._metrics):
            other = sorted(set(judgement.overall) ^ set(self._metrics))
            raise DataError("the systems were judged by different metrics.", where=title, value=other)
        if np.array_equal(judgement.users, self.users):
            return rows
        rows = np.argsort(judgement.users, kind="stable")
        back = np.argsort(np.argsort(self.users, kind="stable"), kind="stable")
        if not np.array_equal(judgement.users[rows], np.sort(self.users)):
            raise DataError("the systems were asked about different people.", where=title, remedy="use the same questions")
        return rows[back]

    def slice_by(self, *slicings: Slicing) -> Self:
        """Add ways of grouping the people of this report (see :func:`palate.evaluation.slices.standard_slices`)."""
        for slicing in slicings:
            if self.runs and len(slicing.codes) != len(self.users):
                raise DataError(
                    "a slicing has one code a person.",
                    where=slicing.name,
                    value=len(slicing.codes),
                    remedy=f"give {len(self.users)} codes",
                )
            self.slicings = [s for s in self.slicings if s.name != slicing.name] + [slicing]
        return self

    # -- reading ----------------------------------------------------------------------------------

    @property
    def systems(self) -> list[str]:
        """Titles, in the order of arrival."""
        return list(dict.fromkeys(run.title for run in self.runs))

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics."""
        return list(self._metrics)

    @property
    def paired_metrics(self) -> list[str]:
        """Names of the metrics that have values of people, so that systems can be paired."""
        return [name for name in self._metrics if self.runs and name in self.runs[0].per_user]

    def metric(self, name: str) -> str:
        """Return the name under which a metric is kept; any spelling will do."""
        if name in self._metrics:
            return name
        wanted = parse(name)
        for kept, known in self._metrics.items():
            if known == wanted:
                return kept
        raise ConfigError("this metric was not judged.", where=self.name, value=name, remedy=nearest(name, self._metrics))

    def better(self, name: str) -> int:
        """Return 1 where higher is better, -1 where lower is, 0 where neither."""
        return self._metrics[self.metric(name)].definition.better

    def runs_of(self, title: str) -> list[Run]:
        """Return a system's runs, one a seed."""
        found = [run for run in self.runs if run.title == title]
        if not found:
            advice = nearest(title, self.systems)
            raise ConfigError("no such system in this report.", where=self.name, value=title, remedy=advice)
        return found

    def values(self, title: str, metric: str) -> np.ndarray:
        """Return ``float64[n]``: a system's value for each person, averaged over seeds (NaN where no seed has one)."""
        name = self.metric(metric)
        if name not in self.paired_metrics:
            raise ConfigError(
                "this metric has no values of people.",
                where=self.name,
                value=name,
                remedy=f"choose one of: {', '.join(self.paired_metrics)}",
            )
        return average([run.per_user[name] for run in self.runs_of(title)])

    def info(self, title: str, key: str) -> float | None:
        """Return a figure about a system, averaged over seeds, or ``None``."""
        found = [run.info[key] for run in self.runs_of(title) if isinstance(run.info.get(key), (int, float))]
        return float(np.mean(found)) if found else None

    def estimates(self, metric: str) -> dict[str, Estimate]:
        """Return every system's value of a metric, with its interval."""
        name = self.metric(metric)
        if name not in self._known:
            self._known[name] = self._estimates(name)
        found: dict[str, Estimate] = self._known[name]
        return found

    def _estimates(self, name: str) -> dict[str, Estimate]:
        titles = self.systems
        drawn = {title: [run.overall[name] for run in self.runs_of(title)] for title in titles}
        value = {title: float(np.mean(v)) for title, v in drawn.items()}
        ends = self._ends(name)
        sign = self.better(name)
        known = [v for v in value.values() if not np.isnan(v)]
        top = max(sign * v for v in known) if sign and known else None
        out = {}
        for title in titles:
            low, high, error, n = ends.get(title, (None, None, None, len(self.users)))
            spread = float(np.std(drawn[title], ddof=1)) if len(drawn[title]) > 1 else None
            out[title] = Estimate(value[title], low, high, top is not None and sign * value[title] == top, spread, n, error)
        return out

    def _ends(self, name: str) -> dict[str, tuple[float | None, float | None, float | None, int]]:
        if name not in self.paired_metrics:
            return {}
        if ("ends", name) not in self._known:
            found = self._intervals(self._beside(name))
            self._known |= {("ends", other): ends for other, ends in found.items()}
        found, sizes = self._known["ends", name]
        rows = zip(self.systems, found.low, found.high, found.error, sizes, strict=True)
        return {title: (float(low), float(high), float(error), int(n)) for title, low, high, error, n in rows}

    def _beside(self, name: str) -> list[str]:
        """Return metrics to resample in one go with this one: drawing people costs most, and all means can share the draws."""
        if self._metrics[name].definition.summary != "mean":
            return [name]
        alike = [n for n in self.paired_metrics if self._metrics[n].definition.summary == "mean"]
        room = max(1, SHARED_BYTES // max(1, 24 * len(self.users) * len(self.systems)))
        first = alike.index(name) // room * room
        return alike[first : first + room]

    def _intervals(self, names: Sequence[str], people: np.ndarray | None = None) -> dict[str, tuple[Interval, np.ndarray]]:
        """Return every system's intervals over some people or all, and how many of them have a value, metric by metric."""
        rows = slice(None) if people is None else people
        titles = self.systems
        table = np.stack([self.values(title, name)[rows] for name in names for title in titles], axis=1)
        weights = None
        if any(name in self.runs[0].weights for name in names):
            weights = np.stack([self._weights(title, name)[rows] for name in names for title in titles], axis=1)
        found = bootstrap_ci(
            table,
            weights=weights,
            statistic=self._metrics[names[0]].definition.summary,
            confidence=self.confidence,
            resamples=self.resamples,
            seed=self.seed,
        )
        sizes = (~np.isnan(table)).sum(0)
        parts = [slice(at * len(titles), (at + 1) * len(titles)) for at in range(len(names))]
        return {
            name: (Interval(*(column[part] for column in found)), sizes[part]) for name, part in zip(names, parts, strict=True)
        }

    def _weights(self, title: str, name: str) -> np.ndarray:
        runs = self.runs_of(title)
        return average([run.weights[name] for run in runs]) if name in runs[0].weights else np.ones(len(self.users))

    def compare(
        self,
        metric: str | Sequence[str],
        baseline: str | None = None,
        test: TestName = "permutation",
        *,
        flips: int = 10_000,
    ) -> list[Pair]:
        """Test all pairs of systems, or all against one; p-values are Holm-adjusted over everything asked for.

        Parameters
        ----------
        metric
            One metric with values of people, or several (then they count as one family of tests).
        baseline
            Title of the system against which the others are tested; ``None`` tests all pairs.
        test
            ``"permutation"`` (sign flips), ``"t"`` or ``"wilcoxon"``.
        """
        names = [self.metric(m) for m in ([metric] if isinstance(metric, str) else metric)]
        key = (tuple(names), baseline, test, flips)
        if key not in self._known:
            self._known[key] = compare_pairs(self, names, baseline, test, flips)
        found: list[Pair] = self._known[key]
        return list(found)

    def slices(self, metric: str, by: str | None = None) -> list[SliceValue]:
        """Return every system's value of a metric in every group of one slicing, or of all."""
        name = self.metric(metric)
        chosen = [s for s in self.slicings if by in (None, s.name)]
        if by is not None and not chosen:
            remedy = nearest(by, [s.name for s in self.slicings]) if self.slicings else "add one with slice_by"
            raise ConfigError("no such slicing in this report.", where=self.name, value=by, remedy=remedy)
        return [row for slicing in chosen for row in self._slices(slicing, name)]

    def _slices(self, slicing: Slicing, name: str) -> list[SliceValue]:
        out = []
        for code, group in enumerate(slicing.groups):
            found, sizes = self._intervals([name], np.flatnonzero(slicing.codes == code))[name]
            columns = zip(self.systems, sizes, found.value, found.low, found.high, strict=True)
            out += [SliceValue(slicing.name, group, t, int(n), float(v), float(a), float(b)) for t, n, v, a, b in columns]
        return out

    # -- showing ----------------------------------------------------------------------------------

    def table(self, metrics: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return one printable row a system: each metric with half its interval, the best marked ``*``, and what it cost."""
        return report_text.table(self, metrics)

    def slice_tables(self, metric: str | None = None) -> list[tuple[str, list[dict[str, Any]]]]:
        """Return, for each slicing, its title and a printable row a group, on a metric of people (``None``: the findings')."""
        return report_text.slice_tables(self, metric)

    def summary_lines(self) -> list[str]:
        """Return what must be said beside the table: marks, differences that count, candidates, looks at the test part."""
        return report_text.summary_lines(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: estimates, comparisons, slices and how it was measured; no values of people."""
        from palate.evaluation.report_files import to_dict

        return to_dict(self)

    def to_json(self, path: str | Path) -> Path:
        """Write everything, values of people included; :meth:`read` gives the report back."""
        from palate.evaluation.report_files import write_json

        return write_json(self, path)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what :meth:`to_json` wrote."""
        from palate.evaluation.report_files import read_json

        return read_json(cls, path)

    def to_parquet(self, path: str | Path) -> Path:
        """Write values of people: one row a system, seed and person, one column a metric."""
        from palate.evaluation.report_files import write_parquet

        return write_parquet(self, path)

    def to_markdown(self, path: str | Path, metrics: Sequence[str] | None = None) -> Path:
        """Write the table and the summary as Markdown."""
        from palate.evaluation.report_files import write_markdown

        return write_markdown(self, path, metrics)

    def to_latex(self, path: str | Path, metrics: Sequence[str] | None = None) -> Path:
        """Write the table as a LaTeX ``tabular`` (needs the package booktabs), with the summary as comments."""
        from palate.evaluation.report_files import write_latex

        return write_latex(self, path, metrics)

    def to_html(self, path: str | Path, *, people: Sequence[Mapping[str, Any]] = ()) -> Path:
        """Write one self-contained page with plots (needs the extra ``report``).

        Parameters
        ----------
        people
            Pages of people to show: ``user``, ``history`` (titles), ``offers`` (``title``, ``score``, ``why``).
        """
        from palate.evaluation.report_html import write_html

        return write_html(self, path, people)

    def __repr__(self) -> str:
        return f"Report({self.name!r}, {len(self.systems)} systems, {len(self.users):,} people)"
