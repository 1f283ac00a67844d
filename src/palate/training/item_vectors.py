"""Vectors of items by a heterogeneous graph network over items alone, so that items without any link have one too.

    h_i⁰ = x_i (text)      n_ir = max_{j in N_r(i)} relu(W_r h_j + b_r)      h_i' = φ( W h_i + Σ_r n_ir )      z_i = h_i / |h_i|

    L = mean_n max(0, <z_i, z_n> - <z_i, z_j> + Δ)        over links (i, j), items n of j's type that are not linked to i

``φ`` is the rectifier, left out in the last layer. ``N_r`` are up to ``fanout`` neighbours of one type, drawn anew for each
batch, from which the links of the batch are left out. A maximum over many neighbours is larger than over few, so answers draw
as many as training, and average over ``draws`` draws. The items ``n`` are drawn from those with a link: one without, which is
never a ``j``, would only be pushed away from everything, and with it every new item. Of the rows of a batch a share
(``alone``) is encoded without its neighbours: so the network learns to place an item by its text alone, as new items are.

Links ask for half as many people again as chance would bring together (``min_lift=1.5``). At 1 nearly every pair of busy items
is linked, and what a text has to tell drowns: ranking on MovieLens 100K is better at 1.5 than at 1 or 2, and new items of a
simulated world are put in order better at 1.5 and 2 than at 1.

Source: M. De Nadai et al., "Personalized Audiobook Recommendations at Spotify Through Graph Neural Networks", WWW Companion
2024. The paper names no margin, fan-outs, widths, or number of negatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from palate.contracts.config import Config
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset, Entities
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.language.encoder import TextEncoder, encoder
from palate.language.encoders.tfidf import TfidfEncoder
from palate.language.texts import item_texts
from palate.nn.adam import Adam
from palate.nn.hetero import Block, SAGELayer
from palate.nn.knowledge import Edges
from palate.runtime import generator
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.item_links import ItemLinks, LinkEpochs, item_links, item_types
from palate.training.loop import fit_module
from palate.training.neighbours import NeighbourSampler

#: Items that are encoded at once.
BLOCK = 4096
#: Held-out links that a validation look asks about, at most, and the fewest worth asking.
ASKED, WORTH = 4096, 50


class ItemGraphSettings(Config):
    """Settings of the graph of items and of the network over it."""

    item_type: str = Field("", description="attribute whose values are the types of items (empty: one type)")
    weak: tuple[str, ...] = Field((), description="actions that make no links between items, such as follow and preview")
    min_support: int = Field(2, ge=1, description="fewest people who had both items of a link")
    min_lift: float = Field(1.5, ge=0, description="least ratio of these people to the number expected by chance")
    max_items: int = Field(200, gt=1, description="last items of a person that make links")
    skip: tuple[str, ...] = Field((), description="kinds of links that are left out, such as 'book - book' (types in order)")
    balanced: bool = Field(True, description="whether an epoch has equally many links of every pair of types")
    min_links: int = Field(10_000, ge=0, description="fewest links of an epoch (those of a rare kind come again)")
    max_links: int = Field(20_000, ge=0, description="most links of a kind in an epoch (0 = no bound)")
    graph_dim: int = Field(128, gt=0, description="width of the layers and of an item's vector")
    graph_layers: int = Field(2, gt=0, description="layers of the graph network")
    graph_epochs: int = Field(20, ge=0, description="epochs over links, at most")
    graph_batch_size: int = Field(512, gt=0, description="links of a batch")
    graph_lr: float = Field(1e-3, gt=0, description="step size of Adam for the graph network")
    graph_patience: int = Field(5, ge=0, description="looks at held-out links without improvement before stopping (0 = never)")
    valid_links: float = Field(0.05, ge=0, lt=1, description="share of links held out to know when to stop")
    margin: float = Field(0.3, ge=0, description="Δ, between cosines")
    fanout: int = Field(10, gt=0, description="most neighbours of an item for each type in a layer")
    negatives: int = Field(128, gt=0, description="items drawn for each batch, that all its links are told from")
    alone: float = Field(0.2, ge=0, le=1, description="chance that an item of a batch is encoded without its neighbours")
    draws: int = Field(4, gt=0, description="draws of neighbours that an answer averages over")
    encoder: str = Field("tfidf", description="text encoder: tfidf, another by name (minilm), or a folder")
    text_dim: int = Field(128, gt=0, description="width of TF-IDF vectors")
    require_text: bool = Field(True, description="refuse items without text (else they begin as random vectors)")


class ItemGNN(nn.Module):
    """Layers over typed links of items (see the module's text)."""

    def __init__(self, wide: int, dim: int, layers: int, relations: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.dim, widths = dim, [wide] + [dim] * layers
        self.layers = nn.ModuleList(
            SAGELayer(a, b, relations, rng, pool="max", act=k < layers - 1, normalise=k == layers - 1)
            for k, (a, b) in enumerate(pairwise(widths))
        )

    def forward(self, x: Tensor, blocks: list[Block]) -> Tensor:
        """Return ``float32[n_out, dim]`` of length one, of the texts of the first block's rows."""
        for layer, block in zip(self.layers, blocks, strict=True):
            x = layer(x, block)
        return x

    def alone(self, x: Tensor) -> Tensor:
        """Return the vectors of items without neighbours."""
        none = Block(np.arange(len(x), dtype=np.int64), len(x), {})
        found: Tensor = self(x, [none] * len(self.layers))
        return found

    @torch.no_grad()
    def encode(self, x: Tensor, edges: Edges, fanout: int, draws: int) -> np.ndarray:
        """Return ``float32[n, dim]``: vectors of all rows of a graph, averaged over draws and of length one again."""
        sampler = NeighbourSampler(edges, [fanout] * len(self.layers))
        out = np.zeros((edges.rows, self.dim), np.float32)
        for start in range(0, edges.rows, BLOCK):
            rows = np.arange(start, min(start + BLOCK, edges.rows))
            total = torch.zeros((len(rows), out.shape[1]), device=x.device)
            for seed in range(draws):
                blocks = sampler.blocks(rows, seed)
                total += self(x[torch.from_numpy(blocks[0].rows).to(x.device)], blocks)
            out[rows] = functional.normalize(total, dim=1).cpu().numpy()
        return out


@dataclass
class ItemVectors:
    """What was learnt of items.

    Attributes
    ----------
    texts, vectors
        ``float32[n_items, w]`` and ``float32[n_items, d]``: ``x`` and ``z``, zero where nothing is known.
    types, names
        ``int32[n_items]`` and their names.
    net
        The network, on the CPU.
    encoder
        Of texts; ``None`` where items have none.
    """

    texts: np.ndarray
    vectors: np.ndarray
    types: np.ndarray
    names: tuple[str, ...]
    net: ItemGNN
    encoder: TextEncoder | None

    def embed(self, attributes: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Return ``x`` and ``z`` of items by their attributes alone."""
        n = attributes.num_rows
        x = np.zeros((n, self.texts.shape[1]), np.float32)
        if self.encoder is not None and n:
            x = self.encoder.encode(item_texts(Entities(Vocabulary.range(n), attributes)))
        with torch.inference_mode():
            return x, self.net.alone(torch.from_numpy(x)).numpy()

    def state(self) -> dict[str, np.ndarray]:
        """Return everything as arrays."""
        net = {f"net/{name}": value.numpy() for name, value in self.net.state_dict().items()}
        text = {}
        if isinstance(self.encoder, TfidfEncoder):
            text = {f"text/{name}": value for name, value in self.encoder.state().items()}
        named = np.array([self.encoder is not None], np.uint8)
        return {"texts": self.texts, "vectors": self.vectors, "types": self.types, "named": named, **net, **text}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray], items: Entities, settings: ItemGraphSettings) -> Self:
        """Restore from what :meth:`state` gave."""
        _, names = item_types(items, settings.item_type)
        net = ItemGNN(
            state["texts"].shape[1],
            settings.graph_dim,
            settings.graph_layers,
            len(names) ** 2,
            generator(0, "item_vectors", "restored"),
        )
        net.load_state_dict(
            {n.removeprefix("net/"): torch.from_numpy(np.array(v)) for n, v in state.items() if n[:4] == "net/"}
        )
        text = {name.removeprefix("text/"): value for name, value in state.items() if name.startswith("text/")}
        found: TextEncoder | None = None
        if state["named"][0]:
            found = TfidfEncoder.of_state(text) if text else encoder(settings.encoder)
        return cls(state["texts"], state["vectors"], state["types"], names, net, found)


class _Loop(ItemGraphSettings, TrainConfig):
    """All settings, in the words of the training loop."""


def learn_item_vectors(
    dataset: Dataset, settings: ItemGraphSettings, fitting: Fitting
) -> tuple[ItemVectors, ItemLinks, dict[str, Any]]:
    """Link the items of a data set, learn the network, and encode all items.

    Returns
    -------
    vectors, links, notes
        What was learnt, the links behind it, and a record of the fit.

    Raises
    ------
    DataError
        If no item has a text, and ``require_text`` is set.
    ConfigError
        If an attribute or action that the settings name is absent.
    """
    links = linked(dataset, settings)
    texts, spoken = _texts(dataset, settings, fitting)
    device, rng = usable_device(fitting.device), fitting.rng("item_vectors", "weights")
    net = ItemGNN(texts.shape[1], settings.graph_dim, settings.graph_layers, len(links.names) ** 2, rng).to(device)
    x = torch.from_numpy(texts).to(device)
    held = fitting.rng("item_vectors", "held out").random(len(links)) < settings.valid_links
    judged = settings.graph_patience > 0 and int(held.sum()) >= WORTH
    known = links.take(~held) if judged else links
    notes: dict[str, Any] = {"links": links.counts, "linked_items": int(np.unique([links.first, links.second]).size)}
    steps = _Steps(net, x, links, known, settings, fitting.rng("item_vectors", "order"))
    notes["links_an_epoch"] = len(steps.order)
    if len(known) and settings.graph_epochs:
        own = settings.model_dump(include=set(ItemGraphSettings.model_fields))
        config = _Loop(
            **own,
            epochs=settings.graph_epochs,
            batch_size=settings.graph_batch_size,
            lr=settings.graph_lr,
            patience=settings.graph_patience,
        )
        folder = None if fitting.checkpoint is None else fitting.checkpoint / "item_graph"
        record = fit_module(
            net,
            batches=steps.epoch,
            loss=steps,
            config=config,
            fitting=replace(fitting, checkpoint=folder),
            title="Item graph",
            evaluate=_Look(net, x, links.take(held), known, settings) if judged else None,
            optimizer=Adam(net.parameters(), lr=settings.graph_lr) if device.type == "cpu" else None,
            metric="held-out links above others",
        )
        notes["item_graph"] = record.notes
    vectors = net.encode(x, links.edges(), settings.fanout, settings.draws)
    return ItemVectors(texts, vectors, links.types, links.names, net.cpu(), spoken), links, notes


def linked(dataset: Dataset, settings: ItemGraphSettings) -> ItemLinks:
    """Return the links of a data set under these settings."""
    found = item_links(
        dataset,
        item_type=settings.item_type,
        weak=settings.weak,
        min_support=settings.min_support,
        min_lift=settings.min_lift,
        max_items=settings.max_items,
    )
    return found.without(settings.skip)


def _texts(dataset: Dataset, settings: ItemGraphSettings, fitting: Fitting) -> tuple[np.ndarray, TextEncoder | None]:
    """Return ``x`` and the encoder behind it."""
    texts = item_texts(dataset)
    if not any(any(sign.isalnum() for sign in text) for text in texts):
        if settings.require_text:
            raise DataError("no item has a text.", where="attributes of items", remedy="add titles, or set require_text=false")
        drawn = fitting.rng("item_vectors", "random texts").standard_normal((dataset.n_items, settings.text_dim), np.float32)
        drawn[dataset.item_counts == 0] = 0
        return drawn / np.maximum(np.linalg.norm(drawn, axis=1, keepdims=True), np.float32(1e-12)), None
    if settings.encoder == "tfidf":
        spoken: TextEncoder = TfidfEncoder(dim=settings.text_dim, seed=fitting.seed).fit(texts)
    else:
        spoken = encoder(settings.encoder)
    return spoken.encode(texts, progress=fitting.progress), spoken


@dataclass(frozen=True)
class _Batch:
    """Links from ``anchors`` to ``positives``, and items from which all of them are told."""

    anchors: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


@dataclass(frozen=True)
class _Epoch:
    """The batches of an epoch, made one at a time."""

    steps: _Steps
    drawn: np.ndarray
    rng: np.random.Generator

    def __len__(self) -> int:
        return -(-len(self.drawn) // self.steps.settings.graph_batch_size)

    def __iter__(self) -> Iterator[_Batch]:
        size, steps = self.steps.settings.graph_batch_size, self.steps
        for start in range(0, len(self.drawn), size):
            part = self.drawn[start : start + size]
            ends = np.stack([steps.links.first[part], steps.links.second[part]])
            turned = self.rng.integers(2, size=len(part))
            at = np.arange(len(part))
            yield _Batch(ends[turned, at], ends[1 - turned, at], steps.others(self.rng))


class _Steps:
    """Epochs over links, and the loss of a batch."""

    def __init__(
        self, net: ItemGNN, x: Tensor, all_: ItemLinks, links: ItemLinks, settings: ItemGraphSettings, rng: np.random.Generator
    ) -> None:
        self.net, self.x, self.all, self.links, self.settings = net, x, all_, links, settings
        self.order = LinkEpochs(
            links.kinds, balanced=settings.balanced, least=settings.min_links, most=settings.max_links, rng=rng
        )
        self.sampler = NeighbourSampler(links.edges(), [settings.fanout] * settings.graph_layers)
        self.by_type = linked_by_type(links)

    def epoch(self, number: int, rng: np.random.Generator) -> _Epoch:
        return _Epoch(self, self.order.epoch(number, rng), rng)

    def others(self, rng: np.random.Generator) -> np.ndarray:
        """Return random items with a link, equally many of each type (fewer of a type that has fewer)."""
        share = -(-self.settings.negatives // len(self.by_type))
        drawn = [rng.choice(own, min(share, len(own)), replace=False) for own in self.by_type]
        return np.concatenate(drawn).astype(np.int32)

    def __call__(self, batch: _Batch, generator: torch.Generator) -> Tensor:
        c, net, x = self.settings, self.net, self.x
        ends = [batch.anchors, batch.positives, batch.negatives]
        rows, places = np.unique(np.concatenate(ends), return_inverse=True)
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        blocks = self.sampler.blocks(rows.astype(np.int64), seed, hidden=(batch.anchors, batch.positives))
        z = net(x[torch.from_numpy(blocks[0].rows).to(x.device)], blocks)
        if c.alone:
            lone = torch.rand(len(rows), generator=generator, device=x.device) < c.alone
            z = torch.where(lone[:, None], net.alone(x[torch.from_numpy(rows.astype(np.int64)).to(x.device)]), z)
        cuts = np.cumsum([len(end) for end in ends])[:2]
        anchor, positive, negative = (z[torch.from_numpy(at).to(x.device)] for at in np.split(places, cuts))
        return max_margin(anchor, positive, negative, torch.from_numpy(self.counts(batch)).to(x.device), c.margin)

    def counts(self, batch: _Batch) -> np.ndarray:
        """Return ``bool[links, negatives]``: which items are told from which link."""
        types = self.all.types
        same = types[batch.positives][:, None] == types[batch.negatives]
        itself = batch.anchors[:, None] == batch.negatives
        return np.asarray(same & ~itself & ~self.all.joined(batch.anchors[:, None], batch.negatives[None, :]))


def linked_by_type(links: ItemLinks) -> list[np.ndarray]:
    """Return for each type its items with a link."""
    linked = np.zeros(len(links.types), bool)
    linked[links.first], linked[links.second] = True, True
    return [np.flatnonzero(linked & (links.types == t)) for t in range(len(links.names))]


def max_margin(anchor: Tensor, positive: Tensor, negative: Tensor, counts: Tensor, margin: float) -> Tensor:
    """Return ``1/B Σ_b mean_{n: counts_bn} max(0, <a_b, z_n> - <a_b, p_b> + Δ)``; a row without negatives adds nothing.

    Parameters
    ----------
    anchor, positive, negative
        ``float32[B, d]`` twice, and ``float32[N, d]``.
    counts
        ``bool[B, N]``.
    margin
        Δ.
    """
    gaps = functional.relu(anchor @ negative.T - (anchor * positive).sum(1, keepdim=True) + margin)
    return ((gaps * counts).sum(1) / counts.sum(1).clamp(min=1)).mean()


class _Look:
    """Share of held-out links that score above a random item of the same type, which is not linked.

    Half of it is measured with the far ends encoded without neighbours: else training would end before new items have a place.
    """

    def __init__(self, net: ItemGNN, x: Tensor, held: ItemLinks, known: ItemLinks, settings: ItemGraphSettings) -> None:
        self.net, self.x, self.edges, self.fanout = net, x, known.edges(), settings.fanout
        rng = generator(0, "item_vectors", "looks")
        at = np.sort(rng.permutation(len(held))[:ASKED])
        self.first, self.second = held.first[at], held.second[at]
        other = np.empty_like(self.second)
        for t, own in enumerate(linked_by_type(held)):
            rows = np.flatnonzero(held.types[self.second] == t)
            other[rows] = rng.choice(own, len(rows)) if len(rows) else 0
        self.other = other
        self.asked = ~(held.joined(self.first, other) | known.joined(self.first, other) | (self.first == other))

    def __call__(self) -> float:
        if not self.asked.any():
            return 0.5
        z = self.net.encode(self.x, self.edges, self.fanout, 1)
        with torch.no_grad():
            lone = self.net.alone(self.x).cpu().numpy()
        near = z[self.first]
        above = [(near * far[self.second]).sum(1) > (near * far[self.other]).sum(1) for far in (z, lone)]
        return float(np.mean([one[self.asked].mean() for one in above]))
