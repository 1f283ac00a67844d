"""Rankers in this process: a bundle of a click model, asked about candidates in rows that are made as those of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palate.catalog.registry import load
from palate.contracts.bundle import read_manifest
from palate.contracts.explanation import Explanation
from palate.contracts.ranker import Ranker, Rows
from palate.errors import ConfigError, UnsupportedError, nearest
from palate.serve.memory.catalogue import Catalogue
from palate.serve.rows.asked import Asker, Kind, is_made, rows_of

#: How fields of a ranker are read from rows of the service.
_KINDS: dict[str, Kind] = {"number": "number", "bucket": "number", "list": "list", "sequence": "list"}


class LoadedRanker:
    """A ranker and the columns that it reads.

    Attributes
    ----------
    version
        Its name in the store.
    model
        The ranker.
    facts
        The manifest of its bundle.
    kinds
        Columns that it reads, each with its kind.
    """

    def __init__(self, version: str, folder: str | Path) -> None:
        self.version, self.folder = version, Path(folder)
        self.facts: Mapping[str, Any] = read_manifest(folder)
        model = load(folder)
        if not isinstance(model, Ranker):
            raise UnsupportedError("this model is no ranker.", where=version, value=self.facts.get("system"))
        self.model = model
        fields = model.export().get("fields")
        if fields is None:
            raise UnsupportedError("this ranker doesn't say which columns it reads.", where=version, value=model.name)
        self.kinds: dict[str, Kind] = {f["name"]: _KINDS.get(f["kind"], "text") for f in fields if f["kind"] != "cross"}

    @property
    def never_known(self) -> list[str]:
        """Columns that it reads and rows of the service never hold: they are missing in every answer."""
        return [name for name in self.kinds if not is_made(name)]

    @property
    def reads_user(self) -> bool:
        """Whether it reads attributes of people."""
        return any(name.startswith("user.") for name in self.kinds)

    def score(self, asker: Asker, catalogue: Catalogue, rows: Sequence[int], task: str = "") -> np.ndarray:
        """Return ``float64[m]``: what is expected of each row of the catalogue (of the first task, where none is named)."""
        if task and task not in self.model.tasks:
            raise ConfigError(
                "the ranker has no such task.", where="rank.task", value=task, remedy=nearest(task, self.model.tasks)
            )
        table = rows_of(asker, [catalogue.items[row] for row in rows], self.kinds)
        return self.model.predict(Rows(table)).task(task or self.model.tasks[0]).astype(np.float64)

    def warm(self, catalogue: Catalogue) -> None:
        """Score a few items once for nobody in particular: kernels are compiled, pages come into memory."""
        rows = np.flatnonzero(catalogue.shown)[:3].tolist()
        if rows:
            self.score(Asker(None, [], 0.0, {}, {}, 0), catalogue, rows)

    def explain(self, asker: Asker, catalogue: Catalogue, row: int) -> Explanation:
        """Say why the first task is expected as it is of one row of the catalogue."""
        return self.model.explain_row(Rows(rows_of(asker, [catalogue.items[row]], self.kinds)))
