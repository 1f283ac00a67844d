"""``palate serve`` and what belongs to it: keys, publishing, retraining, rolling back."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.options import Address, EngineName, Positive, Seed, Settings, on_ray, refuse, settings_of, tell_idle
from palate.cli.output import (
    SERVICE,
    Json,
    errors_to_exit_codes,
    note,
    print_facts,
    print_json,
    print_table,
    progress_bars,
    say,
)
from palate.cli.store import StoreUrl, url_of

if TYPE_CHECKING:
    from palate.serve.settings import ServiceSettings

keys = typer.Typer(no_args_is_help=True, help="API keys of the service.")
Config = Annotated[Path | None, typer.Option("--config", help="Settings of the service: palate.toml.")]
Models = Annotated[Path | None, typer.Option("--models", help="Folder of published bundles (default: beside the store).")]


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command(rich_help_panel=SERVICE)(serve)
    app.command(rich_help_panel=SERVICE)(publish)
    app.command(name="rollback", rich_help_panel=SERVICE)(roll_back)
    app.command(name="retrain", rich_help_panel=SERVICE)(retrain_)
    app.add_typer(keys, name="keys", rich_help_panel=SERVICE)


@errors_to_exit_codes
def serve(
    store: StoreUrl = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Bundle to serve as the active model.")] = None,
    config: Config = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on (0: any free one).")] = None,
    insecure_loopback: Annotated[
        bool, typer.Option("--insecure-loopback", help="Answer without API keys, on a loopback address only.")
    ] = False,
    engine: EngineName = "local",
    replicas: Annotated[int | None, typer.Option("--replicas", min=1, help="How many answer on the cluster (2).")] = None,
    most_replicas: Annotated[
        int | None, typer.Option("--most-replicas", min=1, help="How many may answer under load (as many as replicas).")
    ] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Answer over HTTP. With nothing else: MovieLens 100K and a model of it, on this machine only."""
    settings = _settings(config, store, host, port, insecure_loopback)
    if on_ray(engine, replicas=replicas, address=address, **{"most-replicas": most_replicas}):
        _serve_on_ray(settings, bundle, replicas or 2, most_replicas, address, as_json=as_json)
    else:
        _serve_here(settings, bundle, demo=store is None and bundle is None and config is None, as_json=as_json)
    if not as_json:
        say("Ended; nothing under way was dropped.")


def _serve_here(settings: ServiceSettings, bundle: Path | None, *, demo: bool, as_json: bool) -> None:
    """Answer from this process."""
    from palate.serve.run import home, listen, prepared

    with contextlib.ExitStack() as stack:
        with progress_bars(quiet=as_json) as progress:
            found = prepared(settings, bundle=bundle, demo=home() if demo else None, progress=progress)
            started = stack.enter_context(found)
        active = started.service.shelf.active

        def ready(url: str) -> None:
            facts = {
                "url": url,
                "store": started.service.store.url,
                "model": None if active is None else active.version,
                "key": started.key,
            }
            _announce(settings, facts, started.key_file, as_json=as_json)

        listen(started.service, on_ready=ready, extend=_console(settings.server.console, as_json=as_json))


def _serve_on_ray(
    settings: ServiceSettings, bundle: Path | None, replicas: int, most: int | None, address: str | None, *, as_json: bool
) -> None:
    """Answer from replicas on a cluster; what Ray itself says goes beside the answer."""
    from palate.distributed.serve import Serving, serve_on_ray

    answer = sys.stdout
    settings = settings.replace(server={**settings.server.model_dump(), "console": False})

    def ready(serving: Serving) -> None:
        facts = {"url": serving.url, "store": serving.store, "model": serving.model, "key": serving.key, "replicas": replicas}
        with contextlib.redirect_stdout(answer):
            _announce(settings, facts, serving.key_file, as_json=as_json)

    if not as_json:
        note("Starting replicas; the console is for one process, and not among them.")
    with contextlib.redirect_stdout(sys.stderr):
        serve_on_ray(settings, bundle=bundle, replicas=replicas, most=most, address=address, on_ready=ready)


def _console(wanted: bool, *, as_json: bool) -> Any:
    """Return what adds the console's pages, or ``None`` where it isn't wanted or its extra is not installed."""
    from palate.extras import available, install_command

    if not wanted:
        return None
    if not available("nicegui"):
        if not as_json:
            say(f"No console: it needs nicegui. Install it with: {install_command('nicegui')}")
        return None
    from palate.console import mount

    return mount


