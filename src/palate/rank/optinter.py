"""OptInter: each pair of fields is memorised, factorised or left out; a search finds which, then the model is built anew.

Per pair (i, j) of fields with values x_i and x_j::

    memorise     c¹ = m_ij[x_i, x_j]         a vector of its own for each pair of values
    factorise    c² = v_i[x_i] ⊙ v_j[x_j]    the product of vectors of the two values (not those of the main part)
    naive        c³ = 0

    search       b_ij = Σ_k p_ij^k c^k,      p_ij = softmax(α_ij / t),      t from 1 down to 0.01 over the search
                 ŷ = MLP([e_1; …; e_M; all b_ij])
    choice       argmax_k α_ij, or a simpler method whose softmax(α_ij) lies within ``margin`` of it

Weights and α are learnt together on the training rows (one level); the α that count are those of the epoch with the best
validation value. Then the model is trained from scratch with the choice fixed, and holds only what the choice needs: cross
fields and their tables for memorised pairs, vectors v for fields of factorised pairs, no input for naive pairs. So it has::

    dim · #values + pair_dim · ( Σ_memorised |V_ij| + Σ_{fields in factorised pairs} |V_i| ) + dense layers

parameters. ``method`` may name a shell instead of a search: all memorised, factorised, naive, random, or as ``pairs`` says.

A search of many passes favours whatever has parameters, as it is judged by rows that were learnt from; on the first pass rows
are new. So searches are short, and ``margin`` asks of a costlier method that it lead (0: as published).

Source: F. Lyu et al., "Memorize, Factorize, or be Naïve: Learning Optimal Feature Interaction Methods for CTR Prediction",
ICDE 2022, arXiv 2108.01265.
Differences: the published code stops and selects by the test rows, here by validation. It takes the columns of memorised pairs
by their number among categories though numeric columns stand before them, and reads the dictionary of a pair's first field in
place of the pair's; here each pair has a cross field by name, with a vocabulary of its own. It leaves the weights of layer
normalisation untrained, and keeps full tables after the choice. Here a pair of which no values were seen often enough can't be
memorised; α starts at 0 (there at random); vectors v start with a larger spread than m, so that c¹ and c² begin alike; and the
decay of vectors of pairs is given for one row (``pair_reg / rows`` is the published weight decay: 3e-8 on 40 million rows is
about 1). The softmax is plain, as in the code (no Gumbel noise).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from palate.contracts.model import Fitting
from palate.contracts.ranker import Rows
from palate.data.row_columns import FIRST
from palate.data.row_encoder import Encoded, RowLayout
from palate.data.row_fields import RowField
from palate.data.row_part import RowPart
from palate.errors import ConfigError, DataError, nearest
from palate.nn.dropout import Dropout
from palate.nn.field_pairs import SPREAD, Pair, PairVectors, annealed, cross_name
from palate.nn.fields import FieldVectors
from palate.nn.mlp import MLP
from palate.rank.neural import NeuralRanker, RankConfig, RowNet

Method = Literal["memorise", "factorise", "naive"]
METHODS: tuple[Method, ...] = ("memorise", "factorise", "naive")
#: The temperature does not fall below this.
COLDEST = 0.01


class PairConfig(RankConfig):
    """Settings that the search and the model share."""

    pair_fields: tuple[str, ...] = Field((), description="categories and buckets that are paired (none named: all)")
    pair_dim: int = Field(8, gt=0, description="length of the vector of a pair")
    pair_min_count: int = Field(5, gt=0, description="pairs of values seen less often in training share one vector")
    pair_buckets: int = Field(0, ge=0, description="codes that values of a pair are hashed into (0: a vocabulary)")
    pair_reg: float = Field(1.0, ge=0, description="penalty on the squares of all vectors of pairs, over the number of rows")
    hidden: tuple[int, ...] = Field((256, 128), description="widths of the dense layers")
    layer_norm: bool = Field(True, description="normalise dense layers over their width")
    method_lr: float = Field(0.01, gt=0, description="step size of α, by which methods are chosen")
    search_epochs: int = Field(2, gt=0, description="passes of the search, at most")
    margin: float = Field(0.1, ge=0, lt=1, description="share by which a method must lead simpler ones to be chosen")


class OptInterConfig(PairConfig):
    """Settings of OptInter."""

    method: Literal["search", "memorise", "factorise", "naive", "random", "given"] = Field(
        "search", description="how the method of each pair is found"
    )
    pairs: tuple[tuple[str, str, Method], ...] = Field((), description="methods of pairs (given); others are naive")

    @model_validator(mode="after")
    def _pairs_are_used(self) -> OptInterConfig:
        if self.pairs and self.method != "given":
            raise ValueError("pairs are given, but method is not 'given'")
        return self


@dataclass(frozen=True)
class PairMethod:
    """The method of a pair of fields; ``shares`` are softmax(α) of memorise, factorise and naive (1 if not searched)."""

    first: str
    second: str
    method: Method
    shares: tuple[float, ...]

    @property
    def pair(self) -> Pair:
        """Both fields."""
        return self.first, self.second


class PairRanker(NeuralRanker):
    """What the search and the model share: rows are counted, and vectors of pairs held down by a prior of their own."""

    config: PairConfig
    net_: PairNet

    rows_: int

    def _fit(
        self, blocks: Callable[[], Iterable[Rows]], validation: Callable[[], Iterable[Rows]] | None, fitting: Fitting
    ) -> Mapping[str, Any]:
        self.rows_ = sum(len(block) for block in blocks())
        return super()._fit(blocks, validation, fitting)

    def _loss(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of a batch, the penalty on vectors of pairs added."""
        return super()._loss(outputs, labels, weights) + self.config.pair_reg / (2 * self.rows_) * self.net_.pairs.squares()


