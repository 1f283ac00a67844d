"""Ranking accuracy: do the relevant items stand high in the list?

Notation: ``R`` the relevant items of a person, ``L`` the list, ``k`` the cut (the width of the lists where it is not given),
``rel_j = 1`` where the item at rank ``j`` is relevant, ``h`` the hits within ``k``, ``r_i`` the rank of a relevant item,
``g_i`` its gain.

Every function takes :class:`~palate.evaluation.metrics.lists.Lists`, a cut and options, and returns ``float64[n]``. A person
without relevant items has no value (NaN) in any of them (save by an option of precision). Lists shorter than ``k`` count as
filled with misses. Means are taken over all people who have a value, those without a hit included.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np

from palate.evaluation.metrics.lists import Lists
from palate.evaluation.metrics.names import Definition, define
from palate.kernels.ranking_metrics import Code, measure

#: How a gain counts: every relevant item as 1; as it is; as ``2^g - 1``.
Gain = Literal["binary", "linear", "exp2"]
Plan = tuple[int, float]
_FORMS = {"binary": 0.0, "linear": 1.0, "exp2": 2.0}


def run(lists: Lists, program: list[tuple[int, int, float]]) -> np.ndarray:
    """Measure several things in one pass: rows of (code, cut, parameter) to ``float64[m, n]``."""
    codes = {code for code, _, _ in program}
    pool = lists.candidates if codes & {Code.AUC, Code.BPREF, Code.PERCENTILE_RANK} else None
    table = np.array(program, np.float64).reshape(-1, 3)
    return measure(lists.ranks, lists.truth.offsets, lists.lengths, table, lists.gains, pool)


def _ranking(
    bounds: tuple[float, float] = (0.0, 1.0),
    *,
    better: int = 1,
    cut: bool = True,
    summary: Literal["mean", "median"] = "mean",
    weights: Callable[..., np.ndarray] | None = None,
) -> Callable[[Callable[..., Plan]], Callable[..., np.ndarray]]:
    """Enter a metric; the function decorated turns options into a code and a parameter."""

    def enter(plan: Callable[..., Plan]) -> Callable[..., np.ndarray]:
        def metric(lists: Lists, k: int | None = None, **options: Any) -> np.ndarray:
            code, parameter = plan(**options)
            return run(lists, [(code, lists.width if k is None else k, parameter)])[0]

        metric.__name__ = metric.__qualname__ = plan.__name__
        metric.__module__, metric.__doc__ = plan.__module__, plan.__doc__
        first = [
            inspect.Parameter("lists", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation="Lists"),
            inspect.Parameter("k", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation="int | None"),
        ]
        own = inspect.signature(plan).parameters.values()
        metric.__signature__ = inspect.Signature([*first, *own], return_annotation="np.ndarray")  # type: ignore[attr-defined]
        define(Definition(plan.__name__, "ranking", "rows", metric, bounds, better, cut, summary, plan, weights))
        return metric

    return enter


@_ranking((0.0, float("inf")))
def hits() -> Plan:
    """Hits: ``Σ_{j<=k} rel_j``."""
    return Code.HITS, 0.0


@_ranking()
def precision(*, denominator: Literal["k", "list"] = "k", unanswered: Literal["drop", "zero"] = "drop") -> Plan:
    """Precision: ``h / k``.

    ``denominator="k"`` keeps ``k`` for shorter lists too; ``"list"`` divides by ``min(k, |L|)`` (0 for an empty list). People
    without a relevant item have no value, as everywhere; with ``unanswered="zero"`` they have 0: every offer missed.
    """
    return Code.PRECISION, float(denominator == "list") + 2 * float(unanswered == "zero")


@_ranking()
def recall(*, denominator: Literal["relevant", "capped"] = "relevant") -> Plan:
    """Recall: ``h / |R|``, or with ``denominator="capped"`` ``h / min(k, |R|)``, which can always reach 1."""
    return Code.RECALL, float(denominator == "capped")


@_ranking()
def f1() -> Plan:
    """F1: ``2 P R / (P + R) = 2 h / (k + |R|)`` of each person's own precision and recall, 0 without a hit."""
    return Code.F1, 0.0


@_ranking()
def hit_rate() -> Plan:
    """Hit rate: 1 where any relevant item stands within ``k``, else 0. Over sessions it is their coverage."""
    return Code.HIT, 0.0


@_ranking()
def mrr() -> Plan:
    """Reciprocal rank: ``1 / min r_i`` of the first hit within ``k``, 0 without one; the mean is over all people."""
    return Code.RR, 0.0


@_ranking((0.0, float("inf")))
def arhr() -> Plan:
    """Average reciprocal hit rank: ``Σ_{j<=k} rel_j / j``; equal to the reciprocal rank where ``|R| = 1``."""
    return Code.ARHR, 0.0


@_ranking()
def map(*, denominator: Literal["capped", "relevant"] = "capped") -> Plan:
    """Average precision: ``(1/D) Σ_{j<=k} rel_j · P@j``; its mean over people is MAP.

    ``D = min(k, |R|)`` with ``denominator="capped"`` (a perfect list reaches 1), ``D = |R|`` with ``"relevant"`` (TREC,
    Spark, ranx). Dividing by the number of hits is not offered: it rewards short lists of lucky hits.
    """
    return Code.AP, float(denominator == "capped")


