"""Mult-VAE: a variational autoencoder of histories with a multinomial likelihood.

    x̃ = dropout(x/|x|)        h = tanh(W₁ x̃ + b₁)        μ, ln σ² = W₂ h + b₂        z = μ + σ ∘ ε,  ε ~ N(0, I)
    g = tanh(W₃ z + b₃)        π = softmax(W₄ g + b₄)

    L = mean_u [ -Σ_i x_ui ln π_ui  +  β KL(q(z|x) | N(0, I)) ],   KL = 1/2 Σ (μ² + σ² - 1 - ln σ²)

``x`` is the row of ones of a history. ``β`` rises evenly from 0 to its last value over the first epochs. Any history is
answered by the encoder (``z = μ``, nothing dropped), so known and unseen people are treated alike; the score
``<g, w_j> + b_j`` is an inner product with one column more.

Source: D. Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018, equations 1 to 8.
Differences: β rises over epochs (the published program counts 200,000 steps, whatever the size of the data); weights begin with
Xavier's normal; items never seen in training are left out of histories. The softmax and its gradient take bounded memory
(:mod:`palate.nn.multinomial`), people x items never exist whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from palate.contracts.model import Fitting
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import take_rows
from palate.kernels.inner import inner_pairs
from palate.kernels.rows import sum_rows
from palate.nn.adam import Adam
from palate.nn.dropout import Dropout
from palate.nn.multinomial import multinomial
from palate.recommend.shares import knows_items
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.loop import fit_module
from palate.training.validation import validator


class MultVAEConfig(TrainConfig):
    """Settings of Mult-VAE."""

    epochs: int = Field(100, ge=0, description="passes over all people; with validation, the most")
    batch_size: int = Field(500, gt=0, description="people a batch")
    lr: float = Field(1e-3, gt=0, description="step size of Adam")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(200, gt=0, description="width of z")
    hidden: int = Field(600, gt=0, description="width of the layers h and g")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of a history that the encoder does not see in training")
    beta: float = Field(0.2, ge=0, description="last weight of the KL term")
    anneal: int = Field(20, ge=0, description="epochs over which that weight rises from 0")


class MultVAE(VectorRecommender):
    """Variational autoencoder with a multinomial likelihood (see the module's text)."""

    name: ClassVar[str] = "mult_vae"
    Settings = MultVAEConfig
    config: MultVAEConfig

    layers_: dict[str, np.ndarray]
    item_vectors_: np.ndarray  # float32[n_items, hidden + 1], W₄ and b₄

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        network = Network(dataset.n_items, c, fitting.rng("mult_vae", "weights"))
        device = usable_device(fitting.device)
        network.to(device)
        people = _People(dataset.matrix(), c)

        record = fit_module(
            network,
            batches=people.epoch,
            loss=network.loss,
            config=c,
            fitting=fitting,
            title="Mult-VAE",
            evaluate=validator(self, fitting.validation, before=lambda: self._finish(network)),
            optimizer=(Adam if device.type == "cpu" else torch.optim.AdamW)(
                network.parameters(), lr=c.lr, weight_decay=c.weight_decay
            ),
        )
        self._finish(network)
        return record.notes

    def _finish(self, network: Network) -> None:
        """Set the arrays that answer."""
        found = {name: t.detach().cpu().numpy().copy() for name, t in network.named_parameters()}
        self.item_vectors_ = np.hstack([found.pop("items"), found.pop("bias")[:, None]])
        found["enter"][self.item_counts_ == 0] = 0
        found["mean"], found["mean_bias"] = (found.pop(n)[: self.config.dim] for n in ("code", "code_bias"))
        self.layers_ = found

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, hidden + 1]``; the last column is the bias."""
        return self.item_vectors_

    @property
    def _directions(self) -> np.ndarray:
        """Item vectors without the bias."""
        return self.item_vectors_[:, :-1]

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, hidden + 1]``: ``g`` of each history, and a one (zero where it holds nothing known)."""
        w, seen = self.layers_, requests.histories.ragged.distinct
        known = np.concatenate([[0], np.cumsum(self.item_counts_[seen.values] > 0)])
        counts = (known[seen.offsets[1:]] - known[seen.offsets[:-1]]).astype(np.float32)
        x = sum_rows(seen.offsets, seen.values, w["enter"]) / np.sqrt(np.maximum(counts, 1))[:, None]
        h = np.tanh(x + w["enter_bias"])
        g = np.tanh(_linear(_linear(h, w["mean"], w["mean_bias"]), w["back"], w["back_bias"]))
        out = np.hstack([g, np.ones((len(g), 1), np.float32)])
        out[counts == 0] = 0
        return out

    def _informed(self, requests: Requests) -> np.ndarray:
        return knows_items(self.item_counts_, requests.histories)

    def _state(self) -> dict[str, np.ndarray]:
        return {"items": self.item_vectors_, **self.layers_}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.layers_ = dict(state)
        self.item_vectors_ = self.layers_.pop("items")


