"""What a language model, and a rule beside it, tell LLMRec of few people, for its claim; and how often picks are true.

Candidates come from ItemKNN, which needs no seed: every fit is told the same, and every question is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from palate.data.dataset import Dataset
from palate.language.managed import ManagedModel
from palate.language.models import open_model
from palate.language.profiles import Profiles, Writer, item_profiles, user_profiles
from palate.progress import Progress, silent
from palate.recommend.llmrec_augment import (
    Augmentor,
    Base,
    Candidates,
    LanguageAugmentor,
    Picks,
    RuleAugmentor,
    picked,
    propose,
)
from palate.runtime import generator
from palate.study.claims import Effect, Trial
from palate.study.effects import paired_gain

MODEL, TOKENS = "qwen2.5-coder-0.5b", 40
#: Who proposes to the few people, and how many items.
BASE: Base = "item_knn"
OFFERED = 10


class Given(Augmentor):
    """Tells what was told before."""

    name = "told before"

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.told = told

    def pick(self, dataset: Dataset, candidates: Candidates, *, progress: Progress = silent) -> Picks:
        """Return the picks."""
        return Picks(np.asarray(self.told["liked"]), np.asarray(self.told["disliked"]), self.told["refused"])

    def item_attributes(self, dataset: Dataset, *, progress: Progress = silent) -> dict[str, list[str]]:
        """Return the attributes."""
        return dict(self.told["attributes"])

    def user_profiles(self, dataset: Dataset, *, progress: Progress = silent) -> list[str]:
        """Return the profiles."""
        return list(self.told["profiles"])


def told_by(augmentor: Augmentor, train: Dataset, profiles: Profiles) -> dict[str, Any]:
    """Return all that an augmentor tells, in a form that can be kept."""
    picks = picked(augmentor, train, propose(train, BASE, OFFERED))
    return {
        "liked": picks.liked,
        "disliked": picks.disliked,
        "refused": picks.refused,
        "attributes": dict(augmentor.item_attributes(train)),
        "profiles": list(profiles.texts),
        "profile counts": profiles.counts,
    }


def told_by_rule(train: Dataset) -> dict[str, Any]:
    """Return what the rule tells."""
    return told_by(RuleAugmentor(), train, user_profiles(train, item_profiles(train)))


def told_by_model(train: Dataset) -> dict[str, Any]:
    """Return what the language model tells (every answer is kept as soon as it is there)."""
    with ManagedModel(open_model(MODEL), cache="default") as model:
        profiles = user_profiles(train, item_profiles(train), writer=Writer(model, max_tokens=TOKENS))
        return told_by(LanguageAugmentor(model), train, profiles)


def quality(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many answers could be used, and some of them."""
    attributes = told["attributes"]
    return {
        "asked for a pick": len(told["liked"]),
        "picked": int((np.asarray(told["liked"]) >= 0).sum()),
        "refused": told["refused"],
        "attributes filled": {name: sum(map(bool, own)) / max(1, len(own)) for name, own in attributes.items()},
        "profiles": told["profile counts"],
        "examples": [*told["profiles"][:4], *({name: own[at] for name, own in attributes.items()} for at in range(2))],
    }


def agreement(offered: Candidates, picks: Picks, had: Callable[[int], np.ndarray]) -> np.ndarray:
    """Return ``float64[3, n]``: is the liked one true, the disliked one, and the share of the candidates that are.

    A true item is one that the person had outside training (``had``). People without a pick are undefined.
    """
    found = np.full((3, len(offered)), np.nan)
    for row, user in enumerate(offered.users):
        if picks.liked[row] >= 0:
            own, real = offered.items[row][offered.items[row] >= 0], had(int(user))
            pair = np.array([picks.liked[row], picks.disliked[row]])
            found[:, row] = [*np.isin(pair, real), np.isin(own, real).mean()]
    return found


def agreements(by_seed: Sequence[np.ndarray], who: str, **details: Any) -> dict[str, Effect]:
    """Return how much oftener the liked one is true than a candidate by chance, and than the disliked one."""
    liked, disliked, chance = ([found[side] for found in by_seed] for side in range(3))

    def gain(over: list[np.ndarray], words: str) -> Effect:
        return paired_gain(liked, over, rng=generator(0, "agreement", who, words), relative=False, **details)

    return {f"{who}: liked over chance": gain(chance, "chance"), f"{who}: liked over disliked": gain(disliked, "disliked")}


def proposed(trial: Trial, train: Dataset, augmentor: Augmentor, had: Callable[[int], np.ndarray], on: str) -> list[np.ndarray]:
    """Return the agreement of an augmentor's picks among what LLMRec's own base proposes, one array a seed."""

    def once(seed: int) -> np.ndarray:
        offered = propose(train, "lightgcn", OFFERED, seed=seed)
        return agreement(offered, picked(augmentor, train, offered), had)

    return [trial.kept(partial(once, seed), on=on, agreement=augmentor.name, seed=seed) for seed in trial.seeds]
