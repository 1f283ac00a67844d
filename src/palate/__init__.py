"""Palate: one Python platform for personalization.

Names load on first use, so ``import palate`` is quick.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Waiting threads sleep instead of spinning: a spinning one takes the core from whoever has work (docs/decisions/0006).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_HOME = {
    "Dataset": "palate.data.dataset",
    "Split": "palate.data.split",
    "HeldOut": "palate.data.split",
    "Requests": "palate.contracts.requests",
    "Ranking": "palate.contracts.ranking",
    "Recommender": "palate.contracts.recommender",
    "Client": "palate.serve.clients.client",
    "AsyncClient": "palate.serve.clients.async_client",
    "VectorRecommender": "palate.contracts.recommender",
    "Explanation": "palate.contracts.explanation",
    "Config": "palate.contracts.config",
    "PalateError": "palate.errors",
    "load": "palate.catalog.registry",
    "create": "palate.catalog.registry",
    "systems": "palate.catalog.registry",
    "read": "palate.data.readers",
    "split": "palate.data.protocols",
    "evaluate": "palate.study.evaluate",
    "compare": "palate.study.compare",
}

__all__ = [
    "AsyncClient",
    "Client",
    "Config",
    "Dataset",
    "Explanation",
    "HeldOut",
    "PalateError",
    "Ranking",
    "Recommender",
    "Requests",
    "Split",
    "VectorRecommender",
    "__version__",
    "compare",
    "create",
    "evaluate",
    "load",
    "read",
    "split",
    "systems",
]

if TYPE_CHECKING:
    from palate.catalog.registry import create, load, systems
    from palate.contracts.config import Config
    from palate.contracts.explanation import Explanation
    from palate.contracts.ranking import Ranking
    from palate.contracts.recommender import Recommender, VectorRecommender
    from palate.contracts.requests import Requests
    from palate.data.dataset import Dataset
    from palate.data.protocols import split
    from palate.data.readers import read
    from palate.data.split import HeldOut, Split
    from palate.errors import PalateError
    from palate.serve.clients.async_client import AsyncClient
    from palate.serve.clients.client import Client
    from palate.study.compare import compare
    from palate.study.evaluate import evaluate


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'palate' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
