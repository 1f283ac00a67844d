"""Tasks on sequences, by hand and on a made-up marketplace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.protocols import rebuild, split
from palate.data.protocols.event_sequences import next_event, next_items, next_product, without_repeats
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError, LeakError
from palate.simulate.merrec import Marketplace


def made(*sequences: list[int]) -> Dataset:
    """One person whose sequences follow one another, a second an event."""
    items = np.concatenate(sequences)
    session = np.repeat(np.arange(len(sequences)), [len(s) for s in sequences])
    events = Interactions.sorted(np.zeros(len(items), int), items, time=np.arange(len(items)), session=session)
    return Dataset(events, Entities(Vocabulary.range(1)), Entities(Vocabulary.range(int(items.max()) + 1)))


def test_runs_of_one_item_become_one_event() -> None:
    data = without_repeats(made([1, 1, 2, 2, 1], [1, 3]))
    assert data.interactions.item.tolist() == [1, 2, 1, 1, 3]
    assert data.spec[-1] == {"step": "without_repeats", "rows_removed": 2}


def test_next_product_by_hand() -> None:
    split = next_product(made([1, 2, 3, 4, 5], [6, 7, 8, 9], [1, 1, 3, 3, 2, 2]))
    test = split.held_out("test")
    raw = split.train.items.ids.raw.to_numpy()
    assert raw[test.truth.values].tolist() == [5, 2]
    assert [raw[row].tolist() for row in (test.histories.ragged[0], test.histories.ragged[1])] == [
        [1, 2, 3, 4],
        [1, 1, 3, 3, 2],
    ]
    assert raw[split.held_out("valid").truth.values].tolist() == [4, 2]
    short = next_product(made([1, 2, 3, 4, 5], [1, 1, 3, 3, 2, 2]), repeats=False)
    assert short.train.n_users == 1


@pytest.mark.parametrize(
    ("protocol", "options"), [("next_product", {"min_length": 4, "share": 0.5}), ("next_event", {"order": "last"})]
)
def test_they_are_protocols_like_others(protocol: str, options: dict[str, Any]) -> None:
    data = Marketplace(users=100, seed=3).dataset("product_id")
    parts = split(data, protocol, seed=5, **options)
    assert parts.spec["protocol"] == protocol and parts.spec["data"] == data.fingerprint
    again = rebuild(data, parts.spec)
    assert again.fingerprint == parts.fingerprint and len(parts.held_out("test").users)
    with pytest.raises(ConfigError, match="unknown option"):
        split(data, protocol, windows=3)


def test_a_share_of_the_sequences_is_drawn_by_the_seed() -> None:
    data = Marketplace(users=100, seed=3).dataset("product_id")
    whole, some = next_product(data), next_product(data, share=0.11, seed=5)
    assert some.train.n_users == round(whole.train.n_users * 0.11)
    assert next_product(data, share=0.11, seed=5).fingerprint == some.fingerprint != next_product(data, share=0.11).fingerprint


def test_next_items_by_hand() -> None:
    data = made([1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 7, 8], [3, 4, 5, 6, 7, 8], [1, 2, 3])
    task = next_items(data, steps=4, min_length=5, valid=1 / 3, test=1 / 3)
    raw = task.train.items.ids.raw.to_numpy()
    assert raw[task.train.histories.ragged[0]].tolist() == [1, 2, 3, 4, 5, 6] and len(task.train) == 6
    valid, test = task.questions("valid"), task.questions("test")
    assert raw[valid.targets].tolist() == [[5, 6, 7, 8]] and raw[valid.histories.items].tolist() == [2, 3, 4]
    assert raw[test.targets].tolist() == [[5, 6, 7, 8]] and raw[test.histories.items].tolist() == [3, 4]
    assert raw[test.step(2).truth.values].tolist() == [7] and test.step(2).part == "test"
    assert raw[test.candidates].tolist() == [5, 6, 7, 8]
    assert task.looks == 1 and test.times.tolist() == [15]


@pytest.mark.parametrize("order", ["time", "random"])
def test_held_out_sequences_are_not_in_training(order: str) -> None:
    data = Marketplace(users=100, seed=3).dataset()
    task = next_items(data, order=order, seed=1)  # type: ignore[arg-type]
    train = set(np.unique(task.train.interactions.user).tolist())
    people = [set(task.questions(part).users.tolist()) for part in ("valid", "test")]
    assert not train & people[0] and not train & people[1] and not people[0] & people[1]
    begins = {u: task.train.histories.times[task.train.histories.offsets[u]] for u in train}
    if order == "time":
        latest = task.questions("valid")
        assert max(begins.values()) <= latest.histories.times[latest.histories.offsets[:-1]].min()
    assert (task.questions("test").histories.lengths >= 10 - 4).all()


def test_what_people_do_next() -> None:
    data = Marketplace(users=60, seed=3).dataset()
    timed, last = next_event(data), next_event(data, order="last")
    with pytest.raises(LeakError):
        replace(timed, train=data).audit()
    assert timed.audit().leaks == () and last.spec["order"] == "last"
    assert len(timed.train) < len(without_repeats(data))


def test_wrong_input() -> None:
    data = made([1, 2, 3, 4, 5, 6])
    with pytest.raises(ConfigError, match="min_length"):
        next_items(data, steps=4, min_length=4)
    with pytest.raises(DataError, match="no sequence"):
        next_items(data, min_length=5)
    with pytest.raises(ConfigError, match="order"):
        next_items(data, order="first")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="share"):
        next_product(data, share=0.0)
    with pytest.raises(ConfigError, match="order"):
        next_event(data, order="first")  # type: ignore[arg-type]
