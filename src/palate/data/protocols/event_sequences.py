"""Tasks on sequences of events: the next product of a sequence, the next item of a person, and the next four items.

============================  ============================================================================================
:func:`next_product`          sequences as people; of each the last but one event is validation, the last the test
:func:`next_event`            people; what comes after a moment that is the same for all, or the last event of each
:func:`next_items`            sequences as people, some of which are held out whole: their last four items are asked for
============================  ============================================================================================

A person who views, likes and buys one listing has three events in a row with it. :func:`without_repeats` keeps the first of
such a run; without it a model that repeats the last item is right most of the time, which is what the published tasks ask.

Source: the MerRec paper (arXiv 2402.14230), session-based and multi-step tasks. Differences: all sequences are taken unless
``share`` says less, and that draw has the seed; the event before the last is part of the history when the last is asked for;
``next_items`` holds out the latest sequences unless ``order="random"`` (the published way) is chosen. The paper's task on
faster inference (a network that chooses which blocks of a transformer to skip) is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from palate.data.dataset import Dataset
from palate.data.filters import k_core, subset_users
from palate.data.histories import Histories
from palate.data.interactions import Interactions
from palate.data.protocols.by_session import as_sessions
from palate.data.protocols.by_time import global_time
from palate.data.protocols.by_user import leave_one_out
from palate.data.protocols.cut import check_at_least, check_shares
from palate.data.ragged import Ragged
from palate.data.split import HeldOut, PartName, Split
from palate.errors import ConfigError, DataError, nearest
from palate.runtime import generator

Order = Literal["time", "random"]


def without_repeats(dataset: Dataset) -> Dataset:
    """Return the data without events on the very item of the event before them (of the same person and session)."""
    events = dataset.interactions
    same = np.zeros(len(events), bool)
    same[1:] = (events.user[1:] == events.user[:-1]) & (events.item[1:] == events.item[:-1])
    if events.session is not None:
        same[1:] &= events.session[1:] == events.session[:-1]
    return dataset.derive({"step": "without_repeats", "rows_removed": int(same.sum())}, interactions=events.take(~same))


def next_product(dataset: Dataset, *, min_length: int = 5, share: float = 1.0, repeats: bool = True, seed: int = 0) -> Split:
    """Cut each sequence's last two events off.

    Parameters
    ----------
    dataset
        Read with ``columns={"item": "product_id"}``, sessions being the sequences.
    min_length
        Shorter sequences are left out.
    share
        Share of the sequences that is drawn.
    repeats
        Whether an event on the product of the event before it stays.
    seed
        Fixes the draw.
    """
    check_at_least(min_length, 3, "min_length")
    data = _sequences(dataset, min_length, repeats)
    if not 0 < share <= 1:
        raise ConfigError("share must be above 0 and at most 1.", where="next_product", value=share)
    if share < 1:
        data = subset_users(data, max(1, round(data.n_users * share)), seed)
    made = leave_one_out(data, seed=seed)
    made.spec = _spec("next_product", dataset, seed, min_length=min_length, share=share, repeats=repeats)
    return made


def next_event(dataset: Dataset, *, order: Literal["time", "last"] = "time", repeats: bool = False, seed: int = 0) -> Split:
    """Ask people for what they do after one moment for all (``"time"``), or for their last event (``"last"``)."""
    if order not in ("time", "last"):
        raise ConfigError("unknown order.", where="next_event", value=order, remedy=nearest(str(order), ("time", "last")))
    data = dataset if repeats else without_repeats(dataset)
    made = global_time(data, seed=seed) if order == "time" else leave_one_out(data, seed=seed)
    made.spec = _spec("next_event", dataset, seed, order=order, repeats=repeats)
    return made


@dataclass(frozen=True, eq=False)
class StepQuestions:
    """Held-out sequences, and the items that followed one by one.

    Attributes
    ----------
    users
        ``int32[n]`` numbers of the sequences.
    histories
        What is known of each.
    targets
        ``int32[n, steps]`` items in order.
    times
        ``int64[n]`` time of the first of them, or ``None``.
    part
        ``"valid"`` or ``"test"``.
    """

    users: np.ndarray
    histories: Histories
    targets: np.ndarray
    times: np.ndarray | None
    part: str

    def __len__(self) -> int:
        return len(self.users)

    def step(self, number: int) -> HeldOut:
        """Return the questions for the item ``number`` places after the next one (0 is the next)."""
        truth = Ragged(np.arange(len(self) + 1, dtype=np.int64), np.ascontiguousarray(self.targets[:, number]))
        return HeldOut(self.users, self.histories, truth, None, self.times, self.part)

    @property
    def candidates(self) -> np.ndarray:
        """``int32[m]``: the distinct items that are asked for at any step, which is all that the published study ranks."""
        return np.unique(self.targets).astype(np.int32)


@dataclass(eq=False)
class NextItems:
    """Sequences to learn from, and held-out ones.

    Attributes
    ----------
    train
        Events of training sequences; the vocabularies are those of all.
    spec
        How they were cut.
    looks
        How often the test part was opened.
    """

    train: Dataset
    spec: Mapping[str, Any]
    _valid: StepQuestions
    _test: StepQuestions
    looks: int = field(default=0)

    def questions(self, part: PartName) -> StepQuestions:
        """Return the questions of a part; opening ``"test"`` is counted."""
        if part == "test":
            self.looks += 1
            return self._test
        return self._valid


def next_items(
    dataset: Dataset,
    *,
    steps: int = 4,
    min_length: int = 10,
    valid: float = 0.1,
    test: float = 0.1,
    order: Order = "time",
    repeats: bool = False,
    seed: int = 0,
) -> NextItems:
    """Hold out whole sequences, whose last items are asked for.

    Parameters
    ----------
    steps
        Items that are asked for.
    min_length
        Shorter sequences are left out.
    valid, test
        Shares of the sequences.
    order
        ``"time"`` holds out the latest ones by their first event, ``"random"`` draws them.
    repeats
        Whether events on the item of the event before them stay (see :func:`without_repeats`).
    seed
        Fixes the draw.

    Raises
    ------
    DataError
        If a part would be empty, or sequences are to be placed in time and there are no times.
    """
    check_at_least(steps, 1, "steps")
    check_at_least(min_length, steps + 1, "min_length")
    check_shares(valid, test)
    if order not in ("time", "random"):
        raise ConfigError("unknown order.", where="next_items", value=order, remedy=nearest(str(order), ("time", "random")))
    data = _sequences(dataset, min_length, repeats)
    events, n = data.interactions, data.n_users
    if order == "time" and events.time is None:
        raise DataError("sequences can't be placed in time without times.", where=data.name, remedy="order='random'")
    starts = events.user_offsets(n)[:-1]
    ranked = generator(seed, "next items").permutation(n) if order == "random" or events.time is None else _by(events, starts)
    n_valid, n_test = round(n * valid), round(n * test)
    cuts = np.split(ranked, [n - n_valid - n_test, n - n_test])
    for name, share, people in zip(("train", "valid", "test"), (1.0, valid, test), cuts, strict=True):
        if share > 0 and not len(people):
            raise DataError(f"the {name} part has no sequence.", where="next_items", value=n, remedy="give more sequences")
    spec: dict[str, Any] = {
        "steps": steps,
        "min_length": min_length,
        "valid": valid,
        "test": test,
        "order": order,
        "repeats": repeats,
    }
    spec |= {"seed": seed, "data": dataset.fingerprint}
    known = np.zeros(n, bool)
    known[cuts[0]] = True
    train = data.derive({"step": "train", "of": spec}, interactions=events.take(known[events.user]))
    asked = [_asked(data, np.sort(people), steps, name) for name, people in (("valid", cuts[1]), ("test", cuts[2]))]
    return NextItems(train, spec, asked[0], asked[1])


def _spec(protocol: str, dataset: Dataset, seed: int, **options: Any) -> dict[str, Any]:
    """Return what cuts the same data again."""
    return {"protocol": protocol, "seed": seed, "data": dataset.fingerprint, **options}


def _sequences(dataset: Dataset, min_length: int, repeats: bool) -> Dataset:
    data = as_sessions(dataset)
    return k_core(data if repeats else without_repeats(data), user=min_length, item=0, iterate=False)


def _by(events: Interactions, starts: np.ndarray) -> np.ndarray:
    """Return sequences by the time of their first event (by number, where equal)."""
    assert events.time is not None
    return np.argsort(events.time[starts], kind="stable")


def _asked(data: Dataset, people: np.ndarray, steps: int, part: str) -> StepQuestions:
    h = data.histories.take(people)
    ends = h.offsets[1:]
    targets = h.items[ends[:, None] + np.arange(-steps, 0)].astype(np.int32).reshape(len(people), steps)
    kept = np.arange(len(h.items)) < np.repeat(ends - steps, h.lengths)
    offsets = h.offsets - steps * np.arange(len(h.offsets))
    columns = (None if c is None else c[kept] for c in (h.times, h.values, h.actions))
    times = None if h.times is None else h.times[ends - steps]
    return StepQuestions(people.astype(np.int32), Histories(offsets, h.items[kept], *columns), targets, times, part)
