"""LightGBM: gradient boosted trees on the encoded rows of other rankers; pointwise, or by request (LambdaMART).

    F_k(x) = F_{k-1}(x) + lr · tree_k(x)

    pointwise, binary       tree_k fits the gradients of  -[y ln σ(F) + (1 - y) ln(1 - σ(F))]
    pointwise, other        those of  (y - F)²
    lambdarank              λ_ij = -|ΔNDCG_ij| σ(F_j - F_i)  for rows i above j in a request, y_i > y_j

Fields become columns so: a category or cross by its code, split by sets of codes; a bucket or number by size; a bag, text or
sequence by 0/1 for each of its commonest values, and by how many it has; a sequence also by its last value. Trees of lambdarank
give scores without a unit. A rising function learnt on the validation rows (on the training rows, where there are none) makes
probabilities of them (Platt) or, of graded labels, values (a line), and keeps the order. Probabilities may be calibrated on the
validation rows afterwards (``calibrate``).

An explanation is the sum of LightGBM's own exact Shapley values of the columns of each field; it adds up to F.

Sources: G. Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017; C. Burges, "From RankNet to
LambdaRank to LambdaMART: An Overview", MSR-TR-2010-82; S. Lundberg et al., "Consistent Individualized Feature Attribution for
Tree Ensembles", arXiv 1802.03888.
Limits: trees don't go on from a checkpoint; requests must be whole within a block of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from palate.contracts.config import Config
from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.ranker import Ranker, Rows
from palate.data.row_encoder import Encoded, RowEncoder, RowLayout
from palate.data.row_fields import RowField
from palate.errors import ConfigError, DataError
from palate.extras import require
from palate.rank.calibration import Calibration, CalibrationKind, on_platt, platt
from palate.rank.guessing import guess_fields
from palate.rank.reasons import additive, one_row, task_number
from palate.rank.tasks import Task, learn_tasks
from palate.retrieval.tokens import tokens
from palate.runtime import threads
from palate.training.row_store import RowStore

#: Rows that are answered, and handed to LightGBM, at a time.
BLOCK = 4_096
#: Rows by which LightGBM chooses its bins.
BIN_ROWS = 50_000
#: Labels of lambdarank are whole numbers from 0 to this (gains 2^y - 1).
TOP_GRADE = 30


class LightGBMConfig(Config):
    """Settings of LightGBM."""

    objective: Literal["pointwise", "lambdarank"] = Field("pointwise", description="each row, or pairs of a request")
    rounds: int = Field(500, ge=1, description="trees; with validation, the most")
    patience: int = Field(30, ge=0, description="trees without improvement on validation before stopping (0 = never)")
    lr: float = Field(0.05, gt=0, description="share of each tree that is added")
    leaves: int = Field(31, ge=2, description="most leaves of a tree")
    min_rows: int = Field(20, ge=1, description="fewest rows of a leaf")
    reg: float = Field(1.0, ge=0, description="penalty on the squares of leaf values")
    category_reg: float = Field(10.0, ge=0, description="penalty likewise in splits by sets of codes")
    column_share: float = Field(1.0, gt=0, le=1, description="share of columns that a tree may use")
    row_share: float = Field(1.0, gt=0, le=1, description="share of rows that a tree is grown on")
    bins: int = Field(255, ge=2, le=65_535, description="most bins of a column")
    truncation: int = Field(30, ge=1, description="place of a request down to which pairs count (lambdarank)")
    bag_values: int = Field(64, ge=1, description="commonest values of a bag, text or sequence with a column of their own")
    stop_on: Literal["auc", "log_loss"] = Field("auc", description="validation metric of pointwise binary tasks")
    calibrate: CalibrationKind = Field("none", description="how probabilities are calibrated on the validation rows")
    fields: tuple[RowField, ...] = Field((), description="how columns become numbers; columns not named here are guessed")
    leave_out: tuple[str, ...] = Field((), description="columns that are not read")
    min_count: int = Field(1, gt=0, description="values seen less often in training count as unknown (guessed fields)")
    memory_mb: int = Field(2048, gt=0, description="training rows beyond this size are kept in a file")


class LightGBMRanker(Ranker):
    """Gradient boosted trees (see the module's text)."""

    name: ClassVar[str] = "lightgbm"
    Settings = LightGBMConfig
    config: LightGBMConfig

    encoder_: RowEncoder
    kinds_: tuple[Task, ...]
    columns_: Columns
    trees_: tuple[str, ...]
    links_: np.ndarray
    calibration_: Calibration

    @property
    def wants_groups(self) -> bool:
        """Whether pairs of a request are learnt from."""
        return self.config.objective == "lambdarank"

    # -- learning -------------------------------------------------------------------------------

    def _fit(
        self, blocks: Callable[[], Iterable[Rows]], validation: Callable[[], Iterable[Rows]] | None, fitting: Fitting
    ) -> Mapping[str, Any]:
        c = self.config
        require("lightgbm", "LightGBM")
        if c.calibrate != "none" and validation is None:
            raise ConfigError("calibration needs validation rows.", where="calibrate", value=c.calibrate, remedy="give some")
        self.kinds_ = learn_tasks(blocks)
        self.tasks_ = tuple(task.name for task in self.kinds_)
        fields = guess_fields(blocks, c.fields, c.leave_out, c.min_count)
        self.encoder_ = RowEncoder.learn(fields, lambda: (block.features for block in blocks()))
        store = self._store(blocks)
        held_out = None if validation is None else self._store(validation)
        self.columns_ = Columns.learn(self.encoder_, store.rows.codes, c.bag_values)
        boosters = [self._boost(at, store, held_out, fitting) for at in range(len(self.kinds_))]
        self.trees_ = tuple(booster.model_to_string() for booster in boosters)
        self._wake()
        self.links_ = np.array([self._link(at, held_out or store) for at in range(len(self.kinds_))])
        self.calibration_ = Calibration()
        if held_out is not None:
            found = self._answers(held_out.rows)
            self.calibration_ = Calibration.learn(c.calibrate, self.kinds_, found, held_out.labels, held_out.weights)
        trees = [booster.num_trees() for booster in self._boosters]
        return {"data": {"rows": len(store), "columns": len(self.columns_.names)}, "trees": trees}

    def _store(self, blocks: Callable[[], Iterable[Rows]]) -> RowStore:
        return RowStore.gather(blocks, self.encoder_, self.tasks_, words=tokens, memory_mb=self.config.memory_mb)

    def _boost(self, at: int, store: RowStore, held_out: RowStore | None, fitting: Fitting) -> Any:
        """Return the booster of a task."""
        c, lightgbm, task = self.config, require("lightgbm", "LightGBM"), self.kinds_[at]
        shared = {"verbosity": -1, "num_threads": threads(), "max_bin": c.bins, "bin_construct_sample_cnt": BIN_ROWS}
        shared |= {"data_random_seed": fitting.seed, "min_data_in_bin": 1, "feature_pre_filter": False}
        data = self._data(at, store, shared)
        watched = [] if held_out is None else [self._data(at, held_out, shared, data)]
        objective, metric = self._aim(task)
        settings = {
            **shared, "objective": objective, "metric": metric, "seed": fitting.seed, "deterministic": True,
            "force_row_wise": True, "learning_rate": c.lr, "num_leaves": c.leaves, "min_data_in_leaf": c.min_rows,
            "lambda_l2": c.reg, "cat_l2": c.category_reg, "feature_fraction": c.column_share, "bagging_fraction": c.row_share,
            "bagging_freq": int(c.row_share < 1), "lambdarank_truncation_level": c.truncation,
        }  # fmt: skip

        def tell(state: Any) -> None:
            shown = {name: value for _, name, value, _ in state.evaluation_result_list or ()}
            fitting.report(f"LightGBM: trees of {task.name!r}", state.iteration + 1, c.rounds, **shown)

        calls = [tell]
        if watched and c.patience:
            calls.append(lightgbm.early_stopping(c.patience, verbose=False))
        return lightgbm.train(settings, data, c.rounds, valid_sets=watched, callbacks=calls)

    def _aim(self, task: Task) -> tuple[str, str]:
        """Return LightGBM's names of the objective and of the validation metric."""
        if self.config.objective == "lambdarank":
            return "lambdarank", "ndcg"
        if not task.binary:
            return "regression", "l2"
        return "binary", "auc" if self.config.stop_on == "auc" else "binary_logloss"

    def _data(self, at: int, store: RowStore, settings: dict[str, Any], reference: Any = None) -> Any:
        """Return LightGBM's data of the rows that have a label of a task."""
        lightgbm = require("lightgbm", "LightGBM")
        _quieten(lightgbm)
        rows = np.flatnonzero(~np.isnan(store.labels[:, at]))
        labels, group = store.labels[rows, at], None
        if self.config.objective == "lambdarank":
            group = _sizes(store, rows)
            wrong = labels[(labels != np.round(labels)) | (labels < 0) | (labels > TOP_GRADE)]
            if len(wrong):
                raise DataError(
                    f"labels of lambdarank are whole numbers from 0 to {TOP_GRADE}.",
                    where=f"labels of {self.tasks_[at]!r}",
                    value=float(wrong[0]),
                    remedy="objective='pointwise', or grade the labels",
                )
        return lightgbm.Dataset(
            _sequence(lightgbm, self.columns_, store.rows, rows),
            labels,
            reference=reference,
            weight=store.weights[rows],
            group=group,
            categorical_feature=list(self.columns_.sets),
            params=settings,
        )

    def _link(self, at: int, store: RowStore) -> list[float]:
        """Return slope and offset from F to the logit (or to the value): nothing to do, unless F has no unit."""
        if self.config.objective != "lambdarank":
            return [1.0, 0.0]
        seen = ~np.isnan(store.labels[:, at])
        score, truth, weights = self._raw(at, store.rows)[seen], store.labels[seen, at], store.weights[seen]
        if self.kinds_[at].binary:
            slope, offset = platt(_sigmoid(score), truth, weights)
            return [float(slope), float(offset)]
        gap = score - np.average(score, weights=weights)
        rise = float((weights * gap * truth).sum() / max(1e-12, float((weights * gap**2).sum())))
        rise = max(rise, 1e-6)
        return [rise, float(np.average(truth - rise * score, weights=weights))]

    # -- answering ------------------------------------------------------------------------------

    def _raw(self, at: int, rows: Encoded) -> np.ndarray:
        """Return ``float64[n]`` F of a task."""
        parts = [rows.take(slice(start, start + BLOCK)) for start in range(0, len(rows), BLOCK)]
        predict = self._boosters[at].predict
        return np.concatenate([predict(self.columns_(part), raw_score=True, num_threads=threads()) for part in parts])

    def _predict(self, rows: Rows) -> np.ndarray:
        return self.calibration_(self._answers(self.encoder_.encode(rows.features, tokens)))

    def _answers(self, rows: Encoded) -> np.ndarray:
        return np.stack([self._answer(at, self._raw(at, rows)) for at in range(len(self.kinds_))], axis=1)

    def _answer(self, at: int, score: np.ndarray) -> np.ndarray:
        if not self.kinds_[at].binary:
            return (self.links_[at, 0] * score + self.links_[at, 1]).astype(np.float32)
        return on_platt(self.links_[at], _sigmoid(score)).astype(np.float32)

    def explain_row(self, row: Rows, task: str | None = None) -> Explanation:
        """Return the part of each field in F, by exact Shapley values of the trees; ``rest`` is the mean of F in training."""
        self._check_fitted()
        at = task_number(self, task)
        encoded = self.encoder_.encode(one_row(row).features, tokens)
        found = self._boosters[at].predict(self.columns_(encoded), pred_contrib=True, num_threads=threads())[0]
        parts: dict[str, float] = {}
        for name, part in zip(self.columns_.names, found[:-1], strict=True):
            parts[name] = parts.get(name, 0.0) + float(part)
        each = [((name,), part) for name, part in parts.items()]
        return additive(self.encoder_, row, each, float(found[-1]), "exact Shapley values of the trees, by field")

    def export(self) -> Mapping[str, Any]:
        """Return fields and tasks as plain values."""
        self._check_fitted()
        return {"tasks": [vars(task) for task in self.kinds_], "fields": [vars(f) for f in self.encoder_.fields]}

    # -- saving ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        lightgbm = require("lightgbm", "LightGBM")
        self._boosters = [lightgbm.Booster(model_str=text) for text in self.trees_]

    def _state(self) -> dict[str, np.ndarray]:
        trees = {f"trees/{at}": np.frombuffer(text.encode(), np.uint8).copy() for at, text in enumerate(self.trees_)}
        encoder = {f"encoder/{name}": array for name, array in self.encoder_.state().items()}
        bags = {f"bags/{name}": array for name, array in self.columns_.bags.items()}
        calibration = {f"calibration/{name}": array for name, array in self.calibration_.state().items()}
        return {**trees, **encoder, **bags, **calibration, "links": self.links_, "tasks": Task.pack(self.kinds_)}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.kinds_ = Task.unpack(state["tasks"])
        self.tasks_ = tuple(task.name for task in self.kinds_)
        self.encoder_ = RowEncoder.of_state(_under("encoder/", state))
        self.columns_ = Columns.of(self.encoder_, _under("bags/", state))
        self.links_ = np.array(state["links"])
        self.calibration_ = Calibration.of_state(_under("calibration/", state))
        self.trees_ = tuple(state[f"trees/{at}"].tobytes().decode() for at in range(len(self.kinds_)))
        self._wake()


@dataclass(frozen=True)
class Columns:
    """From encoded rows to the columns of trees.

    Attributes
    ----------
    layout
        Which column of codes is what.
    by_size
        Fields whose codes are ordered: buckets.
    bags
        Name of a bag, text or sequence to the codes with a column of their own (``int32``, ascending).
    """

    layout: RowLayout
    by_size: frozenset[str]
    bags: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, encoder: RowEncoder, bags: Mapping[str, np.ndarray]) -> Columns:
        """Return the columns of an encoder's rows."""
        layout = encoder.layout
        ordered = {name: np.asarray(bags[name]) for name in (*layout.bags, *layout.sequences)}
        return cls(layout, frozenset(f.name for f in encoder.fields if f.kind == "bucket"), ordered)

    @classmethod
    def learn(cls, encoder: RowEncoder, codes: np.ndarray, most: int) -> Columns:
        """Choose the commonest codes of each bag in training rows; equally common ones in order of the code."""
        layout, bags = encoder.layout, {}
        for name, (start, stop) in {**layout.bags, **layout.sequences}.items():
            counts = np.zeros(layout.n_codes, np.int64)
            for at in range(0, len(codes), BLOCK):
                counts += np.bincount(codes[at : at + BLOCK, start:stop].ravel(), minlength=layout.n_codes)
            counts[0] = 0
            order = np.argsort(-counts, kind="stable")[:most]
            bags[name] = np.sort(order[counts[order] > 0]).astype(np.int32)
        return cls.of(encoder, bags)

    @property
    def names(self) -> tuple[str, ...]:
        """The field that each column belongs to."""
        layout = self.layout
        names = [*layout.single, *layout.numbers]
        for name, values in self.bags.items():
            names += [name] * (len(values) + 1 + (name in layout.sequences))
        return tuple(names)

    @property
    def sets(self) -> tuple[int, ...]:
        """Columns that are split by sets of codes: categories, crosses, and last values of sequences."""
        layout = self.layout
        sets = [at for at, name in enumerate(layout.single) if name not in self.by_size]
        at = len(layout.single) + len(layout.numbers)
        for name, values in self.bags.items():
            at += len(values) + 1
            if name in layout.sequences:
                sets.append(at)
                at += 1
        return tuple(sets)

    def __call__(self, rows: Encoded) -> np.ndarray:
        """Return ``float64[n, c]``."""
        layout, n = self.layout, len(rows)
        bases = [layout.bases[name] for name in layout.single]
        parts = [rows.codes[:, : len(bases)] - np.array(bases, np.int32), rows.numbers]
        spans = {**layout.bags, **layout.sequences}
        for name, values in self.bags.items():
            codes = rows.codes[:, slice(*spans[name])]
            parts.append(_marks(codes, values))
            lengths = (codes > 0).sum(1)
            parts.append(lengths[:, None])
            if name in layout.sequences:
                last = codes[np.arange(n), np.maximum(lengths - 1, 0)]
                parts.append(np.where(lengths > 0, last - layout.bases[name], 0)[:, None])
        return np.concatenate(parts, axis=1, dtype=np.float64)


