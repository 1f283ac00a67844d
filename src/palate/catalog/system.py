"""System: one row of the catalogue."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from palate.extras import EXTRA_OF, missing

Verb = Literal["recommend", "rank", "explore", "converse", "write", "understand", "simulate", "evaluate", "data"]
Status = Literal["works", "planned"]
Need = Literal[
    "interactions", "times", "text", "images", "graph", "social", "searches", "dialogues", "language model", "torch", "lightgbm"
]
Ability = Literal["vectors", "unseen users", "new items", "words", "ties", "explains", "similar", "propensities", "incremental"]


@dataclass(frozen=True)
class System:
    """What is known of a system without loading it.

    Attributes
    ----------
    name, title
        Short name used everywhere (``"ials"``), and how it is printed (``"iALS"``).
    verb, family
        Which question it answers, and the kind of method.
    path
        ``module:Class``; empty while only planned.
    paper, citation
        Number in the list of 61 papers (``None`` for baselines) and the reference.
    needs, abilities
        What it must be given, optional libraries among it (``"torch"``, ``"lightgbm"``); and what it can do.
    faithfulness
        ``"faithful"`` or ``"in the style of"``, with the choices named in the module's text.
    claim
        Name of the claim that tests it (for a planned system: that will test it), or empty.
    quick
        Settings under which it fits a tiny data set in about a second, for tests.
    """

    name: str
    title: str
    verb: Verb
    family: str
    path: str = ""
    paper: int | None = None
    citation: str = ""
    needs: tuple[Need, ...] = ("interactions",)
    abilities: tuple[Ability, ...] = ("unseen users",)
    faithfulness: str = "faithful"
    claim: str = ""
    status: Status = "works"
    origin: str = "palate"
    quick: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    @property
    def libraries(self) -> tuple[str, ...]:
        """Import names of the optional libraries that it can't work without."""
        return tuple(need for need in self.needs if need in EXTRA_OF)

    def load(self) -> type[Any]:
        """Import and return the class.

        Raises
        ------
        MissingExtraError
            If something that the system is built on is not installed; the message names the command that installs it.
        """
        module, _, attribute = self.path.partition(":")
        try:
            loaded: type[Any] = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] == module.split(".")[0]:
                raise
            raise missing(error.name, self.title) from None
        return loaded
