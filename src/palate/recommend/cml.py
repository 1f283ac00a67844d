"""CML: collaborative metric learning. People and items are points of one unit ball, and what lies near is offered.

    d(u, i) = |p_u - q_i|²        score(u, j) = -d(u, j)

    L = mean_{(u,i)} ln(1 + I M / W) [m + d(u, i) - min_j d(u, j)]₊  +  λ_c Σ_{a≠b} C_ab²  +  λ_f mean_i |q_i - f(x_i)|²

``j`` runs over ``W`` items that the person has not had, ``M`` of them with ``d(u, j) < d(u, i) + m``; ``C`` is the covariance
of all vectors and ``f`` a network of one hidden layer on the attributes ``x_i`` of an item. After each step every vector that
is longer than one is shortened to one.

The score is an inner product of ``[2p, 1, -|p|²]`` and ``[q, -|q|², 1]``. A person's point follows the history of the request::

    p_u(H) = to the ball( p_u - mean(H_u) + mean(H) ),   mean(H) = 1/|H| Σ_{i in H} q_i

which for the training history is the trained ``p_u``. For somebody unseen it is ``mean(H)``: the point whose distances to the
items of the history have the least sum (it lies in the ball, as they do).

Source: C.-K. Hsieh et al., "Collaborative Metric Learning", WWW 2017, equations 1 to 7.
Differences: the covariance term squares its entries (the first published program sums them with their signs, so it can be
negative) and isn't divided by the number of vectors, as the first term is a mean; Adam in place of AdaGrad; negatives are
drawn anew each epoch. Items without training events lie at ``f(x_i)`` where there are attributes, else farther than anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.features import learn_schema
from palate.data.histories import Histories
from palate.data.ragged import Ragged, take_rows
from palate.errors import ConfigError
from palate.kernels.cml import cml_gradient
from palate.kernels.inner import topk_inner
from palate.kernels.rows import sum_rows
from palate.nn import losses
from palate.nn.adam import Adam
from palate.nn.dropout import OFF, Dropout
from palate.recommend.shares import explain_by_shares, knows_items, one_history
from palate.retrieval.tokens import tokens
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.loop import fit_module
from palate.training.triples import Pairs, Triples
from palate.training.validation import validator

#: Squared distance at which items of which nothing is known lie: beyond the two ends of the ball.
BEYOND = 4.0


class CMLConfig(TrainConfig):
    """Settings of CML."""

    epochs: int = Field(60, ge=0, description="passes over all pairs; with validation, the most")
    batch_size: int = Field(2048, gt=0, description="pairs a batch")
    lr: float = Field(5e-3, gt=0, description="step size of Adam")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the vectors")
    margin: float = Field(1.0, gt=0, description="m, how much farther others shall lie, in squared distance")
    n_negatives: int = Field(20, gt=0, description="W, unseen items drawn for each pair")
    covariance: float = Field(1.0, ge=0, description="λ_c, weight of the squared covariances between dimensions")
    features: tuple[str, ...] = Field((), description="attributes of items that place them (none: interactions alone)")
    feature_weight: float = Field(
        0.1, ge=0, description="λ_f, weight of the distance between an item and its attributes' place"
    )
    hidden: int = Field(128, gt=0, description="width of the hidden layer of f")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the hidden layer of f left out in training")


class CML(VectorRecommender):
    """Collaborative metric learning (see the module's text)."""

    name: ClassVar[str] = "cml"
    Settings = CMLConfig
    config: CMLConfig

    places_: np.ndarray  # float32[n_items, d], q (zero where nothing is known)
    own_: np.ndarray  # float32[n_users, d], p_u - mean(H_u)
    item_vectors_: np.ndarray  # float32[n_items, d + 2]

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        bags, n_codes = attribute_bags(dataset, c.features)
        space = Space(dataset.n_users, dataset.n_items, n_codes, c, fitting.rng("cml", "weights"))
        device = usable_device(fitting.device)
        space.to(device)
        pairs = _Pairs(dataset, c)
        objective = Objective(c, space, bags)
        optimizer = in_ball(Adam if device.type == "cpu" else torch.optim.AdamW, space, c)

        record = fit_module(
            space,
            batches=pairs.epoch,
            loss=objective.loss,
            config=c,
            fitting=fitting,
            title="CML",
            evaluate=validator(self, fitting.validation, before=lambda: self._finish(space, bags, dataset.histories)),
            optimizer=optimizer,
        )
        self._finish(space, bags, dataset.histories)
        return record.notes

    def _finish(self, space: Space, bags: Ragged, histories: Histories) -> None:
        """Set the arrays that answer."""
        people, items = (t.detach().cpu().numpy() for t in (space.people, space.items))
        trained, described = self.item_counts_ > 0, bags.lengths > 0
        places = np.where(trained[:, None], items, 0).astype(np.float32)
        new = np.flatnonzero(~trained & described)
        if len(new):
            with torch.no_grad():
                places[new] = into_ball(space.placed(bags, new, OFF).cpu().numpy())
        self.places_, known = places, histories.lengths > 0
        self.own_ = np.where(known[:, None], people - self._means(histories.ragged)[0], 0).astype(np.float32)
        self._lay_out(trained | described)

    def _lay_out(self, placed: np.ndarray) -> None:
        """Make the item vectors; items not ``placed`` lie at the squared distance ``BEYOND`` from the centre."""
        away = np.where(placed, np.einsum("nd,nd->n", self.places_, self.places_), BEYOND).astype(np.float32)
        self.item_vectors_ = np.column_stack([self.places_, -away, np.ones(len(away), np.float32)]).astype(np.float32)

    def _means(self, histories: Ragged) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean place of the trained items of each history, and their number."""
        seen = histories.distinct
        trained = self.item_counts_ > 0
        known = np.concatenate([[0], np.cumsum(trained[seen.values])])
        counts = known[seen.offsets[1:]] - known[seen.offsets[:-1]]
        sums = sum_rows(seen.offsets, seen.values, np.where(trained[:, None], self.places_, np.float32(0)))
        return sums / np.maximum(counts, 1)[:, None].astype(np.float32), counts

    def points(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d]``: where the person of each request stands."""
        return into_ball(self._unbounded(requests))

    def _unbounded(self, requests: Requests) -> np.ndarray:
        at = self._means(requests.histories.ragged)[0]
        known = np.flatnonzero(requests.users >= 0)
        at[known] += self.own_[requests.users[known]]
        return at

    def explain(self, request: Requests, item: int) -> Explanation:
        """Return the exact share of each item of the history.

        ``-d = 2 <p, q> - |p|² - |q|²`` is linear in the mean of the history but for ``|p|²``, which is the same for all items
        offered and belongs to the rest, as do the item and the person's own part.
        """
        history = one_history(self, request, item)
        history = history[self.item_counts_[history] > 0]
        score = float(self.score(request, np.full((1, 1), item, np.int32))[0, 0])
        inside = 1 / max(1.0, float(np.linalg.norm(self._unbounded(request)[0])))
        shares = self.places_[history].astype(np.float64) @ self.places_[item] * (2 * inside / max(1, len(history)))
        return explain_by_shares(self, request, item, history, shares, "pull of the history", score=score)

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, d + 2]``, ``[q, -|q|², 1]``."""
        return self.item_vectors_

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, d + 2]``, ``[2p, 1, -|p|²]`` (zero where the history holds nothing known)."""
        out = _asking(self.points(requests))
        out[~self._informed(requests)] = 0
        return out

    def _similar(self, items: np.ndarray, k: int, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``k`` nearest items; a score is the negative squared distance."""
        return topk_inner(_asking(self.places_[items]), self.item_vectors_, k, own, items)

    def _informed(self, requests: Requests) -> np.ndarray:
        return knows_items(self.item_counts_, requests.histories)

    def _state(self) -> dict[str, np.ndarray]:
        return {"places": self.places_, "own": self.own_, "placed": self.item_vectors_[:, -2] != -BEYOND}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.places_, self.own_ = state["places"], state["own"]
        self._lay_out(state["placed"])

    def _forget(self, numbers: np.ndarray) -> None:
        self.own_ = self.own_.copy()
        self.own_[numbers] = 0


def _asking(points: np.ndarray) -> np.ndarray:
    away = np.einsum("nd,nd->n", points, points)
    return np.column_stack([2 * points, np.ones(len(points), np.float32), -away]).astype(np.float32)


def into_ball(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors, those longer than one shortened to one."""
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    found: np.ndarray = vectors / np.maximum(lengths, 1)[:, None]
    return found.astype(np.float32)


def attribute_bags(dataset: Dataset, names: tuple[str, ...]) -> tuple[Ragged, int]:
    """Return the attribute codes of each item (no codes without ``names``), and how many codes there are."""
    table = dataset.items.attributes
    if not names:
        return Ragged.empty(dataset.n_items), 0
    absent = [name for name in names if table is None or name not in table.column_names]
    if table is None or absent:
        there = [] if table is None else table.column_names
        advice = f"there are: {', '.join(there)}" if there else "the items have no attributes"
        raise ConfigError("there is no such attribute of items.", where="cml.features", value=absent, remedy=advice)
    chosen: pa.Table = table.select(list(names))
    schema = learn_schema(chosen)
    if not schema.fields:
        raise ConfigError("none of these attributes can be read as features.", where="cml.features", value=list(names))
    found = schema.encode(chosen, dataset.n_items, tokens)
    return Ragged(found.bags.offsets[:: found.n_fields], found.bags.values), int(schema.bases[-1])


class _Pairs:
    """Pairs with several negatives each, drawn anew each epoch, batch by batch."""

    def __init__(self, dataset: Dataset, config: CMLConfig) -> None:
        self.pairs, self.width = Pairs(dataset.matrix(), config.batch_size), config.n_negatives

    def epoch(self, epoch: int, rng: np.random.Generator) -> _Epoch:
        return _Epoch(self, self.pairs.epoch(rng, negatives=False), rng)


class _Epoch:
    def __init__(self, source: _Pairs, batches: Any, rng: np.random.Generator) -> None:
        self.source, self.batches, self.rng = source, batches, rng

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        for batch in self.batches:
            unseen = self.source.pairs.unseen.of(batch.users)
            yield Triples(batch.users, batch.positives, unseen.sample(self.rng, (len(batch), self.source.width)))


class Space(nn.Module):
    """The points of people and items, and the network ``f`` of attributes."""

    def __init__(self, n_users: int, n_items: int, n_codes: int, config: CMLConfig, rng: np.random.Generator) -> None:
        super().__init__()
        d, wide = config.dim, config.hidden
        self.people = _table(rng, n_users, d, 1 / np.sqrt(d))
        self.items = _table(rng, n_items, d, 1 / np.sqrt(d))
        if n_codes:
            self.codes = _table(rng, n_codes, wide, np.sqrt(2 / wide))
            self.out = _table(rng, d, wide, 1 / np.sqrt(wide))
        for points in (self.people, self.items):
            losses.to_unit_ball(points.data)

    def placed(self, bags: Ragged, items: np.ndarray, dropout: Dropout) -> Tensor:
        """Return ``f(x_i)``, ``[n, d]``: a hidden layer on the mean over an item's attributes, and a linear one."""
        offsets, codes = take_rows(bags.offsets, items, bags.values)
        device = self.people.device
        where = torch.from_numpy(offsets[:-1]).to(device)
        mean = functional.embedding_bag(torch.from_numpy(codes.astype(np.int64)).to(device), self.codes, where, mode="mean")
        return functional.linear(dropout(torch.relu(mean)), self.out)


class Objective:
    """The loss of a batch."""

    def __init__(self, config: CMLConfig, space: Space, bags: Ragged) -> None:
        self.config, self.space, self.bags = config, space, bags
        self.described = bags.lengths > 0

    def loss(self, batch: Triples, generator: torch.Generator) -> Tensor:
        """Return the objective of a batch whose negatives are ``int32[m, W]``; dropout draws from ``generator``."""
        c, space = self.config, self.space
        total = hinge(space.people, space.items, batch, c.margin)
        if c.covariance:
            points = torch.cat([space.people, space.items])
            total = total + c.covariance * len(points) * losses.decorrelation(points)
        items = np.unique(batch.positives)
        items = items[self.described[items]]
        if c.feature_weight and len(items):
            places = space.placed(self.bags, items, Dropout(c.dropout, generator))
            own = space.items[torch.from_numpy(items.astype(np.int64)).to(places.device)]
            total = total + c.feature_weight * (own - places).square().sum(1).mean()
        return total


def hinge(people: Tensor, items: Tensor, batch: Triples, margin: float) -> Tensor:
    """Return the mean weighted hinge of a batch whose negatives are ``int32[m, W]``, with its gradient."""
    if people.device.type != "cpu":
        return hinge_torch(people, items, batch, margin)
    loss: Tensor = _Hinge.apply(people, items, batch, margin)  # type: ignore[no-untyped-call]
    return loss


def hinge_torch(people: Tensor, items: Tensor, batch: Triples, margin: float) -> Tensor:
    """As :func:`hinge`, in plain torch, on any device."""
    kept = batch.negatives[:, 0] >= 0
    u, i, j = (
        torch.from_numpy(a[kept].astype(np.int64)).to(people.device) for a in (batch.users, batch.positives, batch.negatives)
    )
    if not len(u):
        return (people.sum() + items.sum()) * 0
    return losses.cml(people[u], items[i], items[j], len(items), margin) * (len(u) / len(batch))


class _Hinge(Function):
    @staticmethod
    def forward(ctx: Any, people: Tensor, items: Tensor, batch: Triples, margin: float) -> Tensor:
        p, q = people.detach().numpy(), items.detach().numpy()
        slopes = np.zeros_like(p), np.zeros_like(q)
        total = cml_gradient(batch.users, batch.positives, batch.negatives, p, q, *slopes, margin)
        ctx.save_for_backward(*(torch.from_numpy(slope / np.float32(len(batch))) for slope in slopes))
        return torch.tensor(total / len(batch), dtype=people.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_people, d_items = ctx.saved_tensors
        return d_people * grad, d_items * grad, None, None


def in_ball(kind: Any, space: Space, config: CMLConfig) -> torch.optim.Optimizer:
    """Return an optimiser of this kind that brings people and items back into the ball after each step."""

    class InBall(kind):  # type: ignore[misc]
        def step(self, closure: Any = None) -> Any:
            found = super().step(closure)
            for points in (space.people, space.items):
                losses.to_unit_ball(points.data)
            return found

    made: torch.optim.Optimizer = InBall(space.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return made


def _table(rng: np.random.Generator, rows: int, columns: int, scale: float) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(rng.standard_normal((rows, columns), np.float32) * np.float32(scale)))
