"""2T-HGNN: two towers that read vectors of a graph network over items, so a new type of items lives on an old one's audience.

    z_i = HGNN(text, items linked to i)                               palate.training.item_vectors
    o_i = g([ fields of i, text_i, z_i ])                             item tower
    o_u = f([ mean_{j in H, type t} W [ fields of j, text_j, z_j ]  for each type t,  fields of u ])
    score(u, i) = <o_u, o_i>                                          |o| = 1, in-batch softmax with logQ correction

The graph holds items alone. ``item_type`` names the attribute that tells, say, podcasts from audiobooks; each pair of types
has its own kind of link and its own matrices, and ``balanced`` gives all kinds equal parts in training. The person side has a
mean for each type of item (a learnt vector where there is none), so that somebody without an audiobook is answered by
podcasts. Events whose action is ``weak`` (follow, preview) make no links, but the towers learn from them and read them
(``learn_weak``).

In training the history never holds the item that is to be found, which the paper does not say. The links still do: a pair that
two people had is known to the graph when the towers learn from one of them. An item without events is placed by its fields, its
text and the vector that the network makes of its text alone. ``graph`` switches the network off: what is left are two towers on
fields and texts.

What the towers learn by heart of old items misleads them about new ones, and validation on old items can't see it. Without
dropout 25 passes put the new items of a simulated world in order worse than 6 do (.84 against .88, the chance that one of a
person's own topic stands above another), with ``dropout=0.3`` better (.91), at a small price for old items. Where items are
new, validate on items that are (the protocol ``held_out_items``).

Source: M. De Nadai et al., "Personalized Audiobook Recommendations at Spotify Through Graph Neural Networks", WWW Companion
2024, arXiv 2403.05185.
Differences: the paper's tower loss as printed is linear and has no bound, and is weighed by the inverse of an item's share,
positive or negative it doesn't say: here the in-batch softmax of :mod:`palate.recommend.two_tower` with logQ correction. The
last layer of the graph has no rectifier (with one, no cosine would be below 0), and its negatives are linked items of the
positive's type (the paper: random ones). One pair of towers serves all types (the paper trains one for each); links need two
people and more than chance (``min_support``, ``min_lift``; the paper: one person), and a busy person gives few of them
(``max_items``); training links are balanced by walking through each kind in turn, and neighbours by a fan-out for each type; a
part of the items is encoded without neighbours in training (``alone``), so that new items are no surprise. No music vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.data.features import Features
from palate.nn.towers import Tower, TwoTowers
from palate.recommend.two_tower import TwoTower, TwoTowerConfig
from palate.training.item_links import strong
from palate.training.item_vectors import ItemGraphSettings, ItemVectors, learn_item_vectors


class TwoTowerHGNNConfig(ItemGraphSettings, TwoTowerConfig):
    """Settings of two towers on a graph of items."""

    use_ids: bool = Field(False, description="whether items have a field for their id")
    dropout: float = Field(0.3, ge=0, lt=1, description="dropout of the hidden layers")
    graph: bool = Field(True, description="whether the towers read the vectors of the graph network")
    learn_weak: bool = Field(True, description="whether the towers learn from events whose action is weak")


class TypedTowers(TwoTowers):
    """Two towers whose person side has a mean of profiles for each type of item.

    The last ``types`` numbers of an item's input are its type, one of them 1. The profile of an item is ``W x`` in the place of
    its type, with the type beside it; a mean of profiles then holds, for each type, its share times its mean.

    Parameters
    ----------
    types
        Number of types; others as in :class:`palate.nn.towers.TwoTowers`.
    """

    def __init__(
        self,
        items: tuple[int, int, int],
        people: tuple[int, int, int],
        types: int,
        *,
        rng: np.random.Generator,
        **widths: Any,
    ) -> None:
        super().__init__(items, people, rng=rng, **widths)
        _, fields, numbers = people
        h, field_dim = widths["history_dim"], widths["field_dim"]
        self.types, self.h = types, h
        self.person_tower = Tower(
            types * h + fields * field_dim + numbers, widths["hidden"], widths["dim"], rng, widths["dropout"]
        )
        self.no_type = nn.Parameter(torch.zeros(types, h))
        del self.no_history
        self.register_buffer("no_history", torch.zeros(types * (h + 1)))

    def profiles(self, inputs: Tensor) -> Tensor:
        """Return ``float32[n, types * (history_dim + 1)]``."""
        own = inputs[:, -self.types :]
        told = functional.linear(inputs, self.profile)
        return torch.cat([(own[:, :, None] * told[:, None, :]).flatten(1), own], 1)

    def person(
        self, history: Tensor, features: Features, kept: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return ``z_u``, of mean profiles as :meth:`profiles` makes them."""
        shares = history[:, self.types * self.h :, None]
        sums = history[:, : self.types * self.h].reshape(-1, self.types, self.h)
        means = torch.where(shares > 0, sums / shares.clamp(min=1e-6), self.no_type)
        return super().person(means.flatten(1), features, kept, generator)


