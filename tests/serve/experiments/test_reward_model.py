"""The reward model of the live log: it learns what items earn where, and never from the people it is asked about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from palate.serve.experiments.reward_model import CrossRewards, ItemFacts
from palate.serve.memory.catalogue import Catalogue
from palate.serve.memory.people import Person
from palate.serve.store import ItemRow, Store

KINDS = ("space", "garden")
PEOPLE, WIDTH = 300, 3


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Ten items of two kinds, one without a price."""
    made = Catalogue()
    with Store.open(f"sqlite:///{tmp_path / 'x.db'}") as store:
        rows = [ItemRow(f"i{n}", categories=(KINDS[n % 2],), price=None if n == 4 else float(n)) for n in range(10)]
        store.put_items(rows)
        made.refresh(store)
    return made


def _log(catalogue: Catalogue, seed: int = 0) -> tuple[list[Person], np.ndarray, np.ndarray, np.ndarray]:
    """People, what they were shown, what it earned (space more than gardens, first places more than others), and who is who."""
    rng = np.random.default_rng(seed)
    people = [Person(f"u{n}", np.array([n % 10], np.int32), np.zeros(1, np.int64)) for n in range(PEOPLE)]
    shown = np.stack([rng.choice(10, WIDTH, replace=False) for _ in range(PEOPLE)])
    truth = 0.2 + 0.5 * (shown % 2 == 0) + 0.2 * (np.arange(WIDTH) == 0)
    reward = (rng.random(truth.shape) < truth).astype(float)
    return people, shown, reward, np.arange(PEOPLE) // 2


def test_it_learns_what_items_earn_where(catalogue: Catalogue) -> None:
    people, shown, reward, unit = _log(catalogue)
    model = CrossRewards(ItemFacts(catalogue), people, shown, reward, unit)
    first, later = model.expected(0, np.array([2, 3]), np.zeros(2)), model.expected(0, np.array([2, 3]), np.ones(2))
    assert first == pytest.approx([0.9, 0.4], abs=0.12) and later == pytest.approx([0.7, 0.2], abs=0.12)


def test_nobody_is_predicted_from_their_own_rewards(catalogue: Catalogue) -> None:
    people, shown, reward, unit = _log(catalogue)
    rows, positions = np.arange(10), np.zeros(10)
    before = CrossRewards(ItemFacts(catalogue), people, shown, reward, unit)
    changed = np.where((unit == 7)[:, None], 1_000.0, reward)
    after = CrossRewards(ItemFacts(catalogue), people, shown, changed, unit)
    own, others = np.flatnonzero(unit == 7), np.flatnonzero(before.fold != before.fold[14])
    for slate in own.tolist():
        assert (after.expected(slate, rows, positions) == before.expected(slate, rows, positions)).all()
    assert abs(after.expected(int(others[0]), rows, positions) - before.expected(int(others[0]), rows, positions)).max() > 1


def test_what_is_gone_or_says_nothing_has_features_all_the_same(catalogue: Catalogue) -> None:
    found = ItemFacts(catalogue).of(Person(None), np.array([-1, 4, 5]), np.array([0, 1, 2]))
    assert np.isfinite(found).all() and not found[0, :-2].any() and found[1, :-2].any()
