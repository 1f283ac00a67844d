"""Engines of language models, and the table by which a text names one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.errors import ConfigError, nearest
from palate.language.model import LanguageModel


def open_model(spec: str | Path, **options: Any) -> LanguageModel:
    """Return the language model that a text names.

    ============================  ==============================================================
    text                          model
    ============================  ==============================================================
    ``smollm2-135m`` …            one installed by ``palate lm get`` (GGUF)
    ``FILE.gguf``                 that file
    ``FOLDER``                    a transformers folder (with ``adapter=``: a LoRA on it)
    ``https://HOST/v1#MODEL``     an OpenAI-compatible endpoint
    ``FILE.jsonl``                a recording
    ============================  ==============================================================

    Parameters
    ----------
    spec
        The text.
    **options
        Of the adapter: ``GGUFModel``, ``LocalModel``, ``EndpointModel`` or ``ReplayModel``.
    """
    text = str(spec)
    if text.startswith(("http://", "https://")):
        from palate.language.models.endpoint import EndpointModel

        address, _, name = text.partition("#")
        return EndpointModel(address, name, **options)
    path = Path(text)
    if path.suffix == ".jsonl":
        from palate.language.models.replay import ReplayModel

        return ReplayModel(path, **options)
    from palate.language.downloads import MODELS, installed

    if text in MODELS:
        from palate.language.models.gguf import GGUFModel

        return GGUFModel(installed(text), **options)
    if path.is_dir():
        from palate.language.models.local import LocalModel

        return LocalModel(path, **options)
    if path.suffix == ".gguf":
        from palate.language.models.gguf import GGUFModel

        return GGUFModel(path, **options)
    raise ConfigError(
        "no such language model.",
        value=text,
        remedy=f"{nearest(text, MODELS)}; or a .gguf file, a folder, an address with #MODEL, a .jsonl recording",
    )