class TwoTowerHGNN(TwoTower):
    """Two towers on a graph of items (see the module's text)."""

    name: ClassVar[str] = "two_tower_hgnn"
    Settings = TwoTowerHGNNConfig
    config: TwoTowerHGNNConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        settings = c if c.graph else c.replace(graph_epochs=0, draws=1)
        self.vectors_, _, notes = learn_item_vectors(dataset, settings, fitting)
        folder = None if fitting.checkpoint is None else fitting.checkpoint / "towers"
        learnt = dataset if c.learn_weak else strong(dataset, c.weak)
        return {**super()._fit(learnt, replace(fitting, checkpoint=folder)), **(notes if c.graph else {})}

    def embed_items(self, attributes: pa.Table) -> np.ndarray:
        """Return ``float32[n, dim]``: vectors of items that need not be in the catalogue, from their attributes alone.

        Items of which nothing is known have zeros.
        """
        self._check_fitted()
        n, names = attributes.num_rows, self.vectors_.names
        plain = super()._item_features(attributes, n, np.zeros(n, bool))
        column = self.config.item_type
        types = np.zeros(n, np.int32)
        if column:
            found = attributes.column(column).cast(pa.string()).to_pylist() if column in attributes.column_names else [""] * n
            types = np.array([names.index(name or "") if (name or "") in names else -1 for name in found], np.int32)
        features = self._with_vectors(plain, *self.vectors_.embed(attributes), types)
        vectors, _ = self._placed(features)
        return np.where(self._something(features)[:, None], vectors, np.float32(0))

    def _item_features(self, table: pa.Table | None, n: int, trained: np.ndarray) -> Features:
        own = self.vectors_
        return self._with_vectors(super()._item_features(table, n, trained), own.texts, own.vectors, own.types)

    def _with_vectors(self, plain: Features, texts: np.ndarray, vectors: np.ndarray, types: np.ndarray) -> Features:
        """Put texts, vectors of the graph and types behind the numbers of items."""
        marks = (types[:, None] == np.arange(len(self.vectors_.names))).astype(np.float32)
        parts = [plain.dense, texts, vectors, marks] if self.config.graph else [plain.dense, texts, marks]
        return Features(plain.bags, np.concatenate(parts, axis=1).astype(np.float32), plain.n_fields)

    def _something(self, features: Features) -> np.ndarray:
        """Say of which items anything is known beside the type."""
        numbers = features.dense[:, : features.dense.shape[1] - len(self.vectors_.names)]
        return Features(features.bags, numbers, features.n_fields).known

    def _finish(self, features: Features) -> None:
        self.item_vectors_, self.profiles_ = self._placed(features)
        self.speaks_ = self._something(features)
        self.item_vectors_[~self.speaks_], self.profiles_[~self.speaks_] = 0, 0

    def _fresh(self, rng: np.random.Generator) -> TypedTowers:
        c, ids, item, user = self.config, int(self.config.use_ids), self.item_schema_, self.user_schema_
        types = len(self.vectors_.names)
        wide = self.vectors_.texts.shape[1] + types + (self.vectors_.vectors.shape[1] if c.graph else 0)
        return TypedTowers(
            (int(item.bases[-1]) + ids * len(self.items_), len(item.fields) + ids, len(item.numbers) + wide),
            (int(user.bases[-1]), len(user.fields), len(user.numbers)),
            types,
            dim=c.dim,
            field_dim=c.field_dim,
            history_dim=c.history_dim,
            hidden=c.hidden,
            dropout=c.dropout,
            rng=rng,
        )

    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), **{f"graph/{name}": value for name, value in self.vectors_.state().items()}}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        own = {name.removeprefix("graph/"): value for name, value in state.items() if name.startswith("graph/")}
        self.vectors_ = ItemVectors.of_state(own, self.items_, self.config)
        super()._restore({name: value for name, value in state.items() if not name.startswith("graph/")})
