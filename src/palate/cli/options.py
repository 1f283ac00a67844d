"""Options that several commands take, and what they mean: sources of data, settings, lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palate.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from palate.contracts.config import Config
    from palate.data.dataset import Dataset
    from palate.data.split import Split
    from palate.progress import Progress

Source = Annotated[str, typer.Argument(help="A file, a folder, or the name of a public data set (palate data list).")]
Format = Annotated[str | None, typer.Option("--format", help="Format of the source, where its name doesn't tell.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="ROLE=NAME for user, item, time, value, action or session; repeat it."),
]
Reading = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        help="KEY=VALUE for ids, time_unit, separator, encoding, quoted, header, min_users, keep_unseen, attribute_graph; "
        "repeat it.",
    ),
]
BadRows = Annotated[str, typer.Option("--on-bad-rows", help="error, or drop (dropped rows are counted and reported).")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Fixes every random choice.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE; repeat it (keys: palate models NAME).")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings in a JSON or TOML file.")]
Metrics = Annotated[str | None, typer.Option("--metrics", help="Names separated by commas, such as ndcg@10,recall@20.")]
Accept = Annotated[list[str] | None, typer.Option("--accept", help="Code of a leak that you accept; repeat it.")]
Positive = Annotated[
    list[str] | None,
    typer.Option("--positive", help="Events that count as choices: TYPE, TYPE:LEAST or :LEAST (a value); repeat it (all)."),
]
Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
EngineName = Annotated[str, typer.Option("--engine", help="local, or ray: on a Ray cluster.")]
Address = Annotated[str | None, typer.Option("--address", help="Of the cluster; else RAY_ADDRESS, else one started here.")]


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    """Read ``KEY=VALUE`` options."""
    found = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError("expected KEY=VALUE.", where=option, value=text, remedy=f"for example {option} key=value")
        found[key.strip()] = value
    return found


def values(given: Sequence[str] | None, option: str) -> dict[str, Any]:
    """Read ``KEY=VALUE`` options whose values are JSON where they can be, else text."""

    def read(text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            return text

    return {key: read(value) for key, value in pairs(given, option).items()}


def settings_of(given: Sequence[str] | None, config: Path | None) -> dict[str, Any]:
    """Join the settings of a file with those of the command line, which win."""
    return {**(_read_settings(config) if config else {}), **pairs(given, "--set")}


def _read_settings(path: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        loaded = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(
            "the settings file can't be read.", where=path, value=error.strerror, remedy="check the path"
        ) from None
    except ValueError as error:
        remedy = 'TOML where the name ends in .toml (reg = 100), else JSON ({"reg": 100})'
        raise ConfigError("the settings file is not valid.", where=path, value=str(error), remedy=remedy) from None
    if not isinstance(loaded, dict):
        remedy = 'write {"setting": value, …}'
        raise ConfigError("the settings file must hold one table of settings.", where=path, value=loaded, remedy=remedy)
    return loaded


def refuse(given: Mapping[str, Any], why: str, *, where: str) -> None:
    """Refuse options that were given and would count for nothing."""
    named = [option for option, value in given.items() if value]
    if named:
        raise ConfigError(f"{', '.join(named)} would count for nothing here: {why}.", where=where, remedy="leave it out")


def tell_idle(config: Config) -> None:
    """Say which settings count for nothing with the others."""
    from palate.cli.output import note

    for key, condition in config.idle().items():
        note(f"Setting {key!r} counts for nothing here: it counts with {condition}.")


def names(text: str | None, option: str) -> list[str] | None:
    """Read a list separated by commas; commas inside brackets belong to the name."""
    if text is None:
        return None
    found, depth, word = [], 0, ""
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            found.append(word.strip())
            word = ""
        else:
            word += letter
    given = [name for name in (*found, word.strip()) if name]
    if not given:
        raise ConfigError("name at least one.", where=option, value=text, remedy=f"for example {option} NAME,NAME")
    return given


def load_dataset(
    source: str,
    progress: Progress,
    *,
    format: str | None = None,
    columns: Sequence[str] | None = None,
    on_bad_rows: str = "error",
    reading: Sequence[str] | None = None,
) -> Dataset:
    """Read a source of events; rows that were dropped are reported beside the answer."""
    from palate.data.readers import read

    one_of(on_bad_rows, ("error", "drop"), "--on-bad-rows")
    mapping, options = pairs(columns, "--column") or None, values(reading, "--read")
    if not Path(source).exists() and mapping is None and format is None:
        from palate.data import public

        if source in {data.name for data in public.catalogue()}:
            public.get(source, progress=progress)
            return public.load(source, on_bad_rows=on_bad_rows, **options)
    rule: Literal["error", "drop"] = "drop" if on_bad_rows == "drop" else "error"
    dataset = read(source, format=format, columns=mapping, on_bad_rows=rule, **options)
    report_dropped(dataset)
    return dataset


def report_dropped(dataset: Dataset) -> None:
    """Say how many rows of the source were dropped, and why, and how many items and users are left out."""
    from palate.cli.output import note
    from palate.data.readers import rows_dropped

    dropped = rows_dropped(dataset)
    if dropped:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        note(f"Dropped {sum(dropped.values()):,} bad rows of {dataset.name}: {reasons}.")
    for kind in ("item", "user"):
        count = sum(step.get(f"{kind}_without_interactions_left_out", 0) for step in dataset.spec)
        if count:
            note(f"Left out {count:,} {kind}s without events of {dataset.name}; --read keep_unseen=true keeps them.")


def load_split(folder: str | Path) -> Split:
    """Read a split written by ``palate split``."""
    from palate.data.split_files import read_split

    if not is_split(folder):
        remedy = "make one with: palate split SOURCE --protocol P --out DIR (of rows for rankers: --label COLUMN)"
        raise DataError("no split here.", where=folder, remedy=remedy)
    return read_split(folder)


def stood_there(folder: Path) -> bool:
    """Say whether a folder holds a split of any kind, which another one would replace."""
    from palate.data.row_split import is_row_split
    from palate.data.split_files import ROLLING

    return is_split(folder) or is_row_split(folder) or (folder / ROLLING).is_file()


def is_split(folder: str | Path) -> bool:
    """Say whether a folder holds a split."""
    return (Path(folder) / "split.json").is_file()


def one_of(given: str, allowed: Iterable[str], option: str) -> None:
    """Refuse a choice that an option doesn't have, and name the nearest right one."""
    allowed = list(allowed)
    if given not in allowed:
        raise ConfigError("unknown choice.", where=option, value=given, remedy=nearest(given, allowed))


def on_ray(engine: str, **given: object) -> bool:
    """Say whether work goes to a cluster; options that only a cluster has are refused where it doesn't."""
    one_of(engine, ("local", "ray"), "--engine")
    wrong = [name for name, value in given.items() if value is not None]
    if engine == "local" and wrong:
        raise ConfigError(f"--{wrong[0]} is for a cluster.", where="--engine", value=engine, remedy="add --engine ray")
    return engine == "ray"