def _linear(x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return ``x Wᵀ + b``, with the same bits for any number of rows and threads."""
    columns = np.broadcast_to(np.arange(len(weights), dtype=np.int32), (len(x), len(weights)))
    out: np.ndarray = inner_pairs(x, weights, np.ascontiguousarray(columns)) + bias
    return out


@dataclass(frozen=True)
class Batch:
    """Some people: ``int64[n + 1]`` offsets and ``int32[m]`` items, distinct and ascending, and the β of this step."""

    offsets: np.ndarray
    items: np.ndarray
    beta: float

    def __len__(self) -> int:
        return len(self.offsets) - 1


class _People:
    """The people who have had anything, in a new order each epoch."""

    def __init__(self, matrix: sparse.csr_matrix, config: MultVAEConfig) -> None:
        matrix.sort_indices()
        self.offsets, self.items = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        self.active, self.config = np.flatnonzero(np.diff(self.offsets)), config

    def epoch(self, epoch: int, rng: np.random.Generator) -> _Epoch:
        """Return the batches of an epoch (from 1)."""
        return _Epoch(self, rng.permutation(self.active), epoch)


@dataclass(frozen=True)
class _Epoch:
    people: _People
    order: np.ndarray
    number: int

    def __len__(self) -> int:
        return -(-len(self.order) // self.people.config.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        size = self.people.config.batch_size
        for at in range(len(self)):
            rows = self.order[at * size : (at + 1) * size]
            offsets, items = take_rows(self.people.offsets, rows, self.people.items)
            yield Batch(offsets, items, annealed(self.people.config, self.number - 1 + at / len(self)))


def annealed(config: MultVAEConfig, epochs: float) -> float:
    """Return β after so many epochs, fractions included."""
    return config.beta * min(1.0, epochs / config.anneal) if config.anneal else config.beta


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return ``[n]``: the divergence of ``N(μ, σ²)`` from ``N(0, I)``, of ``[n, d]`` means and log variances."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2


class Network(nn.Module):
    """Encoder and decoder. Columns of ``enter`` and rows of ``items`` belong to items."""

    def __init__(self, n_items: int, config: MultVAEConfig, rng: np.random.Generator) -> None:
        super().__init__()
        self.config = config
        wide, narrow = config.hidden, config.dim
        self.enter, self.enter_bias = _weights(rng, n_items, wide), nn.Parameter(torch.zeros(wide))
        self.code, self.code_bias = _weights(rng, 2 * narrow, wide), nn.Parameter(torch.zeros(2 * narrow))
        self.back, self.back_bias = _weights(rng, wide, narrow), nn.Parameter(torch.zeros(wide))
        self.items, self.bias = _weights(rng, n_items, wide), nn.Parameter(torch.zeros(n_items))

    def encode(self, batch: Batch, dropout: Dropout) -> tuple[Tensor, Tensor]:
        """Return ``μ`` and ``ln σ²``, ``[n, dim]`` each."""
        lengths, device = np.diff(batch.offsets), self.enter.device
        each = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
        x = functional.embedding_bag(
            torch.from_numpy(batch.items.astype(np.int64)).to(device),
            self.enter,
            torch.from_numpy(batch.offsets[:-1]).to(device),
            mode="sum",
            per_sample_weights=dropout(torch.from_numpy(each).to(device)),
        )
        h = torch.tanh(x + self.enter_bias)
        mean, log_variance = functional.linear(h, self.code, self.code_bias).chunk(2, dim=1)
        return mean, log_variance

    def likelihood(self, z: Tensor, batch: Batch) -> Tensor:
        """Return the mean over people of ``-Σ_i x_ui ln π_ui``."""
        g = torch.tanh(functional.linear(z, self.back, self.back_bias))
        queries = torch.cat([g, torch.ones_like(g[:, :1])], 1)
        vectors = torch.cat([self.items, self.bias[:, None]], 1)
        rows = np.repeat(np.arange(len(batch)), np.diff(batch.offsets))
        return multinomial(queries, vectors, rows, batch.items) * (len(batch.items) / len(batch))

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the objective of a batch, with noise from ``generator``."""
        mean, log_variance = self.encode(batch, Dropout(self.config.dropout, generator))
        noise = torch.empty_like(mean).normal_(generator=generator)
        z = mean + noise * (log_variance / 2).exp()
        return self.likelihood(z, batch) + batch.beta * kl_to_prior(mean, log_variance).mean()


def _weights(rng: np.random.Generator, rows: int, columns: int) -> nn.Parameter:
    scale = np.float32(np.sqrt(2 / (rows + columns)))
    return nn.Parameter(torch.from_numpy(rng.standard_normal((rows, columns), np.float32) * scale))
