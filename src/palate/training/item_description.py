"""What is told of items, as numbers for a network: text vectors, and codes of other attributes; frozen once learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from palate.data.dataset import Entities
from palate.data.features import Features, Schema, guess_kind, learn_schema
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, nearest
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.encoders.tfidf import features as words_of
from palate.language.texts import ItemTexts, item_texts, text_columns


@dataclass(frozen=True)
class Inputs:
    """Text vectors ``float32[n, dim]`` (of length at most one) and features of ``n`` items."""

    text: np.ndarray
    features: Features


@dataclass(frozen=True)
class Description:
    """How items are told.

    Attributes
    ----------
    encoder
        Of texts; ``None`` where there are none.
    columns
        Attributes that are read as text.
    schema
        Of the other attributes.
    """

    encoder: TfidfEncoder | None
    columns: tuple[str, ...]
    schema: Schema

    @classmethod
    def learn(
        cls,
        items: Entities,
        trained: np.ndarray,
        texts: tuple[str, ...] | None,
        metadata: tuple[str, ...] | None,
        dim: int,
        *,
        use: bool = True,
        require: bool = True,
        where: str = "items",
    ) -> Self:
        """Learn from the items that are ``trained`` alone: what came later must not shape the vectors.

        Parameters
        ----------
        texts, metadata
            Attributes read as text, and those read as categories, sets or numbers. ``None``: the usual text columns, and all
            categories and sets.
        use
            Whether anything is told at all.
        require
            Whether data in which nothing tells the items are refused.

        Raises
        ------
        ConfigError
            If an attribute isn't there, or nothing tells the items and ``require``.
        """
        table = items.attributes
        if not use:
            return cls(None, (), Schema())
        there = [] if table is None else list(table.column_names)
        for name in (*(texts or ()), *(metadata or ())):
            if name not in there:
                advice = nearest(name, there) if there else "the items have no attributes"
                raise ConfigError("there is no such attribute of items.", where=where, value=name, remedy=advice)
        old = items if table is None else Entities(Vocabulary(items.ids.raw.take(pa.array(np.flatnonzero(trained)))),
                                                   table.take(pa.array(np.flatnonzero(trained))))  # fmt: skip
        columns = text_columns(items) if texts is None else texts
        rows = [text for text in _texts(old, columns) if any(letter.isalnum() for letter in text)]
        encoder = TfidfEncoder(dim=dim).fit(rows) if rows else None
        if table is None:
            schema = Schema()
        else:
            assert old.attributes is not None
            names = [n for n in there if guess_kind(table.column(n)) in ("category", "set")] if metadata is None else metadata
            schema = learn_schema(old.attributes.select(list(names)))
        found = cls(encoder, columns if encoder else (), schema)
        if require and not any(found.sizes):
            raise ConfigError(
                "no attribute tells what the items are.", where=where, value=there, remedy="give texts, or places='free'"
            )
        return found

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Width of the text vectors, number of codes, number of plain numbers."""
        return (0 if self.encoder is None else self.encoder.dim, int(self.schema.bases[-1]), len(self.schema.numbers))

    def inputs(self, table: pa.Table | None, n: int) -> Inputs:
        """Return what is told of ``n`` items; attributes that are missing tell nothing."""
        features = self.schema.encode(table, n, lambda text: words_of(text, runs=False))
        if self.encoder is None:
            return Inputs(np.zeros((n, 0), np.float32), features)
        items = Entities(Vocabulary(pa.array(np.arange(n))), table)
        there = () if table is None else tuple(f.name for f in table.schema if not pa.types.is_null(f.type))
        present = tuple(c for c in self.columns if c in there)
        return Inputs(self.encoder.encode(_texts(items, present)), features)

    def known(self, inputs: Inputs) -> np.ndarray:
        """Return ``bool[n]``: is anything told of an item?"""
        own = inputs.features.known if any(self.sizes[1:]) else np.zeros(len(inputs.text), bool)
        return np.asarray(inputs.text.any(axis=1) | own)

    def state(self) -> dict[str, np.ndarray]:
        """Return everything as arrays; :meth:`of_state` takes them back."""
        text = {} if self.encoder is None else {f"text/{name}": array for name, array in self.encoder.state().items()}
        columns = np.frombuffer("\n".join(self.columns).encode(), np.uint8).copy()
        return {**text, "columns": columns, "schema": self.schema.array()}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> Self:
        """Restore from what :meth:`state` gave."""
        text = {name.removeprefix("text/"): array for name, array in state.items() if name.startswith("text/")}
        columns = state["columns"].tobytes().decode()
        encoder = TfidfEncoder.of_state(text) if text else None
        return cls(encoder, tuple(columns.split("\n")) if columns else (), Schema.of_array(state["schema"]))


def _texts(items: Entities, columns: tuple[str, ...]) -> list[str]:
    return item_texts(items, ItemTexts(columns=columns, labels=False)) if columns else [""] * len(items)
