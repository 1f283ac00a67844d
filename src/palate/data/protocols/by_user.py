"""Cuts within each user's events, and cuts between users."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from palate.data.dataset import Dataset
from palate.data.protocols.cut import (
    DROP,
    TEST,
    TRAIN,
    VALID,
    check_at_least,
    check_shares,
    counts_of,
    cut,
    dealt,
    events_left,
    rounded,
)
from palate.data.split import Split
from palate.errors import ConfigError, nearest
from palate.runtime import generator

#: What is held out of a person's events: the latest (without times, the last of the file), or any.
Order = Literal["time", "random"]


def leave_one_out(dataset: Dataset, *, seed: int = 0, valid: int = 1, test: int = 1, order: Order = "time") -> Split:
    """Hold out each user's last ``test`` events, and the ``valid`` events before them.

    A user with fewer than ``valid + test + 1`` events stays in train whole. Without times, file order says what came last;
    where that order means nothing (the file is sorted by item, say), hold out any.

    Parameters
    ----------
    order
        ``"time"`` holds out the latest, ``"random"`` any.
    """
    check_at_least(valid, 0, "valid")
    check_at_least(test, 0, "test")
    left = _left(dataset, order, seed, "leave_one_out")
    enough = counts_of(dataset)[dataset.interactions.user] > valid + test
    code = np.where(left < test, TEST, np.where(left < valid + test, VALID, TRAIN))
    options = {"valid": valid, "test": test} | _told(order)
    return cut(dataset, np.where(enough, code, TRAIN), "leave_one_out", seed, options)


def user_ratio(dataset: Dataset, *, seed: int = 0, valid: float = 0.1, test: float = 0.1, order: Order = "time") -> Split:
    """Hold out a share of each user's events, rounded to the nearest count; at least one event stays in train.

    Parameters
    ----------
    order
        ``"time"`` holds out the latest (test last, validation before it), ``"random"`` any.
    """
    check_shares(valid, test)
    left, user = _left(dataset, order, seed, "user_ratio"), dataset.interactions.user
    counts = counts_of(dataset)
    n_test = np.minimum(rounded(counts, test), np.maximum(counts - 1, 0))
    n_valid = np.minimum(rounded(counts, valid), np.maximum(counts - n_test - 1, 0))
    code = np.where(left < n_test[user], TEST, np.where(left < (n_test + n_valid)[user], VALID, TRAIN))
    return cut(dataset, code, "user_ratio", seed, {"valid": valid, "test": test, "order": order})


def held_out_users(
    dataset: Dataset,
    *,
    seed: int = 0,
    valid: float = 0.1,
    test: float = 0.1,
    answers: float = 0.2,
    min_events: int = 5,
    order: Order = "time",
) -> Split:
    """Keep some users out of training; fold their earlier events in when asked, and ask for the rest.

    Parameters
    ----------
    valid, test
        Shares of the users that have at least ``min_events`` events; who they are is random.
    answers
        Share of a held-out user's events that are asked for (at least one, never all).
    min_events
        Users with fewer events stay in training (at least 2).
    order
        ``"time"`` asks for the latest (without times, the last of the file), ``"random"`` for any.
    """
    check_shares(valid, test)
    check_at_least(min_events, 2, "min_events")
    if not 0 < answers < 1:
        raise ConfigError("answers must lie between 0 and 1.", where="answers", value=answers)
    counts = counts_of(dataset)
    part = dealt(counts, min_events, valid, test, "held_out_users", seed)
    asked = np.clip(rounded(counts, answers), 1, np.maximum(counts - 1, 1))
    events = dataset.interactions
    own, context = part[events.user], _left(dataset, order, seed, "answers") >= asked[events.user]
    code = np.where((own != TRAIN) & context, DROP, own)
    contexts = {name: events.take((own == code_of) & context) for name, code_of in (("valid", VALID), ("test", TEST))}
    options = {"valid": valid, "test": test, "answers": answers, "min_events": min_events}
    return cut(dataset, code, "held_out_users", seed, options | _told(order), contexts)


def _left(dataset: Dataset, order: Order, seed: int, what: str) -> np.ndarray:
    """Return how many of a person's events come after each event, in time or in an order drawn for each person."""
    if order not in get_args(Order):
        raise ConfigError("unknown order.", where="order", value=order, remedy=nearest(str(order), get_args(Order)))
    left, user = events_left(dataset), dataset.interactions.user
    if order == "random":
        shuffled = np.lexsort((generator(seed, what).random(len(user)), user))
        left[shuffled] = left.copy()
    return left


def _told(order: Order) -> dict[str, str]:
    """Return what a spec says of an order; splits of before there was a choice have nothing to say."""
    return {} if order == "time" else {"order": order}
