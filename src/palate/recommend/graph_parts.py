"""Parts that systems on the graph of people and items are made of: what is learnt, a step, its loss, and what can be added.

:mod:`palate.recommend.graph_base` says how they fit together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn

from palate.contracts.config import With
from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.nn.contrast import contrast
from palate.nn.graph import Adjacency
from palate.nn.graph_views import Graphs, Passes, Readout, views
from palate.nn.take import take, weighted_size
from palate.nn.triples import triple_bpr
from palate.training.config import TrainConfig
from palate.training.device import usable_device
from palate.training.personal_loss import PersonalLossSampler, Pools
from palate.training.triples import Pairs, Triples


class GraphConfig(TrainConfig):
    """Settings that recommenders on the graph share."""

    epochs: int = Field(100, ge=0, description="passes over all pairs; with validation, the most")
    batch_size: int = Field(2048, gt=0, description="pairs a batch")
    lr: float = Field(5e-3, gt=0, description="step size of Adam")
    patience: int = Field(10, ge=0, description="validation looks without improvement before stopping (0 = never)")
    precision: Literal["float32"] = Field("float32", description="arithmetic")
    dim: int = Field(64, gt=0, description="width of the vectors")
    layers: int = Field(3, gt=0, description="K, propagation steps")
    reg: float = Field(1e-4, ge=0, description="weight of the squared size of the free vectors")
    init: float = Field(0.1, gt=0, description="standard deviation of the first vectors")
    draw: Literal["pairs", "people"] = Field(
        "pairs", description="an epoch's pairs: each once, or as many drawn with people alike, then their items alike"
    )


class PoolConfig(GraphConfig):
    """The same, and of pools of positives (:mod:`palate.training.personal_loss`)."""

    pool: int = Field(5, gt=0, description="interactions of a pool")
    tau: float = Field(0.1, ge=0, description="τ: small trusts the loss, large chooses evenly")
    warmup: int = Field(5, ge=0, description="epochs of plain training first")


class PositivesConfig(PoolConfig):
    """The same, and whether there are pools."""

    counts_with: ClassVar[Mapping[str, With]] = dict.fromkeys(("pool", "tau", "warmup"), With("positives", ("personal_loss",)))

    positives: Literal["uniform", "personal_loss"] = Field(
        "uniform",
        description="the item that a drawn person had: any, or one that costs little of a pool of theirs (people drawn alike)",
    )


@dataclass(frozen=True, eq=False)
class Setting:
    """What a fit works on.

    Attributes
    ----------
    dataset, fitting
        As given.
    matrix
        ``float32[users, items]`` CSR of ones: the distinct training pairs.
    graph
        ``Â`` of it.
    device
        Where the fit runs.
    """

    dataset: Dataset
    fitting: Fitting
    matrix: sparse.csr_matrix
    graph: Adjacency
    device: torch.device

    @classmethod
    def of(cls, dataset: Dataset, fitting: Fitting) -> Setting:
        """Return the setting of a data set."""
        matrix = dataset.matrix()
        return cls(dataset, fitting, matrix, Adjacency.of_matrix(matrix), usable_device(fitting.device))

    @property
    def n_users(self) -> int:
        """People, and number of the first item's node."""
        return self.dataset.n_users

    def pairs(self, config: GraphConfig) -> Pairs:
        """Return the training pairs, to be drawn as the settings say."""
        return Pairs(self.matrix, config.batch_size, evenly=config.draw == "people")

    def pools(self, config: GraphConfig, table: FreeVectors) -> PersonalLossSampler | None:
        """Return what chooses positives by personal loss, saved with what is learnt; ``None`` where the settings don't ask."""
        if not isinstance(config, PositivesConfig) or config.positives == "uniform":
            return None
        sampler = PersonalLossSampler(config.pool, config.tau, config.warmup).bind(self.matrix).to(self.device)
        table.sampler = sampler
        return sampler


#: What a contrast tells a node apart from: others of the batch, or all others.
Against = Literal["batch", "all"]