def _marks(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return ``int8[n, v]``: which of some values (ascending) are among the codes of each row."""
    out = np.zeros((len(codes), len(values)), np.int8)
    if len(values):
        place = np.minimum(np.searchsorted(values, codes), len(values) - 1)
        row, at = np.nonzero(values[place] == codes)
        out[row, place[row, at]] = 1
    return out


def _quieten(lightgbm: Any) -> None:
    """Set LightGBM's own verbosity for this thread: of data that come in blocks it leaves it unread (4.7), of an array not."""
    lightgbm.Dataset(np.zeros((2, 1)), params={"verbosity": -1, "min_data_in_bin": 1}).construct()


def _sequence(lightgbm: Any, columns: Columns, rows: Encoded, kept: np.ndarray) -> Any:
    """Return rows as LightGBM reads them, block by block."""

    class Sequence(lightgbm.Sequence):  # type: ignore[misc]
        batch_size = BLOCK

        def __getitem__(self, at: int | slice | list[int]) -> np.ndarray:
            found = columns(rows.take(np.atleast_1d(kept[at])))
            return found if isinstance(at, slice | list) else found[0]

        def __len__(self) -> int:
            return len(kept)

    return Sequence()


def _sizes(store: RowStore, rows: np.ndarray) -> np.ndarray:
    """Return how many of the rows each request has.

    Raises
    ------
    DataError
        If the requests of rows are not known.
    """
    if store.groups is None or len(store.groups) != len(store):
        raise DataError("lambdarank needs to know which rows belong to a request.", where="rows.groups", remedy="give groups")
    groups = store.groups[rows]
    return np.diff(np.flatnonzero(np.diff(groups, prepend=-1, append=-1)))


def _under(prefix: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