def _announce(settings: ServiceSettings, facts: dict[str, Any], key_file: Path | None, *, as_json: bool) -> None:
    """Say that the service answers, and what to type next."""
    from palate.extras import available

    if as_json:
        print_json(facts)
        return
    url = facts["url"]
    say(f"Palate answers at {url}", "bold")
    if settings.server.console and available("nicegui"):
        say(f"  console {url}/console/")
    say(f"  store   {facts['store']}")
    say(f"  model   {facts['model'] or 'none yet: palate retrain SYSTEM, or palate publish BUNDLE --activate'}")
    if facts["key"] is not None:
        say(f"  key     {facts['key']}   (also in {key_file})")
    elif not settings.server.insecure_loopback:
        say("  key     one made before; a new one: palate keys add NAME")
    header = "" if settings.server.insecure_loopback else " -H 'Authorization: Bearer KEY'"
    say(f"Try: curl{header} -H 'Content-Type: application/json' -d '{{\"k\": 5}}' {url}/v1/recommendations")
    say("Ctrl-C ends it.")


@errors_to_exit_codes
def publish(
    bundle: Annotated[Path, typer.Argument(help="Folder made by palate fit or palate retrain.")],
    store: StoreUrl = None,
    version: Annotated[str | None, typer.Option("--version", help="Its name (default: of its system and content).")] = None,
    activate: Annotated[bool, typer.Option("--activate", help="Make it the model that answers.")] = False,
    as_json: Json = False,
) -> None:
    """Enter a bundle into the store; running services take an activation up by themselves."""
    from palate.contracts.bundle import read_manifest
    from palate.serve.models.kinds import kind_of
    from palate.serve.models.production import publish as enter
    from palate.serve.models.rankers import LoadedRanker
    from palate.serve.store import Store

    facts = read_manifest(bundle)
    name = version or f"{facts['system']}-{str(facts['checksum'])[:8]}"
    with Store.open(url_of(store)) as opened:
        row, place = enter(opened, name, bundle, activate=activate), opened.url
    shown = {"version": row.version, "system": row.system, "state": row.state, "bundle": row.path, "store": place}
    empty = LoadedRanker(row.version, bundle).never_known if kind_of(row.system) == "ranker" else []
    if as_json:
        print_json({**shown, "empty_columns": empty})
        return
    print_facts(shown, "Published")
    if empty:
        say(f"The service has no such columns, so these are empty in every answer: {', '.join(empty)}")


@errors_to_exit_codes
def roll_back(store: StoreUrl = None, as_json: Json = False) -> None:
    """Return to the model that was active before."""
    from palate.serve.store import Store

    with Store.open(url_of(store)) as opened:
        row, place = opened.roll_back(), opened.url
    if as_json:
        print_json({"version": row.version, "system": row.system, "state": row.state, "store": place})
        return
    say(f"{row.version} answers again.")
    say(f"Store: {place}")


