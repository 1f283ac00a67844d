"""What a folder says of the model in it: where weights and tokenizer lie, how its states are pooled, how much it reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.errors import BundleError, ConfigError, UnsupportedError

#: What can be made of the states of the tokens.
POOLINGS = ("mean", "cls")
_ONNX = ("model.onnx", "onnx/model.onnx", "model_quantized.onnx", "onnx/model_quantized.onnx")
_LENGTH = 512


@dataclass(frozen=True)
class Folder:
    """A model's folder, read.

    Attributes
    ----------
    path
        The folder.
    transformer
        Where its ``config.json`` and weights lie (the same, or a folder in it).
    tokenizer
        The ``tokenizer.json``.
    onnx
        The ONNX file, or ``None``.
    pooling
        ``"mean"`` or ``"cls"``; ``None`` where the folder doesn't say.
    max_length
        Most tokens of an input.
    lower
        Whether texts are put in lower case first.
    modules
        Kinds of modules of a sentence-transformers folder.
    """

    path: Path
    transformer: Path
    tokenizer: Path
    onnx: Path | None
    pooling: str | None
    max_length: int
    lower: bool = False
    modules: tuple[str, ...] = ()


def read_folder(path: str | Path) -> Folder:
    """Read a folder.

    Raises
    ------
    ConfigError
        If there is no such folder.
    BundleError
        If a file in it can't be read.
    UnsupportedError
        If its pooling, or a module behind it, is none of those that are read here.
    """
    base = Path(path)
    if not base.is_dir():
        raise ConfigError("there is no such folder of a model.", where=base, remedy="give the path of a local folder")
    modules = _json(base / "modules.json") or []
    kinds = {str(module["type"]).rsplit(".", 1)[-1]: base / module["path"] for module in modules}
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize", "StaticEmbedding")]
    if unknown:
        remedy = "export it whole to ONNX (its output sentence_embedding is used as it is)"
        raise UnsupportedError("the model has a module that is not read here.", where=base, value=unknown[0], remedy=remedy)
    transformer = kinds.get("Transformer", base)
    onnx = next((home / name for home in (base, transformer) for name in _ONNX if (home / name).is_file()), None)
    homes = (kinds.get("StaticEmbedding", transformer), transformer, base, base if onnx is None else onnx.parent)
    found = (home / "tokenizer.json" for home in homes)
    tokenizer = next((file for file in found if file.is_file()), base / "tokenizer.json")
    pooling = _pooling(kinds.get("Pooling", base / "1_Pooling") / "config.json")
    lower = (_json(transformer / "sentence_bert_config.json") or {}).get("do_lower_case") is True
    return Folder(base, transformer, tokenizer, onnx, pooling, _max_length(base, transformer), lower, tuple(kinds))


def chosen_pooling(pooling: str | None, where: Path) -> str:
    """Return the pooling, checked; an error says how to give it where it is not known.

    Raises
    ------
    ConfigError
        If it is ``None``, or no pooling.
    """
    if pooling is None:
        remedy = 'give pooling="mean" or pooling="cls", as the model was trained'
        raise ConfigError("nothing says how the model's states are pooled.", where=where, remedy=remedy)
    if pooling not in POOLINGS:
        raise ConfigError("there is no such pooling.", where="pooling", value=pooling, remedy=f"one of {', '.join(POOLINGS)}")
    return pooling


def _pooling(path: Path) -> str | None:
    """Return the pooling of a module's settings, in the older form (a flag a kind) or the newer one (a name)."""
    settings = _json(path)
    if not settings:
        return None
    named = settings.get("pooling_mode")
    if named is None:
        flags = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
        named = [flags.get(key, key) for key, on in settings.items() if key.startswith("pooling_mode_") and on is True]
    names = [named] if isinstance(named, str) else list(named)
    if len(names) != 1 or names[0] not in POOLINGS:
        raise UnsupportedError(
            "this pooling is not read here.", where=path, value=names, remedy=f"one of {', '.join(POOLINGS)}"
        )
    return str(names[0])


def _max_length(base: Path, transformer: Path) -> int:
    places = (
        (transformer / "sentence_bert_config.json", "max_seq_length"),
        (base / "vectrix_config.json", "max_length"),
        (transformer / "tokenizer_config.json", "model_max_length"),
        (transformer / "config.json", "max_position_embeddings"),
    )
    for path, key in places:
        length = (_json(path) or {}).get(key)
        if isinstance(length, int) and 0 < length < 1_000_000:
            return length
    return _LENGTH


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise BundleError("a file of the model can't be read.", where=path, value=str(error), remedy="copy it again") from None
