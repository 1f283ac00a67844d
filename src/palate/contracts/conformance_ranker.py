"""The conformance suite of rankers: what every one must do, as plain functions that anybody can call.

A ranker enters the catalogue when it passes::

    for name, check in check_ranker(lambda: MyRanker(epochs=2)):
        check()
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from palate.contracts.explanation import Explanation
from palate.contracts.fitted import Fitted
from palate.contracts.ranker import Ranker, Rows
from palate.errors import (
    BundleError,
    ConfigError,
    DataError,
    MissingExtraError,
    NonConformingError,
    NotFittedError,
    PalateError,
    UnsupportedError,
)
from palate.runtime import generator

CHECKS: dict[str, Callable[[RankBench], None]] = {}


def check_ranker(make: Callable[[], Ranker]) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the name of each check and a function that runs it.

    Parameters
    ----------
    make
        Returns a new unfitted ranker, quick to fit on a few hundred rows.
    """
    bench = RankBench(make)
    for name, check in CHECKS.items():
        yield name, partial(check, bench)


def click_rows(n: int = 400, seed: int = 0) -> Rows:
    """Return rows of every kind of column, whose clicks depend on user, item, a number and the last item before."""
    rng = generator(seed, "click rows")
    user, item, price = rng.integers(20, size=n), rng.integers(30, size=n), rng.exponential(10.0, n)
    before = [rng.integers(30, size=rng.integers(0, 6)).tolist() for _ in range(n)]
    same = np.array([len(row) > 0 and row[-1] % 2 == item[at] % 2 for at, row in enumerate(before)])
    logit = 1.5 * np.sin(user) + 1.5 * np.cos(item) - 0.05 * price + same - 0.3
    click = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    prices = price.tolist()
    prices[3] = None
    table = pa.table(
        {
            "user": [f"person-{u}" for u in user],
            "item": [f"i{i}" for i in item],
            "price": pa.array(prices, pa.float64()),
            "tags": [[f"t{t}" for t in rng.integers(5, size=rng.integers(0, 3))] for _ in range(n)],
            "history": [[f"i{i}" for i in row] for row in before],
            "title": [f"word{i % 4} and other{i % 7}" for i in item],
        }
    )
    return Rows(table, {"click": click}, groups=np.repeat(np.arange(n // 10 + 1), 10)[:n].astype(np.int32))


class RankBench:
    """A ranker under test."""

    def __init__(self, make: Callable[[], Ranker]) -> None:
        self.make, self.rows, self.new = make, click_rows(), click_rows(60, seed=1)

    @cached_property
    def fitted(self) -> Ranker:
        """One fitted ranker, for checks that don't change it."""
        return self.make().fit(self.rows, self.new)

    def answers(self, model: Ranker, rows: Rows | None = None) -> np.ndarray:
        """Return predictions of the new rows."""
        return model.predict(self.new if rows is None else rows).values


def rule(name: str) -> Callable[[Callable[[RankBench], None]], Callable[[RankBench], None]]:
    """Enter a check into the suite."""

    def enter(check: Callable[[RankBench], None]) -> Callable[[RankBench], None]:
        CHECKS[name] = check
        return check

    return enter


def need(good: bool | np.bool_, reason: str) -> None:
    """Raise unless the condition holds."""
    if not good:
        raise NonConformingError(reason)


def refused(kinds: type[PalateError] | tuple[type[PalateError], ...], call: Callable[[], Any], what: str) -> None:
    """Raise unless the call raises one of these errors."""
    try:
        call()
    except kinds:
        return
    raise NonConformingError(f"{what} was not refused")


def explained(model: Ranker, rows: Rows, n: int) -> list[Explanation] | None:
    """Return explanations of the first rows, or ``None`` where the ranker (as installed here) says that it can't explain."""
    try:
        return [model.explain_row(rows.slice(at, at + 1)) for at in range(n)]
    except (UnsupportedError, MissingExtraError):
        return None


@rule("the constructor only stores settings")
def _constructor(bench: RankBench) -> None:
    model = bench.make()
    need(set(vars(model)) == {"config"}, f"it sets {sorted(set(vars(model)) - {'config'})}")
    need(isinstance(model, Fitted) and not model.fitted, "it counts as fitted")


@rule("unknown settings are refused")
def _settings(bench: RankBench) -> None:
    refused(ConfigError, lambda: type(bench.make())(no_such_setting=1), "an unknown setting")


@rule("it says that it is not fitted")
def _unfitted(bench: RankBench) -> None:
    refused(NotFittedError, lambda: bench.make().predict(bench.new), "a prediction before the fit")
    refused(NotFittedError, lambda: bench.make().save("nowhere"), "a bundle before the fit")


@rule("predictions are finite, one column a task")
def _predictions(bench: RankBench) -> None:
    found = bench.fitted.predict(bench.new)
    need(found.values.shape == (len(bench.new), 1) and found.tasks == ("click",), "the shape or the tasks are wrong")
    need(bool(((found.values > 0) & (found.values < 1)).all()), "a probability is not between 0 and 1")
    need(len(bench.fitted.predict(bench.new.slice(0, 0))) == 0, "no rows have predictions")


@rule("a batch answers as its rows do one by one")
def _one_by_one(bench: RankBench) -> None:
    whole = bench.answers(bench.fitted)
    single = np.concatenate([bench.answers(bench.fitted, bench.new.slice(at, at + 1)) for at in range(12)])
    need(bool(np.allclose(single, whole[:12], atol=1e-5)), "a row alone is answered in another way")


@rule("columns are read by name, and others are not read")
def _columns(bench: RankBench) -> None:
    table = bench.new.features
    turned = Rows(table.select(table.column_names[::-1]).append_column("other", pa.array(range(table.num_rows))))
    need(np.array_equal(bench.answers(bench.fitted, turned), bench.answers(bench.fitted)), "the order of columns matters")
    refused(DataError, lambda: bench.answers(bench.fitted, Rows(table.drop_columns(["item"]))), "a missing column")


@rule("unknown and missing values are answered")
def _unknown(bench: RankBench) -> None:
    n = 4
    odd = pa.table(
        {
            "user": pa.array(["nobody", None, "", "person-1"]),
            "item": pa.array(["none", None, "", "i1"]),
            "price": pa.array([None, 1e12, -1e12, 0.0], pa.float64()),
            "tags": pa.array([["new"], [], None, ["t1", None]], pa.list_(pa.string())),
            "history": pa.array([None, [], ["none"] * 500, ["i1"]], pa.list_(pa.string())),
            "title": pa.array([None, "", "unheard " * 2_000, "word1"]),
        }
    )
    need(len(bench.answers(bench.fitted, Rows(odd))) == n, "an answer is missing")


@rule("infinite numbers are refused with the row")
def _infinite(bench: RankBench) -> None:
    table = bench.new.features
    prices = table.column("price").to_pylist()
    prices[7] = float("inf")
    wrong = Rows(table.set_column(table.column_names.index("price"), "price", pa.array(prices, pa.float64())))
    try:
        bench.answers(bench.fitted, wrong)
    except DataError as error:
        need("7" in str(error), "the row is not named")
        return
    raise NonConformingError("an infinite number was not refused")


@rule("labels of one class, or none, are refused")
def _classes(bench: RankBench) -> None:
    for labels in (
        {"click": np.ones(len(bench.rows), np.float32)},
        {"click": np.full(len(bench.rows), np.nan, np.float32)},
        {},
    ):
        refused(DataError, partial(bench.make().fit, Rows(bench.rows.features, labels)), "training without two classes")
    refused(DataError, lambda: bench.make().fit(bench.rows.slice(0, 0)), "training without rows")


@rule("the same seed gives the same bits")
def _seed(bench: RankBench) -> None:
    again = bench.make().fit(bench.rows, bench.new)
    need(np.array_equal(bench.answers(again), bench.answers(bench.fitted)), "two fits with one seed differ")


@rule("blocks of training rows don't matter")
def _blocks(bench: RankBench) -> None:
    cuts = [0, 1, 150, 390, len(bench.rows)]
    parts = [bench.rows.slice(a, b) for a, b in itertools.pairwise(cuts)]
    model = bench.make().fit(lambda: parts, bench.new)
    need(bool(np.allclose(bench.answers(model), bench.answers(bench.fitted), atol=1e-4)), "rows in blocks are learnt otherwise")


@rule("a bundle answers bit by bit as the ranker did")
def _bundle(bench: RankBench) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "bundle"
        bench.fitted.save(place)
        loaded = type(bench.fitted).load(place)
        need(np.array_equal(bench.answers(loaded), bench.answers(bench.fitted)), "the loaded ranker answers otherwise")
        need(loaded.config == bench.fitted.config and loaded.tasks == bench.fitted.tasks, "settings or tasks were lost")
        state = place / "state.safetensors"
        state.write_bytes(state.read_bytes()[:-3])
        refused(BundleError, lambda: type(bench.fitted).load(place), "a bundle cut short")


@rule("people can be forgotten")
def _forgotten(bench: RankBench) -> None:
    model = bench.make().fit(bench.rows, bench.new)
    if not model.knows("person-7"):
        return
    others = np.array([user != "person-7" for user in bench.new.features.column("user").to_pylist()])
    before = bench.answers(model)[others]
    need(model.forget(["person-7", "nobody"]) == 1 and not model.knows("person-7"), "somebody is still known")
    need(np.array_equal(bench.answers(model)[others], before), "answers for other people changed")
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "bundle")
        left = [path.name for path in (Path(folder) / "bundle").iterdir() if b"person-7" in path.read_bytes()]
    need(not left, f"the id is still in {left}")


@rule("each request is ranked within itself")
def _ranked(bench: RankBench) -> None:
    order, values = bench.fitted.rank(bench.new), bench.answers(bench.fitted)[:, 0]
    groups = bench.new.groups
    assert groups is not None
    for row in order.tolist():
        need(len({int(groups[at]) for at in row}) == 1, "rows of two requests are mixed")
        need(bool((np.diff(values[row]) <= 0).all()), "a worse row stands first")


@rule("it explains, or says that it can't")
def _explains(bench: RankBench) -> None:
    found = explained(bench.fitted, bench.new, 1)
    need(found is None or len(found[0].evidence) > 0, "an explanation has no evidence")


@rule("an explanation that is exact adds up to a score that goes with the prediction")
def _adds_up(bench: RankBench) -> None:
    found = explained(bench.fitted, bench.new, 8)
    if found is None or not all(one.exact for one in found):
        return
    for one in found:
        total = one.rest + sum(reason.weight for reason in one.evidence)
        need(abs(total - one.score) <= 1e-4 * max(1.0, abs(one.score)), f"parts add up to {total:.6g}, not to {one.score:.6g}")
    values, scores = bench.answers(bench.fitted, bench.new.slice(0, 8))[:, 0], np.array([one.score for one in found])
    order = np.argsort(scores, kind="stable")
    need(bool((np.diff(values[order]) >= -1e-5).all()), "a row with the higher score has the lower prediction")


@rule("an explanation is the same each time, and of a bundle")
def _explains_again(bench: RankBench) -> None:
    found = explained(bench.fitted, bench.new, 2)
    if found is None:
        return
    need(explained(bench.fitted, bench.new, 2) == found, "the same question has two explanations")
    with tempfile.TemporaryDirectory() as folder:
        bench.fitted.save(Path(folder) / "bundle")
        loaded = type(bench.fitted).load(Path(folder) / "bundle")
    need(explained(loaded, bench.new, 2) == found, "the loaded ranker explains otherwise")


@rule("it learns")
def _learns(bench: RankBench) -> None:
    from palate.evaluation.metrics.predictive import auc

    value = auc(bench.rows.labels["click"], bench.answers(bench.fitted, bench.rows)[:, 0])
    need(value > 0.55, f"the AUC on the training rows is {value:.3f}")
