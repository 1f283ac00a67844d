"""ESMM: steps of a funnel over all impressions: click, then purchase. The chance of a later step is a product.

With z_1 … z_T the outputs of one dense stack a step on shared vectors, steps in order::

    pCTR = σ(z_1)        pCTCVR = σ(z_1) σ(z_2)        p_k = Π_{j≤k} σ(z_j)
    L = Σ_k BCE( y_1 y_2 … y_k, p_k )      over all rows

so the chance of a purchase after a click is learnt without looking at clicked rows alone (which are not like the rest), and
p_k ≤ p_{k-1} always. Predictions are p_k: the chance that a shown item gets this far. :meth:`ESMM.after` gives σ(z_k), the
chance of a step given the one before (pCVR). The log-odds of p_k are made without forming small differences::

    logit(σ(a) σ(b)) = -ln( e^{-a} + e^{-b} + e^{-a-b} )

Where an earlier step did not happen, later ones count as not happened, observed or not.

Source: X. Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate", SIGIR
2018, equations 1 to 3. Differences: any number of steps (the paper has two).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.contracts.model import Fitting
from palate.contracts.ranker import Predictions, Rows
from palate.data.row_encoder import Encoded, RowLayout
from palate.errors import ConfigError, DataError, nearest
from palate.nn.dropout import OFF, Dropout
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP
from palate.rank.multitask import MultiTaskRanker, TaskConfig, TaskNet
from palate.rank.neural import BLOCK
from palate.retrieval.tokens import tokens


class ESMMConfig(TaskConfig):
    """Settings of ESMM."""

    hidden: tuple[int, ...] = Field((128, 64), description="widths of the dense layers of each step")
    tower: tuple[int, ...] = Field((), description="further widths, after those of hidden")
    funnel: tuple[str, ...] = Field((), description="labels in the order of the funnel (none named: as they stand)")


class ESMM(MultiTaskRanker):
    """Entire space multi-task model (see the module's text)."""

    name: ClassVar[str] = "esmm"
    title: ClassVar[str] = "ESMM"
    Settings = ESMMConfig
    config: ESMMConfig
    net_: ESMMNet

    def _task_network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> TaskNet:
        return ESMMNet(self.config, layout, tasks, rng)

    def _fit(
        self, blocks: Callable[[], Iterable[Rows]], validation: Callable[[], Iterable[Rows]] | None, fitting: Fitting
    ) -> Mapping[str, Any]:
        funnel = self.config.funnel

        def joint(source: Callable[[], Iterable[Rows]]) -> Callable[[], Iterable[Rows]]:
            return lambda: (joint_labels(block, funnel) for block in source())

        return super()._fit(joint(blocks), None if validation is None else joint(validation), fitting)

    @torch.no_grad()
    def after(self, rows: Rows) -> Predictions:
        """Return the chance of each step given that the one before happened (the first: pCTR, the second: pCVR)."""
        self._check_fitted()
        if not len(rows):
            return Predictions(self.tasks, np.empty((0, len(self.tasks)), np.float32))
        encoded, net = self.encoder_.encode(rows.features, tokens), self.net_.eval()
        parts = [net.steps(encoded.take(slice(at, at + BLOCK)), OFF)[0] for at in range(0, len(rows), BLOCK)]
        return Predictions(self.tasks, torch.cat(parts).sigmoid().numpy())


def joint_labels(rows: Rows, funnel: tuple[str, ...] = ()) -> Rows:
    """Return rows whose labels are those of the funnel, each times all before it.

    Raises
    ------
    ConfigError
        If the funnel doesn't name every label.
    DataError
        If a label is not 0 or 1, or a step happened though the one before did not.
    """
    for name in funnel:
        if name not in rows.labels:
            raise ConfigError("there is no such label.", where="funnel", value=name, remedy=nearest(name, list(rows.labels)))
    if funnel and sorted(funnel) != sorted(rows.labels):
        raise ConfigError("the funnel names every label once.", where="funnel", value=funnel, remedy=f"of {list(rows.labels)}")
    labels: dict[str, np.ndarray] = {}
    before, last = np.ones(len(rows), np.float32), ""
    for name in funnel or tuple(rows.labels):
        own = rows.labels[name]
        odd = np.flatnonzero(~np.isnan(own) & (own != 0) & (own != 1))
        if len(odd):
            raise DataError("a step happened (1) or not (0).", where=f"{name!r}, row {odd[0]}", value=float(own[odd[0]]))
        wrong = np.flatnonzero((own == 1) & (before == 0))
        if len(wrong):
            raise DataError(
                f"a step happened without the one before ({last!r}).",
                where=f"{name!r}, row {wrong[0]}",
                remedy="name the steps in order (funnel), or use mmoe for tasks that are no funnel",
            )
        before, last = np.where((before == 0) | (own == 0), 0, before * own).astype(np.float32), name
        labels[name] = before
    return replace(rows, labels=labels)


def both(a: Tensor, b: Tensor) -> Tensor:
    """Return the log-odds of ``σ(a) σ(b)``; never above ``a``."""
    return -torch.logsumexp(torch.stack([-a, -b, -a - b]), 0)


class ESMMNet(TaskNet):
    """The network."""

    def __init__(self, config: ESMMConfig, layout: RowLayout, tasks: int, rng: np.random.Generator) -> None:
        super().__init__(config, tasks)
        self.table = FieldVectors(layout, config.dim, rng)
        width, widths = len(self.table.names) * config.dim, (*config.hidden, *config.tower)
        self.stacks = nn.ModuleList(MLP(width, widths, 1, rng, batch_norm=config.batch_norm) for _ in range(tasks))

    def steps(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return ``float32[n, t]`` log-odds of each step given the one before, and the size of the vectors."""
        vectors = self.table(rows)
        return torch.cat([stack(vectors.flat, drop) for stack in self.stacks], 1), vectors.size

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return the log-odds that a row gets to each step, and the size of the vectors."""
        each, size = self.steps(rows, drop)
        found = [each[:, 0]]
        for at in range(1, each.shape[1]):
            found.append(both(found[-1], each[:, at]))
        return torch.stack(found, 1), size
