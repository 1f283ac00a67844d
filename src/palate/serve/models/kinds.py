"""Kinds of published versions: what each can be in the service, by its system's verb."""

from __future__ import annotations

from palate.catalog.registry import get
from palate.serve.pipeline.config import NeedKind

_KINDS: dict[str, NeedKind] = {"rank": "ranker", "explore": "policy"}
#: What a version that is no model does, and the table of ``palate.toml`` that names it.
_USES: dict[NeedKind, tuple[str, str]] = {
    "ranker": ("a ranker orders what others found", "[pipeline.rank]"),
    "policy": ("a policy chooses among what others found", "[pipeline.explore]"),
}


def kind_of(system: str) -> NeedKind:
    """Return what versions of a system are; only models answer from the whole catalogue."""
    return _KINDS.get(get(system).verb, "model")


def use_of(system: str, version: str) -> str | None:
    """Return how a version is put to work that can't answer from the whole catalogue; ``None`` for one that can."""
    kind = kind_of(system)
    if kind == "model":
        return None
    does, table = _USES[kind]
    return f"{does}: {table} kind = '{kind}', model = '{version}'"
