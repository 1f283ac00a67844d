"""Two-tower: one network for people and one for items, trained so that each finds the other among the items of a batch.

    z_u = f( [ mean_{j in H} W x_j, fields of u ] )     z_i = g(x_i)     score(u, i) = <z_u, z_i>,   |z| = 1

    L = -1/B Σ_b ln e^{s_bb} / (e^{s_bb} + Σ_{c: i_c ≠ i_b} e^{s_bc}),     s_bc = <z_{u_b}, z_{i_c}>/τ - ln Q(i_c)

``x`` holds a vector for each field of an item: its attributes (:mod:`palate.data.features`) and its id. ``Q`` is the
probability that a row of the batch holds the item (logQ correction): its share of the training pairs (``counts``), or estimated
from the stream of batches (``stream``, :mod:`palate.nn.frequency`, where a batch counts each item once).

The person tower reads the history of the request and has no free vector for a person, so somebody unseen is answered as
anybody else. In training the history never holds the item that is to be found. An item without training events has no id
vector; it is placed by its attributes alone, among the others (``new items``): ids are left out at random in training, so that
the network knows what a missing one looks like. :meth:`TwoTower.embed_items` places items that are not in the catalogue.

Sources: P. Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016; X. Yi et al.,
"Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019, equations 2 to 6; mixed negatives
(``uniform_negatives``, counted in ``Q``): J. Yang et al., WWW 2020 companion.
Differences: repeated events of a pair count once; rewards are 1; the history is a mean over all of it, whatever the order;
dropping ids is ours (in the way of M. Volkovs et al., "DropoutNet", NIPS 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.contracts.config import With
from palate.contracts.explanation import Evidence, Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.features import Features, FieldKind, Schema, interleaved, learn_schema
from palate.data.histories import Histories
from palate.data.ragged import Ragged, offsets_of, renumbered
from palate.kernels.rows import sum_rows
from palate.nn.adam import Adam
from palate.nn.frequency import StreamingFrequency
from palate.nn.towers import TwoTowers, in_batch_softmax
from palate.retrieval.tokens import tokens
from palate.runtime import generator
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.loop import fit_module
from palate.training.masking import kept_values
from palate.training.other_items import OtherItems
from palate.training.triples import Epoch, Pairs
from palate.training.validation import validator

#: Items or people that pass through a tower at once.
BLOCK = 2**14


class TwoTowerConfig(TrainConfig):
    """Settings of two towers."""

    counts_with: ClassVar[Mapping[str, With]] = {"stream_alpha": With("logq", ("stream",))}

    epochs: int = Field(30, ge=0, description="passes over all pairs; with validation, the most")
    batch_size: int = Field(1024, gt=0, description="pairs a batch, whose items are each other's negatives")
    lr: float = Field(2e-3, gt=0, description="step size of Adam")
    patience: int = Field(3, ge=0, description="validation looks without improvement before stopping (0 = never)")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the vectors of people and items")
    field_dim: int = Field(32, gt=0, description="width of the vector of a field")
    history_dim: int = Field(64, gt=0, description="width of an item's vector within a history")
    hidden: tuple[int, ...] = Field((128,), description="widths of the hidden layers of both towers")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the hidden layers")
    temperature: float = Field(0.07, gt=0, description="cosines are divided by this")
    logq: Literal["counts", "stream", "none"] = Field("counts", description="how often items are in a batch (logQ correction)")
    stream_alpha: float = Field(0.01, gt=0, le=1, description="step of the streaming estimate of frequencies")
    uniform_negatives: int = Field(0, ge=0, description="items drawn evenly for each batch, beside its own")
    max_history: int = Field(50, gt=0, description="items drawn from a longer history for a training row")
    use_ids: bool = Field(True, description="whether items have a field for their id")
    leave_out: float = Field(0.1, ge=0, lt=1, description="chance that an id, or a person's attributes, are left out of a row")
    value_dropout: float = Field(0.0, ge=0, lt=1, description="chance that a value of a field with several is left out")
    attributes: bool = Field(True, description="whether attributes of items are used")
    user_attributes: bool = Field(True, description="whether attributes of people are used")
    kinds: dict[str, FieldKind] = Field({}, description="kinds of item attributes, where the guess is not wanted")
    user_kinds: dict[str, FieldKind] = Field({}, description="kinds of user attributes, where the guess is not wanted")
    min_count: int = Field(2, ge=1, description="values that fewer have share the code of unknown ones")
    text_buckets: int = Field(2**14, gt=0, description="codes of the words of a text attribute")
    number_buckets: int = Field(16, gt=0, description="buckets of a number")


class TwoTower(VectorRecommender):
    """Two towers with in-batch softmax (see the module's text)."""

    name: ClassVar[str] = "two_tower"
    Settings = TwoTowerConfig
    config: TwoTowerConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        shared: dict[str, Any] = {
            "min_count": c.min_count,
            "text_buckets": c.text_buckets,
            "number_buckets": c.number_buckets,
        }
        items, users = dataset.items.attributes, dataset.users.attributes
        self.item_schema_ = learn_schema(items if c.attributes else None, kinds=c.kinds if c.attributes else {}, **shared)
        self.user_schema_ = learn_schema(
            users if c.user_attributes else None, kinds=c.user_kinds if c.user_attributes else {}, **shared
        )
        features = self._item_features(items, dataset.n_items, self.item_counts_ > 0)
        self._encode_people()
        self.net_ = self._fresh(fitting.rng("two_tower", "weights")).to(usable_device(fitting.device))
        trainer = _Trainer(self, features, dataset)
        notes = self._prepare(features, fitting)

        cpu = next(self.net_.parameters()).device.type == "cpu"
        learnt = [p for p in self.net_.parameters() if p.numel()]
        record = fit_module(
            trainer,
            batches=trainer.epoch,
            loss=trainer.loss,
            config=c,
            fitting=fitting,
            title="Two towers",
            evaluate=validator(self, fitting.validation, before=lambda: self._finish(features)),
            optimizer=(Adam if cpu else torch.optim.AdamW)(learnt, lr=c.lr, weight_decay=c.weight_decay),
        )
        self._finish(features)
        fields = {"item_fields": list(self.item_schema_.names), "user_fields": list(self.user_schema_.names)}
        return {**record.notes, **fields, **notes}

    # -- an auxiliary task, for subclasses ------------------------------------------------------

    def _prepare(self, features: Features, fitting: Fitting) -> dict[str, Any]:
        """Get ready for an auxiliary task; return notes for the record."""
        return {}

    def _draw(self, features: Features, rng: np.random.Generator) -> Any:
        """Draw a batch of the auxiliary task, or ``None`` for no task."""
        return None

    def _auxiliary(self, drawn: Any, generator: torch.Generator) -> Tensor:
        """Return the weighted loss of a batch that ``_draw`` gave."""
        raise NotImplementedError

    # -- features and answers -------------------------------------------------------------------

    @property
    def _n_attributes(self) -> int:
        """Number of item fields that are attributes; the id, where it is used, comes after them."""
        return len(self.item_schema_.fields)

    def _item_features(self, table: pa.Table | None, n: int, trained: np.ndarray) -> Features:
        """Return the fields of items; the id of item ``r`` is known where ``trained[r]``."""
        plain = self.item_schema_.encode(table if self.config.attributes else None, n, tokens)
        if not self.config.use_ids:
            return plain
        base = np.int32(self.item_schema_.bases[-1])
        ids = Ragged(offsets_of(trained.astype(np.int64)), base + np.flatnonzero(trained).astype(np.int32))
        parts = [plain.field(f) for f in range(plain.n_fields)]
        return Features(interleaved([*parts, ids], n), plain.dense, len(parts) + 1)

    def _encode_people(self) -> None:
        table = self.users_.attributes if self.config.user_attributes else None
        self.people_ = self.user_schema_.encode(table, len(self.users_), tokens)

    def _fresh(self, rng: np.random.Generator) -> TwoTowers:
        c, ids = self.config, int(self.config.use_ids)
        item, user = self.item_schema_, self.user_schema_
        return TwoTowers(
            (int(item.bases[-1]) + ids * len(self.items_), len(item.fields) + ids, len(item.numbers)),
            (int(user.bases[-1]), len(user.fields), len(user.numbers)),
            dim=c.dim,
            field_dim=c.field_dim,
            history_dim=c.history_dim,
            hidden=c.hidden,
            dropout=c.dropout,
            rng=rng,
        )

    def _finish(self, features: Features) -> None:
        """Set the arrays that answer; an item of which nothing is known has zeros."""
        self.item_vectors_, self.profiles_ = self._placed(features)
        silent = ~features.known
        self.item_vectors_[silent], self.profiles_[silent] = 0, 0
        self.speaks_ = ~silent

    def _placed(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Return vectors and profiles of items, in blocks."""
        net, parts = self.net_, []
        with torch.inference_mode():
            for start in range(0, max(1, len(features)), BLOCK):
                x = net.item_inputs(features.take(np.arange(start, min(start + BLOCK, len(features)))))
                parts.append((net.item_tower(x).cpu().numpy(), net.profiles(x).cpu().numpy()))
        vectors, profiles = (np.concatenate(p).astype(np.float32) for p in zip(*parts, strict=True))
        return vectors, profiles

    def embed_items(self, attributes: pa.Table) -> np.ndarray:
        """Return ``float32[n, dim]``: vectors of items that need not be in the catalogue, from their attributes alone.

        Items of which nothing is known have zeros.
        """
        self._check_fitted()
        n = attributes.num_rows
        features = self._item_features(attributes, n, np.zeros(n, bool))
        vectors, _ = self._placed(features)
        return np.where(features.known[:, None], vectors, np.float32(0))

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, dim]``, of length one (zero where nothing is known of an item)."""
        return self.item_vectors_

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, dim]``, one vector a request (zero where nothing is known of the person)."""
        out = np.zeros((len(requests), self.config.dim), np.float32)
        rows = np.flatnonzero(self._informed(requests))
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            out[part] = self._person_vectors(requests.users[part], requests.histories.take(part))
        return out

    def _person_vectors(self, users: np.ndarray, histories: Histories) -> np.ndarray:
        """Return ``float32[n, dim]`` of people, those of whom nothing is known included."""
        seen = histories.ragged.distinct
        counts = self._speaking(seen)[:, None].astype(np.float32)
        mean = sum_rows(seen.offsets, seen.values, self.profiles_) / np.maximum(counts, 1)
        with torch.inference_mode():
            net = self.net_
            device = net.profile.device
            history = torch.where(torch.from_numpy(counts == 0).to(device), net.no_history, torch.from_numpy(mean).to(device))
            found: np.ndarray = net.person(history, self.people_.take(users)).cpu().numpy()
        return found

    def _speaking(self, rows: Ragged) -> np.ndarray:
        """Return ``int64[n]``: how many items of each row say something of a person."""
        known = np.concatenate([[0], np.cumsum(self.speaks_[rows.values])])
        return np.asarray(known[rows.offsets[1:]] - known[rows.offsets[:-1]])

    def _informed(self, requests: Requests) -> np.ndarray:
        own = self.people_.known[np.maximum(requests.users, 0)] if len(self.people_) else np.zeros(len(requests), bool)
        return np.asarray((self._speaking(requests.histories.ragged) > 0) | (own & (requests.users >= 0)))

    def explain(self, request: Requests, item: int) -> Explanation:
        """Leave each item of the history out in turn, and see how far the score falls."""
        self._check_question(request, item)
        score = float(self.score(request, np.full((1, 1), item, np.int32))[0, 0])
        if not self._informed(request)[0]:
            return Explanation(item, score, (), exact=False, method="popularity: nothing is known of the person", rest=score)
        history = np.unique(request.histories.items)
        variants = Histories.from_rows([np.delete(history, at) for at in range(len(history))])
        vectors = self._person_vectors(np.repeat(request.users, len(history)), variants)
        falls = score - vectors @ self.item_vectors_[item]
        reasons = [Evidence("history", int(i), float(w)) for i, w in zip(history, falls, strict=True)]
        reasons.sort(key=lambda e: -abs(e.weight))
        return Explanation(item, score, tuple(reasons), exact=False, method="leave one out of the history")

    # -- bundles --------------------------------------------------------------------------------

    def _state(self) -> dict[str, np.ndarray]:
        weights = {f"net/{name}": value.detach().cpu().numpy() for name, value in self.net_.state_dict().items()}
        answers = {"item_vectors": self.item_vectors_, "profiles": self.profiles_}
        return {**weights, **answers, "item_schema": self.item_schema_.array(), "user_schema": self.user_schema_.array()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.item_schema_, self.user_schema_ = (Schema.of_array(state[name]) for name in ("item_schema", "user_schema"))
        self.net_ = self._fresh(generator(0, "two_tower", "restored"))
        weights = {n.removeprefix("net/"): torch.from_numpy(np.array(v)) for n, v in state.items() if n.startswith("net/")}
        self.net_.load_state_dict(weights)
        self.item_vectors_, self.profiles_ = state["item_vectors"], state["profiles"]
        self.speaks_ = np.asarray(self.item_vectors_.any(axis=1))
        self._encode_people()

    def _forget(self, numbers: np.ndarray) -> None:
        self._encode_people()


@dataclass(frozen=True)
class _Batch:
    """A batch: people and their histories, distinct items (``columns``) with their counts, and the features of all items."""

    users: np.ndarray
    people: Features
    people_kept: np.ndarray
    features: Features
    kept: np.ndarray
    history: Ragged  # rows of ``features``
    columns: np.ndarray  # rows of ``features``
    items: np.ndarray  # the items behind ``columns``
    own: np.ndarray  # which column is each row's own
    counts: np.ndarray
    drawn: Any


class _Trainer(nn.Module):
    """Batches of an epoch, and their loss."""

    def __init__(self, model: TwoTower, features: Features, dataset: Dataset) -> None:
        super().__init__()
        self.net = model.net_
        c = model.config
        matrix = dataset.matrix()
        self.model, self.features, self.config = model, features, c
        self.pairs, self.others = Pairs(matrix, c.batch_size), OtherItems(matrix, c.max_history)
        self.share = np.bincount(self.pairs.items, minlength=dataset.n_items) / max(1, len(self.pairs.items))
        device = self.net.profile.device
        self.frequency = StreamingFrequency(dataset.n_items, alpha=c.stream_alpha).to(device) if c.logq == "stream" else None

    def epoch(self, number: int, rng: np.random.Generator) -> _Epoch:
        auxiliary = rng.spawn(1)[0]
        return _Epoch(self, self.pairs.epoch(rng, negatives=False), rng, auxiliary)

    def batch(self, users: np.ndarray, items: np.ndarray, rng: np.random.Generator, auxiliary: np.random.Generator) -> _Batch:
        c, model = self.config, self.model
        history = self.others.draw(rng, users, items)
        more = rng.integers(len(self.features), size=c.uniform_negatives).astype(np.int32)
        columns, at, counts = np.unique(np.concatenate([items, more]), return_inverse=True, return_counts=True)
        needed, column_places, history_places = renumbered(len(self.features), columns, history.values)
        features = self.features.take(needed)
        row = features.bags.row_numbers
        kept = kept_values(features, np.ones(features.n_fields, bool), c.value_dropout, rng)
        if c.use_ids:
            kept &= (row % features.n_fields != features.n_fields - 1) | (rng.random(len(row)) >= c.leave_out)
        people = model.people_.take(users)
        whole = rng.random(len(users)) >= c.leave_out
        people_kept = np.repeat(np.repeat(whole, people.n_fields), people.bags.lengths)
        return _Batch(
            users,
            people,
            people_kept,
            features,
            kept,
            Ragged(history.offsets, history_places),
            column_places,
            columns.astype(np.int64),
            at[: len(items)],
            counts,
            model._draw(self.features, auxiliary),
        )

    def loss(self, batch: _Batch, generator: torch.Generator) -> Tensor:
        net, device = self.net, self.net.profile.device

        def put(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        x = net.item_inputs(batch.features, put(batch.kept))
        vectors = net.item_tower(x[put(batch.columns)], generator)
        history = net.pooled(net.profiles(x), put(batch.history.values), put(batch.history.offsets))
        queries = net.person(history, batch.people, put(batch.people_kept), generator)
        log_q, counts = self._log_q(batch, device)
        loss = in_batch_softmax(queries, vectors, put(batch.own), counts, self.config.temperature, log_q)
        if batch.drawn is not None:
            loss = loss + self.model._auxiliary(batch.drawn, generator)
        return loss

    def _log_q(self, batch: _Batch, device: torch.device) -> tuple[Tensor | None, Tensor]:
        """Return ``ln Q`` of the columns, and how often each counts as a negative."""
        counts = torch.from_numpy(batch.counts).to(device)
        if self.frequency is not None:
            items = torch.from_numpy(batch.items).to(device)
            self.frequency.see(items)
            return self.frequency.log_q(items), torch.ones_like(counts)
        if self.config.logq == "none":
            return None, counts
        rows, more = len(batch.users), self.config.uniform_negatives
        q = (rows * self.share[batch.items] + more / len(self.features)) / (rows + more)
        return torch.from_numpy(np.log(q).astype(np.float32)).to(device), counts


@dataclass(frozen=True)
class _Epoch:
    """The batches of an epoch, made one at a time."""

    trainer: _Trainer
    pairs: Epoch
    rng: np.random.Generator
    auxiliary: np.random.Generator

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[_Batch]:
        for part in self.pairs:
            yield self.trainer.batch(part.users, part.positives, self.rng, self.auxiliary)
