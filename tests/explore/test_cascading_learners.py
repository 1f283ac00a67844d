"""Learners of cascades: what they learn from, how their regret compares, when they stop and with what."""

from __future__ import annotations

import numpy as np
import pytest

from palate.errors import ConfigError, DataError
from palate.explore.cascading_bpi import identify
from palate.explore.cascading_learners import Cascade, CascadingBPI, EpsilonGreedy, Myopic, OptimisticVI, Thompson, up_to_click
from palate.explore.cascading_lists import ListActions
from palate.kernels.cascade_plan import solve
from palate.simulate.cascading import CascadingWorld, bored_world, merged, random_world, run


def tiny(seed: int = 0) -> CascadingWorld:
    return random_world(2, 4, np.random.default_rng(seed), horizon=2, length=2)


def test_only_what_was_looked_at_is_learnt_from() -> None:
    learner = OptimisticVI(tiny().cascade, visits=100)
    lists = np.array([[3, 1], [2, 0], [0, -1]], np.int32)
    states, clicks, nexts = (np.array(x, np.int32) for x in ([0, 1, 1], [0, -1, -1], [1, 0, -1]))
    learner.observe(states, lists, clicks, nexts)
    np.testing.assert_array_equal(learner.counts.examined, [[0, 0, 0, 1], [2, 0, 1, 0]])
    np.testing.assert_array_equal(learner.counts.clicked, [[0, 0, 0, 1], [0, 0, 0, 0]])
    assert learner.counts.moved[0, 3, 1] == 1 and learner.counts.moved[1, 4, 0] == 1, "no click has moves of its own"
    assert learner.counts.visits.sum() == 2, "where the next state is not known, nothing is learnt of moves"


def test_counting_the_whole_list_would_bias_the_chances_down() -> None:
    world, rng = tiny(), np.random.default_rng(1)
    lists = np.full((2, 2, 2), -1, np.int32)
    lists[:] = [0, 1]
    right, wrong = (OptimisticVI(world.cascade, visits=1) for _ in range(2))
    states, clicks = world.play(lists, 20_000, rng)
    for h in range(2):
        s, shown = states[:, h], lists[h, states[:, h]]
        right.observe(s, shown, clicks[:, h], states[:, h + 1])
        wrong.observe(s, shown, clicks[:, h], states[:, h + 1], np.ones(shown.shape, bool))
    shares = [(x.counts.clicked[:, 1] / x.counts.examined[:, 1]) for x in (right, wrong)]
    np.testing.assert_allclose(shares[0], world.chances[:, 1], atol=0.03)
    assert (shares[1] < world.chances[:, 1] - 0.05).any()
    moved = right.counts.moved / right.counts.visits[:, :, None].clip(1)
    np.testing.assert_allclose(moved[:, [0, 1, 4]], world.moves[:, [0, 1, 4]], atol=0.05)


def test_positions_up_to_the_click() -> None:
    assert up_to_click(np.array([0, 2, -1]), 3).tolist() == [[True, False, False], [True] * 3, [True] * 3]


def test_where_clicks_dont_matter_to_what_follows_the_most_attractive_are_shown() -> None:
    world = merged(random_world(3, 6, np.random.default_rng(2)))
    even = CascadingWorld(world.chances, world.moves, np.pad(np.ones((3, 6)), ((0, 0), (0, 1))), world.start)
    lists = solve(even.chances, even.moves, even.rewards, 3, 3).lists
    for h in range(3):
        for s in range(3):
            assert set(lists[h, s].tolist()) == set(np.argsort(-even.chances[s])[:3].tolist())


def test_where_clicks_dont_matter_to_what_follows_every_step_shows_the_list_of_the_last() -> None:
    """What follows adds the same to every worth, that of no click too: an ordinary cascading bandit in each state."""
    for seed in range(4):
        world = bored_world(np.random.default_rng(seed), states=3, items=6)
        lists, moving = merged(world).best.lists, world.best.lists
        assert (lists == lists[-1]).all() and not (moving == moving[-1]).all()


def test_the_exhaustive_oracle_plans_the_same() -> None:
    """Whatever was seen, both plans have the same bounds; they differ only where lists are worth the same by these."""
    world, rng = bored_world(np.random.default_rng(0), states=3, items=6), np.random.default_rng(1)
    learner, other = (OptimisticVI(world.cascade, visits=300, scale=0.1, oracle=o) for o in ("best_perm", "exhaustive"))
    for _ in range(30):
        run(world, learner, 10, rng)
        other.counts = learner.counts
        np.testing.assert_allclose(other.bounds().upper, learner.bounds().upper, atol=1e-9)


