"""The draft of one request: fair, with the chances that it has, within limits; as many drafts, no preference between equals."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest

from palate.evaluation.experiments.interleaving import credit, preferences, team_draft
from palate.serve.experiments.interleave import draft

LISTS = [
    ([0, 1, 2, 3], [0, 1, 2, 3]),
    ([0, 1, 2, 3], [3, 2, 1, 0]),
    ([0, 1, 2, 3], [4, 5, 6, 7]),
    ([0, 1, 4, 2], [0, 2, 1, 5]),
    ([0, 1], [1, 2, 3, 4]),
    ([], [1, 2]),
    ([7], []),
    ([], []),
]


class Coins:
    """Throws the coins that are given."""

    def __init__(self, faces: tuple[int, ...]) -> None:
        self.faces = iter(faces)

    def integers(self, sides: int) -> int:
        assert sides == 2
        return next(self.faces)


def every_draft(lists: Any, length: int, fits: Any = None) -> list[Any]:
    """Return the draft of every way in which the coins may fall, all equally likely."""
    falls = product((0, 1), repeat=length)
    return [draft(lists, length, Coins(faces), None if fits is None else fits()) for faces in falls]  # type: ignore[arg-type]


@pytest.mark.parametrize("lists", LISTS)
@pytest.mark.parametrize("length", [1, 3, 4, 6])
def test_chances_are_those_of_the_coins(lists: Any, length: int) -> None:
    """The product of a list's chances is how often the list comes over all falls of the coins."""
    made = every_draft(lists, length)
    often = Counter(found.places for found in made)
    for found in made:
        assert np.prod(found.chances) == pytest.approx(often[found.places] / len(made))
        assert len(set(found.places)) == len(found.places) == min(length, len(set(lists[0]) | set(lists[1])))


@pytest.mark.parametrize("lists", LISTS[:5])
def test_it_is_the_team_draft_of_the_statistics(lists: Any) -> None:
    """Items and teams come as often as in ``team_draft``."""
    exact = Counter((found.places, found.teams) for found in every_draft(lists, 4))
    total, n = sum(exact.values()), 20_000
    table = np.array([[row + [-1] * (4 - len(row)) for row in lists]] * n)
    seen = team_draft(table, 4, np.random.default_rng(0))
    often = Counter((tuple(i[i >= 0].tolist()), tuple(t[t >= 0].tolist())) for i, t in zip(seen.items, seen.teams, strict=True))
    assert often.keys() == exact.keys()
    for key, count in exact.items():
        share = count / total
        assert abs(often[key] / n - share) < 5 * np.sqrt(share * (1 - share) / n) + 1e-9


def test_limits_hold_for_the_whole_list_and_each_team_keeps_its_turns() -> None:
    """At most two of a kind (tens are one kind): the next best that fits comes, and chances are still those of the coins."""
    lists = ([0, 1, 2, 10, 20], [3, 4, 11, 12, 13])

    def fits() -> Any:
        held: Counter[int] = Counter()

        def test(taken: int, left: np.ndarray) -> np.ndarray:
            held[taken // 10] += 1
            return np.array([held[place // 10] < 2 for place in left], bool)

        return test

    made = every_draft(lists, 4, fits)
    often = Counter(found.places for found in made)
    for found in made:
        assert max(Counter(place // 10 for place in found.places).values()) <= 2
        assert Counter(found.teams) == {0: 2, 1: 2}
        assert np.prod(found.chances) == pytest.approx(often[found.places] / len(made))


def experiment(rng: np.random.Generator, people: int, better: float) -> Any:
    """Simulate people who get three drafted lists and click what is good; the second ranking knows a share of what is."""
    owners, clicks, units = [], [], []
    for person in range(people):
        worth = rng.random(12)
        for _ in range(3):
            first = np.argsort(-rng.random(12))
            second = np.argsort(-(better * worth + (1 - better) * rng.random(12)))
            found = draft((first[:6].tolist(), second[:6].tolist()), 4, rng)
            owners.append(found.teams)
            clicks.append(rng.random(4) < 0.4 * worth[list(found.places)])
            units.append(person)
    return preferences(credit(owners, clicks, 2), units, baseline=0, resamples=200)[0]


def test_equal_rankings_are_found_different_at_the_nominal_rate() -> None:
    """1,000 experiments (A/A) of 40 people with three lists each: 5 % alarms at most, and not none."""
    rng = np.random.default_rng(7)
    found = [experiment(rng, 40, 0.0) for _ in range(1_000)]
    alarms = np.mean([one.p < 0.05 for one in found])
    assert 0.005 < alarms <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1_000)
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert covered > 0.92
    assert abs(np.mean([one.delta for one in found])) < 4 * 0.5 / np.sqrt(40_000)


def test_a_better_ranking_wins() -> None:
    rng = np.random.default_rng(8)
    won = [experiment(rng, 150, 0.6) for _ in range(20)]
    assert np.mean([one.p < 0.05 and one.delta > 0 for one in won]) > 0.9