@_ranking()
def average_recall() -> Plan:
    """Average recall: ``(1/k) Σ_{j<=k} Recall@j = Σ_{hits} (k - r_i + 1) / (k |R|)``."""
    return Code.AVERAGE_RECALL, 0.0


@_ranking((0.0, float("inf")))
def dcg(*, gain: Gain = "binary") -> Plan:
    """Discounted cumulative gain: ``Σ_{hits} G(g_i) / log2(r_i + 1)``; ``G`` as in :func:`ndcg`."""
    return Code.DCG, _FORMS[gain]


@_ranking()
def ndcg(*, gain: Gain = "binary") -> Plan:
    """Normalised discounted cumulative gain: ``DCG@k / IDCG@k``, IDCG that of the person's relevant items in the best order.

    ``G(g) = 1`` with ``gain="binary"`` (every relevant item counts the same, the usual form for recommendations), ``g``
    with ``"linear"``, ``2^g - 1`` with ``"exp2"``. Without gains the three are equal. Negative gains are refused; NaN
    where all gains are 0. The base of the logarithm cancels.
    """
    return Code.NDCG, _FORMS[gain]


@_ranking(cut=False)
def r_precision() -> Plan:
    """R-precision: hits among the first ``|R|`` ranks, over ``|R|``. Ranks beyond the list count as misses."""
    return Code.R_PRECISION, 0.0


@_ranking()
def rbp(*, p: Annotated[float, (0.0, 1.0)] = 0.8, gain: Literal["binary", "linear"] = "binary") -> Plan:
    """Rank-biased precision: ``(1 - p) Σ_{j<=k} G(g_j) p^{j-1}``, ``p`` the chance to read on.

    ``G(g) = 1`` with ``gain="binary"``; ``g`` with ``"linear"``, where gains must lie between 0 and 1.
    Source: Moffat and Zobel, TOIS 2008.
    """
    return (Code.RBP if gain == "binary" else Code.RBP_GAIN), p


@_ranking()
def err(*, max_gain: Annotated[float, (1.0, 60.0)] = 1.0) -> Plan:
    """Expected reciprocal rank: ``Σ_{j<=k} (1/j) s_j Π_{l<j} (1 - s_l)``, ``s = (2^g - 1) / 2^{max_gain}``.

    With ``max_gain=1`` every relevant item has gain 1 (``s = 1/2``). Larger gains than ``max_gain`` are refused.
    Source: Chapelle et al., CIKM 2009.
    """
    return Code.ERR, max_gain


@_ranking()
def bpref() -> Plan:
    """Bpref: ``(1/|R|) Σ_{hits} max(0, 1 - n_i / min(|R|, N))``, ``n_i = min(|R|, irrelevant items above hit i)``.

    All candidates that are not relevant (``N`` of them) count as judged, since a log has no other judgements. NaN where
    ``N = 0``. Source: Buckley and Voorhees, SIGIR 2004, as in trec_eval.
    """
    return Code.BPREF, 0.0


@_ranking()
def auc() -> Plan:
    """Area under the ROC curve: the share of pairs (relevant, irrelevant) in the right order.

    ``Σ_{hits} (N - irrelevant above) + ½ (|R| - h)(irrelevant not listed)``, over ``|R| N``, with ``N`` irrelevant
    candidates: what is not listed is tied at the bottom. Exact where the lists hold the whole catalogue. NaN where ``N = 0``.
    """
    return Code.AUC, 0.0


def _relevant(lists: Lists, **_: Any) -> np.ndarray:
    return lists.relevant.astype(np.float64)


@_ranking(weights=_relevant)
def gauc() -> Plan:
    """Grouped AUC: ``Σ_u w_u AUC_u / Σ_u w_u`` with ``w_u = |R_u|``; values of people are their :func:`auc`."""
    return Code.AUC, 0.0


def _gain_sums(lists: Lists, *, gain: str) -> np.ndarray:
    if gain == "binary" or lists.gains is None:
        return lists.relevant.astype(np.float64)
    return lists.row_sums(lists.gains)


@_ranking(better=-1, weights=_gain_sums)
def percentile_rank(*, gain: Literal["binary", "linear"] = "binary") -> Plan:
    """Mean percentile rank: ``Σ g_i rank%_i / Σ g_i`` over all people and relevant items; ½ for random lists.

    ``rank% = (r - 1) / (candidates - 1)``; items not listed get the mean of the ranks left.
    Source: Hu, Koren and Volinsky, ICDM 2008.
    """
    return Code.PERCENTILE_RANK, _FORMS[gain]


@_ranking((1.0, float("inf")), better=-1)
def first_rank() -> Plan:
    """Rank of the first hit: ``min r_i``; NaN (dropped from the mean, and counted) without a hit within ``k``."""
    return Code.FIRST_RANK, 0.0


@_ranking((1.0, float("inf")), better=-1, summary="median")
def median_rank() -> Plan:
    """Median over people of the rank of the first hit; people without one within ``k`` are dropped, and counted."""
    return Code.FIRST_RANK, 0.0
