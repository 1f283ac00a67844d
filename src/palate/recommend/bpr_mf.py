"""BPR-MF: matrix factorisation that ranks what a person had above what they had not.

    score(u, j) = <p_u, q_j> + b_j        L = Σ softplus(score(u, j) - score(u, i)) + reg/2 |Θ|²

over pairs (u, i) that happened, each with an item j that did not, drawn anew every epoch; plain stochastic descent, one triple
after another.

A person's vector follows the history of the request::

    p_u(H) = p_u - F(H_u) + F(H),     F(H) = 1/√|H| Σ_{i in H} W q_i

where ``H_u`` is the training history and ``W`` is the ridge regression of ``p_u`` on ``1/√|H_u| Σ q_i`` over the training
people. With the training history this is exactly the trained ``p_u``; an unseen person gets ``F(H)``, the best linear guess of
the vector that training would have found.

Source: S. Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, figure 4.
Differences: triples go through the pairs in a random order without replacement (the paper draws with replacement); item biases
by option; with ``n_candidates`` above 1 the item had not is the highest scored of so many (dynamic negative sampling, W. Zhang
et al., SIGIR 2013); the fold-in is ours; an update takes up the vectors learnt before, and somebody new begins from ``F(H)``.
People and items without training events have zero vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.contracts.config import Config
from palate.contracts.model import Fitting, Former
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.kernels.bpr import bpr_descend
from palate.kernels.inner import inner_pairs
from palate.recommend.folded import FoldedRecommender, fold, ridge
from palate.training.config import TrainConfig
from palate.training.loop import fit_module
from palate.training.triples import Pairs, Triples
from palate.training.validation import validator

#: Triples between two progress reports, and those whose hard negatives are chosen at once.
CHUNK, HARD_CHUNK = 2**18, 2**12


class BPRMFConfig(Config):
    """Settings of BPR-MF."""

    dim: int = Field(64, gt=0, description="width of the vectors")
    epochs: int = Field(60, ge=0, description="passes over all pairs; with validation, the most")
    update_epochs: int = Field(10, ge=1, description="passes of an update, which begins from the vectors learnt before")
    lr: float = Field(0.05, gt=0, description="step size")
    reg: float = Field(0.01, ge=0, description="weight of the squared size of the vectors and biases of a triple")
    bias: bool = Field(True, description="whether items have biases")
    n_candidates: int = Field(1, gt=0, description="unseen items drawn for each pair; the highest scored is the negative")
    init: float = Field(0.1, gt=0, description="standard deviation of the first vectors, times √dim")
    patience: int = Field(5, ge=0, description="validation looks without improvement before stopping (0 = never)")
    eval_every: int = Field(1, gt=0, description="epochs between validation looks")
    checkpoint_every: int = Field(1, gt=0, description="epochs between checkpoints, where a folder is given")


class _Descent(TrainConfig):
    """What identifies a fit in its checkpoint, beside the shared settings."""

    reg: float
    n_candidates: int
    init: float


class BPRMF(FoldedRecommender):
    """Matrix factorisation by Bayesian personalised ranking (see the module's text)."""

    name: ClassVar[str] = "bpr_mf"
    can_update: ClassVar[bool] = True
    Settings = BPRMFConfig
    config: BPRMFConfig

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        matrix = dataset.matrix()
        factors = _Factors(dataset.n_users, dataset.n_items, c, fitting.rng("bpr_mf", "weights"))
        shared = c.model_dump(include=set(_Descent.model_fields))
        if fitting.former is not None:
            factors.take_up(fitting.former, dataset.histories)
            shared["epochs"] = c.update_epochs
        hard = c.n_candidates > 1
        pairs = Pairs(matrix, HARD_CHUNK if hard else CHUNK)

        def batches(epoch: int, rng: np.random.Generator) -> Any:
            return pairs.epoch_hard(rng, c.n_candidates, factors.scores) if hard else pairs.epoch(rng)

        record = fit_module(
            factors,
            batches=batches,
            loss=factors.descend,
            config=_Descent(batch_size=1, **shared),
            fitting=fitting,
            title="BPR-MF",
            evaluate=validator(self, fitting.validation, before=lambda: self._finish(factors, dataset.histories)),
            optimizer=torch.optim.SGD(factors.parameters(), lr=c.lr),
        )
        self._finish(factors, dataset.histories)
        return record.notes

    @property
    def _directions(self) -> np.ndarray:
        """Item vectors without the bias."""
        return self.item_vectors_[:, :-1]

    def _finish(self, factors: _Factors, histories: Histories) -> None:
        """Set the arrays that answer; the last column of the item vectors is the bias."""
        people, items, bias = (t.detach().numpy() for t in (factors.people, factors.items, factors.bias))
        trained = self.item_counts_ > 0
        items = np.where(trained[:, None], items, 0)
        column = np.zeros((len(items), 1), np.float32)
        if self.config.bias:
            column[:, 0] = np.where(trained, bias, bias[trained].min(initial=0))
        active = histories.lengths > 0
        inputs = fold(histories, items)
        weights = ridge(inputs[active], people[active])
        shares = (items @ weights).astype(np.float32)
        own = np.where(active[:, None], people - fold(histories, shares), 0)
        zero = np.zeros((1, 1), np.float32)
        self.item_vectors_ = np.hstack([items, column]).astype(np.float32)
        self.shares_ = np.hstack([shares, np.repeat(zero, len(shares), 0)])
        self.own_ = np.hstack([own, np.repeat(zero, len(own), 0)]).astype(np.float32)
        self.common_ = np.eye(1, self.config.dim + 1, self.config.dim, dtype=np.float32)[0]


class _Factors(nn.Module):
    """Vectors and biases; descent changes them in place."""

    def __init__(self, n_users: int, n_items: int, config: BPRMFConfig, rng: np.random.Generator) -> None:
        super().__init__()
        scale = np.float32(config.init / np.sqrt(config.dim))
        self.people = nn.Parameter(torch.from_numpy(rng.standard_normal((n_users, config.dim), np.float32) * scale))
        self.items = nn.Parameter(torch.from_numpy(rng.standard_normal((n_items, config.dim), np.float32) * scale))
        self.bias = nn.Parameter(torch.zeros(n_items if config.bias else 0))
        self.lr, self.reg = config.lr, config.reg

    @torch.no_grad()
    def take_up(self, former: Former, histories: Histories) -> None:
        """Begin from what was learnt before: trained vectors where there are some, ``F(H)`` for people who came since."""
        own, shares, items = (former.state[name] for name in ("own", "shares", "items"))
        self.items[former.items] = torch.from_numpy(items[former.items, :-1])
        if len(self.bias):
            self.bias[:] = float(items[:, -1].min(initial=0))  # as the model has it of items never chosen
            self.bias[former.items] = torch.from_numpy(items[former.items, -1])
        known = np.zeros((len(self.items), shares.shape[1] - 1), np.float32)
        known[former.items] = shares[former.items, :-1]
        people = fold(histories, known)
        people[former.users] = own[former.users, :-1] + fold(former.histories, known)[former.users]
        begun = np.flatnonzero(people.any(axis=1))
        self.people[torch.from_numpy(begun)] = torch.from_numpy(people[begun])

    def scores(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return ``float32[m, c]`` scores of items ``int32[m, c]`` for people ``int32[m]`` (-1 scores ``-inf``)."""
        people, vectors, bias = (t.detach().numpy() for t in (self.people, self.items, self.bias))
        scores = inner_pairs(people[users], vectors, items)
        return scores + bias[items] if len(bias) else scores

    def descend(self, batch: Triples, generator: torch.Generator) -> Tensor:
        """Take the steps of a batch; return the mean loss (there is no gradient left for the loop's optimiser)."""
        people, items, bias = (t.detach().numpy() for t in (self.people, self.items, self.bias))
        rows = batch.users, batch.positives, batch.negatives
        total = bpr_descend(*rows, people, items, bias, self.lr, self.reg)
        return torch.tensor(total / max(1, len(batch)), requires_grad=True)
