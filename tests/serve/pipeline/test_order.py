"""The order by value in a pipeline: the best list first, exact propensities, a trace that tells."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.serve.memory.catalogue import Catalogue, Item
from palate.serve.memory.people import Person
from palate.serve.pipeline.config import OrderConfig, PipelineConfig
from palate.serve.pipeline.order import CascadeOrder
from palate.serve.pipeline.pipeline import Pipeline
from palate.serve.pipeline.sources import Question

CLICKED, SHOWN = np.array([9.0, 1, 5, 0, 4, 8]), np.array([20.0, 20, 20, 0, 20, 20])
PRICES = [5.0, 30.0, 10.0, 20.0, None, 1.0]


class World:
    """Six items, trending in their order."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        for number, price in enumerate(PRICES):
            attributes = {"margin": 6 - number, "kind": "a"} if number != 2 else {}
            self.catalogue._put(Item(f"i{number}", price=price, attributes=attributes))

    def trending(self, hours: float, types: tuple[str, ...], limit: int) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(6, dtype=np.int32)[:limit], np.linspace(1, 0, 6, dtype=np.float32)[:limit]

    def counts(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return CLICKED[rows], SHOWN[rows]

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody asks for {name}")


def pipeline(**keys: Any) -> Pipeline:
    world = World()
    config = PipelineConfig.parse({"sources": [{"kind": "trending"}], **keys})
    return Pipeline(config, world, world)  # type: ignore[arg-type]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def rows(answer: Any) -> list[int]:
    return [pick.row for pick in answer.picks]


QUESTION = Question(Person(None), k=3)


def test_the_best_list_of_all_comes_first() -> None:
    answer = pipeline(order={"kind": "cascade", "value": "price"}).answer(QUESTION, rng)
    chances, values = (1 + CLICKED) / (21 + SHOWN), np.array([price or 0.0 for price in PRICES])

    def worth(items: tuple[int, ...]) -> float:
        reached, total = 1.0, 0.0
        for a in items:
            total, reached = total + reached * chances[a] * values[a], reached * (1 - chances[a])
        return total

    best = max(permutations(range(6), 3), key=worth)
    assert tuple(rows(answer)) == best
    step = next(step for step in answer.trace.steps if step.step == "order cascade")
    assert step.note == f"worth {worth(best):.4g} a visit; 1 without a price, put last"
    assert answer.trace.moves[best[0]] == [f"cascade: {best[0] + 1} to 1"]
    assert all(pick.propensity == 1 for pick in answer.picks)


def test_without_a_value_the_most_clicked_come_first() -> None:
    answer = pipeline(order={"kind": "cascade"}).answer(QUESTION, rng)
    assert rows(answer) == np.argsort(-(1 + CLICKED) / (21 + SHOWN), kind="stable")[:3].tolist()


def test_what_is_worth_no_more_than_no_click_comes_last_and_nothing_is_lost() -> None:
    whole = pipeline(order={"kind": "cascade", "value": "price", "rest": 10.0}).answer(Question(Person(None), k=6), rng)
    assert rows(whole) == [1, 3, 0, 2, 4, 5]
    attribute = pipeline(order={"kind": "cascade", "value": "margin"}).answer(Question(Person(None), k=6), rng)
    assert rows(attribute) == [0, 1, 3, 4, 5, 2]
    assert rows(pipeline(order={"kind": "cascade", "value": "kind"}).answer(QUESTION, rng)) == [0, 1, 2]


def test_the_pool_and_pins_are_left_alone() -> None:
    small = pipeline(order={"kind": "cascade", "value": "price", "pool": 3}).answer(Question(Person(None), k=3), rng)
    assert rows(small) == [1, 2, 0]
    pinned = pipeline(order={"kind": "cascade", "value": "price"}, pinned=["i5"]).answer(QUESTION, rng)
    free = pipeline(order={"kind": "cascade", "value": "price"}).answer(Question(Person(None), k=2), rng)
    assert rows(pinned) == [5, *rows(free)], "after the pin stands the best list of the places that are left"


def best_within(k: int, allowed: Any, pool: range = range(6)) -> tuple[int, ...]:
    """Return the best list by trying every one that is allowed."""
    chances, values = (1 + CLICKED) / (21 + SHOWN), np.array([price or 0.0 for price in PRICES])

    def worth(items: tuple[int, ...]) -> float:
        reached, total = 1.0, 0.0
        for a in items:
            total, reached = total + reached * chances[a] * values[a], reached * (1 - chances[a])
        return total

    return max((items for items in permutations(pool, k) if allowed(items)), key=worth)


def test_limits_of_exposure_are_kept_by_the_best_list_itself() -> None:
    one = {"field": "kind", "most": 1}  # all but item 2 are of kind a
    free = pipeline(order={"kind": "cascade", "value": "price"}).answer(QUESTION, rng)
    answer = pipeline(order={"kind": "cascade", "value": "price"}, caps=[one]).answer(QUESTION, rng)
    assert tuple(rows(answer)) == best_within(2, lambda items: 2 in items)
    assert "without limits" in next(step for step in answer.trace.steps if step.step == "order cascade").note
    wide = pipeline(order={"kind": "cascade", "value": "price"}, caps=[{"field": "kind", "most": 6}]).answer(QUESTION, rng)
    assert rows(wide) == rows(free) and not any("without limits" in step.note for step in wide.trace.steps)


def test_leaving_items_out_of_the_best_free_list_would_be_worse() -> None:
    """Of each maker one: what the free list would lose to the limit is not what the best list holds."""
    made = pipeline(order={"kind": "cascade", "value": "price"}, caps=[{"field": "maker", "most": 1}])
    catalogue = made.world.catalogue
    for number, maker in enumerate("xyzxyz"):
        catalogue.items[number].attributes["maker"] = maker
    makers = "xyzxyz"
    best = best_within(3, lambda items: len({makers[a] for a in items}) == 3)
    assert tuple(rows(made.answer(QUESTION, rng))) == best
    free = rows(pipeline(order={"kind": "cascade", "value": "price"}).answer(Question(Person(None), k=6), rng))
    walked, seen = [], set[str]()
    for row in free:
        if makers[row] not in seen:
            walked.append(row)
            seen.add(makers[row])
    assert tuple(walked[:3]) != best


def test_pinned_items_count_against_the_limits() -> None:
    caps = [{"field": "kind", "most": 2}]
    made = pipeline(order={"kind": "cascade", "value": "price"}, caps=caps, pinned=["i5"])
    answer = rows(made.answer(QUESTION, rng))
    assert answer == [5, *best_within(2, lambda items: 2 in items, range(5))]
    assert rows(
        pipeline(order={"kind": "cascade"}, caps=[{"field": "kind", "most": 1}], pinned=["i5"]).answer(QUESTION, rng)
    ) == [5, 2]


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_an_explorer_draws_from_this_order_with_exact_chances(kind: str) -> None:
    made = pipeline(order={"kind": "cascade", "value": "price"}, explore={"kind": kind, "epsilon": 0.3, "draws": 32})
    best = rows(made.answer(QUESTION, rng, explore=False))
    firsts = []
    for seed in range(200):
        answer = made.answer(QUESTION, lambda seed=seed: np.random.default_rng(seed))  # type: ignore[misc]
        shown, told = np.array(rows(answer)), np.array([pick.propensity for pick in answer.picks])
        np.testing.assert_allclose(made.likelihood(QUESTION, shown, np.random.default_rng(seed)), told)
        firsts.append(shown[0])
        if kind == "epsilon":
            first_chance = 0.3 / 6 + 0.7 * (shown[0] == best[0])
            assert told[0] == pytest.approx(first_chance)
    if kind == "epsilon":
        assert np.mean(np.array(firsts) == best[0]) == pytest.approx(0.75, abs=0.1)


def test_a_prospect_tells_what_might_come_and_draws_from_just_that() -> None:
    made = pipeline(explore={"kind": "epsilon", "epsilon": 0.5}, pinned=["i5"])
    shown = np.array(rows(made.answer(QUESTION, rng)))
    found = made.prospect(QUESTION, shown, rng(), draws=600)
    assert found.steps[0][0].tolist() == [5] and [len(chances) for _, chances in found.steps] == [1, 5, 4]
    for at, (left, chances) in enumerate(found.steps):
        assert chances.sum() == pytest.approx(1.0) and not set(left.tolist()) & set(shown[:at].tolist())
    second = np.array([slate[1] for slate in found.slates])
    for row, chance in zip(*found.steps[1], strict=True):
        assert np.mean(second == row) == pytest.approx(chance, abs=0.08)
    elsewhere = made.prospect(QUESTION, np.array([0, 1, 2]), rng())
    assert (
        len(elsewhere.steps) == 1 and elsewhere.likelihood(np.array([0, 1, 2])).tolist() == [0, 0, 0] and not elsewhere.slates
    )


def test_chances_of_scores_by_hand() -> None:
    order = CascadeOrder(OrderConfig(kind="cascade", chance="score", slope=2.0, offset=-1.0), World())
    np.testing.assert_allclose(order._chances(np.arange(2), np.array([0.5, 1e9])), [0.5, 1.0])
    expected = CascadeOrder(OrderConfig(kind="cascade", chance="expected"), World())
    np.testing.assert_allclose(expected._chances(np.arange(3), np.array([0.3, 0.0, -2.0])), [0.3, 0.0, 0.0])
    rates = CascadeOrder(OrderConfig(kind="cascade", prior=(1.0, 1.0)), World())
    np.testing.assert_allclose(rates._chances(np.array([0, 3]), np.zeros(2)), [10 / 22, 0.5])


def test_wrong_settings_are_refused() -> None:
    for chance, ranked in (("score", "fuse"), ("expected", "fuse"), ("expected", "model"), ("score", "ranker")):
        with pytest.raises(ConfigError, match="click chances"):
            pipeline(order={"kind": "cascade", "chance": chance}, rank={"kind": ranked, "model": "v1"})
    with pytest.raises(ConfigError, match="order"):
        pipeline(order={"kind": "cascade", "prior": (0.0, 1.0)})
    with pytest.raises(ConfigError, match="order"):
        pipeline(order={"kind": "cascades"})
    assert pipeline().order is None