@errors_to_exit_codes
def retrain_(
    system: Annotated[str | None, typer.Argument(help="System to fit (default: as the active model).")] = None,
    store: StoreUrl = None,
    models: Models = None,
    set_: Settings = None,
    positive: Positive = None,
    all_events: Annotated[
        bool, typer.Option("--all-events", help="All events count again (default: those that the active model learnt from).")
    ] = False,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Have the active model learn on from the new events, instead of anew.")
    ] = False,
    gate: Annotated[bool, typer.Option("--gate/--no-gate", help="Hold it against the active model first.")] = True,
    publish_undecided: Annotated[
        bool, typer.Option("--publish-undecided", help="Publish it also where the gate can't decide (too little is new).")
    ] = False,
    activate: Annotated[bool, typer.Option("--activate/--publish-only", help="Make it the model that answers.")] = True,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Have a model learn from everything in the store, hold it against the active one, publish it.

    A policy (the verb explore) learns from all slates and what came of them, and is published without a gate.
    """
    from palate.catalog.registry import create
    from palate.errors import ConfigError
    from palate.serve.models.kinds import kind_of
    from palate.serve.models.retrain import retrain
    from palate.serve.run import home
    from palate.serve.store import Store

    if positive and all_events:
        raise ConfigError("either some events count, or all.", where="--all-events", value=positive, remedy="give one of them")
    place, settings = models or (home() / "models" if store is None else Path("models")), settings_of(set_, None)
    if system is not None:
        tell_idle(create(system, **settings).config)
    if system is not None and kind_of(system) == "policy":
        given = {"--incremental": incremental, "--positive": positive, "--all-events": all_events}
        given |= {"--publish-undecided": publish_undecided}
        refuse(given, "a policy learns anew, from all slates, and has no gate", where=system)
        _teach(url_of(store), place, system, settings or None, seed, as_json=as_json)
        return
    with Store.open(url_of(store)) as opened, progress_bars(quiet=as_json) as progress:
        how: dict[str, Any] = {"incremental": incremental, "gate": gate, "activate": activate, "seed": seed}
        how["positive"] = [] if all_events else positive or None
        how["undecided"] = "publish" if publish_undecided else "refuse"
        done, kept = retrain(opened, place, system, settings or None, **how, progress=progress), opened.url
    facts = {"version": done.version, "bundle": done.folder, "seconds": done.seconds, "gate": done.gate, "store": kept}
    facts |= {"learnt_on_from": done.before, "updates": done.updates, "forgotten": done.forgotten}
    facts["positive"] = None if done.positive is None else done.positive.texts
    if as_json:
        print_json(facts)
        return
    say(f"{done.version} {'answers now' if activate else 'is published'} ({done.seconds:.1f} s): {done.folder}")
    say(f"Store: {kept}")
    if done.positive is not None:
        say(f"It learnt from these events: {done.positive}.")
    if done.before is not None:
        say(f"It learnt on from {done.before} (updates since the last full fit: {done.updates}).")
    if done.forgotten:
        say(
            f"People erased while it learnt: {done.forgotten}. Its bundle is without them; retrain again to learn without them."
        )
    say("Gate: " + ("left out, or no model was active" if done.gate is None else done.gate.words))


def _teach(store: str, models: Path, system: str, settings: dict[str, Any] | None, seed: int, *, as_json: bool) -> None:
    """Have a policy learn from the store's slates; say how it is put to work."""
    from palate.serve.models.kinds import use_of
    from palate.serve.models.teaching import teach
    from palate.serve.store import Store

    with Store.open(store) as opened, progress_bars(quiet=as_json) as progress:
        done, kept = teach(opened, models, system, settings, seed=seed, progress=progress), opened.url
    if as_json:
        print_json({**asdict(done), "store": kept})
        return
    say(f"{done.version} is published ({done.seconds:.1f} s): {done.folder}")
    say(f"Store: {kept}")
    say(done.words)
    say(f"Nothing answers with it yet: {use_of(system, done.version)}")


@keys.command("add")
@errors_to_exit_codes
def add_key(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, dashes.")],
    scope: Annotated[str, typer.Option("--scope", help="read, write (also sends), or admin (everything).")] = "write",
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Make a key; it is shown once."""
    from palate.serve.http.security import new_key
    from palate.serve.store import Store

    with Store.open(url_of(store)) as opened:
        key, place = new_key(opened, name, scope), opened.url
    if as_json:
        print_json({"name": name, "scope": scope, "key": key, "store": place})
        return
    say(key)
    say(f"Keep it: only its hash is in the store, {place}")


@keys.command("list")
@errors_to_exit_codes
def list_keys(store: StoreUrl = None, as_json: Json = False) -> None:
    """List keys by name."""
    from palate.serve.store import Store

    with Store.open(url_of(store)) as opened:
        keys_of, place = opened.keys(), opened.url
    rows = [{"name": k.name, "scopes": " ".join(sorted(k.scopes)), "created": k.created} for k in keys_of]
    if as_json:
        print_json(rows)
        return
    print_table(rows, title=f"Keys of {place}")


@keys.command("revoke")
@errors_to_exit_codes
def revoke_key(name: Annotated[str, typer.Argument(help="Whose key.")], store: StoreUrl = None, as_json: Json = False) -> None:
    """Take a key back; services notice within seconds."""
    from palate.serve.store import Store

    with Store.open(url_of(store)) as opened:
        opened.revoke_key(name)
        place = opened.url
    if as_json:
        print_json({"revoked": name, "store": place})
        return
    say(f"The key of {name} is no longer good in {place}")


def _settings(config: Path | None, store: str | None, host: str | None, port: int | None, insecure: bool) -> ServiceSettings:
    """Join the file's settings with those of the command line, which win."""
    from palate.serve.settings import ServiceSettings

    settings = ServiceSettings() if config is None else ServiceSettings.read(config)
    if config is None or store is not None:
        settings = settings.replace(store=settings.store.replace(url=url_of(store)).model_dump())
    given = {"host": host, "port": port, "insecure_loopback": insecure or None}
    server = {**settings.server.model_dump(), **{k: v for k, v in given.items() if v is not None}}
    return settings.replace(server=server)
