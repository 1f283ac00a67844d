"""History in rankers: which columns say what a person did, and which ones describe the item asked about.

Sequences go together: position j of each is a fact (item, category, brand …) of the j-th event, the latest last. Each has a
target: the field that holds the same fact of the item asked about. Where nothing is named, a list column called ``history`` (or
one of :data:`HISTORIES`) is the sequence, and the field whose codes it shares, or else ``item``, the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor

from palate.contracts.ranker import Rows
from palate.data.row_encoder import RowLayout
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError, nearest
from palate.nn.fields import FieldVectors, RowVectors
from palate.nn.target_attention import one_history
from palate.rank.deepfm import DeepConfig
from palate.rank.neural import NeuralRanker, RowNet

#: Names by which a sequence, and an item asked about, are guessed; the first that is there counts.
HISTORIES = ("history", "sequence", "behaviours", "behaviors", "clicked")
TARGETS = ("item", "item_id", "product", "product_id")


class HistoryConfig(DeepConfig):
    """Settings of rankers that read what a person did before."""

    history: tuple[str, ...] = Field(
        (), description="sequences, position j of each a fact of the j-th event (none named: a list called history, if any)"
    )
    target: tuple[str, ...] = Field(
        (), description="field of the item asked about, one a sequence (none named: whose codes it shares, or item)"
    )
    history_length: int = Field(50, gt=0, description="latest events that are read (of sequences that fields don't describe)")


@dataclass(frozen=True)
class History:
    """Sequences, and the field of the item asked about that belongs to each."""

    sequences: tuple[str, ...]
    targets: tuple[str, ...]


class SideNet(RowNet):
    """Base of networks that make a loss of their own beside their answers.

    Attributes
    ----------
    aside
        That loss of the last batch in training, until it is taken; ``None`` else.
    """

    aside: Tensor | None = None

    def take_aside(self) -> Tensor | None:
        """Return the loss of the last batch, once."""
        found, self.aside = self.aside, None
        return found


class HistoryRanker(NeuralRanker):
    """Base of rankers that read a history (see the module's text)."""

    Settings = HistoryConfig
    config: HistoryConfig

    def _fields(self, blocks: Callable[[], Iterable[Rows]]) -> tuple[RowField, ...]:
        return with_history(super()._fields(blocks), self.config)

    def _players(self) -> tuple[tuple[str, ...], ...]:
        history = history_of(self.encoder_.layout, self.config)
        if history is None or len(history.sequences) == 1:
            return super()._players()
        others = [names for names in super()._players() if names[0] not in history.sequences]
        return (*others, history.sequences)


def with_history(fields: Sequence[RowField], config: HistoryConfig) -> tuple[RowField, ...]:
    """Return fields, of which guessed lists that are histories have become sequences with the codes of their targets.

    Raises
    ------
    ConfigError
        If a history or target that is named can't be used as one.
    """
    by_name = {f.name: f for f in fields}
    if config.target and len(config.target) != len(config.history):
        raise ConfigError(
            "each sequence needs one target.", where="target", value=config.target, remedy=f"name {len(config.history)}"
        )
    for name in (*config.history, *config.target):
        if name not in by_name:
            raise ConfigError("there is no such field.", where="history, target", value=name, remedy=nearest(name, by_name))
    given = {f.name for f in config.fields}
    names = config.history or _guessed(fields, given)
    lengths = {}
    for at, name in enumerate(names):
        own = by_name[name]
        if own.kind == "list" and name not in given:
            target = config.target[at] if config.target else _target(by_name, own, many=len(names) > 1)
            share = target if target and by_name[target].kind == "category" and not by_name[target].share else ""
            own = replace(own, kind="sequence", share=share, max_length=config.history_length)
        if own.kind != "sequence":
            raise ConfigError("a history is a sequence.", where=f"field {name!r}", value=own.kind, remedy="kind='sequence'")
        by_name[name], lengths[name] = own, own.max_length
    if len(set(lengths.values())) > 1:
        raise ConfigError("sequences that go together have one max_length.", where="fields", value=lengths)
    return tuple(by_name.values())


def history_of(layout: RowLayout, config: HistoryConfig) -> History | None:
    """Return the history that a network reads, or ``None`` where there is none.

    Raises
    ------
    ConfigError
        If a history is named, but no target can be found for it, or the target has not one code.
    """
    named = [name for name in HISTORIES if name in layout.sequences]
    sharing = [name for name in layout.sequences if any(layout.bases[s] == layout.bases[name] for s in layout.single)]
    sequences = config.history or tuple((named or sharing)[:1])
    targets = config.target or tuple(_partner(layout, name, many=len(sequences) > 1) for name in sequences)
    wrong = [s for s, t in zip(sequences, targets, strict=True) if t not in layout.single]
    if wrong and not config.history:
        return None
    if wrong:
        raise ConfigError(
            "no field with one code describes the item asked about for a sequence.",
            where="target",
            value=wrong[0],
            remedy=f"target=({layout.single[0]!r},)" if layout.single else "add a category",
        )
    return History(sequences, targets) if sequences else None


def read_history(table: FieldVectors, vectors: RowVectors, history: History) -> tuple[Tensor, Tensor, Tensor]:
    """Return the target ``float32[n, w]``, events ``float32[n, t, w]`` and ``bool[n, t]`` which exist; facts side by side.

    Raises
    ------
    DataError
        If the sequences of a row have different lengths.
    """
    places = [table.names.index(name) for name in history.targets]
    target = vectors.fields[:, places].flatten(1)
    parts, masks = zip(*(vectors.sequences[name] for name in history.sequences), strict=True)
    if len(parts) == 1:
        return target, parts[0], masks[0]
    for name, mask in zip(history.sequences[1:], masks[1:], strict=True):
        odd = (mask != masks[0]).any(1)
        if odd.any():
            raise DataError(
                "sequences that go together have different lengths.",
                where=f"{history.sequences[0]!r} and {name!r}, row {int(odd.nonzero()[0])} of a batch",
                remedy="give each event every fact; name one that is missing, such as 'none'",
            )
    if all(one_history(part) for part in parts):
        return target, torch.cat([part[:1] for part in parts], 2).expand(len(target), -1, -1), masks[0]
    return target, torch.cat(parts, 2), masks[0]


def _guessed(fields: Sequence[RowField], given: set[str]) -> tuple[str, ...]:
    """Return the name of the list or sequence that is the history by default; a list that is given stays a list."""
    usable = {f.name for f in fields if f.kind == "sequence" or (f.kind == "list" and f.name not in given)}
    return tuple(name for name in HISTORIES if name in usable)[:1]


def _target(fields: dict[str, RowField], own: RowField, *, many: bool) -> str:
    if own.share or many:
        return own.share
    return next((name for name in TARGETS if name in fields), "")


def _partner(layout: RowLayout, sequence: str, *, many: bool) -> str:
    """Return the field that shares the codes of a sequence, or a usual name of the item."""
    shared = [name for name in layout.single if layout.bases[name] == layout.bases[sequence]]
    usual = [] if many else [name for name in TARGETS if name in layout.single]
    return next(iter((*shared, *usual)), "")
