"""Neural rankers: what all networks over the fields of rows share: fields, training, stopping, answers, bundles.

A system gives its :class:`RowNet`; this gives everything else. Losses, summed over the observed labels of each task::

    binary task (labels 0 and 1)      binary cross-entropy of the logit
    any other                         squared error of the standardised value

plus ``embedding_reg/2`` times the mean over rows of the summed squares of the vectors that the batch looked up (so a vector
is held down as often as it is used), and ``net_reg/2`` times the squares of all other weights. With ``embedding_reg_on`` set to
``"table"`` it is the sum over all vectors at every step instead, so that rare values are held down most (FuxiCTR's penalty, in
its unit). Probabilities may be calibrated on the validation rows afterwards (:mod:`palate.rank.calibration`).

A prediction is explained by Shapley values of its fields (:mod:`palate.rank.shapley`) against a few training rows that the
ranker keeps in codes, unless a system has parts of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from palate.contracts.explanation import Explanation
from palate.contracts.model import Fitting
from palate.contracts.ranker import Ranker, Rows
from palate.data.row_encoder import Encoded, RowEncoder, RowLayout
from palate.data.row_fields import RowField
from palate.errors import ConfigError
from palate.evaluation.metrics.predictive import auc, log_loss
from palate.nn.adam import Adam
from palate.nn.dropout import OFF, Dropout
from palate.nn.fields import FieldVectors
from palate.rank.calibration import Calibration, CalibrationKind
from palate.rank.guessing import guess_fields
from palate.rank.reasons import additive, one_row, task_number
from palate.rank.shapley import shapley
from palate.rank.tasks import Task, learn_tasks
from palate.retrieval.tokens import tokens
from palate.training.config import TrainConfig
from palate.training.loop import fit_module
from palate.training.row_store import RowBatch, RowStore

#: Rows that are answered at a time.
BLOCK = 8_192
#: Training rows that are kept to explain answers against.
BACKGROUND = 32


class RankConfig(TrainConfig):
    """Settings that neural rankers share."""

    epochs: int = Field(20, ge=0, description="passes over the training rows; with validation, the most")
    batch_size: int = Field(4096, gt=0, description="rows of a batch")
    patience: int = Field(2, ge=0, description="validation looks without improvement before stopping (0 = never)")
    patience_steps: int = Field(0, ge=0, description="and steps meanwhile (what is learnt by heart does not recover)")
    dim: int = Field(16, gt=0, description="length of the vector of a value")
    fields: tuple[RowField, ...] = Field((), description="how columns become numbers; columns not named here are guessed")
    leave_out: tuple[str, ...] = Field((), description="columns that are not read")
    min_count: int = Field(1, gt=0, description="values seen less often in training count as unknown (guessed fields)")
    embedding_reg: float = Field(1e-6, ge=0, description="penalty on the squares of vectors")
    embedding_reg_on: Literal["batch", "table"] = Field("batch", description="which: those that a batch looks up, or all")
    net_reg: float = Field(0.0, ge=0, description="penalty on the squares of all other weights")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden values set to zero in training")
    stop_on: Literal["auc", "log_loss"] = Field("auc", description="validation metric of early stopping (binary tasks)")
    memory_mb: int = Field(2048, gt=0, description="training rows beyond this size are kept in a file")
    calibrate: CalibrationKind = Field("none", description="how probabilities are calibrated on the validation rows")


class RowNet(nn.Module, ABC):
    """A network from encoded rows to logits (or standardised values), one column a task."""

    @abstractmethod
    def forward(self, rows: Encoded, drop: Dropout) -> tuple[Tensor, Tensor]:
        """Return ``float32[n, t]`` and the size of the vectors that were looked up (:class:`palate.nn.fields.RowVectors`)."""

    def vectors(self) -> set[int]:
        """Return the ids of the parameters that ``embedding_reg`` weighs and ``net_reg`` does not."""
        return {id(p) for m in self.modules() if isinstance(m, FieldVectors) for p in m.parameters()}


class NeuralRanker(Ranker):
    """Base of rankers that are networks over fields (see the module's text)."""

    title: ClassVar[str]
    Settings = RankConfig
    config: RankConfig
    #: How many training rows are kept to explain answers against.
    background_rows: ClassVar[int] = BACKGROUND

    encoder_: RowEncoder
    net_: RowNet
    kinds_: tuple[Task, ...]
    calibration_: Calibration
    background_: Encoded

    @abstractmethod
    def _network(self, layout: RowLayout, tasks: int, rng: np.random.Generator) -> RowNet:
        """Return the network at its start."""

    def _loss(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return the loss of a batch: each task's mean over its observed labels, summed over tasks."""
        return self._task_losses(outputs, labels, weights).sum()

    def _task_losses(self, outputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Return ``float32[t]``: each task's mean loss over its observed labels."""
        found = []
        for at, task in enumerate(self.kinds_):
            seen = ~torch.isnan(labels[:, at])
            target, output, weight = labels[seen, at], outputs[seen, at], weights[seen]
            if task.binary:
                each = functional.binary_cross_entropy_with_logits(output, target, reduction="none")
            else:
                each = (output - (target - task.mean) / task.spread).square()
            found.append((each * weight).sum() / max(1, len(target)))
        return torch.stack(found)

    # -- learning -------------------------------------------------------------------------------

    def _fit(
        self, blocks: Callable[[], Iterable[Rows]], validation: Callable[[], Iterable[Rows]] | None, fitting: Fitting
    ) -> Mapping[str, Any]:
        c = self.config
        if c.calibrate != "none" and validation is None:
            raise ConfigError("calibration needs validation rows.", where="calibrate", value=c.calibrate, remedy="give some")
        self.kinds_ = learn_tasks(blocks)
        self.tasks_ = tuple(task.name for task in self.kinds_)
        self.encoder_ = RowEncoder.learn(self._fields(blocks), lambda: (block.features for block in blocks()))
        store = self._store(blocks)
        held_out = None if validation is None else self._store(validation)
        self.net_ = self._network(self.encoder_.layout, len(self.tasks_), fitting.rng("start")).to(fitting.device)
        own = self.net_.vectors()
        tables = [p for p in self.net_.parameters() if id(p) in own]
        others = [p for p in self.net_.parameters() if id(p) not in own]

        def loss(batch: RowBatch, generator: torch.Generator) -> Tensor:
            outputs, size = self.net_(batch.rows, Dropout(c.dropout, generator))
            labels, weights = (torch.from_numpy(a).to(outputs.device) for a in (batch.labels, batch.weights))
            if c.embedding_reg_on == "table":
                size = sum((p.square().sum() for p in tables), torch.zeros(()))
            total = self._loss(outputs, labels, weights) + c.embedding_reg / 2 * size
            if c.net_reg:
                total = total + c.net_reg / 2 * sum(p.square().sum() for p in others)
            return total

        on_cpu = fitting.device == "cpu"
        record = fit_module(
            self.net_,
            batches=lambda epoch, rng: store.batches(rng, c.batch_size),
            loss=loss,
            config=c,
            fitting=replace(fitting, data=store.fingerprint if fitting.checkpoint else ""),
            title=self.title,
            evaluate=None if held_out is None else lambda: self._value(held_out),
            optimizer=Adam(self.net_.parameters(), lr=c.lr, weight_decay=c.weight_decay) if on_cpu else None,
            metric=f"valid_{self._value_name()}",
        )
        self.net_.cpu().eval()
        drawn = fitting.rng("background").choice(len(store), min(self.background_rows, len(store)), replace=False)
        self.background_ = store.rows.take(np.sort(drawn))
        self.calibration_ = Calibration()
        if held_out is not None:
            found = self._answers(held_out.rows)
            self.calibration_ = Calibration.learn(c.calibrate, self.kinds_, found, held_out.labels, held_out.weights)
        return {**record.notes, "data": {"rows": len(store), "codes": self.encoder_.layout.n_codes}}

    def _fields(self, blocks: Callable[[], Iterable[Rows]]) -> tuple[RowField, ...]:
        """Return the fields that are given, and guesses for the other columns."""
        return guess_fields(blocks, self.config.fields, self.config.leave_out, self.config.min_count)

    def _store(self, blocks: Callable[[], Iterable[Rows]]) -> RowStore:
        return RowStore.gather(blocks, self.encoder_, self.tasks_, words=tokens, memory_mb=self.config.memory_mb)

    def _value_name(self) -> str:
        """Return what :meth:`_value` is; where tasks of both kinds are averaged, it has no name of its own."""
        binary = {task.binary for task in self.kinds_}
        if len(binary) > 1:
            return "value"
        return {"auc": "auc", "log_loss": "neg_log_loss"}[self.config.stop_on] if binary == {True} else "neg_mse"

    def _value(self, store: RowStore) -> float:
        """Return the validation value, higher is better: the mean over tasks."""
        found = self._answers(store.rows)
        values = []
        for at, task in enumerate(self.kinds_):
            truth, predicted = store.labels[:, at], found[:, at]
            seen = ~np.isnan(truth)
            if not task.binary:
                values.append(-float(np.mean((truth[seen] - predicted[seen]) ** 2)) / task.spread**2)
            elif self.config.stop_on == "auc":
                values.append(auc(truth[seen], predicted[seen]))
            else:
                values.append(-log_loss(truth[seen], predicted[seen]))
        return float(np.mean(values))

    # -- answering ------------------------------------------------------------------------------

    def _predict(self, rows: Rows) -> np.ndarray:
        return self.calibration_(self._answers(self.encoder_.encode(rows.features, tokens)))

    def _answers(self, rows: Encoded) -> np.ndarray:
        """Return ``float32[n, t]`` before calibration, block by block."""
        return np.concatenate([self._answer(rows.take(slice(at, at + BLOCK))) for at in range(0, len(rows), BLOCK)])

    def _answer(self, rows: Encoded) -> np.ndarray:
        """Return ``float32[n, t]`` probabilities and values."""
        outputs = self._outputs(rows)
        for at, task in enumerate(self.kinds_):
            outputs[:, at] = _sigmoid(outputs[:, at]) if task.binary else outputs[:, at] * task.spread + task.mean
        return outputs

    @torch.no_grad()
    def _outputs(self, rows: Encoded) -> np.ndarray:
        """Return ``float32[n, t]`` logits and standardised values."""
        if self.net_.training:
            self.net_.eval()
        found: np.ndarray = self.net_(rows, OFF)[0].float().cpu().numpy()
        return found

    # -- explaining -----------------------------------------------------------------------------

    def explain_row(self, row: Rows, task: str | None = None) -> Explanation:
        """Return Shapley values of the fields: they add up to the logit (of a task that is not binary, to the value).

        ``rest`` is the mean answer of the training rows that are kept. Calibration comes after, and is not explained.

        Raises
        ------
        MissingExtraError
            If the library shap is not installed.
        UnsupportedError
            If no training rows are kept.
        """
        self._check_fitted()
        at, encoded = task_number(self, task), self.encoder_.encode(one_row(row).features, tokens)
        if not len(self.background_):
            raise self._refuse("explain a prediction without training rows to compare with", "fit it again")
        unit, zero = self.kinds_[at].unit
        players = self._players()
        found = shapley(
            lambda rows: zero + unit * self._outputs(rows)[:, at].astype(np.float64),
            self.encoder_,
            self.background_,
            encoded,
            players,
            who=f"an explanation of {self.title}",
            seed=self.record_.seed,
        )
        how = "Shapley values" if found.exact else "estimated Shapley values"
        method = f"{how} of the fields, against {len(self.background_)} training rows"
        return additive(self.encoder_, row, zip(players, found.values.tolist(), strict=True), found.base, method)

    def _players(self) -> tuple[tuple[str, ...], ...]:
        """Return the fields that explanations take as one, each time; crosses follow from the fields that they join."""
        return tuple((f.name,) for f in self.encoder_.fields if f.kind != "cross")

    def _drop_rows(self, users: Sequence[Any]) -> None:
        name = self.user_column
        own = self.background_.codes[:, self.encoder_.layout.single.index(name)]
        self.background_ = self.background_.take(~np.isin(own, self.encoder_.codes_of(name, users)))

    # -- saving ---------------------------------------------------------------------------------

    def _state(self) -> dict[str, np.ndarray]:
        net = {f"net/{name}": t.detach().cpu().numpy() for name, t in self.net_.state_dict().items()}
        encoder = {f"encoder/{name}": array for name, array in self.encoder_.state().items()}
        calibration = {f"calibration/{name}": array for name, array in self.calibration_.state().items()}
        background = {"background/codes": self.background_.codes, "background/numbers": self.background_.numbers}
        return {**net, **encoder, **calibration, **background, "tasks": Task.pack(self.kinds_)}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.kinds_ = Task.unpack(state["tasks"])
        self.tasks_ = tuple(task.name for task in self.kinds_)
        self.encoder_ = RowEncoder.of_state(_under("encoder/", state))
        self.net_ = self._network(self.encoder_.layout, len(self.tasks_), np.random.default_rng(0))
        self.net_.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in _under("net/", state).items()})
        self.net_.eval()
        self.calibration_ = Calibration.of_state(_under("calibration/", state))
        self.background_ = Encoded(np.array(state["background/codes"]), np.array(state["background/numbers"]))

    def export(self) -> Mapping[str, Any]:
        """Return fields and tasks as plain values."""
        self._check_fitted()
        return {"tasks": [vars(task) for task in self.kinds_], "fields": [vars(f) for f in self.encoder_.fields]}


def _under(prefix: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)), np.float32)
