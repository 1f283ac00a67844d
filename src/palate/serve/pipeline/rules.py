"""Rules that a person writes into ``palate.toml``, in CEL (the Common Expression Language), run by a library and fenced in.

    item.price < 100.0 && !("Horror" in item.categories)
    has(item.attributes.country) && item.attributes.country == context.country

A rule sees plain copies of ``item`` and ``context`` and nothing else: no Python object, no function of ours. It is short, uses
one list macro at most (nested ones can run for minutes) and known functions only, which is checked when it is read. A rule that
can't be answered for an item (it lacks what the rule asks for) keeps that item out, and that is counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from palate.errors import ConfigError
from palate.extras import require
from palate.serve.memory.catalogue import Item

#: Longest rule; longest list and text that a rule sees.
LONGEST, LISTED, WORDS = 300, 100, 2_000
#: Functions that a rule may call, beside operators.
FUNCTIONS = frozenset(
    ("size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool", "timestamp", "duration", "type")
)
_MACROS = re.compile(r"\.\s*(map|filter|all|exists|exists_one)\s*\(")


class Rule:
    """A compiled rule.

    Attributes
    ----------
    text
        As written.
    personal
        Whether it looks at the context of the request (else its answer depends on the item alone, and is remembered).
    failed
        How often it couldn't be answered.
    """

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise ConfigError("the rule is too long.", where="rule", value=text, remedy=f"at most {LONGEST} characters")
        if len(_MACROS.findall(text)) > 1:
            raise ConfigError("the rule uses more than one list macro.", where="rule", value=text, remedy="use one at most")
        cel: Any = require("cel", "a rule")
        try:
            self._program = cel.compile(text)
            names, calls = set(self._program.variables()), set(self._program.functions())
        except Exception as error:  # the library raises its own kinds for each sort of mistake
            raise ConfigError("the rule can't be read.", where="rule", value=text, remedy=_line(error)) from None
        wrong = names - {"item", "context"} - _bound(text)
        if wrong:
            raise ConfigError(
                "the rule uses an unknown name.", where="rule", value=sorted(wrong)[0], remedy="use item or context"
            )
        strange = {call for call in calls if not call.startswith(("_", "@", "-", "!"))} - FUNCTIONS
        strange |= {call for call in calls if call.startswith("__")}
        if strange:
            remedy = f"use operators and: {', '.join(sorted(FUNCTIONS))}"
            raise ConfigError("the rule calls an unknown function.", where="rule", value=sorted(strange)[0], remedy=remedy)
        self.text, self.personal, self.failed = text, "context" in names, 0
        self._answers: dict[str, tuple[Item, bool]] = {}

    def allows(self, item: Item, context: Mapping[str, Any]) -> bool:
        """Say whether an item may be shown."""
        if self.personal:
            return self._ask(item, context)
        known = self._answers.get(item.id)
        if known is None or known[0] is not item:
            known = (item, self._ask(item, {}))
            self._answers[item.id] = known
        return known[1]

    def _ask(self, item: Item, context: Mapping[str, Any]) -> bool:
        seen = {
            "id": item.id,
            "title": item.title[:WORDS],
            "categories": list(item.categories[:LISTED]),
            "price": item.price,
            "created": item.created,
            "attributes": plain(item.attributes),
        }
        try:
            answer = self._program.execute({"item": seen, "context": plain(context)})
        except Exception:  # an absent name or a wrong type: see the module's text
            self.failed += 1
            return False
        return answer is True


def plain(value: Any, depth: int = 4) -> Any:
    """Return a plain, bounded copy of JSON-like data."""
    if isinstance(value, Mapping):
        return {str(k)[:WORDS]: plain(v, depth - 1) for k, v in list(value.items())[:LISTED]} if depth else {}
    if isinstance(value, (list, tuple)):
        return [plain(v, depth - 1) for v in value[:LISTED]] if depth else []
    if isinstance(value, str):
        return value[:WORDS]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)[:WORDS]


def _bound(text: str) -> set[str]:
    """Return the names that list macros bind."""
    return set(re.findall(r"\.\s*(?:map|filter|all|exists|exists_one)\s*\(\s*([A-Za-z_]\w*)\s*,", text))


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
