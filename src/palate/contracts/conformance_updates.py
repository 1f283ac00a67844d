"""Checks of learning on from new events (see :mod:`palate.contracts.conformance`); one that can't must say so."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from palate.contracts.conformance_bench import (
    Bench,
    K,
    answers_of,
    check,
    expect,
    raises,
    same_bits,
    small_world,
    state_of,
    well_formed,
)
from palate.contracts.recommender import Recommender
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError, NotFittedError, UnsupportedError

#: How much less an updated model may find than one fitted anew on the same data (share of held-out items among the best K).
NEAR = 0.1


@check
def update_works_or_refuses(bench: Bench) -> None:
    """A model that can learn on knows newcomers afterwards, and is as it was after an error; another refuses."""
    model, past = bench.make(), earlier(bench.dataset)
    if not model.can_update:
        refused = raises(UnsupportedError, lambda: bench.model.update(bench.dataset))
        expect(refused, "update neither works nor raises UnsupportedError")
        return
    expect(raises(NotFittedError, lambda: model.update(bench.dataset)), "an unfitted model is updated")
    model.fit(past, seed=0)
    before = state_of(model)
    other = replace(bench.dataset, items=Entities(Vocabulary(bench.dataset.items.ids.raw[::-1])))
    expect(raises(DataError, lambda: model.update(other)), "data that are numbered otherwise are accepted")
    same_bits(before, state_of(model), "the state before and after a refused update")
    expect(model.update(bench.dataset, seed=1) is model, "update doesn't return self")
    expect(model.record_.notes.get("updates") == 1, "the record doesn't count the update")
    expect(model.record_.data["fingerprint"] == bench.dataset.fingerprint, "the record names other data")
    _knows_newcomers(model, bench, past)


@check
def update_is_repeatable_and_saved(bench: Bench) -> None:
    """Updates with one seed give the same bits, and so does the bundle of an updated model."""
    if not bench.make().can_update:
        return
    past = earlier(bench.dataset)
    first, second = (bench.make().fit(past, seed=7).update(bench.dataset, seed=8) for _ in range(2))
    same_bits(state_of(first), state_of(second), "two updates with one seed")
    with tempfile.TemporaryDirectory() as folder:
        again = type(first).load(first.save(Path(folder) / "bundle"))
    same_bits(state_of(first), state_of(again), "the state of an updated model")
    same_bits(answers_of(first, bench), answers_of(again, bench), "answers of an updated model")


@check
def updated_is_nearly_as_good_as_fitted(bench: Bench) -> None:
    """An updated model finds held-out items nearly as often as one fitted anew on the same data."""
    if not bench.make().can_update:
        return
    train, users, wanted = _held_out(small_world(160))
    fitted = bench.make().fit(train, seed=0)
    updated = bench.make().fit(earlier(train), seed=0).update(train, seed=0)
    asked = Requests.of_users(train, users)
    shares = [float((m.recommend(asked, K).items == wanted[:, None]).any(axis=1).mean()) for m in (fitted, updated)]
    reason = f"an updated model finds {shares[1]:.2f} of held-out items, one fitted anew {shares[0]:.2f}"
    expect(shares[1] >= shares[0] - NEAR, reason)


def earlier(dataset: Dataset) -> Dataset:
    """Return the data as they were before the last few people and items came, and before everybody's latest event."""
    n_users, n_items = dataset.n_users - dataset.n_users // 8, dataset.n_items - dataset.n_items // 6
    events = dataset.interactions
    last = np.append(events.user[1:] != events.user[:-1], True)
    kept = events.take((events.user < n_users) & (events.item < n_items) & ~last)
    users, items = _first(dataset.users, n_users), _first(dataset.items, n_items)
    return dataset.derive({"step": "earlier"}, interactions=kept, users=users, items=items)


def _first(entities: Entities, n: int) -> Entities:
    table = entities.attributes
    return Entities(Vocabulary(entities.ids.raw[:n]), None if table is None else table.slice(0, n))


def _held_out(dataset: Dataset) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Return the data without each person's latest event, who is asked (``int32[n]``), and what they are to find."""
    events = dataset.interactions
    last = np.append(events.user[1:] != events.user[:-1], True)
    train = dataset.derive({"step": "train"}, interactions=events.take(~last))
    return train, events.user[last], events.item[last]


def _knows_newcomers(model: Recommender, bench: Bench, past: Dataset) -> None:
    """Check that people and items that came since the first fit are known, and answered for."""
    whole = bench.dataset
    people = whole.users.ids.raw[past.n_users :]
    asked = model.requests(people.to_pylist())
    expect(bool((asked.users >= 0).all()), "people who came since are unknown after an update")
    lengths = whole.histories.lengths[past.n_users :]
    expect(bool((asked.histories.lengths == lengths).all()), "histories are not those of the new data after an update")
    well_formed(model.recommend(asked, K), len(asked), K, whole.n_items)
    chosen = past.n_items + np.flatnonzero(whole.item_counts[past.n_items :])
    alone = Requests.of_histories([[int(item)] for item in chosen])
    expect(bool(model.informed(alone).all()), "nothing is known of somebody who chose an item that came since")
    scores = model.score(alone, np.tile(chosen.astype(np.int32), (len(chosen), 1)))
    expect(bool(np.isfinite(scores).all()), "an item that came since has no score")
