"""Policies choose slates in a pipeline: with exact chances, within limits, and honestly about what they don't know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from palate.contracts.policy import Feedback, Policy
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset
from palate.data.ragged import Ragged
from palate.errors import ConfigError, UnsupportedError
from palate.explore.cascade_ts import CascadeTS
from palate.explore.cascading_rl import CascadingVI
from palate.explore.epsilon_greedy import EpsilonGreedy
from palate.explore.lin_ts import LinTS
from palate.explore.linucb import LinUCB
from palate.recommend.popularity import Popularity
from palate.serve.memory.catalogue import Catalogue, Item
from palate.serve.memory.people import Person
from palate.serve.models.policies import LoadedPolicy, Turn
from palate.serve.pipeline.caps import Caps
from palate.serve.pipeline.config import CapConfig, ExploreConfig, PipelineConfig
from palate.serve.pipeline.explorers import ByPolicy, Fits
from palate.serve.pipeline.sources import Question
from palate.serve.rows.asked import Asker

ITEMS = 8
#: Rows of the catalogue: item ``i{n}`` stands in row ``ITEMS - 1 - n``, and after these come two that no policy knows.
POOL = np.array([2, 8, 5, 7, 0, 9])


class Around:
    """What a pipeline's world says, with one policy."""

    def __init__(self, catalogue: Catalogue, policy: LoadedPolicy) -> None:
        self.catalogue, self.policy = catalogue, policy

    def turn(self, version: str, question: Question, rows: np.ndarray) -> Turn:
        assert version == self.policy.version
        return self.policy.turn(Asker(None, [], 0.0, {"old": 1}, question.context, 0), self.catalogue, rows)


def catalogue() -> Catalogue:
    found = Catalogue()
    for n in [*range(ITEMS - 1, -1, -1), "new", "newer"]:
        found._put(Item(f"i{n}", categories=("even",) if n in (0, 2, 4, 6) else ("odd",)))
    return found


def learnt(policy: Policy, rounds: int = 30, context: Mapping[str, Any] | None = None) -> Policy:
    """Return a policy that learnt that low numbers are clicked."""
    ids = [f"i{n}" for n in range(ITEMS)]
    policy.fit(Dataset.from_columns(["u"] * ITEMS, ids, time=list(range(ITEMS))), seed=3)
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        table = None if context is None else pa.table({name: [value] * 4 for name, value in context.items()})
        asked = Requests(np.full(4, -1, np.int32), Requests.of_histories([[]] * 4).histories, context=table)
        slate = policy.act(asked, 3, rng)
        clicks = (rng.random((4, 3)) < 0.6 / (1 + slate.items)).astype(float)
        policy.update(asked, Feedback(slate, clicks))
    return policy


def loaded(policy: Policy, folder: Path) -> LoadedPolicy:
    return LoadedPolicy("p-1", policy.save(folder / "bundle"))


def explorer(policy: LoadedPolicy, context: Mapping[str, Any] | None = None, **more: Any) -> ByPolicy:
    config = ExploreConfig(kind="policy", model="p-1", **more)
    return ByPolicy(config, Around(catalogue(), policy)).asked(Question(Person(None), context=context or {}))


def all_fit(taken: int, left: np.ndarray) -> np.ndarray:
    return np.ones(len(left), bool)


KINDS: dict[str, Policy] = {
    "epsilon_greedy": EpsilonGreedy(epsilon=0.4),
    "lin_ts": LinTS(draws=16, smoothing=2.0),
    "disjoint": LinTS(draws=16, form="disjoint"),
    "joint": CascadeTS(draws=12, smoothing=1.0),
    "linucb": LinUCB(epsilon=0.3, form="hybrid"),
}


@pytest.fixture(scope="module", params=list(KINDS))
def policy(request: Any, tmp_path_factory: pytest.TempPathFactory) -> LoadedPolicy:
    """Each kind of policy, learnt and loaded."""
    return loaded(learnt(KINDS[request.param]), tmp_path_factory.mktemp(request.param))


def test_what_is_known_comes_with_the_policy_s_own_chances(policy: LoadedPolicy) -> None:
    pool = POOL[[0, 2, 3, 4]]
    numbers = np.array([ITEMS - 1 - row for row in pool.tolist()])
    chooser = explorer(policy)
    for seed in range(20):
        chosen, chances = chooser.choose(pool, 4, np.random.default_rng(seed), all_fit)
        asked = Requests(
            np.array([-1], np.int32), Requests.of_histories([[]]).histories, candidates=Ragged.from_rows([numbers])
        )
        own = policy.policy.propensities(asked, numbers[chosen][None])[0]
        np.testing.assert_allclose(chances, own, rtol=1e-12)
        again = chooser.likelihood(pool, chosen, np.random.default_rng(seed + 1), all_fit)
        np.testing.assert_array_equal(again, chances)


def two_of_a_kind() -> Fits:
    """Return the limits of one slate: two items of each category."""
    return Caps((CapConfig(field="categories", most=2),), catalogue(), POOL).fits


def test_slates_come_as_often_as_their_chances_say(policy: LoadedPolicy) -> None:
    chooser, rng, n = explorer(policy, epsilon=0.3), np.random.default_rng(1), 3_000
    chances = {
        slate: float(chooser.likelihood(POOL, np.array(slate), rng, two_of_a_kind()).prod())
        for slate in permutations(range(len(POOL)), 3)
    }
    assert sum(chances.values()) == pytest.approx(1.0, rel=1e-12)
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(n):
        chosen, stated = chooser.choose(POOL, 3, rng, two_of_a_kind())
        seen[tuple(chosen.tolist())] += 1
        assert stated.prod() == chances[tuple(chosen.tolist())]
    for slate, chance in chances.items():
        assert seen[slate] / n == pytest.approx(chance, abs=5 * np.sqrt(chance / n))
    rows = {tuple(sorted(POOL[list(slate)].tolist())) for slate in seen}
    assert all(sum(catalogue().items[row].categories == ("odd",) for row in some) <= 2 for some in rows)


