"""From a name or a folder to an encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from palate.errors import BundleError, ConfigError, nearest
from palate.language.encoder import ENCODERS, TextEncoder
from palate.language.encoders import packages
from palate.language.encoders.folders import read_folder


def make(which: str | Path, **settings: Any) -> TextEncoder:
    """Return an encoder (see :func:`palate.language.encoder.encoder`)."""
    named = _NAMED.get(str(which))
    try:
        if named is not None:
            return named(**settings)
        if not Path(which).is_dir():
            remedy = f"{nearest(str(which), ENCODERS)} Or give the path of a model's folder"
            raise ConfigError("there is no such encoder or folder.", where="encoder", value=str(which), remedy=remedy)
        return _of_folder(Path(which), settings)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ConfigError("the encoder has no such setting.", where=f"encoder {which}", value=str(error)) from None


def _minilm(**settings: Any) -> TextEncoder:
    from palate.language.encoders.transformer import TransformerEncoder

    folder = packages.MINILM.find("minilm").parent
    packages.MINILM_TOKENIZER.find("minilm")
    return TransformerEncoder(folder, name="minilm", **settings)


def _minilm_onnx(**settings: Any) -> TextEncoder:
    from palate.language.encoders.onnx import OnnxEncoder

    model, tokenizer = packages.MINILM_ONNX.find("minilm-onnx"), packages.MINILM_TOKENIZER.find("minilm-onnx")
    return OnnxEncoder(model, tokenizer, **{"pooling": "mean", "max_length": 256, "name": "minilm-onnx", **settings})


def _bge(**settings: Any) -> TextEncoder:
    from palate.language.encoders.onnx import OnnxEncoder

    model, tokenizer = packages.BGE.find("bge"), packages.BGE_TOKENIZER.find("bge")
    return OnnxEncoder(model, tokenizer, **{"pooling": "cls", "max_length": 512, "name": "bge", **settings})


def _static(**settings: Any) -> TextEncoder:
    from palate.language.encoders.static import StaticEncoder

    return StaticEncoder(packages.WORDLLAMA.find("static"), packages.WORDLLAMA_TOKENIZER.find("static"), **settings)


def _tfidf(**settings: Any) -> TextEncoder:
    from palate.language.encoders.tfidf import TfidfEncoder

    settings.pop("cache", None)
    return TfidfEncoder(**settings)


_NAMED: dict[str, Callable[..., TextEncoder]] = {
    "minilm": _minilm,
    "minilm-onnx": _minilm_onnx,
    "bge": _bge,
    "static": _static,
    "tfidf": _tfidf,
}


def _of_folder(path: Path, settings: dict[str, Any]) -> TextEncoder:
    """Return the encoder of a folder, by what lies in it: TF-IDF, hashed words, static vectors, ONNX, then torch."""
    from palate.language.encoders.hashed import FILE as HASHED
    from palate.language.encoders.hashed import HashedEncoder
    from palate.language.encoders.tfidf import FILE, TfidfEncoder

    if (path / HASHED).is_file():
        return HashedEncoder.load(path)
    if (path / FILE).is_file():
        return TfidfEncoder.load(path)
    folder = read_folder(path)
    if "StaticEmbedding" in folder.modules or (not (folder.transformer / "config.json").is_file() and folder.onnx is None):
        from palate.language.encoders.static import StaticEncoder

        found = sorted(folder.tokenizer.parent.glob("*.safetensors"))
        if len(found) != 1:
            remedy = "a folder with model.onnx, with config.json and model.safetensors, or with one file of static vectors"
            raise BundleError("there is no model that can be read.", where=path, remedy=remedy)
        return StaticEncoder(found[0], folder.tokenizer, **{"name": path.name, **settings})
    if folder.onnx is not None:
        from palate.language.encoders.onnx import OnnxEncoder

        given = {
            "max_length": folder.max_length,
            "name": path.name,
            "pooling": folder.pooling,
            "lower": folder.lower,
            **settings,
        }
        return OnnxEncoder(folder.onnx, folder.tokenizer, **given)
    from palate.language.encoders.transformer import TransformerEncoder

    return TransformerEncoder(path, **settings)
