"""What next-item models share: settings, the item table, answers in fixed pieces, and the choice of loss.

A model turns a history into a state ``h``; the score of item ``j`` is ``<h, e_j>`` (or their cosine), and the item table ``E``
is both input and output. One step of training looks up every row of ``E`` that it needs at once, so the gradient of the
table is gathered once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.nn.softmax import shared_softmax, whole_softmax
from palate.training.config import TrainConfig
from palate.training.encoding import Piece, encode_last

Loss = Literal["sampled_softmax", "full_softmax", "gbce", "bce"]
Negatives = Literal["uniform", "popularity", "mixed"]
Batch = TypeVar("Batch")


class NextItemConfig(TrainConfig):
    """Settings that next-item models share."""

    dim: int = Field(64, gt=0, description="width of item vectors and states")
    max_len: int = Field(50, gt=0, description="most recent events of a history that are read")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of hidden values set to zero in training")
    n_negatives: int = Field(1024, gt=0, description="items drawn as negatives: a batch (shared), or a position (bce)")
    negatives: Negatives = Field("uniform", description="from which distribution negatives are drawn")
    power: float = Field(0.75, ge=0, description="popularity negatives are drawn in proportion to count ** power")
    logq: bool = Field(True, description="correct sampled scores for the chance of being drawn (popularity, mixed)")
    similarity: Literal["cosine", "dot"] = Field("cosine", description="score of a state and an item vector")
    temperature: float = Field(0.07, gt=0, description="scores are divided by this in the softmax losses")


@dataclass(frozen=True)
class Sampled(Generic[Batch]):
    """A batch and the negatives drawn for it (``int64``; shared ones are distinct and ascending), or ``None``."""

    batch: Batch
    negatives: np.ndarray | None


class Draws:
    """Draws negatives, and knows the chance that an item is among those of a batch.

    Shared negatives are the distinct items of ``n`` draws from ``q``. Item ``j`` is among them with probability
    ``π_j = 1 - (1 - q_j)^n``; taking ``log π_j`` from its score makes the sum of exponentials an unbiased estimate of the sum
    over all items (Horvitz-Thompson; ``π_j ≈ n q_j`` gives the usual logQ correction).
    """

    def __init__(self, counts: np.ndarray, kind: Negatives, power: float) -> None:
        uniform = np.full(len(counts), 1 / max(1, len(counts)))
        popular = (counts + 1.0) ** power
        popular /= max(popular.sum(), 1e-12)
        self.q = {"uniform": uniform, "popularity": popular, "mixed": (uniform + popular) / 2}[kind]
        self.edges = np.cumsum(self.q)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return ``int64[n]`` independent draws."""
        return np.minimum(np.searchsorted(self.edges, rng.random(n) * self.edges[-1], side="right"), len(self.q) - 1)

    def distinct(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return the distinct items of ``n`` draws, ascending."""
        return np.unique(self.draw(rng, n))

    def log_inclusion(self, items: np.ndarray, n: int) -> np.ndarray:
        """Return ``float32``: ``log π_j`` of some items."""
        with np.errstate(divide="ignore"):
            return np.log(-np.expm1(n * np.log1p(-self.q[items]))).astype(np.float32)


class NextItemRecommender(VectorRecommender):
    """Base of next-item models: a module with an item table ``items``, and a state for every history."""

    config: NextItemConfig
    module_: nn.Module
    _draws: Draws

    def _build(self, n_items: int) -> nn.Module:
        """Return the module, untrained; its ``items`` is an ``nn.Embedding(n_items, dim)``."""
        raise NotImplementedError

    def _fresh(self, n_items: int) -> nn.Module:
        """Build the module; what PyTorch's own constructors draw is overwritten, and leaves no trace in its global stream."""
        with torch.random.fork_rng(devices=[]):
            return self._build(n_items)

    def _last_states(self, piece: Piece) -> Tensor:
        """Return ``float32[height, dim]``: the state after each row of a piece."""
        raise NotImplementedError

    @property
    def table(self) -> Tensor:
        """``float32[n_items, dim]``, the item table."""
        items: nn.Embedding = self.module_.items  # type: ignore[assignment]
        return items.weight

    @property
    def item_vectors(self) -> np.ndarray:
        """``float32[n_items, dim]``, of length one where the similarity is cosine."""
        with torch.inference_mode():
            table = self.table.detach()
            found: np.ndarray = (functional.normalize(table, dim=1) if self._cosine else table).cpu().numpy()
        return found

    def request_vectors(self, requests: Requests) -> np.ndarray:
        """Return ``float32[n, dim]``: the state after each history (zero for an empty one)."""
        with torch.inference_mode():
            return encode_last(requests.histories, self.config.max_len, self.config.dim, self._answer)

    def _answer(self, piece: Piece) -> np.ndarray:
        states = self._last_states(piece)
        found: np.ndarray = (functional.normalize(states, dim=1) if self._cosine else states).cpu().numpy()
        return found

    @property
    def _cosine(self) -> bool:
        return self.config.similarity == "cosine"

    def _lookup(self, *ids: np.ndarray) -> tuple[Tensor, ...]:
        """Return the table's rows of several lists of items, gathered (and later scattered) at once."""
        together = torch.from_numpy(np.concatenate([i.ravel() for i in ids])).to(self.table.device)
        return torch.split(self.table.index_select(0, together), [i.size for i in ids])

    def _wanted(self, inputs: np.ndarray, targets: np.ndarray, negatives: np.ndarray | None) -> list[np.ndarray]:
        """Return the lists of items that a step looks up: inputs, then targets and negatives where the loss samples."""
        return [inputs] if negatives is None else [inputs, targets, negatives]

    def _objective(self, states: Tensor, targets: np.ndarray, negatives: np.ndarray | None, rows: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of states ``[p, d]`` for targets ``[p]``; ``rows`` are the vectors of targets and negatives."""
        config = self.config
        low = config.precision == "bfloat16"
        with torch.autocast(states.device.type, enabled=False):
            queries = (functional.normalize(states.float(), dim=1) if self._cosine else states.float()) / config.temperature
            if negatives is None:
                vectors = functional.normalize(self.table, dim=1) if self._cosine else self.table
                return whole_softmax(queries, vectors, torch.from_numpy(targets).to(states.device), bfloat16=low)
            positive, negative = (functional.normalize(r, dim=1) for r in rows) if self._cosine else rows
            own = (queries * positive).sum(1)
            return self._sampled_loss(queries, own, negative, targets, negatives)

    def _sampled_loss(
        self, queries: Tensor, own: Tensor, negative: Tensor, targets: np.ndarray, negatives: np.ndarray
    ) -> Tensor:
        """Return a loss of scores against drawn negatives: ``own`` ``[p]`` are the scores of the targets."""
        device = queries.device
        hits = torch.from_numpy(own_columns(targets, negatives)).to(device)
        correction = None
        if self.config.logq and self.config.negatives != "uniform":
            correction = torch.from_numpy(self._draws.log_inclusion(negatives, self.config.n_negatives)).to(device)
        low = self.config.precision == "bfloat16"
        return shared_softmax(queries, own, negative, hits=hits, correction=correction, bfloat16=low)

    def _shared_scores(self, queries: Tensor, negative: Tensor, targets: np.ndarray, negatives: np.ndarray) -> Tensor:
        """Return ``float32[p, k]`` scores of shared negatives; a row's own target scores ``-inf``."""
        column = own_columns(targets, negatives)
        rows = np.flatnonzero(column >= 0)
        scores = queries @ negative.T
        hits = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
        hits[torch.from_numpy(rows), torch.from_numpy(column[rows])] = True
        return scores.masked_fill(hits, float("-inf"))

    def _state(self) -> dict[str, np.ndarray]:
        return {name: value.detach().cpu().numpy() for name, value in self.module_.state_dict().items()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.module_ = self._fresh(len(self.items_))
        self.module_.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})


def own_columns(targets: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Return ``int64[p]``: where each target stands among distinct ascending negatives, or -1."""
    if len(negatives) == 0:
        return np.full(len(targets), -1, np.int64)
    column = np.minimum(np.searchsorted(negatives, targets), len(negatives) - 1)
    return np.where(negatives[column] == targets, column, -1)


def adam(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return a fused AdamW; tables, biases and norms are not decayed."""
    matrices = [p for n, p in module.named_parameters() if p.ndim > 1 and not n.startswith(("items.", "places."))]
    taken = {id(p) for p in matrices}
    others = [p for p in module.parameters() if id(p) not in taken]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=True)


@dataclass(frozen=True)
class SampledEpoch(Generic[Batch]):
    """The batches of an epoch with negatives: shared, ``n`` for each target (``each``), or none (``draws`` is ``None``)."""

    batches: Any
    draws: Draws | None
    rng: np.random.Generator
    n: int
    each: bool = False

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Sampled[Batch]]:
        for batch in self.batches:
            if self.draws is None:
                yield Sampled(batch, None)
            elif self.each:
                yield Sampled(batch, self.draws.draw(self.rng, self.n * len(batch)))
            else:
                yield Sampled(batch, self.draws.distinct(self.rng, self.n))
