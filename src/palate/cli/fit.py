"""``palate fit`` and ``palate tune``: from data to a bundle, and from a split to good settings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.options import (
    Address,
    BadRows,
    Columns,
    ConfigFile,
    EngineName,
    Format,
    Out,
    Reading,
    Seed,
    Settings,
    is_split,
    load_dataset,
    load_split,
    on_ray,
    refuse,
    settings_of,
    tell_idle,
)
from palate.cli.output import MODELS, Json, errors_to_exit_codes, plain, print_facts, print_json, progress_bars, say
from palate.cli.rows import Group, HoldOut, Labels, Weight, fit_ranker

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.data.split import HeldOut
    from palate.study.tune import Tuned

ModelName = Annotated[str, typer.Argument(help="Name of a system (palate models).")]


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(name="fit", rich_help_panel=MODELS)(fit)
    app.command(rich_help_panel=MODELS)(tune)


@errors_to_exit_codes
def fit(
    model: ModelName,
    data: Annotated[
        str, typer.Option("--data", help="A split made by palate split, or any source of events (for a ranker, of rows).")
    ],
    out: Out,
    set_: Settings = None,
    config: ConfigFile = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option("--device", help="Where torch models train: cpu, cuda …")] = "cpu",
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Folder to resume from, and to save into.")] = None,
    log: Annotated[Path | None, typer.Option("--log", help="Write a JSON line an epoch into this file.")] = None,
    with_valid: Annotated[bool, typer.Option("--with-valid", help="Learn from train and validation together.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that share the fit, on a Ray cluster.")] = 1,
    address: Address = None,
    storage: Annotated[str | None, typer.Option("--storage", help="Folder or s3:// to resume from, with workers.")] = None,
    format: Format = None,
    column: Columns = None,
    reading: Reading = None,
    on_bad_rows: BadRows = "error",
    label: Labels = None,
    group: Group = None,
    weight: Weight = None,
    hold_out: HoldOut = 0.1,
    as_json: Json = False,
) -> None:
    """Fit a system and save it as a bundle; rankers learn from rows (--label names what to predict)."""
    from palate.catalog.registry import create, get
    from palate.contracts.bundle import check_place
    from palate.errors import ConfigError
    from palate.training.callbacks import JsonLog

    unfitted = create(model, **settings_of(set_, config))
    check_place(out)
    tell_idle(unfitted.config)
    if get(model).verb == "rank":
        of_events: dict[str, Any] = {
            "--with-valid": with_valid,
            "--workers": workers > 1,
            "--address": address,
            "--storage": storage,
        }
        of_events |= {"--format": format, "--column": column, "--read": reading}
        refuse(of_events, "a ranker learns from rows, in this process", where=model)
        with progress_bars(quiet=as_json) as progress:
            own: dict[str, Any] = {"seed": seed, "device": device, "progress": progress, "checkpoint": checkpoint}
            own["callbacks"] = () if log is None else (JsonLog(log),)
            columns: dict[str, Any] = {"labels": label or (), "group": group, "weight": weight, "hold_out": hold_out}
            fit_ranker(unfitted, data, out, how=own, as_json=as_json, **columns)
        return
    refuse({"--label": label, "--group": group, "--weight": weight}, "this is no ranker", where=model)
    _check_workers(type(unfitted), workers, checkpoint, address=address, storage=storage)
    if get(model).verb not in ("recommend", "explore"):
        raise ConfigError("this system isn't fitted by this command.", value=model, remedy="see: palate models NAME")
    with progress_bars(quiet=as_json) as progress:
        if is_split(data):
            how_to_read = {"--format": format, "--column": column, "--read": reading}
            refuse(how_to_read, "a split is read as it was written", where=data)
            dataset, validation = _parts(data, with_valid=with_valid)
        else:
            refuse({"--with-valid": with_valid}, "the source is no split, and all of it is learnt from", where=data)
            dataset = load_dataset(data, progress, format=format, columns=column, on_bad_rows=on_bad_rows, reading=reading)
            validation = None
        how: dict[str, Any] = {
            "seed": seed,
            "device": device,
            "progress": progress,
            "callbacks": () if log is None else (JsonLog(log),),
        }
        if get(model).verb == "explore":
            fitted = unfitted.fit(dataset, seed=seed, progress=progress, checkpoint=checkpoint, callbacks=how["callbacks"])
            fitted.save(out)
        elif workers == 1:
            fitted = unfitted.fit(dataset, validation, checkpoint=checkpoint, **how)
            fitted.save(out)
        else:
            from palate.distributed.fit import fit_on_workers

            place: dict[str, Any] = {"workers": workers, "out": out, "address": address, "storage": storage}
            fitted = fit_on_workers(type(unfitted), unfitted.config.model_dump(), dataset, validation, **place, **how)
    facts = {
        "model": model,
        "bundle": out,
        "seconds": fitted.record_.seconds,
        "settings": fitted.config.model_dump(),
        "data": str(dataset),
        "log": log if log is not None and log.exists() else None,
    }
    if as_json:
        print_json({**facts, "notes": fitted.record_.notes})
        return
    if log is not None:
        say(f"Log of epochs: {log}" if log.exists() else f"No log was written: {model} doesn't tell its epochs.")
    say(f"{fitted!r} fitted in {fitted.record_.seconds:.1f} s on {dataset!r}")
    if get(model).verb == "explore":
        context = [word for name in fitted.context_columns for word in ("--context", f"{name}=0")]
        say(f"Saved to {out}. Next: {shlex.join(['palate', 'act', str(out), '--history', '', *context])}")
        return
    user = dataset.users.ids.raw[0].as_py()
    say(f"Saved to {out}. Next: {shlex.join(['palate', 'recommend', str(out), '--user', str(user)])}")


def _check_workers(kind: Any, workers: int, checkpoint: Path | None, **of_cluster: str | None) -> None:
    """Refuse what several workers, or one alone, have no use for, before data are read."""
    from palate.errors import ConfigError

    if workers == 1:
        for name, value in of_cluster.items():
            if value is not None:
                raise ConfigError("this is for a cluster.", where=f"--{name}", value=value, remedy="add --workers N")
        return
    from palate.distributed.fit import trainable

    trainable(kind)
    if checkpoint is not None:
        remedy = "name a place that all machines see with --storage; the same command goes on from there"
        raise ConfigError("workers keep checkpoints in the storage.", where="--checkpoint", value=checkpoint, remedy=remedy)


def _parts(folder: str, *, with_valid: bool) -> tuple[Dataset, HeldOut | None]:
    split = load_split(folder)
    if with_valid:
        return split.full_train(), None
    return split.train, None if split.valid is None or not len(split.valid) else split.held_out("valid")


@errors_to_exit_codes
def tune(
    model: ModelName,
    data: Annotated[str, typer.Option("--data", help="A split made by palate split.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many settings to try.")] = 20,
    metric: Annotated[str, typer.Option("--metric", help="What to raise, on validation.")] = "ndcg@10",
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Write the best settings here, as JSON.")] = None,
    engine: EngineName = "local",
    parallel: Annotated[
        int | None,
        typer.Option("--parallel", min=1, help="Trials at a time on a cluster (4); it counts as the seed does."),
    ] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Search good settings on the validation part (the test part stays closed).

    For rankers: palate compare SPLIT --models NAME --trials N.
    """
    from palate.catalog.registry import get
    from palate.data.whole import whole_file

    _check_tunable(model, get(model).verb)
    search = _search(engine, parallel, address)
    with progress_bars(quiet=as_json) as progress:
        tuned = search(load_split(data), model, trials=trials, seed=seed, metric=metric, progress=progress)
    facts: dict[str, Any] = {"model": model, "metric": metric, "value": tuned.value, "settings": dict(tuned.settings)}
    if out is not None:
        with whole_file(out) as stream:
            stream.write(json.dumps(plain(facts["settings"]), indent=2) + "\n")
    if as_json:
        print_json({**facts, "trials": tuned.trials})
        return
    best = f"{metric} {tuned.value:.4f} on validation"
    if tuned.settings:
        print_facts({k: str(v) for k, v in tuned.settings.items()}, best, head="setting")
    else:
        say(f"{best}: no trial beat the defaults.")
    given = (
        [f"--set {k}={plain(v)}" for k, v in tuned.settings.items()] if out is None else [f"--config {shlex.quote(str(out))}"]
    )
    say(f"Next: palate fit {model} --data {shlex.quote(str(data))} {' '.join([*given, '--out my-model'])}")


def _check_tunable(model: str, verb: str) -> None:
    """Refuse what isn't tuned on a split of events, before data are read."""
    from palate.errors import ConfigError

    elsewhere = {
        "rank": (
            "a ranker is tuned on a split of rows.",
            f"palate compare SPLIT --models {model} --trials N (each with so many trials)",
        ),
        "explore": (
            "a policy is tuned by what it earns in a world or a log, not on a split of events.",
            f"palate.study.tune_policy.tune_policy({model!r}, judge, trials=N), where judge(policy, seed) gives its value",
        ),
    }
    if verb != "recommend":
        what, remedy = elsewhere.get(verb, ("this system isn't tuned by this command.", f"see: palate models {model}"))
        raise ConfigError(what, where="tune", value=model, remedy=remedy)


def _search(engine: str, parallel: int | None, address: str | None) -> Callable[..., Tuned]:
    """Return the function that tunes, here or on a cluster."""
    if not on_ray(engine, parallel=parallel, address=address):
        from palate.study.tune import tune as search

        return search
    from palate.distributed.tune import PARALLEL
    from palate.distributed.tune import tune as search_on_ray

    return partial(search_on_ray, parallel=parallel or PARALLEL, address=address)
