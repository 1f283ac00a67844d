"""Checks of what a policy shows, says of chance, and learns (see :mod:`palate.contracts.conformance_policy`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np

from palate.contracts.conformance_bench import expect, raises, same_bits
from palate.contracts.conformance_policy_bench import (
    DRAWN,
    ERRORS,
    K,
    PolicyBench,
    check,
    clicks,
    state_of,
    stated,
    well_formed,
)
from palate.contracts.policy import Feedback, Slate
from palate.data.dataset import Dataset
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.errors import DataError, UnsupportedError
from palate.runtime import generator


@check
def slates_are_well_formed(bench: PolicyBench) -> None:
    """Before and after learning: shapes, distinct items, propensities above 0 and not above 1."""
    for policy in (bench.make().fit(bench.dataset, seed=0), bench.taught):
        for n in (0, 1, 20):
            well_formed(policy.act(bench.asked(n), K, generator(0)), n, K, bench.n_items)
        expect(raises(DataError, lambda p=policy: p.act(bench.asked(1), 0, generator(0))), "k = 0 is accepted")  # type: ignore[misc]


@check
def exclude_and_candidates_are_obeyed(bench: PolicyBench) -> None:
    """What is excluded, and what is no candidate, is never shown; wrong numbers are refused."""
    policy, n = bench.taught, 50
    asked = replace(bench.asked(n), candidates=Ragged.from_rows([[0, 2, 4, 6, 8]] * n), exclude=Ragged.from_rows([[4, 9]] * n))
    slate = policy.act(asked, K, generator(1))
    well_formed(slate, n, K, bench.n_items)
    expect(bool(np.isin(slate.items, [0, 2, 6, 8, -1]).all()), "an item is shown that is excluded, or no candidate")
    nothing = policy.act(replace(asked, candidates=Ragged.empty(n)), K, generator(1))
    expect(bool((nothing.items == -1).all()), "something is shown although there are no candidates")
    for number in (bench.n_items, -1):
        rows = Ragged.from_rows([[number]] * n)
        for wrong in (replace(asked, exclude=rows), replace(asked, candidates=rows)):
            refused = raises(DataError, lambda a=wrong: policy.act(a, K, generator(1)))  # type: ignore[misc]
            expect(refused, f"item number {number} is accepted to exclude, or as a candidate")


@check
def k_may_exceed_the_catalogue(bench: PolicyBench) -> None:
    """A slate longer than the catalogue ends in empty positions."""
    k = bench.n_items + 3
    slate = bench.taught.act(bench.asked(3), k, generator(1))
    well_formed(slate, 3, k, bench.n_items)
    expect(bool((slate.items[:, bench.n_items :] == -1).all()), "more items are shown than there are")


@check
def one_item_catalogue(bench: PolicyBench) -> None:
    """A catalogue of one item is taken up, shown, and learnt from."""
    policy = bench.make().fit(Dataset.from_columns(["a", "b"], ["only"] * 2, time=[1, 2]), seed=0)
    asked = replace(bench.asked(2), users=np.full(2, -1, np.int32), histories=Histories.empty(2))
    for _ in range(3):
        slate = policy.act(asked, 3, generator(2))
        expect(bool(np.isin(slate.items, [0, -1]).all() and (slate.items[:, 1:] == -1).all()), "there is one item to show")
        policy.update(asked, Feedback(slate, np.where(slate.items >= 0, 1.0, 0.0)))
    banned = policy.act(replace(asked, exclude=Ragged.from_rows([[0], [0]])), 3, generator(2))
    expect(bool((banned.items == -1).all()), "the only item is shown although it is excluded")


@check
def unknown_people_are_served(bench: PolicyBench) -> None:
    """Nobody in particular, without a history, gets a slate, and teaches."""
    policy = bench.fitted(rounds=3)
    nobody = replace(bench.asked(4), users=np.full(4, -1, np.int32), histories=Histories.empty(4))
    slate = policy.act(nobody, K, generator(0))
    well_formed(slate, 4, K, bench.n_items)
    policy.update(nobody, Feedback(slate, clicks(slate, generator(1))))


@check
def acting_teaches_nothing(bench: PolicyBench) -> None:
    """Only ``update`` changes what is known."""
    policy = bench.fitted(rounds=3)
    before = state_of(policy)
    policy.act(bench.asked(5), K, generator(0))
    same_bits(before, state_of(policy), "the states before and after an answer")


@check
def batch_equals_one_by_one(bench: PolicyBench) -> None:
    """Requests answered one by one with one generator get the slates of the batch, where draws are not made anew for each."""
    policy, rng, n = bench.taught, generator(9), 12
    if not policy.fixed_draws:
        return
    whole = policy.act(bench.asked(n), K, generator(9))
    for row in range(n):
        alone = policy.act(bench.asked(n).take(np.array([row])), K, rng)
        expect(bool((alone.items[0] == whole.items[row]).all()), f"request {row} is answered otherwise alone than in a batch")
        same = np.allclose(alone.propensities[0], whole.propensities[row], rtol=1e-9)
        expect(same, f"request {row} has other propensities alone than in a batch")


# -- chances --------------------------------------------------------------------------------------------


@check
def logged_propensities_are_those_stated(bench: PolicyBench) -> None:
    """Where a policy can say how likely a slate is, it says what it logged."""
    policy, asked = bench.taught, bench.asked(40)
    slate = policy.act(asked, K, generator(4))
    found = stated(policy, asked, slate.items)
    if found is None:
        return
    expect(found.shape == slate.items.shape, f"the propensities have the shape {found.shape}")
    expect(bool(((found >= 0) & (found <= 1)).all()), "a stated chance lies outside 0 to 1")
    same = not policy.fixed_draws or np.allclose(found, slate.propensities, rtol=1e-9, atol=0)
    expect(same, "the policy logs other propensities than it states")
    banned = replace(asked, exclude=Ragged.from_rows([[int(max(row[0], 0))] for row in slate.items]))
    refound = policy.propensities(banned, slate.items)
    shown = slate.items[:, 0] >= 0
    expect(bool((refound[shown, 0] == 0).all()), "a slate that begins with an excluded item is said to be possible")


@check
def stated_chances_sum_to_one(bench: PolicyBench) -> None:
    """Over all slates of two of four candidates, stated probabilities sum to 1 (with shorter slates where they can come)."""
    asked, every = bench.few(1), [*permutations((0, 3, 5, 8), 2), *((i, -1) for i in (0, 3, 5, 8)), (-1, -1)]
    rows = np.array(every, np.int32)
    found = stated(bench.taught, asked.take(np.zeros(len(rows), np.int64)), rows)
    if found is not None:
        expect(bool(((found >= 0) & (found <= 1)).all()), "a stated chance lies outside 0 to 1")
        expect(abs(found.prod(axis=1).sum() - 1) < 1e-9, f"the chances of all slates sum to {found.prod(axis=1).sum()}")


@check
def next_chances_are_those_stated(bench: PolicyBench) -> None:
    """Where others may fill the slate, each candidate is as likely to come next as the policy says of such a slate."""
    policy, asked, items = bench.taught, bench.few(1), np.array([0, 3, 5, 8], np.int32)
    for places in permutations(range(4), 3):
        try:
            ask = policy.next_chances(asked)
        except UnsupportedError:
            return
        own, left, taken = stated(policy, asked, items[list(places)][None]), np.arange(4), -1
        for position, place in enumerate(places):
            shares = ask(taken, left)
            expect(
                shares.shape == left.shape and abs(shares.sum() - 1) < 1e-9, f"the chances of {left} to come next are {shares}"
            )
            chance = float(shares[left == place][0])
            same = own is None or np.isclose(chance, own[0, position], rtol=1e-9, atol=0)
            expect(bool(same), f"position {position} of {list(places)} is said to be {own}, and comes next by {chance}")
            if chance == 0:
                break
            left, taken = left[left != place], place


@check
def frequencies_match_propensities(bench: PolicyBench) -> None:
    """Each slate is drawn as often as it is logged to be (where draws are made anew: weighed by its chance, at most once)."""
    slate = bench.taught.act(bench.few(DRAWN), 2, generator(5))
    seen: Counter[tuple[int, ...]] = Counter(map(tuple, slate.items.tolist()))
    joint: dict[tuple[int, ...], set[float]] = {}
    for key, chance in zip(map(tuple, slate.items.tolist()), slate.joint.tolist(), strict=True):
        joint.setdefault(key, set()).add(round(chance, 12))
    for key, count in seen.items():
        if not bench.taught.fixed_draws:
            weight = (slate.items == key).all(axis=1) / slate.joint
            told = f"the slate {list(key)}, weighed by its propensities, comes in {weight.mean():.4f} of cases"
            expect(bool(weight.mean() <= 1 + ERRORS * weight.std() / np.sqrt(DRAWN)), told)
            continue
        expect(len(joint[key]) == 1, f"the slate {list(key)} is logged with several propensities in the same situation")
        chance, share = joint[key].pop(), count / DRAWN
        error = np.sqrt(chance * (1 - chance) / DRAWN)
        told = f"the slate {list(key)} is said to come in {chance:.4f} of cases, and comes in {share:.4f}"
        expect(abs(share - chance) <= ERRORS * error + 1.5 / DRAWN, told)
    if slate.marginals is not None:
        _marginals(slate)


def _marginals(slate: Slate) -> None:
    assert slate.marginals is not None
    for position in range(slate.items.shape[1]):
        for item in np.unique(slate.items[:, position]):
            here = slate.items[:, position] == item
            chance, share = float(slate.marginals[here, position][0]), float(here.mean())
            told = f"item {item} is said to stand at position {position} in {chance:.4f} of cases, and does in {share:.4f}"
            expect(abs(share - chance) <= ERRORS * np.sqrt(chance * (1 - chance) / DRAWN) + 1.5 / DRAWN, told)


# -- learning -------------------------------------------------------------------------------------------


@check
def update_learns(bench: PolicyBench) -> None:
    """Clicks teach something else than refusals do; an empty batch teaches nothing."""
    clicked, refused = (bench.make().fit(bench.dataset, seed=0) for _ in range(2))
    asked = bench.asked(10)
    slate = clicked.act(asked, K, generator(0))
    first = (slate.items >= 0) & (np.arange(K) == 0)
    for policy, rewards in ((clicked, first.astype(np.float64)), (refused, np.zeros(first.shape))):
        policy.update(asked, Feedback(slate, rewards, np.ones(first.shape, bool)))
    after, other = state_of(clicked), state_of(refused)
    learnt = any(not np.array_equal(after[name], other[name], equal_nan=True) for name in after)
    told = "clicks teach nothing" if clicked.can_update else "clicks teach something, although can_update says no"
    expect(learnt == clicked.can_update, told)
    clicked.update(asked.take(np.arange(0)), Feedback(slate.take(np.arange(0)), np.zeros((0, K))))
    same_bits(after, state_of(clicked), "the states before and after an empty batch")


@check
def what_was_not_observed_is_not_learnt(bench: PolicyBench) -> None:
    """A reward that is NaN teaches as little as one of a position that was not looked at."""
    first, second = (bench.fitted(rounds=3) for _ in range(2))
    asked = bench.asked(10)
    slate = first.act(asked, K, generator(0))
    hidden = np.zeros(slate.items.shape, bool)
    hidden[::2, 1:] = slate.items[::2, 1:] >= 0
    rewards = np.where((slate.items >= 0) & (np.arange(K) == 2), 1.0, 0.0)
    everything = np.ones(slate.items.shape, bool)
    first.update(asked, Feedback(slate, np.where(hidden, np.nan, rewards), everything))
    second.update(asked, Feedback(slate, np.where(hidden, 0.0, rewards), everything & ~hidden))
    same_bits(state_of(first), state_of(second), "the states after unobserved rewards and after unexamined positions")
    for examined in (None, everything):
        unseen = Feedback(slate, np.where(slate.items >= 0, np.nan, 0.0), examined)
        first.update(asked, unseen)
        well_formed(first.act(asked, K, generator(1)), len(asked), K, bench.n_items)


@check
def wrong_feedback_is_refused(bench: PolicyBench) -> None:
    """Feedback of another length, or on items outside the catalogue, is an error, and changes nothing."""
    policy = bench.fitted(rounds=3)
    before, asked = state_of(policy), bench.asked(3)
    slate = policy.act(asked, 2, generator(0))
    short = Feedback(slate.take(np.arange(2)), np.zeros((2, 2)))
    expect(raises(DataError, lambda: policy.update(asked, short)), "feedback of two slates for three requests is accepted")
    beyond = Slate(np.full((3, 1), bench.n_items, np.int32), np.ones((3, 1)))
    refused = raises(DataError, lambda: policy.update(asked, Feedback(beyond, np.ones((3, 1)))))
    expect(refused, "feedback on an item outside the catalogue is accepted")
    same_bits(before, state_of(policy), "the states before and after feedback that was refused")