class Vectors:
    """Vectors of some nodes, by their number.

    Attributes
    ----------
    rows
        ``float32[m, d]``, the vectors that are there, by ascending node.
    """

    def __init__(self, rows: Tensor, at: np.ndarray | None, n_users: int) -> None:
        self.rows, self._at, self.n_users = rows, at, n_users

    def places(self, nodes: np.ndarray) -> np.ndarray:
        """Return ``int64``: rows of :attr:`rows` that hold these nodes.

        Raises
        ------
        IndexError
            If one of them is not there: a part reads what its ``rows(batch)`` does not ask for.
        """
        found: np.ndarray = np.asarray(nodes, np.int64) if self._at is None else self._at[nodes]
        if len(found) and found.min() < 0:
            missing = int(np.asarray(nodes)[found < 0][0])
            raise IndexError(f"the vector of node {missing} was not computed; let the part's rows(batch) return it too")
        return found

    def nodes(self, nodes: np.ndarray) -> Tensor:
        """Return ``float32[n, d]`` vectors of nodes, with gradient."""
        return take(self.rows, self.places(nodes))

    def users(self, users: np.ndarray) -> Tensor:
        """Return ``float32[n, d]`` vectors of people."""
        return self.nodes(users)

    def items(self, items: np.ndarray) -> Tensor:
        """Return ``float32[n, d]`` vectors of items."""
        return self.nodes(np.asarray(items) + self.n_users)


class Step:
    """One step of a fit, as the parts see it.

    Attributes
    ----------
    batch
        The triples.
    generator
        Torch's stream of this epoch.
    layer0
        ``float32[nodes, d]``, after all parts have altered it.
    graph
        The step's graph, or graphs of its layers.
    vectors, views
        The first readout of the main propagation, and the others. Parts' losses may use them, not what comes before.
    """

    layer0: Tensor
    graph: Graphs
    vectors: Vectors
    views: tuple[Vectors, ...]

    def __init__(self, batch: Triples, generator: torch.Generator, n_users: int, layers: int, lowest: int) -> None:
        self.batch, self.generator, self.n_users = batch, generator, n_users
        self.layers, self.mean = layers, Readout.mean(layers, lowest)

    def seed(self) -> int:
        """Draw a seed from the generator."""
        return int(torch.randint(2**62, (1,), generator=self.generator, device=self.generator.device))

    def propagate(
        self,
        layer0: Tensor | None = None,
        graph: Graphs | None = None,
        *,
        passes: Passes | None = None,
        rows: np.ndarray | None = None,
    ) -> tuple[Vectors, ...]:
        """Propagate once more; return each readout.

        Parameters
        ----------
        layer0, graph
            By default the step's own.
        passes
            By default one clean pass, and the mean of layers that makes final vectors.
        rows
            ``int64[m]`` nodes to compute, ascending and distinct; ``None`` for all.
        """
        x = self.layer0 if layer0 is None else layer0
        found = views(x, self.graph if graph is None else graph, passes or Passes((self.mean,)), rows)
        at = None
        if rows is not None:
            at = np.full(len(x), -1, np.int64)
            at[rows] = np.arange(len(rows))
        return tuple(Vectors(each, at, self.n_users) for each in found)


class Part(nn.Module):
    """What a system adds (see the module's text). Every method has a default that adds nothing."""

    def begin(self, epoch: int, rng: np.random.Generator) -> None:
        """Draw what lasts an epoch."""

    def layer0(self, free: Tensor, step: Step | None) -> Tensor:
        """Return layer 0 from the one so far (``float32[nodes, d]``); ``step`` is ``None`` where answers are prepared."""
        return free

    def graph(self, graph: Graphs, step: Step | None) -> Graphs:
        """Return the graph to propagate on, from the one so far."""
        return graph

    def passes(self, step: Step) -> Passes | None:
        """Return the propagations of a step, or ``None`` to leave them; one part of a system may say."""
        return None

    def rows(self, batch: Triples) -> np.ndarray | None:
        """Return nodes whose vectors the loss reads beside those of the batch; ``None`` for all nodes."""
        return np.empty(0, np.int64)

    def loss(self, step: Step) -> Tensor | None:
        """Return what the part adds to the loss of a batch, or ``None``."""
        return None


class FreeVectors(nn.Module):
    """All that is learnt: the free vectors (people first, then items), and whatever the parts learn."""

    def __init__(self, rows: int, dim: int, scale: float, rng: np.random.Generator, parts: Sequence[Part] = ()) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.from_numpy(rng.standard_normal((rows, dim), np.float32) * np.float32(scale)))
        self.parts = nn.ModuleList(parts)
        self.sampler: PersonalLossSampler | None = None

    @property
    def additions(self) -> list[Part]:
        """The parts, in order."""
        return [part for part in self.parts if isinstance(part, Part)]

    def layer0(self, step: Step | None) -> Tensor:
        """Return layer 0."""
        x: Tensor = self.free
        for part in self.additions:
            x = part.layer0(x, step)
        return x

    def graph(self, graph: Adjacency, step: Step | None) -> Graphs:
        """Return the graph to propagate on."""
        found: Graphs = graph
        for part in self.additions:
            found = part.graph(found, step)
        return found