class OptInter(PairRanker):
    """Each pair of fields memorised, factorised or left out (see the module's text)."""

    name: ClassVar[str] = "optinter"
    title: ClassVar[str] = "OptInter"
    Settings = OptInterConfig
    config: OptInterConfig
    net_: OptInterNet

    pairs_: tuple[PairMethod, ...]

    @property
    def methods(self) -> dict[Pair, Method]:
        """The method of each pair of fields."""
        self._check_fitted()
        return {chosen.pair: chosen.method for chosen in self.pairs_}

    def methods_table(self) -> str:
        """Return the methods as text to print: a pair a line, with its vectors and what the search preferred by how much."""
        self._check_fitted()
        sizes = self.encoder_.layout.sizes
        width = max([4, *(len(cross_name(p.pair)) for p in self.pairs_)])
        lines = [f"{'pair':<{width}}  {'method':<9}  {'vectors':>8}  {'  '.join(f'{m:>9}' for m in METHODS)}"]
        for p in self.pairs_:
            shares = "  ".join(f"{share:>9.2f}" for share in p.shares)
            lines.append(f"{cross_name(p.pair):<{width}}  {p.method:<9}  {sizes.get(cross_name(p.pair), 0):>8}  {shares}")
        return "\n".join(lines)

    def parameters(self) -> dict[str, int]:
        """Return how many numbers were learnt, by part and in all."""
        self._check_fitted()
        return self.net_.count()

    def export(self) -> Mapping[str, Any]:
        """Return fields, tasks and methods as plain values."""
        return {**super().export(), "pairs": [asdict(chosen) for chosen in self.pairs_]}

    # -- learning -------------------------------------------------------------------------------

    def _fit(
        self, blocks: Callable[[], Iterable[Rows]], validation: Callable[[], Iterable[Rows]] | None, fitting: Fitting
    ) -> Mapping[str, Any]:
        pairs = pairs_of(super()._fields(blocks), self.config)
        if not pairs and self.config.method != "naive":
            raise DataError(
                "there are no two fields to pair.",
                where="rows",
                remedy="pairs are of categories and buckets: make numbers buckets, or set method='naive'",
            )
        notes: dict[str, Any] = {}
        if self.config.method == "search":
            self.pairs_, notes["search"] = self._search(pairs, blocks, validation, _inside(fitting, "search"))
        else:
            found = self._shell(pairs, fitting)
            self.pairs_ = tuple(PairMethod(*p, m, tuple(float(m == other) for other in METHODS)) for p, m in found.items())
        notes |= super()._fit(blocks, validation, _inside(fitting, "model"))
        chosen = Counter(p.method for p in self.pairs_)
        return {**notes, "methods": {m: chosen[m] for m in METHODS}, "parameters": self.net_.count()}

    def _search(
        self,
        pairs: Sequence[Pair],
        blocks: Callable[[], Iterable[Rows]],
        validation: Callable[[], Iterable[Rows]] | None,
        fitting: Fitting,
    ) -> tuple[tuple[PairMethod, ...], dict[str, Any]]:
        search = PairSearch(**{name: getattr(self.config, name) for name in PairConfig.model_fields})
        notes = dict(search._fit(blocks, validation, fitting))
        alpha = search.net_.alpha.detach()
        shares = [tuple(row) for row in alpha.softmax(1).tolist()]
        found = tuple(PairMethod(*p, choose(s, self.config.margin), s) for p, s in zip(pairs, shares, strict=True))
        return found, {**notes, "parameters": search.net_.count()}

    def _shell(self, pairs: Sequence[Pair], fitting: Fitting) -> dict[Pair, Method]:
        method = self.config.method
        if method == "random":
            drawn = fitting.rng("random methods").integers(len(METHODS), size=len(pairs))
            return {pair: METHODS[at] for pair, at in zip(pairs, drawn, strict=True)}
        if method != "given":
            return {pair: METHODS[METHODS.index(method)] for pair in pairs}
        found: dict[Pair, Method] = dict.fromkeys(pairs, "naive")
        for first, second, own in self.config.pairs:
            pair = (first, second) if (first, second) in found else (second, first)
            if pair not in found:
                raise ConfigError("there is no such pair of fields.", where="pairs", value=[first, second])
            found[pair] = own
        return found

    def _fields(self, blocks: Callable[[], Iterable[Rows]]) -> tuple[RowField, ...]:
        memorised = [p.pair for p in self.pairs_ if p.method == "memorise"]
        return (*super()._fields(blocks), *cross_fields(memorised, self.config))

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        return OptInterNet(self.config, layout, self.pairs_, tasks, rng)

    # -- saving ---------------------------------------------------------------------------------

    def _state(self) -> dict[str, np.ndarray]:
        facts = json.dumps([asdict(chosen) for chosen in self.pairs_]).encode()
        return {**super()._state(), "pairs": np.frombuffer(facts, np.uint8).copy()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        facts = json.loads(state["pairs"].tobytes().decode())
        self.pairs_ = tuple(PairMethod(**{**fact, "shares": tuple(fact["shares"])}) for fact in facts)
        super()._restore(state)


class PairSearch(PairRanker):
    """The search: a ranker that holds all candidates of all pairs, and how much it takes of each."""

    name: ClassVar[str] = "optinter_search"
    title: ClassVar[str] = "OptInter search"
    Settings = PairConfig
    config: PairConfig
    net_: SearchNet

    def _fit(
        self, blocks: Callable[[], Iterable[Rows]], validation: Callable[[], Iterable[Rows]] | None, fitting: Fitting
    ) -> Mapping[str, Any]:
        self.config = self.config.replace(epochs=self.config.search_epochs, calibrate="none")
        return super()._fit(blocks, validation, fitting)

    def _fields(self, blocks: Callable[[], Iterable[Rows]]) -> tuple[RowField, ...]:
        found = super()._fields(blocks)
        return (*found, *cross_fields(pairs_of(found, self.config), self.config))

    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        pairs = pairs_of([f for f in self.encoder_.fields if f.kind != "cross"], self.config)
        steps = self.config.epochs * -(-self.rows_ // self.config.batch_size)
        return SearchNet(self.config, layout, pairs, tasks, rng, steps)


def choose(shares: Sequence[float], margin: float) -> Method:
    """Return the method of the largest share, unless a simpler one (naive, then factorise) comes within the margin."""
    at = METHODS.index("naive")
    for other in (METHODS.index("factorise"), METHODS.index("memorise")):
        if shares[other] > shares[at] + margin:
            at = other
    return METHODS[at]


def pairs_of(fields: Sequence[RowField], config: PairConfig) -> list[Pair]:
    """Return the pairs of fields that have one code a row (categories and buckets), in order.

    Raises
    ------
    ConfigError
        If a field that is to be paired is missing or of another kind.
    """
    able = [f.name for f in fields if f.kind in ("category", "bucket") and not f.share]
    for name in config.pair_fields:
        if name not in able:
            raise ConfigError(
                "this field can't be paired: it must be a category or a bucket, with codes of its own.",
                where="pair_fields",
                value=name,
                remedy=nearest(name, able) if able else None,
            )
    return list(combinations([name for name in able if not config.pair_fields or name in config.pair_fields], 2))


def cross_fields(pairs: Iterable[Pair], config: PairConfig) -> list[RowField]:
    """Return a cross field for each pair."""
    count, buckets = config.pair_min_count, config.pair_buckets
    return [RowField(cross_name(pair), "cross", min_count=count, hash_buckets=buckets, of=pair) for pair in pairs]


class PairNet(RowNet):
    """What both networks share: vectors of fields and pairs, and dense layers on them."""

    deep: MLP

    def __init__(
        self, c: PairConfig, layout: RowLayout, memorised: Sequence[Pair], factorised: Sequence[Pair], rng: np.random.Generator
    ) -> None:
        super().__init__()
        crosses = {cross_name(pair) for pair in memorised}
        self.config, self.part = c, RowPart.of(layout, [name for name in layout.names if name not in crosses])
        self.table = FieldVectors(self.part.layout, c.dim, rng, scale=SPREAD)
        self.pairs = PairVectors(layout, memorised, factorised, c.pair_dim, rng)

    def dense(self, pairs: int, tasks: int, rng: np.random.Generator) -> MLP:
        """Return dense layers on the vectors of all fields and of so many pairs."""
        c = self.config
        norm = (lambda width: nn.Sequential(nn.LayerNorm(width), nn.ReLU())) if c.layer_norm else (lambda width: nn.ReLU())
        width = len(self.table.names) * c.dim + pairs * c.pair_dim
        return MLP(width, c.hidden, tasks, rng, activation=norm)

    def answer(self, rows: Encoded, pairs: list[Tensor], drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits, and the size of the vectors of fields."""
        own = self.table(self.part.take(rows))
        x = torch.cat([own.flat, *(vectors.flatten(1) for vectors in pairs)], dim=1)
        return self.deep(drop(x), drop), own.size

    def count(self) -> dict[str, int]:
        """Return how many numbers are learnt, by part and in all."""
        parts: dict[str, nn.Module | None] = {
            "fields": self.table,
            "memorised pairs": self.pairs.memory,
            "factorised pairs": self.pairs.additions,
            "dense layers": self.deep,
        }
        found = {name: 0 if m is None else sum(p.numel() for p in m.parameters()) for name, m in parts.items()}
        return {**found, "all": sum(p.numel() for p in self.parameters())}


class OptInterNet(PairNet):
    """The network after the choice."""

    def __init__(
        self, c: PairConfig, layout: RowLayout, chosen: Sequence[PairMethod], tasks: int, rng: np.random.Generator
    ) -> None:
        memorised, factorised = ([p.pair for p in chosen if p.method == m] for m in METHODS[:2])
        super().__init__(c, layout, memorised, factorised, rng)
        self.deep = self.dense(len(memorised) + len(factorised), tasks, rng)

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        memorised, factorised = self.pairs(rows)
        return self.answer(rows, [vectors for vectors in (memorised, factorised) if vectors is not None], drop)


class SearchNet(PairNet):
    """The network of the search.

    ``raw`` is α divided by the ratio of its step size to that of the weights: Adam's steps don't depend on the size of
    gradients, so α moves by steps of ``method_lr``.
    """

    def __init__(
        self, c: PairConfig, layout: RowLayout, pairs: Sequence[Pair], tasks: int, rng: np.random.Generator, steps: int
    ) -> None:
        super().__init__(c, layout, pairs, pairs, rng)
        self.deep = self.dense(len(pairs), tasks, rng)
        self.raw = nn.Parameter(torch.zeros(len(pairs), len(METHODS)))
        self.steps = steps
        self.register_buffer("progress", torch.zeros(1))
        empty = [layout.sizes[cross_name(pair)] <= FIRST for pair in pairs]
        self.unable = torch.tensor(empty)[:, None] & torch.tensor([method == "memorise" for method in METHODS])

    @property
    def alpha(self) -> Tensor:
        """``float32[p, 3]``: preference of each pair for each method; -inf where the method can't be."""
        return (self.raw * (self.config.method_lr / self.config.lr)).masked_fill(self.unable.to(self.raw.device), -torch.inf)

    @property
    def temperature(self) -> float:
        """Falls from 1 by the same amount each batch."""
        return max(COLDEST, 1 - float(self.get_buffer("progress")))

    def vectors(self) -> set[int]:
        """Return the parameters that ``net_reg`` does not weigh: vectors, and α."""
        return super().vectors() | {id(self.raw)}

    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return logits and the size of the vectors."""
        memorised, factorised = self.pairs(rows)
        shares = annealed(self.alpha, self.temperature)[:, :, None]
        if self.training:
            self.get_buffer("progress").add_(1 / self.steps)
        return self.answer(rows, [shares[:, 0] * memorised + shares[:, 1] * factorised], drop)


def _inside(fitting: Fitting, name: str) -> Fitting:
    """Return the same fitting with a folder of checkpoints of its own."""
    return fitting if fitting.checkpoint is None else replace(fitting, checkpoint=fitting.checkpoint / name)
