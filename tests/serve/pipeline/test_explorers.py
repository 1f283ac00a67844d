"""Explorers: propensities are the chances with which positions are really filled, and inverse weighting is unbiased."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from palate.errors import ConfigError
from palate.serve.memory.catalogue import Catalogue, Item
from palate.serve.pipeline.caps import Caps
from palate.serve.pipeline.config import CapConfig, ExploreConfig
from palate.serve.pipeline.explorers import Epsilon, Explorer, Greedy, Thompson

POOL = np.array([5, 3, 9, 1])


class Known:
    """Click rates that are known."""

    def counts(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        clicked = np.array([{5: 8.0, 3: 5.0, 9: 1.0, 1: 0.0}[row] for row in rows.tolist()])
        return clicked, np.full(len(rows), 40.0)


def everything_fits(taken: int, left: np.ndarray) -> np.ndarray:
    return np.ones(len(left), bool)


def explorers() -> dict[str, Explorer]:
    return {
        "epsilon": Epsilon(ExploreConfig(kind="epsilon", epsilon=0.4)),
        "thompson": Thompson(ExploreConfig(kind="thompson", draws=64), Known()),
    }


def test_greedy_shows_the_pool_in_its_order() -> None:
    chosen, chances = Greedy().choose(POOL, 3, np.random.default_rng(0), everything_fits)
    assert chosen.tolist() == [0, 1, 2] and chances.tolist() == [1, 1, 1]


def test_epsilon_states_the_chances_with_which_it_draws() -> None:
    rng, explorer = np.random.default_rng(1), explorers()["epsilon"]
    seen: Counter[tuple[int, ...]] = Counter()
    stated: dict[tuple[int, ...], float] = {}
    n = 20_000
    for _ in range(n):
        chosen, chances = explorer.choose(POOL, 2, rng, everything_fits)
        key = tuple(chosen.tolist())
        seen[key] += 1
        stated[key] = float(np.prod(chances))
    assert sum(stated.values()) == pytest.approx(1.0)
    for key, chance in stated.items():
        assert seen[key] / n == pytest.approx(chance, abs=4 * np.sqrt(chance / n))


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_inverse_weighting_is_unbiased(kind: str) -> None:
    rng, explorer = np.random.default_rng(2), explorers()[kind]
    reward, target = np.array([0.1, 0.5, 0.2, 0.9]), np.array([0.1, 0.2, 0.3, 0.4])
    n, total = 4_000, []
    for _ in range(n):
        chosen, chances = explorer.choose(POOL, 1, rng, everything_fits)
        total.append(target[chosen[0]] / chances[0] * reward[chosen[0]])
    assert np.mean(total) == pytest.approx(float(target @ reward), abs=4 * np.std(total) / np.sqrt(n))


def test_thompson_prefers_what_is_clicked_more() -> None:
    rng, explorer = np.random.default_rng(3), explorers()["thompson"]
    first = Counter(int(explorer.choose(POOL, 1, rng, everything_fits)[0][0]) for _ in range(400))
    assert first[0] > first[1] > first[3]


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_short_and_empty_pools(kind: str) -> None:
    explorer = explorers()[kind]
    chosen, chances = explorer.choose(POOL[:2], 5, np.random.default_rng(0), everything_fits)
    assert sorted(chosen.tolist()) == [0, 1] and chances[-1] == 1
    assert len(explorer.choose(POOL[:0], 5, np.random.default_rng(0), everything_fits)[0]) == 0


def test_caps_hold_under_exploration() -> None:
    catalogue = Catalogue()
    for number in range(6):
        catalogue._put(Item(f"i{number}", categories=("a",) if number < 4 else ("b",)))
    rows = np.arange(6)
    explorer = Epsilon(ExploreConfig(kind="epsilon", epsilon=0.5))
    for seed in range(50):
        caps = Caps((CapConfig(field="categories", most=2),), catalogue, rows)
        chosen, chances = explorer.choose(rows, 6, np.random.default_rng(seed), caps.fits)
        counts = Counter(catalogue.items[row].categories[0] for row in rows[chosen].tolist())
        assert counts == {"a": 2, "b": 2}
        assert (chances > 0).all() and (chances <= 1).all()


def test_a_prior_without_counts_is_refused() -> None:
    with pytest.raises(ConfigError, match="prior"):
        ExploreConfig.parse({"kind": "thompson", "prior": (0.0, 1.0)})


@pytest.mark.parametrize("kind", ["greedy", "epsilon", "thompson"])
def test_the_likelihood_of_a_slate_is_the_chance_with_which_it_is_drawn(kind: str) -> None:
    explorer = {"greedy": Greedy(), **explorers()}[kind]
    for number in range(30):
        chosen, chances = explorer.choose(POOL, 3, np.random.default_rng(number), everything_fits)
        again = explorer.likelihood(POOL, chosen, np.random.default_rng(number), everything_fits)
        np.testing.assert_array_equal(again, chances)


def test_what_cant_come_has_no_likelihood() -> None:
    rng = np.random.default_rng(0)
    assert Greedy().likelihood(POOL, np.array([0, 2, 1]), rng, everything_fits).tolist() == [1, 0, 0]
    wide = Epsilon(ExploreConfig(kind="epsilon", epsilon=0.2))
    assert wide.likelihood(POOL, np.array([0, -1, 1]), rng, everything_fits).tolist()[1:] == [0, 0]
