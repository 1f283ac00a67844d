"""Claims: what a paper says, as a program with a verdict that is decided by a rule set before the run.

A claim is a file in ``claims/`` that defines ``CLAIM``. Running it gives effects, each a number with an interval; the claim
states beforehand which effects it will report and the bar of each. The verdict follows from that alone:

    an effect is met      when its whole interval lies above the bar (``inclusive``: or on it; ``below``: and below that end)
    holds                 every effect is met
    holds in part         some are
    does not hold         none is
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

import numpy as np

from palate.data.dataset import Dataset
from palate.errors import ConfigError, DataError, PalateError
from palate.progress import Progress, silent
from palate.runtime import machine, versions
from palate.study.kept import Kept

T = TypeVar("T")
Verdict = Literal["holds", "holds in part", "does not hold"]


@dataclass(frozen=True)
class Bar:
    """What an effect must exceed, and what it must stay below where that is said, too ("about equal").

    Attributes
    ----------
    value
        The interval must lie above it.
    inclusive
        Whether an interval that touches it counts (for exact claims).
    below
        The interval must lie below it, or ``None``.
    """

    value: float = 0.0
    inclusive: bool = False
    below: float | None = None

    def met(self, effect: Effect) -> bool:
        """Say whether the whole interval is above the bar (and below the other end)."""
        above = effect.low >= self.value if self.inclusive else effect.low > self.value
        return bool(above and (self.below is None or effect.high < self.below))

    def __str__(self) -> str:
        text = f"{'at least' if self.inclusive else 'above'} {self.value:g}"
        return text if self.below is None else f"{text} and below {self.below:g}"


@dataclass(frozen=True)
class Effect:
    """A measured difference, with its interval.

    Attributes
    ----------
    value, low, high
        Estimate and its 95% interval.
    details
        Anything worth keeping beside it (absolute values, settings).
    """

    value: float
    low: float
    high: float
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def exact(cls, value: float, **details: Any) -> Effect:
        """Return an effect that has no uncertainty."""
        return cls(float(value), float(value), float(value), details)

    @classmethod
    def left_out(cls, why: str) -> Effect:
        """Return what stands for an effect that could not be measured here: it meets no bar, and the summary says why."""
        return cls(float("nan"), float("nan"), float("nan"), {"left out": why})


@dataclass
class Trial:
    """What a claim's program is handed.

    Attributes
    ----------
    seeds
        Seeds to use.
    reduced
        A small and quick form of the same experiment, to see that it runs; its verdict is not evidence.
    progress
        Progress callback.
    fingerprints
        Data used so far; filled by :meth:`dataset` and :meth:`used`.
    parts
        Where an interrupted run left its parts, or ``None``.
    """

    seeds: tuple[int, ...]
    reduced: bool = False
    progress: Progress = silent
    fingerprints: dict[str, str] = field(default_factory=dict)
    parts: Kept | None = None

    def dataset(self, name: str) -> Dataset:
        """Load a public data set by its registered name, and note its fingerprint."""
        from palate.data.public import load

        return self.used(name, load(name))

    def used(self, name: str, dataset: Dataset) -> Dataset:
        """Note the fingerprint of data that the claim made or read itself."""
        self.fingerprints[name] = dataset.fingerprint
        return dataset

    def kept(self, make: Callable[[], T], **key: Any) -> T:
        """Return what ``make`` gives, or gave in an interrupted run of the same program on the same data.

        Parameters
        ----------
        make
            Gives numbers, texts, arrays, and lists, tuples and dictionaries of these.
        key
            All that distinguishes this part from the others: arm, settings, seed, data.
        """
        return make() if self.parts is None else self.parts.get({**key, "all data": self.fingerprints}, make)


@dataclass(frozen=True)
class Claim:
    """An experiment with a rule.

    Attributes
    ----------
    name
        Name of its file.
    title, statement
        What is claimed, in a few words and in full.
    bars
        Every effect that the run will report, and its bar.
    run
        The program: takes a :class:`Trial`, returns an :class:`Effect` for every name in ``bars``.
    data
        Names of the data sets.
    paper
        Number in the list of papers, or ``None`` for baselines.
    seeds
        Seeds of the run.
    minutes
        About how long it takes on two cores.
    """

    name: str
    title: str
    statement: str
    bars: Mapping[str, Bar]
    run: Callable[[Trial], Mapping[str, Effect]]
    data: Sequence[str] = ()
    paper: int | None = None
    seeds: tuple[int, ...] = (0,)
    minutes: float = 1.0

    def decide(self, effects: Mapping[str, Effect]) -> Verdict:
        """Return the verdict (see the module's text)."""
        if set(effects) != set(self.bars):
            raise ConfigError(
                "a claim must report exactly the effects that it announced.",
                where=f"claim {self.name}",
                value=sorted(set(effects) ^ set(self.bars)),
            )
        met = [bar.met(effects[name]) for name, bar in self.bars.items()]
        return "holds" if all(met) else "holds in part" if any(met) else "does not hold"


def told(claim: Claim, result: Mapping[str, Any] | None) -> str:
    """Return the verdict of a claim's last result (``"not run"``), and whether it is of an earlier form of the claim."""
    if not result:
        return "not run"
    bars = {name: effect.get("bar") for name, effect in result["effects"].items()}
    same = result.get("statement") == claim.statement and bars == {name: str(bar) for name, bar in claim.bars.items()}
    return str(result["verdict"]) if same else f"{result['verdict']} (an earlier form)"


def programs(folder: str | Path = "claims") -> dict[str, Path]:
    """Return the files of a folder's claims by name, none of them opened; those that start with an underscore are helpers.

    Raises
    ------
    ConfigError
        If the folder is missing.
    """
    base = Path(folder)
    if not base.is_dir():
        raise ConfigError(
            "no claims here.", where=base.resolve(), remedy="run it in a checkout of Palate, or name the folder with --folder"
        )
    return {path.stem: path for path in sorted(base.glob("*.py")) if not path.name.startswith("_")}


def discover(folder: str | Path = "claims") -> list[Claim]:
    """Return the claims of a folder, by name; raise what :func:`programs` and :func:`load` raise."""
    return [load(path) for path in programs(folder).values()]


def run_claim(
    claim: Claim,
    folder: str | Path = "claims",
    *,
    progress: Progress = silent,
    reduced: bool = False,
    fresh: bool = False,
) -> dict[str, Any]:
    """Run a claim and write ``folder/results/NAME.json`` (a reduced run writes nothing).

    Where an earlier run was interrupted, what it had fitted is taken up, if code, data and libraries are the same; ``fresh``
    begins anew.

    Returns
    -------
    dict
        Verdict, effects with intervals, bars, summary, command, data fingerprints, seeds, seconds, versions, machine.
    """
    parts = None if reduced else Kept.of(claim.name, Path(folder) / f"{claim.name}.py")
    if parts is not None and fresh:
        parts.clear()
    trial = Trial(claim.seeds[:1] if reduced else claim.seeds, reduced, progress, parts=parts)
    started = time.perf_counter()
    effects = dict(claim.run(trial))
    verdict = claim.decide(effects)
    result = {
        "name": claim.name,
        "title": claim.title,
        "paper": claim.paper,
        "statement": claim.statement,
        "verdict": verdict,
        "summary": summary(claim, effects),
        "effects": {
            name: {**_plain(effect), "bar": str(claim.bars[name]), "met": claim.bars[name].met(effect)}
            for name, effect in effects.items()
        },
        "reduced": reduced,
        "command": f"palate claims run {claim.name}",
        "data": trial.fingerprints,
        "seeds": list(trial.seeds),
        "seconds": round(time.perf_counter() - started + (0.0 if parts is None else parts.saved), 2),
        "taken up": 0 if parts is None else parts.found,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
    }
    if parts is not None:
        _write(Path(folder) / "results" / f"{claim.name}.json", result)
        parts.clear()
    return result


def last_result(name: str, folder: str | Path = "claims") -> dict[str, Any] | None:
    """Return the result of the last full run, or ``None``."""
    path = Path(folder) / "results" / f"{name}.json"
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError("the result file is broken.", where=path, remedy=f"palate claims run {name}") from None
    return found


def summary(claim: Claim, effects: Mapping[str, Effect]) -> str:
    """Return one line: each effect with its interval, its bar, and whether it is met."""
    lines = []
    for name, bar in claim.bars.items():
        effect = effects[name]
        if "left out" in effect.details:
            lines.append(f"{name} left out: {effect.details['left out']}")
            continue
        interval = "" if effect.low == effect.high else f" [{effect.low:.4g}, {effect.high:.4g}]"
        lines.append(f"{name} {effect.value:.4g}{interval} ({'met' if bar.met(effect) else 'not met'}: {bar})")
    return "; ".join(lines)


def load(path: Path) -> Claim:
    """Return the claim of a file.

    Raises
    ------
    ConfigError
        If the file can't be imported, defines no ``CLAIM``, or its name differs from the file's.
    """
    try:
        module = _module(path)
    except PalateError:
        raise
    except Exception as error:  # whatever a program may raise while it is imported
        raise ConfigError(
            "this claim can't be imported.", where=path, value=f"{type(error).__name__}: {error}", remedy="mend the file"
        ) from error
    claim = getattr(module, "CLAIM", None)
    if not isinstance(claim, Claim):
        raise ConfigError("this file defines no CLAIM.", where=path, remedy="CLAIM = Claim(name=…, …)")
    if claim.name != path.stem:
        raise ConfigError("a claim is named after its file.", where=path, value=claim.name, remedy=f"name={path.stem!r}")
    return claim


def beside(program: str | Path, name: str) -> Any:
    """Return the module ``name.py`` beside a claim's program: claims need not be on Python's path."""
    return _module(Path(program).with_name(f"{name}.py"))


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"palate_claim_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _plain(effect: Effect) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(effect), default=_number))
    return plain


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def _write(path: Path, result: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name}.{os.getpid()}")
    work.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    work.replace(path)
