"""COLD: a pre-ranker that drops fields until it is as fast as it must be. Thousands of candidates are scored by few fields.

Two fits. The first, on all fields, weighs each field by a gate (squeeze and excitation)::

    s_i = σ(w_i·v_i + b_i),   ŷ = MLP([s_1 v_1; …; s_m v_m])

The fields with the largest mean gate over the rows are kept, as many as the budget allows; the second fit is a plain network on
them alone::

    ŷ = MLP([v_i for i kept])

The budget is a share of the multiplications of the network on all fields (the same on every machine), or measured time::

    cost(kept) = Σ_{i kept} (codes_i·d + d·hidden_1) + Σ_l hidden_l·hidden_{l+1}
    microseconds a row, reading of the columns included, the least of several runs

Columns that are not kept are neither needed nor read when asking.

Source: Z. Wang et al., "COLD: Towards the Next Generation of Pre-Ranking System", DLP-KDD 2020, arXiv 2007.16122, section 3.
Differences: the paper chooses the number of fields by hand, from GAUC and load tests; here the budget chooses. Whether its
gates look at one field or at all is told in two ways; here a gate looks at its own. No half precision: CPUs don't gain.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.contracts.model import Fitting
from palate.contracts.ranker import Rows
from palate.data.row_encoder import Encoded, RowEncoder, RowLayout
from palate.data.row_fields import RowField
from palate.errors import ConfigError
from palate.nn.dropout import OFF, Dropout
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP
from palate.rank.deepfm import DeepConfig
from palate.rank.neural import BLOCK, NeuralRanker, RowNet
from palate.retrieval.tokens import tokens

#: Rows and runs by which time is measured.
TIMED_ROWS, TIMED_RUNS = 2_048, 5


class ColdConfig(DeepConfig):
    """Settings of COLD."""

    hidden: tuple[int, ...] = Field((64, 32), description="widths of the dense layers")
    budget: float = Field(0.5, gt=0, le=1, description="share of the multiplications with all fields that the kept may cost")
    budget_us: float = Field(0.0, ge=0, description="microseconds a row instead, measured here (0 = by multiplications)")


class Cold(NeuralRanker):
    """Pre-ranker on the most useful fields (see the module's text).

    Attributes
    ----------
    kept_
        Columns (and crosses) that the final network reads, the largest gate first.
    gates_
        Mean gate of every field, the largest first.
    """

    name: ClassVar[str] = "cold"
    title: ClassVar[str] = "COLD"
    Settings = ColdConfig
    config: ColdConfig

    kept_: tuple[str, ...]
    gates_: Mapping[str, float]
    _choosing: bool = False

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return ColdNet(self.config, layout, tasks, rng, gated=self._choosing)

    def _fields(self, blocks: Callable[[], Iterable[Rows]]) -> tuple[RowField, ...]:
        found = super()._fields(blocks)
        return found if self._choosing else tuple(f for f in found if f.name in self.kept_)

    def _fit(
        self, blocks: Callable[[], Iterable[Rows]], validation: Callable[[], Iterable[Rows]] | None, fitting: Fitting
    ) -> Mapping[str, Any]:
        self._choosing = True
        try:
            super()._fit(blocks, validation, _below(fitting, "all fields"))
            self.gates_ = self._mean_gates(validation or blocks)
            self.kept_, spent = self._choose(blocks)
        finally:
            del self._choosing
        notes = super()._fit(blocks, validation, _below(fitting, "kept fields"))
        return {**notes, "gates": dict(self.gates_), "kept": list(self.kept_), "spent": spent}

    @torch.no_grad()
    def _mean_gates(self, blocks: Callable[[], Iterable[Rows]]) -> dict[str, float]:
        """Return the mean gate of each field over rows, the largest first."""
        net = self.net_.eval()
        assert isinstance(net, ColdNet)
        total, n = np.zeros(len(net.table.names)), 0
        for block in blocks():
            encoded = self.encoder_.encode(block.features, tokens)
            for at in range(0, len(encoded), BLOCK):
                total += net.gates(net.table(encoded.take(slice(at, at + BLOCK))).fields).sum(0).double().numpy()
            n += len(encoded)
        means = {name: float(mean) for name, mean in zip(net.table.names, total / n, strict=True)}
        return dict(sorted(means.items(), key=lambda pair: -pair[1]))

    def _choose(self, blocks: Callable[[], Iterable[Rows]]) -> tuple[tuple[str, ...], float]:
        """Return the fields to keep, and what they cost of the budget's unit.

        Raises
        ------
        ConfigError
            If one field alone is beyond the budget.
        """
        c, order = self.config, tuple(self.gates_)
        cost: Callable[[int], float]
        if c.budget_us:
            table = next(iter(blocks())).features.slice(0, TIMED_ROWS)
            cost, limit = (lambda k: self._microseconds(self._with_needed(order[:k]), table)), c.budget_us
        else:
            whole = self._multiplications(order)
            cost, limit = (lambda k: self._multiplications(self._with_needed(order[:k])) / whole), c.budget
        low, high, spent = 0, len(order), float("nan")
        while low < high:  # the largest k within the budget; cost rises with k
            k = (low + high + 1) // 2
            found = cost(k)
            low, high, spent = (k, high, found) if found <= limit else (low, k - 1, spent)
        if not low:
            name = "budget_us" if c.budget_us else "budget"
            raise ConfigError(
                "the best field alone costs more than the budget.", where=name, value=limit, remedy=f"{name}={cost(1):.3g}"
            )
        return self._with_needed(order[:low]), spent

    def _with_needed(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return fields and those that they are made of or share codes with."""
        by_name = {f.name: f for f in self.encoder_.fields}
        needed = [(name, *by_name[name].of, *filter(None, [by_name[name].share])) for name in names]
        return tuple(dict.fromkeys(itertools.chain.from_iterable(needed)))

    def _multiplications(self, names: tuple[str, ...]) -> float:
        c, layout = self.config, self.encoder_.layout
        spans = {**layout.bags, **layout.sequences}
        codes = sum(spans[name][1] - spans[name][0] if name in spans else 1 for name in names)
        sizes = [len(names) * c.dim, *c.hidden, len(self.tasks_)]
        return float(codes * c.dim + sum(a * b for a, b in itertools.pairwise(sizes)))

    def _microseconds(self, names: tuple[str, ...], table: Any) -> float:
        """Return the time a row of a network on some fields, the least of several runs."""
        fields = tuple(f for f in self.encoder_.fields if f.name in names)
        learnt = {name: fact for name, fact in self.encoder_.learnt.items() if name in names}
        encoder = RowEncoder(fields, learnt)
        net = ColdNet(self.config, encoder.layout, len(self.tasks_), np.random.default_rng(0), gated=False).eval()
        taken = []
        with torch.no_grad():
            for _ in range(TIMED_RUNS):
                started = time.perf_counter()
                net(encoder.encode(table, tokens), OFF)
                taken.append(time.perf_counter() - started)
        return 1e6 * min(taken) / table.num_rows

    def _state(self) -> dict[str, np.ndarray]:
        facts = json.dumps({"gates": list(self.gates_.items()), "kept": self.kept_})
        return {**super()._state(), "choice": np.frombuffer(facts.encode(), np.uint8).copy()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        facts = json.loads(state["choice"].tobytes().decode())
        self.gates_, self.kept_ = dict(facts["gates"]), tuple(facts["kept"])
        super()._restore(state)

    def export(self) -> Mapping[str, Any]:
        """Return fields and tasks as plain values, and which fields were kept by which gates."""
        return {**super().export(), "kept": list(self.kept_), "gates": dict(self.gates_)}


class ColdNet(RowNet):
    """The network, with gates of fields or without."""

    def __init__(self, config: ColdConfig, layout: RowLayout, tasks: int, rng: np.random.Generator, *, gated: bool) -> None:
        super().__init__()
        self.table = FieldVectors(layout, config.dim, rng)
        fields = len(self.table.names)
        self.deep = MLP(fields * config.dim, config.hidden, tasks, rng, batch_norm=config.batch_norm)
        self.squeeze: nn.ParameterList | None = None
        if gated:
            start = rng.standard_normal((fields, config.dim)).astype(np.float32) / np.float32(np.sqrt(config.dim))
            self.squeeze = nn.ParameterList([nn.Parameter(torch.from_numpy(start)), nn.Parameter(torch.zeros(fields))])

    def gates(self, fields: Tensor) -> Tensor:
        """Return ``float32[n, f]`` between 0 and 1 of ``float32[n, f, d]``."""
        assert self.squeeze is not None
        return torch.sigmoid((fields * self.squeeze[0]).sum(2) + self.squeeze[1])

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        vectors = self.table(rows)
        fields = vectors.fields if self.squeeze is None else vectors.fields * self.gates(vectors.fields)[:, :, None]
        return self.deep(fields.flatten(1), drop), vectors.size


def _below(fitting: Fitting, name: str) -> Fitting:
    """Return the fitting of one of two fits, whose checkpoints stand in a folder of their own."""
    return fitting if fitting.checkpoint is None else replace(fitting, checkpoint=fitting.checkpoint / name)
