"""Ranking: candidates in the order of one model, or of a ranker in context, which a cheap ranker may stand before.

The pre-ranker (:class:`palate.serve.pipeline.config.PreRankConfig`) looks over many candidates and leaves the best of them to
what ranks. What a stage doesn't look at, and what the pre-ranker doesn't keep, waits behind all that was ranked, so that limits
of exposure never make a list shorter than it must be.
"""

from __future__ import annotations

import time

import numpy as np

from palate.serve.pipeline.config import PipelineConfig, PreRankConfig, RankConfig
from palate.serve.pipeline.sources import Question, World
from palate.serve.pipeline.trace import Trace


def in_order(
    config: PipelineConfig, question: Question, rows: np.ndarray, scores: np.ndarray, world: World, trace: Trace
) -> tuple[np.ndarray, np.ndarray]:
    """Return candidates in the order that the configuration asks for, with scores that fall along it.

    Parameters
    ----------
    rows, scores
        In the fused order.
    """
    if config.rank.kind == "fuse" or not len(rows):
        return rows, scores
    behind = np.empty(0, rows.dtype)
    if config.pre_rank is not None:
        rows, behind = _kept(config.pre_rank, question, rows, world, trace)
    if config.rank.kind == "ranker":
        rows, scores = _by_ranker(config.rank, question, rows, world, trace)
    else:
        rows, scores = _by_model(config.rank, question, rows, world, trace)
    return np.concatenate([rows, behind]), np.concatenate([scores, _below(scores, len(behind))])


def _kept(
    config: PreRankConfig, question: Question, rows: np.ndarray, world: World, trace: Trace
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the pre-ranker keeps, and what it doesn't (or didn't look at), both by falling expectation."""
    started = time.perf_counter()
    pool, rest = rows[: config.pool], rows[config.pool :]
    given = world.expected(config.model, question, pool, config.task)
    order = np.argsort(-given, kind="stable")
    keep = min(max(config.keep, question.k), len(pool))

    def words(place: int, at: int) -> str:
        kept = "kept" if at < keep else "not kept"
        return f"pre-rank: {place + 1} to {at + 1}, {given[place]:.4f} expected, {kept}"

    trace.reordered(pool, order, words, still=True)
    trace.add(f"pre-rank by {config.model}", len(rows), keep, started, f"{len(rest)} beyond its pool" if len(rest) else "")
    return pool[order[:keep]], np.concatenate([pool[order[keep:]], rest])


def _by_model(
    config: RankConfig, question: Question, rows: np.ndarray, world: World, trace: Trace
) -> tuple[np.ndarray, np.ndarray]:
    """Put candidates in the order of one model; those that it doesn't know come last, in the order they had."""
    started = time.perf_counter()
    given = world.model(config.model).score(question.person, rows).astype(np.float64)
    order = np.argsort(-given, kind="stable")
    trace.reordered(rows, order, lambda place, at: f"rank: {place + 1} to {at + 1} by the model's score")
    unknown = int(np.isneginf(given).sum())
    floor = float(given[np.isfinite(given)].min(initial=0.0)) - 1.0
    trace.add("rank", len(rows), len(rows), started, f"{unknown} unknown to the model, put last" if unknown else "")
    return rows[order], np.where(np.isfinite(given), given, floor)[order]


def _by_ranker(
    config: RankConfig, question: Question, rows: np.ndarray, world: World, trace: Trace
) -> tuple[np.ndarray, np.ndarray]:
    """Put the best candidates in the order of a ranker; those beyond its pool follow, below all of them."""
    started = time.perf_counter()
    pool, rest = rows[: config.pool], rows[config.pool :]
    given = world.expected(config.model, question, pool, config.task)
    order = np.argsort(-given, kind="stable")
    trace.reordered(pool, order, lambda place, at: f"rank: {place + 1} to {at + 1}, {given[place]:.4f} expected")
    trace.add(f"rank by {config.model}", len(rows), len(rows), started, f"{len(rest)} beyond its pool" if len(rest) else "")
    return np.concatenate([pool[order], rest]), np.concatenate([given[order], _below(given, len(rest))])


def _below(scores: np.ndarray, count: int) -> np.ndarray:
    """Return falling scores below all that are given (and below 0)."""
    return float(scores.min(initial=0.0)) - 1.0 - np.arange(count)
