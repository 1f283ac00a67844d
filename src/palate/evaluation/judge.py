"""The judge: ranked lists and held-out answers in, every metric out.

All accuracy metrics come from one pass over the rows. Lists may be judged in blocks of people; :meth:`Judgement.merge`
joins the blocks, and the result has the same bits for any way of cutting them: values of people are concatenated,
catalogue metrics add whole numbers, and means are taken once, at the end, in the order of the people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from palate.data.split import HeldOut
from palate.errors import ConfigError, DataError, nearest
from palate.evaluation.facts import Facts
from palate.evaluation.metrics import Metric, parse
from palate.evaluation.metrics.catalogue import Tally
from palate.evaluation.metrics.lists import Lists
from palate.evaluation.metrics.ranking import run

__all__ = ["Facts", "Judgement", "judge"]


@dataclass(frozen=True, eq=False)
class Judgement:
    """What metrics say of a set of lists.

    Attributes
    ----------
    users
        ``int32[n]`` who was asked, in the order of the values.
    per_user
        For each metric of people: ``float64[n]``; NaN where it is undefined for that person.
    overall
        For each metric: the mean over the people who have a value (weighted, or the median, where the metric says so); for
        catalogue metrics the value over all lists.
    dropped
        For each metric of people: how many have no value.
    metrics
        What was asked for, by name.
    facts
        What is known of the catalogue.
    sampled
        How candidates were sampled (``"99 uniform negatives"``), or ``None`` for full ranking.
    weights, tallies
        What merging needs: weights of people by metric, counts of items by cut.
    """

    users: np.ndarray
    per_user: Mapping[str, np.ndarray]
    overall: Mapping[str, float]
    dropped: Mapping[str, int]
    metrics: Mapping[str, Metric]
    facts: Facts
    sampled: str | None = None
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    tallies: Mapping[int, Tally] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    def value(self, metric: str) -> float:
        """Return the overall value of a metric; any spelling of its name will do."""
        return self.overall[self._name(metric)]

    def without(self, metric: str) -> np.ndarray:
        """Return ``int32`` users without a value of a metric; the text of its formula says when that is."""
        name = self._name(metric)
        return self.users[np.isnan(self.per_user[name])] if name in self.per_user else self.users[:0]

    def _name(self, metric: str) -> str:
        if metric in self.overall:
            return metric
        wanted = parse(metric)
        for name, known in self.metrics.items():
            if known == wanted:
                return name
        raise ConfigError("this metric was not judged.", where="Judgement", value=metric, remedy=nearest(metric, self.overall))

    @staticmethod
    def merge(parts: Sequence[Judgement]) -> Judgement:
        """Join the judgements of blocks of people, in order; exact for any blocks.

        Raises
        ------
        DataError
            If there are no parts, or they differ in metrics, catalogue or sampling.
        """
        if not parts:
            raise DataError("there is nothing to merge.", where="Judgement.merge")
        first = parts[0]
        for part in parts[1:]:
            alike = part.metrics == first.metrics and part.sampled == first.sampled
            if not alike or part.facts.n_items != first.facts.n_items:
                raise DataError(
                    "the parts were judged by different metrics, catalogues or candidates.", where="Judgement.merge"
                )
        return _judgement(
            np.concatenate([p.users for p in parts]),
            {name: np.concatenate([p.per_user[name] for p in parts]) for name in first.per_user},
            {name: np.concatenate([p.weights[name] for p in parts]) for name in first.weights},
            {k: Tally.merge([p.tallies[k] for p in parts]) for k in first.tallies},
            first.metrics,
            first.facts,
            first.sampled,
        )


def judge(
    items: np.ndarray,
    held_out: HeldOut,
    metrics: Sequence[str | Metric],
    facts: Facts,
    *,
    scores: np.ndarray | None = None,
    sampled: str | None = None,
    n_candidates: int | np.ndarray | None = None,
) -> Judgement:
    """Judge ranked lists against held-out answers.

    Parameters
    ----------
    items
        ``int32[n, k]`` lists, best first, one row a question of ``held_out``; -1 ends a shorter row.
    held_out
        Who was asked, what they had done before, and what they chose then.
    metrics
        Names such as ``"ndcg@10"`` or ``"recall@20[denominator=capped]"``.
    facts
        What is known of the catalogue and of training.
    scores
        ``float[n, k]`` scores of the lists, where known: checked for NaN and for descending order.
    sampled
        How candidates were sampled, where they were; carried into every output.
    n_candidates
        Items that could have been listed, for AUC, bpref and percentile ranks; ``None`` means the catalogue without what
        the person has had already (see :class:`~palate.evaluation.metrics.lists.Lists`).

    Raises
    ------
    DataError
        If a list holds an item twice, an unknown item, or an item after the padding; if shapes or scores are wrong.
    ConfigError
        If a metric is unknown, or asks for more ranks than the lists have, or for facts that are not there.
    """
    items = np.asarray(items)
    if items.ndim != 2 or len(items) != len(held_out) or not np.issubdtype(items.dtype, np.integer):
        raise DataError(
            "lists are a whole-number array with one row a question.",
            where="items",
            value=f"{items.dtype}{list(items.shape)} for {len(held_out)} questions",
        )
    asked = {str(name): parse(name) for name in metrics}
    gains = None if held_out.gains is None else held_out.gains.astype(np.float64)
    lists = Lists(items, held_out.truth, facts.n_items, gains, held_out.histories, held_out.times, n_candidates)
    _check(lists, asked, scores)
    per_user, weights = _rows(lists, asked)
    tallies: dict[int, Tally] = {}
    for name, metric in asked.items():
        k = lists.width if metric.k is None else metric.k
        if metric.definition.kind == "lists":
            values, weight = metric.definition.function(lists, facts, k, **metric.options)
            per_user[name] = values
            if weight is not None:
                weights[name] = weight
        elif metric.definition.kind == "catalogue" and _tally_key(metric) not in tallies:
            tallies[_tally_key(metric)] = Tally.of(lists.items, k, facts.n_items)
    ordered = {name: per_user[name] for name in asked if name in per_user}
    return _judgement(held_out.users, ordered, weights, tallies, asked, facts, sampled)


def _check(lists: Lists, asked: Mapping[str, Metric], scores: np.ndarray | None) -> None:
    lists.lengths  # noqa: B018  (finds faulty rows)
    for name, metric in asked.items():
        if metric.k is not None and lists.width < min(metric.k, lists.n_items):
            raise ConfigError(
                f"the lists have {lists.width} ranks.",
                where="metrics",
                value=name,
                remedy=f"recommend with k={metric.k} or more",
            )
        _check_gains(lists, metric)
    if scores is None:
        return
    if scores.shape != lists.items.shape:
        raise DataError("scores and lists have different shapes.", where="scores", value=list(scores.shape))
    listed = lists.items >= 0
    if np.isnan(scores[listed]).any():
        raise DataError("a score is NaN.", where=f"row {int(np.argwhere(np.isnan(scores) & listed)[0, 0])} of scores")
    rising = (scores[:, 1:] > scores[:, :-1]) & listed[:, 1:]
    if rising.any():
        raise DataError(
            "scores rise within a list.", where=f"row {int(np.argwhere(rising)[0, 0])}", remedy="put the best first"
        )


def _check_gains(lists: Lists, metric: Metric) -> None:
    if lists.gains is None or not len(lists.gains):
        return
    gain, top = metric.options.get("gain", "binary"), metric.options.get("max_gain", 1.0)
    if (gain == "binary" and top == 1.0) or metric.definition.kind != "rows":
        return
    low, high = float(lists.gains.min()), float(lists.gains.max())
    limit = 60.0 if gain == "exp2" else 1.0 if metric.definition.name == "rbp" else top if top > 1.0 else float("inf")
    if not (low >= 0 and high <= limit):
        raise DataError(
            f"gains must lie between 0 and {limit:g} here.",
            where=metric.name,
            value=[low, high],
            remedy="choose gain=binary or gain=linear, or a larger max_gain, or map the values first",
        )


def _rows(lists: Lists, asked: Mapping[str, Metric]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return values and weights of all accuracy metrics, from one pass."""
    program, weights = {}, {}
    for name, metric in asked.items():
        definition = metric.definition
        if definition.kind == "rows" and definition.plan is not None:
            code, parameter = definition.plan(**metric.options)
            program[name] = (code, lists.width if metric.k is None else metric.k, parameter)
            if definition.weights is not None:
                weights[name] = definition.weights(lists, **metric.options)
    values = run(lists, list(program.values())) if program else np.empty((0, len(lists)))
    return dict(zip(program, values, strict=True)), weights


def _tally_key(metric: Metric) -> int:
    return 0 if metric.k is None else metric.k


def _judgement(
    users: np.ndarray,
    per_user: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    tallies: Mapping[int, Tally],
    metrics: Mapping[str, Metric],
    facts: Facts,
    sampled: str | None,
) -> Judgement:
    overall, dropped = {}, {}
    for name, metric in metrics.items():
        if name in per_user:
            known = ~np.isnan(per_user[name])
            dropped[name] = int(len(known) - known.sum())
            weight = weights[name][known] if name in weights else None
            overall[name] = _summary(per_user[name][known], weight, metric)
        else:
            overall[name] = metric.definition.function(tallies[_tally_key(metric)], facts, **metric.options)
    return Judgement(users, per_user, overall, dropped, metrics, facts, sampled, weights, tallies)


def _summary(values: np.ndarray, weights: np.ndarray | None, metric: Metric) -> float:
    if not len(values):
        return float("nan")
    if metric.definition.summary == "median":
        return float(np.median(values))
    if weights is None:
        return float(values.sum() / len(values))
    whole = float(weights.sum())
    return float((weights * values).sum() / whole) if whole > 0 else float("nan")
