"""What next-item models share: settings, the item table, the fit, answers in fixed pieces, and the choice of loss.

A model turns a history into a state ``h``; the score of item ``j`` is ``<h, e_j>`` (or their cosine), and the item table ``E``
is both input and output. One step of training looks up every row of ``E`` that it needs at once, so the gradient of the
table is gathered once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from palate.contracts.model import Fitting
from palate.contracts.recommender import VectorRecommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.nn.softmax import shared_softmax, whole_softmax
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.encoding import Piece, encode_last
from palate.training.loop import fit_module
from palate.training.samplers import InBatch, Mixed, Popularity, Uniform, Weighted
from palate.training.sequences import PackedSequences, TimeMajorSequences
from palate.training.validation import validator

Negatives = Literal["uniform", "popularity", "mixed", "in_batch"]
#: Which negatives an objective needs: none, the same for a whole batch, or own ones for each position.
Sampling = Literal["none", "shared", "each"]
Batch = TypeVar("Batch")


class NextItemConfig(TrainConfig):
    """Settings that next-item models share."""

    update_epochs: int = Field(3, ge=1, description="passes of an update, which begins from the weights learnt before")
    dim: int = Field(64, gt=0, description="width of item vectors and states")
    max_len: int = Field(50, gt=0, description="most recent events of a history that are read")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of hidden values set to zero in training")
    n_negatives: int = Field(1024, gt=0, description="items drawn as negatives: a batch (shared), or a position (bce)")
    negatives: Negatives = Field("uniform", description="where negatives come from; in_batch: the targets of the batch")
    power: float = Field(0.75, ge=0, description="popularity negatives are drawn in proportion to count ** power")
    logq: bool = Field(True, description="correct sampled scores for the chance of being drawn (all but uniform)")
    similarity: Literal["cosine", "dot"] = Field("cosine", description="score of a state and an item vector")
    temperature: float = Field(0.07, gt=0, description="scores are divided by this in the softmax losses")


@dataclass(frozen=True)
class Sampled(Generic[Batch]):
    """A batch and the negatives drawn for it.

    Attributes
    ----------
    batch
        With ``targets``, ``int64[p]``.
    negatives
        ``int64[k]`` distinct and ascending (shared), ``int32[p * n]`` (each), or ``None``.
    log_pi
        ``float32[k]``: log of the chance that each shared negative is among those drawn, or ``None``.
    """

    batch: Batch
    negatives: np.ndarray | None
    log_pi: np.ndarray | None = None

    @property
    def targets(self) -> np.ndarray:
        """``int64[p]``, the next item of each position."""
        found: np.ndarray = self.batch.targets  # type: ignore[attr-defined]
        return found

    @property
    def drawn(self) -> np.ndarray:
        """The negatives of a batch that has some."""
        assert self.negatives is not None
        return self.negatives


@dataclass(frozen=True)
class SampledEpoch(Generic[Batch]):
    """The batches of an epoch with negatives: shared by ``n`` draws, or ``n`` for each target."""

    batches: Any
    sampler: Weighted
    rng: np.random.Generator
    n: int
    sampling: Sampling

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Sampled[Batch]]:
        for batch in self.batches:
            if self.sampling == "none":
                yield Sampled(batch, None)
            elif self.sampling == "each":
                yield Sampled(batch, self.sampler.sample(self.rng, self.n * len(batch), batch.targets))
            else:
                yield Sampled(batch, *self.sampler.shared(self.rng, self.n, batch.targets))


def sampler_of(config: NextItemConfig, counts: np.ndarray) -> Weighted:
    """Return the sampler that the settings name; every item, also one without events, may be drawn but in a batch."""
    if config.negatives == "uniform":
        return Uniform(len(counts))
    if config.negatives == "in_batch":
        return InBatch(counts)
    kind = Popularity if config.negatives == "popularity" else Mixed
    return kind(counts, config.power, smooth=1.0)


class NextItemRecommender(VectorRecommender):
    """Base of next-item models: a module with an item table ``items``, and a state for every history."""

    can_update: ClassVar[bool] = True
    config: NextItemConfig
    module_: nn.Module

    def _build(self, n_items: int) -> nn.Module:
        """Return the module, untrained; its ``items`` is an ``nn.Embedding(n_items, dim)``."""
        raise NotImplementedError

    def _fresh(self, n_items: int) -> nn.Module:
        """Build the module; what PyTorch's own constructors draw is overwritten, and leaves no trace in its global stream."""
        with torch.random.fork_rng(devices=[]):
            return self._build(n_items)

    def _learn(
        self,
        dataset: Dataset,
        fitting: Fitting,
        sequences: PackedSequences | TimeMajorSequences,
        title: str,
        sampling: Sampling,
    ) -> Mapping[str, Any]:
        """Train a module on the sequences, fresh or from what was learnt before; ``_loss`` gives the objective of a batch."""
        c = self.config
        module: Any = self._fresh(dataset.n_items)
        module.reset(torch.Generator().manual_seed(int(fitting.rng(self.name, "weights").integers(2**62))))
        if fitting.former is not None:
            c = c.replace(epochs=c.update_epochs)
            before = dict(fitting.former.state)
            before["items.weight"] = fitting.former.carry_items("items.weight", module.items.weight.detach().numpy().copy())
            module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in before.items()})
        self.module_ = module.to(usable_device(fitting.device))
        sampler = sampler_of(c, dataset.item_counts)
        record = fit_module(
            self.module_,
            batches=lambda epoch, rng: SampledEpoch(sequences.epoch(rng), sampler, rng, c.n_negatives, sampling),
            loss=self._loss,
            config=c,
            fitting=fitting,
            title=title,
            evaluate=validator(self, fitting.validation),
            optimizer=adam(self.module_, c),
        )
        return record.notes

    def _loss(self, step: Sampled[Any], generator: torch.Generator) -> Tensor:
        """Return the scalar objective of a batch; dropout draws from ``generator``."""
        raise NotImplementedError

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

    def _rows(self, inputs: np.ndarray, step: Sampled[Any]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the vectors of the inputs, and those of targets and negatives where the loss samples."""
        wanted = [inputs] if step.negatives is None else [inputs, step.targets, step.negatives]
        first, *rest = self._lookup(*wanted)
        return first, tuple(rest)

    def _objective(self, states: Tensor, step: Sampled[Any], rows: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of states ``[p, d]``; ``rows`` are the vectors of targets and negatives."""
        config = self.config
        low = config.precision == "bfloat16"
        with torch.autocast(states.device.type, enabled=False):
            queries = (functional.normalize(states.float(), dim=1) if self._cosine else states.float()) / config.temperature
            if step.negatives is None:
                vectors = functional.normalize(self.table, dim=1) if self._cosine else self.table
                return whole_softmax(queries, vectors, torch.from_numpy(step.targets).to(states.device), bfloat16=low)
            positive, negative = (functional.normalize(r, dim=1) for r in rows) if self._cosine else rows
            own = (queries * positive).sum(1)
            return self._sampled_loss(queries, own, negative, step)

    def _sampled_loss(self, queries: Tensor, own: Tensor, negative: Tensor, step: Sampled[Any]) -> Tensor:
        """Return a loss of scores against drawn negatives: ``own`` ``[p]`` are the scores of the targets."""
        device = queries.device
        hits = torch.from_numpy(own_columns(step.targets, step.drawn)).to(device)
        correction = None
        if self.config.logq and self.config.negatives != "uniform" and step.log_pi is not None:
            correction = torch.from_numpy(step.log_pi).to(device)
        low = self.config.precision == "bfloat16"
        return shared_softmax(queries, own, negative, hits=hits, correction=correction, bfloat16=low)

    def _shared_scores(self, queries: Tensor, negative: Tensor, step: Sampled[Any]) -> Tensor:
        """Return ``float32[p, k]`` scores of shared negatives; a row's own target scores ``-inf``."""
        column = own_columns(step.targets, step.drawn)
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
