"""Beyond accuracy, one value a list: novelty, popularity, diversity, surprise, calibration.

Every function takes :class:`~palate.evaluation.metrics.lists.Lists`, :class:`~palate.evaluation.facts.Facts`, a cut and
options, and returns :class:`Values`. ``L`` is the list cut at ``k``, ``c_i`` the training interactions of an item, ``s(i,
j)`` the likeness of two items: ``by="cooccurrence"`` ``C_ij / sqrt(C_i C_j)`` of users who have both, ``"vectors"`` the
cosine of item vectors,
``"categories"`` ``|A ∩ B| / sqrt(|A| |B|)`` of category sets. Empty lists have no value (NaN).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import numpy as np

from palate.errors import ConfigError
from palate.evaluation.facts import By, Facts
from palate.evaluation.metrics.lists import Lists
from palate.evaluation.metrics.names import Definition, define
from palate.kernels.list_metrics import history_likeness, in_primitive, pair_means, slot_means
from palate.kernels.topic_metrics import alpha_ndcg as _alpha_ndcg
from palate.kernels.topic_metrics import calibration as _calibration
from palate.kernels.topic_metrics import subtopic_recall as _subtopic_recall

INFINITE = float("inf")
Discount = Literal["none", "log2"]
Average = Literal["slots", "users"]


class Values(NamedTuple):
    """A value a list, and its weight in the mean over lists (``None``: all alike)."""

    values: np.ndarray
    weights: np.ndarray | None = None


ListMetric = Callable[..., Values]


def _beyond(bounds: tuple[float, float] = (0.0, 1.0), better: int = 1) -> Callable[[ListMetric], ListMetric]:
    def enter(function: ListMetric) -> ListMetric:
        define(Definition(function.__name__, "beyond accuracy", "lists", function, bounds, better))
        return function

    return enter


def _cut(lists: Lists, k: int | None) -> int:
    return lists.width if k is None else k


def _discounts(k: int, discount: Discount) -> np.ndarray:
    return np.ones(k) if discount == "none" else 1 / np.log2(np.arange(2, k + 2))


def _slots(lists: Lists, k: int, average: Average) -> np.ndarray | None:
    return np.minimum(lists.lengths, k).astype(np.float64) if average == "slots" else None


def _mean(lists: Lists, table: np.ndarray, k: int, average: Average, discount: Discount = "none") -> Values:
    means = slot_means(lists.items, k, table, _discounts(k, discount))
    return Values(means, _slots(lists, k, average))


@_beyond((0.0, INFINITE))
def novelty(
    lists: Lists,
    facts: Facts,
    k: int | None = None,
    *,
    form: Literal["records", "users"] = "records",
    average: Average = "slots",
) -> Values:
    """Novelty: mean of ``-log2 p(i)`` over the recommended slots, in bits.

    ``p(i) = c_i / Σ c`` with ``form="records"``, ``c_i / users`` with ``"users"``. An item without a training interaction
    counts as one interaction, so that it is neither infinite nor left out. ``average="slots"`` is over all slots,
    ``"users"`` over the means of people.
    """
    whole = facts.item_counts.sum() if form == "records" else facts.n_train_users
    bits = -np.log2(np.maximum(facts.item_counts, 1) / max(float(whole), 1.0))
    return _mean(lists, np.maximum(bits, 0), _cut(lists, k), average)


def _popularity_of(facts: Facts) -> np.ndarray:
    return np.minimum(facts.item_counts / max(facts.n_train_users, 1), 1.0)


def _discovery(lists: Lists, table: np.ndarray, k: int, discount: Discount, relevance: str) -> Values:
    weights = _discounts(k, discount)
    if relevance == "no":
        return Values(slot_means(lists.items, k, table, weights))
    found = lists.hits(k)
    worth = np.where(found, weights[np.where(found, lists.ranks, 1) - 1] * table[lists.truth.values], 0.0)
    whole = np.concatenate([[np.nan], np.cumsum(weights)])[np.minimum(lists.lengths, k)]
    return Values(lists.row_sums(worth) / whole)


@_beyond()
def epc(
    lists: Lists,
    facts: Facts,
    k: int | None = None,
    *,
    discount: Discount = "none",
    relevance: Literal["no", "yes"] = "no",
) -> Values:
    """Expected popularity complement: ``Σ_j d_j (1 - p(i_j)) / Σ_j d_j``, ``p(i)`` the share of users who chose the item.

    ``discount="log2"`` sets ``d_j = 1 / log2(j + 1)``; ``relevance="yes"`` counts hits only (the denominator stays).
    Source: Vargas and Castells, RecSys 2011.
    """
    return _discovery(lists, 1 - _popularity_of(facts), _cut(lists, k), discount, relevance)


@_beyond((0.0, INFINITE))
def efd(
    lists: Lists,
    facts: Facts,
    k: int | None = None,
    *,
    discount: Discount = "none",
    relevance: Literal["no", "yes"] = "no",
) -> Values:
    """Expected free discovery: ``Σ_j d_j (-log2 p(i_j)) / Σ_j d_j``; ``p``, options and source as in :func:`epc`.

    An item that nobody chose counts as chosen by one.
    """
    share = np.maximum(_popularity_of(facts), 1 / max(facts.n_train_users, 1))
    return _discovery(lists, -np.log2(share), _cut(lists, k), discount, relevance)


@_beyond((0.0, INFINITE), better=0)
def arp(
    lists: Lists,
    facts: Facts,
    k: int | None = None,
    *,
    form: Literal["count", "share"] = "count",
    average: Average = "slots",
) -> Values:
    """Average recommendation popularity: mean over slots of ``c_i``, or of ``c_i / users`` with ``form="share"``."""
    table = facts.item_counts if form == "count" else facts.item_counts / max(facts.n_train_users, 1)
    return _mean(lists, table, _cut(lists, k), average)


@_beyond()
def aplt(
    lists: Lists,
    facts: Facts,
    k: int | None = None,
    *,
    head: Literal["interactions", "items"] = "interactions",
    share: Annotated[float, (0.0, 1.0)] = 0.2,
    average: Average = "slots",
) -> Values:
    """Share of long-tail items in the lists.

    The head is the fewest most popular items that hold ``share`` of the interactions (``head="interactions"``) or of the
    items (``"items"``); the tail is the rest.
    """
    return _mean(lists, facts.tail(head, share), _cut(lists, k), average)


@_beyond((-1.0, INFINITE), better=0)
def popularity_lift(lists: Lists, facts: Facts, k: int | None = None) -> Values:
    """Popularity lift (ΔGAP): ``(GAP(lists) - GAP(histories)) / GAP(histories)``.

    GAP is the mean over people of the mean ``c_i`` of their items. The value of a person is their own ratio minus 1;
    weighting by the history's mean makes the overall value ΔGAP itself. NaN without a history, or where all its items
    count 0.
    """
    histories = _histories(lists)
    sums = np.bincount(histories.ragged.row_numbers, facts.item_counts[histories.items], minlength=len(lists))
    own = np.divide(sums, histories.lengths, out=np.zeros(len(lists)), where=histories.lengths > 0)
    means = slot_means(lists.items, _cut(lists, k), facts.item_counts, np.ones(_cut(lists, k)))
    return Values(np.divide(means, own, out=np.full(len(lists), np.nan), where=own > 0) - 1, own)


@_beyond((0.0, 2.0))
def diversity(
    lists: Lists, facts: Facts, k: int | None = None, *, by: By = "cooccurrence", discount: Discount = "none"
) -> Values:
    """Intra-list diversity: ``1 - Σ_{a<b} d_a d_b s(i_a, i_b) / Σ_{a<b} d_a d_b`` (1 minus :func:`ils`).

    ``discount="log2"`` weights ranks by ``1 / log2(j + 1)``. NaN below two items. Above 1 only where cosines are negative.
    """
    return Values(1 - ils(lists, facts, k, by=by, discount=discount).values)


@_beyond((-1.0, 1.0), better=-1)
def ils(lists: Lists, facts: Facts, k: int | None = None, *, by: By = "cooccurrence", discount: Discount = "none") -> Values:
    """Intra-list similarity: the (weighted) mean of ``s(i, j)`` over the pairs of a list. NaN below two items."""
    cut = _cut(lists, k)
    return Values(pair_means(lists.items, cut, facts.likeness(by), _discounts(cut, discount)))


@_beyond((0.0, 2.0))
def serendipity(lists: Lists, facts: Facts, k: int | None = None, *, by: By = "cooccurrence") -> Values:
    """Serendipity: mean over the slots of ``rel_j (1 - mean_{h in history} s(i_j, h))``.

    Relevant and unlike what the person knows. NaN without a history.
    """
    histories, cut = _histories(lists), _cut(lists, k)
    found = lists.hits(cut)
    items, rows = lists.truth.values[found], lists.truth.row_numbers[found]
    worth = np.zeros(len(found))
    worth[found] = 1 - history_likeness(items, rows, histories.offsets, histories.items, facts.likeness(by))
    size = np.minimum(lists.lengths, cut)
    means = np.divide(lists.row_sums(worth), size, out=np.full(len(lists), np.nan), where=size > 0)
    return Values(np.where(histories.lengths > 0, means, np.nan))


def _surprising(lists: Lists, facts: Facts, k: int) -> np.ndarray:
    histories = _histories(lists)
    primitive = in_primitive(lists.items, k, facts.popular, histories.offsets, histories.items)
    return (lists.items[:, :k] >= 0) & ~primitive


@_beyond()
def unexpectedness(lists: Lists, facts: Facts, k: int | None = None) -> Values:
    """Unexpectedness: ``|L - PM| / k``, ``PM`` the ``k`` most popular items that the person has not had."""
    cut = _cut(lists, k)
    return Values(np.where(lists.lengths > 0, _surprising(lists, facts, cut).sum(1) / cut, np.nan))


@_beyond()
def unexpected_hits(lists: Lists, facts: Facts, k: int | None = None) -> Values:
    """Unexpected hits: ``|(L - PM) ∩ R| / k``; ``PM`` as in :func:`unexpectedness`."""
    cut = _cut(lists, k)
    found = np.flatnonzero(lists.hits(cut))
    surprising = _surprising(lists, facts, cut)[lists.truth.row_numbers[found], lists.ranks[found] - 1]
    count = np.bincount(lists.truth.row_numbers[found], surprising, minlength=len(lists))
    return Values(np.where(lists.lengths > 0, count / cut, np.nan))


@_beyond((0.0, INFINITE), better=-1)
def calibration(lists: Lists, facts: Facts, k: int | None = None, *, alpha: Annotated[float, (1e-9, 1.0)] = 0.01) -> Values:
    """Calibration error: ``Σ_g p(g) ln(p(g) / q̃(g))``, ``q̃ = (1 - α) q + α p``; 0 is perfect.

    ``p`` and ``q`` are the shares of categories in the history and in the list; an item shares one vote among its categories.
    NaN where either has none. Source: Steck, RecSys 2018.
    """
    histories, topics = _histories(lists), facts.topics()
    args = (lists.items, _cut(lists, k), histories.offsets, histories.items, topics.offsets, topics.values, alpha)
    return Values(_calibration(*args))


@_beyond()
def alpha_ndcg(lists: Lists, facts: Facts, k: int | None = None, *, alpha: Annotated[float, (0.0, 1.0)] = 0.5) -> Values:
    """α-nDCG: a relevant item earns ``Σ_{topics} (1 - α)^{times seen above}``, discounted by ``log2(j + 1)``, over the ideal.

    Topics are categories; the ideal order of the relevant items is found greedily, ties by the order of the truth. NaN
    where no relevant item has a category. Source: Clarke et al., SIGIR 2008.
    """
    topics, truth = facts.topics(), lists.truth
    args = (lists.items, _cut(lists, k), truth.offsets, truth.values, topics.offsets, topics.values, alpha)
    return Values(_alpha_ndcg(*args))


@_beyond()
def subtopic_recall(lists: Lists, facts: Facts, k: int | None = None) -> Values:
    """Subtopic recall: categories of the hits, over categories of all relevant items. NaN where those have none.

    Source: Zhai, Cohen and Lafferty, SIGIR 2003.
    """
    topics, truth = facts.topics(), lists.truth
    args = (lists.items, _cut(lists, k), truth.offsets, truth.values, topics.offsets, topics.values)
    return Values(_subtopic_recall(*args))


@_beyond((-INFINITE, INFINITE), better=0)
def freshness(lists: Lists, facts: Facts, k: int | None = None) -> Values:
    """Freshness: mean age of the recommended items in days, from their first training event to the question.

    Items never seen in training are left out; without times of the questions the last training event stands for them.
    """
    if facts.first_seen is None:
        raise ConfigError("freshness needs times.", where="facts", remedy="build them with Facts.of from data with times")
    cut = _cut(lists, k)
    known = np.isfinite(facts.first_seen)
    asked = np.full(len(lists), float(facts.last_time or 0)) if lists.times is None else lists.times.astype(np.float64)
    start = np.where(known, facts.first_seen, 0.0)
    share = slot_means(lists.items, cut, known, np.ones(cut))
    first = slot_means(lists.items, cut, start, np.ones(cut))
    mean = np.divide(first, share, out=np.full(len(lists), np.nan), where=share > 0)
    return Values((asked - mean) / 86_400)


@_beyond()
def user_coverage(lists: Lists, facts: Facts, k: int | None = None) -> Values:
    """User coverage: the share of people whose list is not empty."""
    return Values((lists.lengths > 0).astype(np.float64))


@_beyond()
def unbiased_recall(lists: Lists, facts: Facts, k: int | None = None, *, power: Annotated[float, (0.0, 2.0)] = 0.5) -> Values:
    """Recall weighted against popularity: ``Σ_{hits} w_i / Σ_{R} w_i``, ``w_i = max(c_i, 1)^{-power}``.

    A look at what exposure bias does to recall, with propensities taken to grow as a power of popularity; ``power=0`` is
    recall.
    """
    weight = np.maximum(facts.item_counts, 1)[lists.truth.values].astype(np.float64) ** -power
    found, whole = lists.row_sums(weight * lists.hits(_cut(lists, k))), lists.row_sums(weight)
    return Values(np.divide(found, whole, out=np.full(len(lists), np.nan), where=whole > 0))


@_beyond()
def unbiased_dcg(lists: Lists, facts: Facts, k: int | None = None, *, power: Annotated[float, (0.0, 2.0)] = 0.5) -> Values:
    """DCG weighted against popularity: ``Σ_{hits} w_i / log2(r_i + 1) / Σ_R w_i``, ``w_i = max(c_i, 1)^{-power}``.

    The self-normalised inverse propensity estimate of the mean discount of relevant items, with propensities taken to grow as
    a power of popularity. It is divided by the number of relevant items, as it were, not by the ideal DCG.
    Source: Yang et al., RecSys 2018.
    """
    cut = _cut(lists, k)
    weight = np.maximum(facts.item_counts, 1)[lists.truth.values].astype(np.float64) ** -power
    discount = np.where(lists.hits(cut), 1 / np.log2(np.maximum(lists.ranks, 1) + 1.0), 0.0)
    found, whole = lists.row_sums(weight * discount), lists.row_sums(weight)
    return Values(np.divide(found, whole, out=np.full(len(lists), np.nan), where=whole > 0))


def _histories(lists: Lists):  # type: ignore[no-untyped-def]
    if lists.histories is None:
        raise ConfigError("this metric needs the histories of the people asked.", remedy="give Lists(…, histories=…)")
    return lists.histories