@pytest.fixture(scope="module")
def regrets() -> dict[str, float]:
    """Mean regret of learners after the same visits, over worlds."""
    visits, total = 1_500, {}
    for seed in range(2):
        world = bored_world(np.random.default_rng(seed), states=3, items=6)
        c, shared = world.cascade, {"visits": visits, "scale": 0.03}
        learners = {
            "vi": OptimisticVI(c, **shared),
            "lists": ListActions(c, np.random.default_rng(0), **shared),
            "myopic": Myopic(c, **shared),
            "blind": Myopic(c, blind=True, **shared),
            "thompson": Thompson(c),
            "epsilon": EpsilonGreedy(c, epsilon=0.05),
        }
        for name, learner in learners.items():
            found = run(world, learner, visits, np.random.default_rng(seed)).regret[-1]
            total[name] = total.get(name, 0.0) + found / 2
    return total


def test_learners_rank_as_they_should(regrets: dict[str, float]) -> None:
    assert regrets["vi"] < 0.5 * regrets["lists"]
    assert regrets["vi"] < 0.3 * regrets["myopic"], "a bandit goes for the bait at every visit"
    assert regrets["vi"] < 0.6 * regrets["blind"]
    assert regrets["thompson"] < 0.3 * regrets["myopic"]
    assert regrets["epsilon"] < 0.6 * regrets["myopic"]


def test_regret_of_a_bandit_is_linear_and_that_of_cascading_vi_is_not() -> None:
    world = bored_world(np.random.default_rng(0), states=3, items=6)
    late = {}
    for name, learner in {
        "vi": OptimisticVI(world.cascade, visits=4_000, scale=0.03),
        "myopic": Myopic(world.cascade, visits=4_000, scale=0.03),
    }.items():
        found = run(world, learner, 4_000, np.random.default_rng(0), points=9)
        late[name] = (found.regret[-1] - found.regret[-2]) / (found.visits[-1] - found.visits[-2]) / (found.regret[-1] / 4_000)
    assert late["vi"] < 0.75 < 0.9 < late["myopic"]


@pytest.mark.parametrize("kind", ["best_perm", "exhaustive", "lists"])
def test_the_plan_found_is_as_good_as_told(kind: str) -> None:
    """The bound on the gap holds in every one of many runs, and it is what makes them stop."""
    gaps = []
    for seed in range(8):
        world, rng = tiny(seed), np.random.default_rng(seed)
        if kind == "lists":
            learner: CascadingBPI | ListActions = ListActions(world.cascade, rng, scale=0.05, delta=0.05, stopping=True)
        else:
            learner = CascadingBPI(world.cascade, scale=0.05, delta=0.05, oracle=kind)  # type: ignore[arg-type]
        found = identify(learner, world.play, world.start, 0.5, rng, batch=50, most=100_000)
        assert found.stopped and 0 < found.visits < 100_000 and found.gap <= 0.5
        gaps.append(world.optimum - world.value(found.lists))
    assert min(gaps) >= -1e-9 and max(gaps) <= 0.5


def test_with_the_constants_of_the_theory_it_stops_too() -> None:
    world, rng = random_world(1, 2, np.random.default_rng(3), horizon=2, length=1), np.random.default_rng(0)
    found = identify(CascadingBPI(world.cascade), world.play, world.start, 1.0, rng, batch=500, most=2_000_000)
    assert found.stopped and found.visits > 500
    assert world.optimum - world.value(found.lists) <= 1.0


def test_a_finer_answer_takes_more_visits_and_an_end_is_kept() -> None:
    world = tiny()
    visits = [
        identify(CascadingBPI(world.cascade, scale=0.05), world.play, world.start, e, np.random.default_rng(0), batch=20).visits
        for e in (0.8, 0.4, 0.2)
    ]
    assert visits[0] < visits[1] < visits[2]
    cut = identify(CascadingBPI(world.cascade), world.play, world.start, 0.01, np.random.default_rng(0), batch=30, most=100)
    assert not cut.stopped and cut.visits == 100 and cut.gap > 0.01


def test_a_run_is_repeatable() -> None:
    world = bored_world(np.random.default_rng(0), states=3, items=6)
    for make in (lambda: Thompson(world.cascade), lambda: EpsilonGreedy(world.cascade, epsilon=0.3)):
        first, second = (run(world, make(), 200, np.random.default_rng(4)).regret for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        Cascade(np.array([[2.0, 0.0]]), 1, 1)
    with pytest.raises(DataError, match="no click"):
        Cascade(np.array([[0.5, 0.5]]), 1, 1)
    with pytest.raises(ConfigError, match="horizon"):
        Cascade(np.array([[0.5, 0.0]]), 0, 1)
    with pytest.raises(ConfigError, match="too many lists"):
        OptimisticVI(Cascade(np.pad(np.ones((1, 100)), ((0, 0), (0, 1))), 1, 4), visits=1, oracle="exhaustive")
    with pytest.raises(ConfigError, match="prior"):
        Thompson(tiny().cascade, prior=(0.0, 1.0))
    with pytest.raises(ConfigError, match="epsilon"):
        identify(CascadingBPI(tiny().cascade), tiny().play, tiny().start, 0.0, np.random.default_rng(0))