class Objective:
    """The loss of a batch of triples: BPR, the penalty of layer 0, and the parts' own."""

    def __init__(self, table: FreeVectors, setting: Setting, config: GraphConfig, lowest: int) -> None:
        self.table, self.setting, self.config, self.lowest = table, setting, config, lowest
        self.pairs, self.pools = setting.pairs(config), setting.pools(config, table)

    def batches(self, epoch: int, rng: np.random.Generator) -> Any:
        """Return the batches of an epoch."""
        c, pools = self.config, self.pools
        found = self.pairs.epoch(rng) if pools is None else pools.epoch(epoch, c.batch_size, rng)
        for part in self.table.additions:
            part.begin(epoch, rng)
        return found

    def triples(self, batch: Triples | Pools) -> Triples:
        """Return a batch as it is, or what its pools train on, judged by the vectors that would answer now."""
        if isinstance(batch, Triples):
            return batch
        assert self.pools is not None
        return self.pools.triples(batch, self.final(), self.setting.n_users)

    @torch.no_grad()
    def final(self) -> Tensor:
        """Return ``float32[nodes, d]``: the vectors that would answer now."""
        graph = self.table.graph(self.setting.graph, None)
        return views(self.table.layer0(None), graph, Passes((Readout.mean(self.config.layers, self.lowest),)))[0]

    def loss(self, batch: Triples | Pools, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch."""
        batch = self.triples(batch)
        c, n = self.config, self.setting.n_users
        step = Step(batch, generator, n, c.layers, self.lowest)
        step.layer0 = self.table.layer0(step)
        step.graph = self.table.graph(self.setting.graph, step)
        positives = batch.positives + np.int64(n)
        negatives = np.where(batch.negatives < 0, -1, batch.negatives + np.int64(n))
        kept = negatives >= 0
        counts = np.bincount(
            np.concatenate([batch.users[kept], positives[kept], negatives[kept]]), minlength=len(self.setting.graph)
        )
        rows = self._rows(batch, counts)
        passes = self._passes(step)
        # Layer 0 of the same rows is one more readout, so that its penalty costs no gradient of its own.
        first = Passes((*passes.readouts, Readout.layer(0, c.layers)), passes.seeds, passes.eps)
        step.vectors, *others = step.propagate(passes=first, rows=rows)
        step.views = tuple(others[:-1])
        at = step.vectors.places
        u, i, j = at(batch.users[kept]), at(positives[kept]), at(negatives[kept])
        fit = triple_bpr(step.vectors.rows, u, i, j) * (len(u) / max(1, len(batch)))
        size = weighted_size(others[-1].rows, (counts if rows is None else counts[rows]).astype(np.float32))
        losses = [part.loss(step) for part in self.table.additions]
        return sum((loss for loss in losses if loss is not None), fit + c.reg / (2 * max(1, len(batch))) * size)

    def _rows(self, batch: Triples, counts: np.ndarray) -> np.ndarray | None:
        """Return the nodes that are read, ascending; ``None`` for all."""
        asked = [part.rows(batch) for part in self.table.additions]
        marked = counts > 0
        marked[batch.users], marked[batch.positives + self.setting.n_users] = True, True
        for nodes in asked:
            if nodes is None:
                return None
            marked[nodes] = True
        return np.flatnonzero(marked)

    def _passes(self, step: Step) -> Passes:
        given = [found for found in (part.passes(step) for part in self.table.additions) if found is not None]
        if len(given) > 1:
            raise ValueError("two parts of a system say what to propagate; only one may")
        return given[0] if given else Passes((step.mean,))


def contrast_of_batch(
    step: Step, first: Vectors, second: Vectors, temperature: float, against: Against, group: int | None = None
) -> Tensor:
    """Return InfoNCE between two views of the people of a batch, plus that of the items that they had.

    Parameters
    ----------
    against
        What the denominator sums over: the batch's own people (items), or all (``second`` must then hold every node).
    group
        Against the batch: its people (items) are dealt at random into groups of at most so many, each told apart within
        itself; a batch that is not larger stays whole.
    """
    n, batch = first.n_users, step.batch
    losses = []
    for nodes, kind in ((batch.users, slice(0, n)), (batch.positives + np.int64(n), slice(n, None))):
        own = np.unique(nodes)
        if against == "all":
            targets = torch.from_numpy(own.astype(np.int64) - kind.start).to(second.rows.device)
            losses.append(contrast(first.nodes(own), second.rows[kind], temperature, targets))
            continue
        if group is not None and len(own) > group:
            own = np.random.default_rng(step.seed()).permutation(own)
        losses.append(contrast(first.nodes(own), second.nodes(own), temperature, group=group))
    return losses[0] + losses[1]
