"""PLD: matrix factorisation or LightGCN, trained on the interactions that cost a person least among a few of their own.

The sampler (:mod:`palate.training.personal_loss`; other recommenders on the graph take it by ``positives="personal_loss"``)
draws a person, a pool ``C_u`` of some of their items and an item ``j`` that they had not, and chooses ``c*`` from the pool by
its loss. The step is then taken on::

    bpr   softplus(s_uj - s_uc*)                            s = <e_u, e_i>
    bce   (softplus(-s_uc*) + softplus(s_uj)) / 2           pools are judged by softplus(-s_uc)
    + reg/(2B) Σ (|e_u⁰|² + |e_c*⁰|² + |e_j⁰|²)

``e`` is the free vector itself (``backbone="mf"``) or smoothed over the graph (``"lightgcn"``). Answering is that of the
backbone. :meth:`PLD.suspicious` names the training interactions that the model found hard to believe. Patience counts after the
warm-up, whatever the method. The sampler cleans what is learnt towards, not the graph; ``edges="weighed"`` has each edge weigh
what its interaction did so far, the mean of ``k p`` (1 before it was in a pool).

For comparison ``method`` offers, under the same sampler of people, plain training and two denoisers that look at losses of the
whole batch::

    plain   the item is drawn uniformly from what the person had
    t_ce    as plain; the share min(a t, ε) of the batch with the largest losses is left out, t counted in epochs
    r_ce    as plain; a term with the loss l = -ln p weighs p^β

Source: K. Zhang et al., "Personalized Denoising Implicit Feedback for Robust Recommender System", WWW 2025, arXiv 2502.00348;
W. Wang et al., "Denoising Implicit Feedback for Recommendation", WSDM 2021 (T-CE, R-CE).
Differences: NeuMF, the published code's third backbone, is not here; the graph keeps the noisy edges unless asked, as in the
paper; one propagation a step instead of two; Adam without decay of weights (the published code decays all vectors by AdamW's
default beside the ridge); T-CE and R-CE are pointwise in their paper: here they work on the loss in use, and R-CE's weight has
no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.errors import DataError
from palate.nn.graph import Adjacency, propagate
from palate.nn.graph_views import Graphs
from palate.recommend.folded import fold, ridge
from palate.recommend.graph_base import FreeVectors, GraphRecommender, Part, PoolConfig, Setting, Step
from palate.training.personal_loss import PersonalLossSampler, Pools, loss_of


class PLDConfig(PoolConfig):
    """Settings of PLD."""

    counts_with: ClassVar[Mapping[str, With]] = {
        **dict.fromkeys(("pool", "tau", "warmup"), With("method", ("pld",))),
        **dict.fromkeys(("drop", "drop_step"), With("method", ("t_ce",))),
        "beta": With("method", ("r_ce",)),
        "layers": With("backbone", ("lightgcn",)),
    }

    backbone: Literal["mf", "lightgcn"] = Field("lightgcn", description="plain vectors, or vectors smoothed over the graph")
    method: Literal["pld", "plain", "t_ce", "r_ce"] = Field("pld", description="how noise is met (see the module's text)")
    loss: Literal["bpr", "bce"] = Field("bpr", description="loss of a pair, or of each item alone")
    draw: Literal["people"] = Field("people", description="people are drawn alike by every method")
    edges: Literal["even", "weighed"] = Field("even", description="whether an edge weighs 1, or its mean chance to be chosen")
    drop: float = Field(0.1, ge=0, lt=1, description="ε, the largest share of a batch that t_ce leaves out")
    drop_step: float = Field(0.02, gt=0, description="a, by which that share grows each epoch")
    beta: float = Field(0.2, ge=0, description="β, the power of r_ce")

    @model_validator(mode="after")
    def _chances_for_edges(self) -> PLDConfig:
        if self.edges == "weighed" and (self.method, self.backbone) != ("pld", "lightgcn"):
            raise ValueError('edges="weighed" takes the chances of method="pld" to the graph of backbone="lightgcn"')
        return self


@dataclass(frozen=True)
class Suspicion:
    """A training interaction that hardly fits its person.

    Attributes
    ----------
    user, item
        Raw ids.
    weight
        Mean of ``pool p`` over its pools: 1 is neutral, 0 was never likely to be chosen.
    """

    user: Any
    item: Any
    weight: float


class PLD(GraphRecommender):
    """Denoising by personal loss (see the module's text)."""

    name: ClassVar[str] = "pld"
    title: ClassVar[str] = "PLD"
    Settings = PLDConfig
    config: PLDConfig

    pair_offsets_: np.ndarray  # int64[n_users + 1], distinct training pairs by person
    pair_items_: np.ndarray  # int32[m]
    pair_weights_: np.ndarray  # float32[m], mean of k p; NaN where the pair was in no pool

    def _fit(self, dataset: Dataset, fitting: Fitting) -> Mapping[str, Any]:
        c = self.config
        setting = Setting.of(dataset, fitting)
        pools = c.method == "pld"
        sampler = PersonalLossSampler(c.pool if pools else 1, c.tau if pools else float("inf"), c.warmup).bind(setting.matrix)
        edges = (_Edges(setting.matrix, sampler),) if c.edges == "weighed" else ()
        table = self._table(setting, edges)
        table.sampler = sampler
        table.to(setting.device)
        steps = _Steps(c, table, sampler, setting.graph, dataset.n_users)

        def batches(epoch: int, rng: np.random.Generator) -> Any:
            steps.epoch = epoch
            for part in edges:
                part.begin(epoch, rng)
                steps.graph = part.now
            return sampler.epoch(epoch, c.batch_size, rng)

        notes = self._descend(setting, table, steps.loss, batches)
        self.pair_offsets_, self.pair_items_ = sampler.unseen.offsets, sampler.unseen.columns
        self.pair_weights_ = sampler.weights
        return notes

    def _finish(self, table: FreeVectors, graph: Adjacency, n_users: int) -> None:
        """Set the arrays that answer; those of plain vectors as in BPR-MF, those of the graph as in LightGCN."""
        if self.config.backbone == "lightgcn":
            super()._finish(table, graph, n_users)
            return
        free = table.free.detach().cpu().numpy().copy()
        free[np.diff(graph.offsets) == 0] = 0
        people, items = free[:n_users], free[n_users:]
        active = self.histories_.lengths > 0
        best = ridge(fold(self.histories_, items)[active], people[active])
        self.item_vectors_, self.shares_ = items, (items @ best).astype(np.float32)
        self.own_ = np.where(active[:, None], people - fold(self.histories_, self.shares_), 0).astype(np.float32)
        self.common_ = np.zeros(self.config.dim, np.float32)

    def suspicious(self, n: int = 20, users: Sequence[Any] | None = None) -> list[Suspicion]:
        """Return the ``n`` training interactions least likely to be chosen, the most doubtful first.

        Parameters
        ----------
        n
            How many at most.
        users
            Raw ids of the people to look at; all by default. Unknown ones are passed over.

        Raises
        ------
        UnsupportedError
            If the model was trained without pools.
        DataError
            If ``n`` is below 1.
        """
        self._check_fitted()
        if n < 1:
            raise DataError("n must be at least 1.", value=n)
        if not np.isfinite(self.pair_weights_).any():
            raise self._refuse("say what is suspicious", "train it with method='pld', k above 1, and epochs after the warm-up")
        owners = np.repeat(np.arange(len(self.pair_offsets_) - 1), np.diff(self.pair_offsets_))
        wanted = np.isfinite(self.pair_weights_)
        if users is not None:
            wanted &= np.isin(owners, [self.users_.ids.number(user) for user in users])
        at = np.flatnonzero(wanted)
        at = at[np.argsort(self.pair_weights_[at], kind="stable")[:n]]
        raw_users = self.users_.ids.decode(owners[at]).to_pylist()
        raw_items = self.items_.ids.decode(self.pair_items_[at]).to_pylist()
        return [Suspicion(u, i, float(w)) for u, i, w in zip(raw_users, raw_items, self.pair_weights_[at], strict=True)]

    def _state(self) -> dict[str, np.ndarray]:
        pairs = {"pair_offsets": self.pair_offsets_, "pair_items": self.pair_items_, "pair_weights": self.pair_weights_}
        return {**super()._state(), **pairs}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.pair_offsets_, self.pair_items_ = state["pair_offsets"], state["pair_items"]
        self.pair_weights_ = state["pair_weights"]

    def _forget(self, numbers: np.ndarray) -> None:
        super()._forget(numbers)
        lengths = np.diff(self.pair_offsets_)
        gone = np.zeros(len(lengths), bool)
        gone[numbers] = True
        kept = ~np.repeat(gone, lengths)
        self.pair_items_, self.pair_weights_ = self.pair_items_[kept], self.pair_weights_[kept]
        self.pair_offsets_ = np.concatenate([[0], np.cumsum(np.where(gone, 0, lengths))]).astype(np.int64)


class _Edges(Part):
    """The graph in which an edge weighs the mean of ``k p`` of its interaction: in training as the epoch began."""

    def __init__(self, matrix: sparse.csr_matrix, sampler: PersonalLossSampler) -> None:
        super().__init__()
        self._of = (matrix, sampler)  # together, as the sampler is a part of the table already
        self.now = self._weighed()

    def begin(self, epoch: int, rng: np.random.Generator) -> None:
        self.now = self._weighed()

    def graph(self, graph: Graphs, step: Step | None) -> Graphs:
        return self._weighed() if step is None else self.now

    def _weighed(self) -> Adjacency:
        matrix, sampler = self._of
        weights = np.nan_to_num(sampler.weights, nan=1.0)
        return Adjacency.of_matrix(sparse.csr_matrix((weights, matrix.indices, matrix.indptr), shape=matrix.shape))


class _Steps:
    """The objective of a batch of pools."""

    def __init__(
        self, config: PLDConfig, table: FreeVectors, sampler: PersonalLossSampler, graph: Adjacency, n_users: int
    ) -> None:
        self.config, self.table, self.sampler, self.graph, self.n_users = config, table, sampler, graph, n_users
        self.epoch = 1

    def loss(self, pools: Pools, generator: torch.Generator) -> Tensor:
        free, c, n = self.table.free, self.config, self.n_users
        told = np.flatnonzero(pools.negatives >= 0)
        users, others = self._index(pools.users[told]), self._index(pools.negatives[told].astype(np.int64) + n)
        whole = propagate(free, self.graph, c.layers) if c.backbone == "lightgcn" else free
        person, other = whole[users], (whole[users] * whole[others]).sum(1)
        chosen = self.sampler.triples(pools, whole, n, c.loss)
        picked = self._index(chosen.positives[told].astype(np.int64) + n)
        fit = loss_of(c.loss)((person * whole[picked]).sum(1), other)
        terms = self._weigh(fit)
        if c.loss == "bce":
            against = functional.softplus(other)
            terms = (terms + (self._weigh(against) if c.method == "r_ce" else against)) / 2
        size = sum(free[rows].square().sum() for rows in (users, picked, others))
        return (terms.sum() + c.reg / 2 * size) / max(1, len(pools))

    def _weigh(self, losses: Tensor) -> Tensor:
        """Weigh or leave out terms as the global denoisers do (not in the warm-up)."""
        c = self.config
        late = self.epoch - c.warmup
        if late <= 0 or c.method in ("pld", "plain"):
            return losses
        found = losses.detach()
        if c.method == "r_ce":
            return losses * torch.exp(-c.beta * found)
        kept = len(losses) - int(min(c.drop_step * late, c.drop) * len(losses))
        mask = torch.zeros_like(losses)
        mask[found.argsort()[:kept]] = 1.0
        return losses * mask

    def _index(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers.astype(np.int64)).to(self.table.free.device)
