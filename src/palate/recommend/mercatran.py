"""Mercatran: the next four items as vectors, by three towers that read nothing but the words of items.

    b_i = √d · mean_{t in text of i} E[t],  |E[t]| ≤ 1
    M = Encoder([start, b_{x_1}, …, b_{x_T}, end] + P)           q_0 … q_4 = Decoder([start, b_{y_1}, …, b_{y_4}] + P, M)
    v_j = ItemEncoder(b_j), each item seen alone                 v_end = ItemEncoder(end)

    L = -1/5B Σ_{b,s} ln( e^{<q_bs, v_bs>} / Σ_{c,r} e^{<q_bs, v_cr>} )          score of item j at step s: <q_s, v_j>

``x`` is what a person did, ``y`` the four items that followed, and the fifth answer is the end. The model answers with the next
item, and with a later one as :meth:`Mercatran.at_step`. No item has numbers of its own, so one that nobody had is placed by its
words among all others.

The text of an item is its title, brand and finest known category (``fields``). Its pieces are byte pairs learnt from the items
of training events (``tokens="bpe"``, extra ``text``), or hashed whole words (``tokens="words"``, which needs no library).

Source: the MerRec paper (arXiv 2402.14230, KDD 2025), the section on its content-based model, and the authors' published code.
Differences:

- ``cut="random"``: each pass draws where in a history the four items begin; ``"last"`` is the paper's one example a history.
- ``distinct``: an item that stands several times in a batch is one negative, and never one of itself (nor is the end, which
  closes every row). ``distinct=False`` is the paper's sum over all 5B. A history of fewer than five events has fewer steps.
- Byte pairs are learnt from training items alone; the published code reads the test part too.
- ``share_table``: one table of pieces for the three towers, or one for each as published.
- In answers the decoder is fed the words of the best item of the step before. ``feedback="vector"`` feeds its output, as the
  paper does; but in training a bag of words stood there, and where the order of items matters later steps are then lost.
- Weights of pieces begin at length one, about, and a vector that is longer is shortened before each step; GELU for ReLU; no
  dropout of attention weights; no bias in the last norm of the item tower, which a softmax over items cancels.
- ``temperature``: vectors leave a norm with length √d, so that scores begin as large as d; the paper's 1 learns far slower.
- AdamW at one rate; ``noam=True`` with ``lr=1`` is the paper's.
- The whole catalogue is ranked, each item once; the published evaluation ranks the answers of the split, with their doubles.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.features import Schema, learn_schema
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError
from palate.kernels.inner import topk_inner
from palate.language.byte_pairs import BytePairs
from palate.language.listing_texts import Part, listing_texts
from palate.nn.dropout import Dropout
from palate.nn.losses import full_softmax
from palate.nn.noam import Noam
from palate.nn.three_towers import END, ThreeTowers
from palate.retrieval.tokens import tokens
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.encoding import Piece, encode_last
from palate.training.following import Following, FollowingItems
from palate.training.loop import fit_module
from palate.training.validation import validator

#: Items that pass through the item tower at once.
BLOCK = 2**13


class MercatranConfig(TrainConfig):
    """Settings of Mercatran."""

    counts_with: ClassVar[Mapping[str, With]] = {"warmup": With("noam", (True,))}

    epochs: int = Field(21, ge=0, description="passes over all histories; with validation, the most")
    batch_size: int = Field(256, gt=0, description="histories a batch, whose items are each other's negatives")
    lr: float = Field(1e-3, gt=0, description="step size of AdamW; with noam the factor of its course")
    weight_decay: float = Field(0.01, ge=0, description="decoupled decay of weights towards zero")
    patience: int = Field(3, ge=0, description="validation looks without improvement before stopping (0 = never)")
    eval_every: int = Field(3, gt=0, description="epochs between validation looks")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    noam: bool = Field(False, description="whether the step size rises and falls as in the paper, with lr=1")
    warmup: int = Field(3000, gt=0, description="steps until the highest rate of noam")
    dim: int = Field(64, gt=1, description="width of all vectors; even")
    heads: int = Field(8, gt=0, description="attention heads of a block; must divide dim")
    blocks: int = Field(2, gt=0, description="blocks of each tower")
    hidden: int = Field(1024, gt=0, description="inner width of a block")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of hidden values set to zero in training")
    max_len: int = Field(22, gt=0, description="most recent events of a history that are read")
    steps: int = Field(4, gt=0, description="items that follow, all of which are learnt")
    temperature: float = Field(8.0, gt=0, description="scores are divided by this in the softmax; the paper's: 1")
    cut: Literal["random", "last"] = Field("random", description="where the items that follow begin in a training history")
    distinct: bool = Field(True, description="whether an item counts once in a batch, and is no negative of itself")
    fields: tuple[Part, ...] = Field(("title", "brand", "category"), description="what is told of an item, in this order")
    tokens: Literal["bpe", "words"] = Field("bpe", description="pieces of a text: byte pairs that are learnt, or hashed words")
    n_tokens: int = Field(2**15, ge=256, description="most pieces, or codes of hashed words")
    share_table: bool = Field(True, description="whether the three towers share one table of pieces")
    feedback: Literal["item", "vector"] = Field("item", description="what the decoder is fed in answers; the paper's: vector")
    require_text: bool = Field(True, description="refuse items without texts (else their ids are their titles)")

    @model_validator(mode="after")
    def _widths_fit(self) -> Self:
        if self.dim % self.heads or self.dim % 2:
            raise ValueError(f"heads ({self.heads}) must divide dim ({self.dim}), which must be even")
        if not self.fields or len(set(self.fields)) < len(self.fields):
            raise ValueError("fields must name something, and each only once")
        return self


class Mercatran(VectorRecommender):
    """The next items by their words (see the module's text)."""

    name: ClassVar[str] = "mercatran"
    Settings = MercatranConfig
    config: MercatranConfig
    net_: ThreeTowers
    reader_: BytePairs | Schema
    item_vectors_: np.ndarray
    texts_: Ragged
    #: Which of the items that follow is answered.
    step: int = 0

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        written = self._written(self.items_)
        self.reader_ = self._learn_pieces(written)
        self.texts_ = self._read(written)
        self.net_ = self._fresh()
        self.net_.reset(torch.Generator().manual_seed(int(fitting.rng(self.name, "weights").integers(2**62))))
        self.net_.to(usable_device(fitting.device))
        trainer = _Trainer(self, dataset.histories)

        learnt = list(self.net_.parameters())
        optimizer = (
            Noam(learnt, c.lr, dim=c.dim, warmup=c.warmup, weight_decay=c.weight_decay)
            if c.noam
            else torch.optim.AdamW(learnt, lr=c.lr, betas=(0.9, 0.98), weight_decay=c.weight_decay, fused=True)
        )
        record = fit_module(
            trainer,
            batches=lambda epoch, rng: trainer.sequences.epoch(rng),
            loss=trainer.loss,
            config=c,
            fitting=fitting,
            title="Mercatran",
            evaluate=validator(self, fitting.validation, before=self._place),
            optimizer=optimizer,
        )
        self._place()
        return {**record.notes, "histories": len(trainer.sequences.people), "pieces": self._n_pieces}

    def _fresh(self) -> ThreeTowers:
        """Build the towers; what PyTorch's own constructors draw is overwritten, and leaves no trace in its global stream."""
        c = self.config
        shape = {"dim": c.dim, "heads": c.heads, "blocks": c.blocks, "hidden": c.hidden}
        with torch.random.fork_rng(devices=[]):
            return ThreeTowers(self._n_pieces, max_len=c.max_len, steps=c.steps, share_table=c.share_table, **shape)

    # -- texts ----------------------------------------------------------------------------------

    def _written(self, items: Entities) -> list[str]:
        """Return the text of each item; where ids may stand for titles, those of items without one."""
        found = listing_texts(items, self.config.fields)
        if found is None:
            if self.config.require_text:
                remedy = "give items a title, or set require_text=False to read their ids"
                raise DataError(
                    "no attribute says what the items are.", where=self.name, value=self.config.fields, remedy=remedy
                )
            return [str(raw) for raw in items.ids.raw.to_pylist()]
        return found

    def _learn_pieces(self, written: list[str]) -> BytePairs | Schema:
        c = self.config
        if c.tokens == "words":
            return learn_schema(pa.table({"text": written}), kinds={"text": "text"}, text_buckets=c.n_tokens - 1)
        seen = np.flatnonzero(self.item_counts_ > 0)
        texts = sorted({written[item] for item in seen})
        return BytePairs.learn(texts, c.n_tokens, "Mercatran with tokens=bpe")

    def _read(self, written: list[str]) -> Ragged:
        """Return the numbers of the pieces of texts."""
        if isinstance(self.reader_, BytePairs):
            return self.reader_.encode(written)
        return self.reader_.encode(pa.table({"text": written}), len(written), tokens).bags

    @property
    def _n_pieces(self) -> int:
        return len(self.reader_) if isinstance(self.reader_, BytePairs) else self.config.n_tokens

    def _place(self) -> None:
        """Set the items' vectors."""
        self.net_.shorten()
        self.item_vectors_ = self._vectors_of(self.texts_)

    def _vectors_of(self, texts: Ragged) -> np.ndarray:
        """Return ``float32[n, dim]`` of texts (zero where there is none); pieces of a fixed size, so that bits don't change."""
        out = np.zeros((len(texts), self.config.dim), np.float32)
        known = np.flatnonzero(texts.lengths > 0)
        with torch.inference_mode():
            for start in range(0, len(known), BLOCK):
                rows = known[start : start + BLOCK]
                height = 1 << int(len(rows) - 1).bit_length()
                padded = np.concatenate([rows, np.full(height - len(rows), rows[0])])
                out[rows] = self.net_.items(self.net_.bags(2, texts.take(padded))).cpu().numpy()[: len(rows)]
        return out

    # -- answers --------------------------------------------------------------------------------

    def at_step(self, step: int) -> Self:
        """Return the model that answers with the item ``step`` places after the next one (0 is the next).

        Raises
        ------
        ConfigError
            If so many steps were not learnt.
        """
        if not 0 <= step < self.config.steps:
            raise ConfigError("this step was not learnt.", where="at_step", value=step, remedy=f"0 to {self.config.steps - 1}")
        later = copy.copy(self)
        later.step = step
        return later

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, dim]`` (zero where nothing is known of an item)."""
        return self.item_vectors_

    def embed_items(self, attributes: pa.Table) -> np.ndarray:
        """Return ``float32[n, dim]``: vectors of items that need not be in the catalogue, by a table of their attributes."""
        self._check_fitted()
        return self._vectors_of(self._read(self._written(Entities(Vocabulary.range(attributes.num_rows), attributes))))

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, dim]``: the answer at the model's step (zero for an empty history)."""
        return self.step_vectors(requests, self.step + 1)[:, self.step]

    def step_vectors(self, requests: Requests, steps: int | None = None) -> np.ndarray:
        """Return ``float32[n, steps, dim]``: the answers one after the other, each fed to the next (``feedback``)."""
        self._check_fitted()
        steps = self.config.steps if steps is None else steps
        told = self._told(requests.histories)
        with torch.inference_mode():
            found = encode_last(told, self.config.max_len, steps * self.config.dim, lambda piece: self._answer(piece, steps))
        return found.reshape(len(told), steps, self.config.dim)

    def _answer(self, piece: Piece, steps: int) -> np.ndarray:
        net = self.net_
        device = net.table(0).device
        shape = piece.items.shape
        events = net.bags(0, self.texts_.take(piece.items.ravel())).view(*shape, -1)
        memory, mask = net.people(events, torch.from_numpy(piece.lengths).to(device))
        answers = net.decode(memory, mask, events[:, :0])
        given = answers
        for step in range(1, steps):
            if self.config.feedback == "item":
                best = topk_inner(answers[:, -1].cpu().numpy(), self.item_vectors_, 1)[0].ravel()
                own = net.bags(1, self.texts_.take(best))[:, None]
                given = own if step == 1 else torch.cat([given, own], 1)
            else:
                given = answers
            answers = net.decode(memory, mask, given)
        found: np.ndarray = answers.reshape(shape[0], -1).cpu().numpy()
        return found

    def _told(self, histories: Histories) -> Histories:
        """Return histories less the items of which nothing is known."""
        known = self.texts_.lengths[histories.items] > 0
        if known.all():
            return histories
        rows = np.repeat(np.arange(len(histories)), histories.lengths)[known]
        kept = Ragged.group(rows, histories.items[known], len(histories))
        return Histories(kept.offsets, kept.values)

    def _informed(self, requests: Requests) -> np.ndarray:
        return np.asarray(self._told(requests.histories).lengths > 0)

    # -- bundles --------------------------------------------------------------------------------

    def _state(self) -> dict[str, np.ndarray]:
        weights = {f"net/{name}": value.detach().cpu().numpy() for name, value in self.net_.state_dict().items()}
        texts = {"texts/offsets": self.texts_.offsets, "texts/values": self.texts_.values}
        return {**weights, **texts, "item_vectors": self.item_vectors_, "reader": self.reader_.array()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        words = self.config.tokens == "words"
        self.reader_ = Schema.of_array(state["reader"]) if words else BytePairs.of_array(state["reader"], "Mercatran")
        self.net_ = self._fresh()
        weights = {n.removeprefix("net/"): torch.from_numpy(np.array(v)) for n, v in state.items() if n.startswith("net/")}
        self.net_.load_state_dict(weights)
        self.texts_ = Ragged(state["texts/offsets"], state["texts/values"])
        self.item_vectors_ = state["item_vectors"]


class _Trainer(nn.Module):
    """The loss of a batch, and all that it needs."""

    def __init__(self, model: Mercatran, histories: Histories) -> None:
        super().__init__()
        c = model.config
        self.net, self.config, self.texts = model.net_, c, model.texts_
        shape = {"max_len": c.max_len, "steps": c.steps, "batch_size": c.batch_size}
        self.sequences = FollowingItems(model._told(histories), cut=c.cut, distinct=c.distinct, **shape)

    def loss(self, batch: Following, generator: torch.Generator) -> Tensor:
        """Return the softmax of each answer's own item among those of the batch."""
        net, drop = self.net, Dropout(self.config.dropout, generator)
        net.shorten()
        device = net.table(0).device

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        texts = self.texts.take(batch.needed)
        read = [net.bags(tower, texts) for tower in range(len(net.tables))] * (3 if len(net.tables) == 1 else 1)
        memory, mask = net.people(read[0][put(batch.events)], put(batch.lengths), drop)
        answers = net.decode(memory, mask, read[1][put(batch.followed)], drop).reshape(-1, self.config.dim)
        bags = torch.cat([read[2], net.mark(2, END)[None]])  # the end, -1 among the columns, is the last row
        vectors = net.items(bags[put(batch.columns)], drop)
        return full_softmax(answers[put(batch.at)], vectors, put(batch.own), self.config.temperature)