def test_what_the_policy_does_not_know_gets_its_share(policy: LoadedPolicy) -> None:
    rng, strange = np.random.default_rng(0), np.isin(POOL, [8, 9])
    [(left, share)] = explorer(policy, epsilon=0.3).along(POOL, np.array([0]), rng, all_fit)
    assert share[strange[left]].tolist() == [0.15, 0.15] and share.sum() == pytest.approx(1.0)
    [(left, share)] = explorer(policy, epsilon=0.0).along(POOL, np.array([0]), rng, all_fit)
    assert not share[strange[left]].any()
    chosen, chances = explorer(policy, epsilon=0.0).choose(POOL, 6, rng, all_fit)  # it comes after all that is known
    assert POOL[chosen[-2:]].tolist() == [8, 9] and chances[-2:].tolist() == [1.0, 1.0]
    chooser = explorer(policy, epsilon=0.3)
    chosen, chances = chooser.choose(np.array([9, 8]), 2, np.random.default_rng(2), all_fit)
    assert chances.tolist() == [0.85 if chosen[0] == 0 else 0.15, 1.0] and chooser.note == "2 unknown to the policy"


def test_one_draw_orders_a_joint_slate(tmp_path: Path) -> None:
    """What came before tells which draws are possible, also where limits took items out and a stranger came between."""
    found = loaded(learnt(CascadeTS(draws=4, smoothing=0.0), rounds=2), tmp_path)
    draws, numbers = found.policy._drawn_once()[0], [ITEMS - 1 - row for row in POOL[[0, 2, 3, 4]].tolist()]
    orders = {tuple(np.array([0, 2, 3, 4])[np.argsort(-draw[numbers])].tolist()) for draw in draws}
    chooser, rng = explorer(found, epsilon=0.5), np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        chosen, _ = chooser.choose(POOL, 6, rng, all_fit)
        seen.add(tuple(place for place in chosen.tolist() if POOL[place] < 8))
    assert seen == orders


def test_the_context_changes_the_chances_and_a_missing_one_is_told(tmp_path: Path, caplog: Any) -> None:
    policy = LinUCB(context=("context.evening", "user.old"), form="disjoint", alpha=0.0, reg=0.1)
    policy = learnt(policy, 0)
    table = pa.table({"context.evening": [0.0, 1.0] * 20, "user.old": [1.0] * 40})
    asked = Requests(np.full(40, -1, np.int32), Requests.of_histories([[]] * 40).histories, context=table)
    slate = policy.act(asked, ITEMS, np.random.default_rng(0))
    evening = np.arange(40)[:, None] % 2 == 1
    liked = np.where(evening, slate.items == 7, slate.items == 0)
    policy.update(asked, Feedback(slate, liked.astype(float), np.ones(liked.shape, bool)))
    found = loaded(policy, tmp_path)
    pool, rng = np.arange(ITEMS), np.random.default_rng(0)
    assert found.reads_user
    for value, best in ((0, "i0"), (True, "i7"), ("1", "i7")):
        chosen, chances = explorer(found, {"evening": value}).choose(pool, 3, rng, all_fit)
        assert catalogue().items[pool[chosen[0]]].id == best and chances.tolist() == [1.0] * 3
    for wrong in ({}, {"evening": "late"}, {"evening": None}, {"evening": float("nan")}):
        chooser = explorer(found, wrong, epsilon=0.2)
        [(_, share)] = chooser.along(pool, np.array([0]), rng, all_fit)
        np.testing.assert_allclose(share, [0.825] + [0.025] * 7)
        assert chooser.note == "the policy was not asked: the request lacks 'context.evening'"
    assert found.lacked == {"context.evening": 4}
    assert caplog.text.count("requests lack 'context.evening'") == 1


def test_histories_are_read_where_the_policy_wants_them(tmp_path: Path) -> None:
    found = loaded(learnt(LinUCB(history=True)), tmp_path)
    rows = np.arange(ITEMS)
    chances = [
        found.turn(Asker(None, history, 0.0, {}, {}, 9), catalogue(), rows).chances for history in ([], ["i3", "gone", "i5"])
    ]
    assert chances[0] is not None and chances[1] is not None
    values = [one._values for one in chances]
    own = [found.policy._values(Requests.of_histories([row]))[0][:, ITEMS - 1 - rows] for row in ([], [3, 5])]
    np.testing.assert_allclose(values, own, rtol=1e-12)
    assert not np.allclose(*values)


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    data = Dataset.from_columns(["u"] * 3, ["i0", "i1", "i2"], time=[1, 2, 3])
    with pytest.raises(UnsupportedError, match="no policy"):
        LoadedPolicy("m-1", Popularity().fit(data).save(tmp_path / "model"))
    lists = LoadedPolicy("p-1", CascadingVI(state="", step="").fit(data).save(tmp_path / "lists"))
    with pytest.raises(UnsupportedError, match="CascadingVI can't say what is likely to come next"):
        lists.warm()


def test_wrong_settings_are_told() -> None:
    for model in ("", "active"):
        with pytest.raises(ConfigError, match="a policy is named by its version"):
            PipelineConfig.parse({"explore": {"kind": "policy", "model": model}})
    assert PipelineConfig.parse({"explore": {"kind": "policy", "model": "p"}}).needs == {("policy", "p")}
    assert not PipelineConfig.parse({"explore": {"kind": "epsilon", "model": "p"}}).needs
